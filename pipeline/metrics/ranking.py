"""Order of values: ties that rounding would break, mid-ranks, and Spearman's correlation.

Two predictions that are the same but for the last bit are a tie. Without this rule a predictor that
knows nothing would win or lose pairs by the rounding of the processor it runs on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.metrics.information import Floats, ratio

ROUNDING = 1e-9
"""Values that differ by no more than this share of the largest one are equal."""


def merge_ties(values: ArrayLike) -> Floats:
    """Return the values, those that are equal up to rounding made the same.

    Neighbours in the order of a column are equal where they differ by at most `ROUNDING` times the
    column's largest magnitude. Everything that compares predictions compares merged ones: a tie
    then counts half, since `>` holds in neither order of a pair.

    Args:
        values: float64 (n,) or (n, columns); NaN stays NaN.

    Returns:
        float64 of the same shape; each group of equal values has the smallest of them.

    >>> merge_ties([0.1 + 0.2, 0.3, 0.5]).tolist()
    [0.3, 0.3, 0.5]
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        return array
    order = np.argsort(array, axis=0, kind="stable")
    ordered = np.take_along_axis(array, order, axis=0)
    largest = np.nanmax(np.abs(ordered), axis=0, initial=0.0)
    starts = np.ones(ordered.shape, dtype=bool)  # of a group of equal values
    starts[1:] = ~(np.diff(ordered, axis=0) <= ROUNDING * largest)
    count = np.arange(len(ordered)).reshape(-1, *(1,) * (ordered.ndim - 1))
    first = np.maximum.accumulate(np.where(starts, count, 0), axis=0)
    merged = np.empty_like(array)
    np.put_along_axis(merged, order, np.take_along_axis(ordered, first, axis=0), axis=0)
    return merged


def exceeds(scores: ArrayLike) -> NDArray[np.bool_]:
    """Return whether the score of clip i is larger than that of clip j: bool (n, n, columns).

    Args:
        scores: (n, columns); scores equal up to rounding are a tie, larger in neither order.
    """
    merged = merge_ties(scores)
    return merged[:, None] > merged[None]


def centred_ranks(counts: NDArray[Any]) -> Floats:
    """Return the mid-rank of each level minus the mean rank: (..., levels).

    Args:
        counts: (..., levels), how many values each level has, from the lowest level up.
    """
    table = counts.astype(np.float64)
    return np.cumsum(table, axis=-1) - table / 2 - table.sum(-1, keepdims=True) / 2


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return Spearman's rank correlation (mid-ranks) of two vectors, 0 where one is constant.

    Values equal up to rounding are a tie.

    >>> spearman([1.0, 2.0, 0.1 + 0.2, 0.3], [5, 6, 1, 1])
    1.0
    """
    ranks = []
    for values in (first, second):
        _, levels, counts = np.unique(merge_ties(values), return_inverse=True, return_counts=True)
        ranks.append(centred_ranks(counts)[levels])
    length = np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    return float(ranks[0] @ ranks[1] / length) if length else 0.0


def rank_correlation_of(counts: NDArray[Any]) -> Floats:
    """Return Spearman's correlation of the row and column numbers of tables (..., V, B): (...).

    0 where one is constant. Rows and columns may be empty: only the order of the others matters.
    """
    table = counts.astype(np.float64)
    rows, columns = table.sum(-1), table.sum(-2)
    row_ranks, column_ranks = centred_ranks(rows), centred_ranks(columns)
    shared = np.einsum("...v,...vb,...b->...", row_ranks, table, column_ranks)
    length = np.sqrt((rows * row_ranks**2).sum(-1) * (columns * column_ranks**2).sum(-1))
    return np.clip(ratio(shared, length, length > 0), -1.0, 1.0)
