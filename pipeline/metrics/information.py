"""Tables of counts, and what follows from them: the arithmetic under `pipeline.metrics`.

Counts are integers, so a sum does not depend on the order of clips, seeds or draws. Leading axes
broadcast as in NumPy. Information is in nats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


# Properties into bins


def bin_property(values: ArrayLike, *, bins: int = 5) -> Integers:
    """Bins of a continuous property: int64 (N,), numbered from 0 without gaps.

    Up to `bins` distinct values are a bin each (a grid of levels keeps its levels). Otherwise the
    edges are the quantiles 1/bins, 2/bins, ... over clips, and a value on an edge belongs to the
    bin above: the rule of the paper's code, `numpy.digitize` of `numpy.quantile`. Equal values
    always share a bin; where so many clips share a value that a bin stays empty, the bins close up.

    Raises ValueError for a NaN: leave clips with an unknown property out first.

    >>> bin_property([61.0, 214.0, 61.0, 90.0]).tolist()
    [0, 2, 0, 1]
    >>> bin_property(range(10), bins=2).tolist()
    [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise ValueError(f"a property has one value for each clip, (N,), not {numbers.shape}")
    if bins < 2:
        raise ValueError(f"a property needs at least 2 bins, not {bins}")
    if np.isnan(numbers).any():
        unknown = int(np.isnan(numbers).sum())
        raise ValueError(f"{unknown} of {len(numbers)} clips have no value of this property")
    if len(np.unique(numbers)) > bins:
        edges = np.quantile(numbers, np.arange(1, bins) / bins)
        numbers = np.digitize(numbers, edges).astype(np.float64)
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


# Tables of counts


def integers(array: ArrayLike, name: str) -> Integers:
    numbers = np.asarray(array)
    if numbers.dtype.kind not in "iub":
        hint = "; see bin_property" if name == "attributes" else ""
        raise ValueError(f"{name} must be integers from 0, not {numbers.dtype}{hint}")
    if numbers.size and numbers.min() < 0:
        raise ValueError(f"{name} must be integers from 0, and one is {numbers.min()}")
    return numbers.astype(np.int64, copy=False)


def check_tokens(tokens: ArrayLike) -> Integers:
    messages = integers(tokens, "tokens")
    if messages.ndim < 2 or 0 in messages.shape:
        raise ValueError(f"tokens must be (..., N, positions), not {messages.shape}")
    return messages


def check(tokens: ArrayLike, attributes: ArrayLike) -> tuple[Integers, Integers]:
    messages, bins = check_tokens(tokens), integers(attributes, "attributes")
    if bins.ndim == 1:
        bins = bins[:, None]
    if bins.ndim < 2 or messages.shape[-2] != bins.shape[-2] or 0 in bins.shape:
        raise ValueError(
            f"tokens {messages.shape} and attributes {bins.shape} must be (N, positions) "
            "and (N, attributes) of the same N clips"
        )
    return messages, bins


def one_hot(codes: Integers) -> NDArray[np.float32]:
    """(..., N, K) -> (..., N, K * levels)."""
    hot = codes[..., None] == np.arange(codes.max() + 1)
    return hot.reshape(*codes.shape[:-1], -1).astype(np.float32)


def joint_counts(
    variables: Integers,
    attributes: Integers,
    weights: ArrayLike | None = None,
) -> Integers:
    """How often variable k is v where attribute a is b: (..., K, A, V, B).

    `variables` (..., N, K) and `attributes` (..., N, A) count from 0; `weights` (..., N) says how
    often each clip counts. A product of one-hot matrices: exact in float32 below 2**24 clips.
    """
    left, right = one_hot(variables), one_hot(attributes)  # (..., N, K*V), (..., N, A*B)
    if weights is not None:
        right = right * np.asarray(weights, dtype=np.float32)[..., None]
    counts = np.swapaxes(left, -1, -2) @ right  # (..., K*V, A*B)
    split = (variables.shape[-1], variables.max() + 1, attributes.shape[-1], attributes.max() + 1)
    return np.swapaxes(counts.reshape(*counts.shape[:-2], *split), -2, -3).astype(np.int64)


def _x_log_x(counts: Integers) -> Floats:
    table = np.arange(counts.max() + 1, dtype=np.float64)
    table[1:] *= np.log(table[1:])
    return table[counts]


def entropy_of(counts: Integers) -> Floats:
    """(..., V) -> (...), in nats; exactly 0 where one value takes all."""
    total = counts.sum(-1)
    return (_x_log_x(total) - _x_log_x(counts).sum(-1)) / total


def information_of(counts: Integers) -> Floats:
    """(..., V, B) -> (...), in nats."""
    joint = entropy_of(counts.reshape(*counts.shape[:-2], -1))
    return np.maximum(entropy_of(counts.sum(-1)) + entropy_of(counts.sum(-2)) - joint, 0.0)


def ratio(over: NDArray[Any], under: NDArray[Any], where: NDArray[np.bool_]) -> Floats:
    """`over / under`, and 0 elsewhere than `where`."""
    shape = np.broadcast_shapes(over.shape, under.shape)
    return np.divide(over, under, out=np.zeros(shape), where=where)


def expected_information_of(counts: Integers) -> Floats:
    """(..., V, B) -> (...): the mean information, in nats, over all tables with the same margins.

    The hypergeometric model of Vinh, Epps and Bailey 2010 (JMLR 11, eq. 24a). The expectation is a
    sum over cells of a function of the two margins and the total alone, so it is computed once for
    each triple that occurs.
    """
    rows, columns = counts.sum(-1), counts.sum(-2)  # (..., V), (..., B)
    total = rows.sum(-1)
    expected = np.zeros(total.shape)
    for size in np.unique(total):
        here = total == size
        some_rows, some_columns = rows[here], columns[here]  # (tables, V), (tables, B)
        row_levels, column_levels = np.unique(some_rows), np.unique(some_columns)
        cells = _expected_cells(row_levels, column_levels, int(size))
        row_place = np.searchsorted(row_levels, some_rows)[:, :, None]
        column_place = np.searchsorted(column_levels, some_columns)[:, None, :]
        expected[here] = cells[row_place, column_place].sum((-1, -2))
    return expected


def _expected_cells(rows: Integers, columns: Integers, total: int) -> Floats:
    """A cell's part in the expected information, for each pair of margins: (rows, columns)."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    n = np.arange(1, max(1, min(rows.max(), columns.max())) + 1)  # (cell counts,)
    column = columns[:, None]
    cells = np.empty((len(rows), len(columns)))
    for place, row in enumerate(rows):
        possible = (n <= row) & (n <= column) & (n >= row + column - total)
        others = row - n, column - n, total - row - column + n
        log_probability = (
            log_factorial[row]
            + log_factorial[total - row]
            + log_factorial[column]
            + log_factorial[total - column]
            - log_factorial[total]
            - log_factorial[n]
            - sum(log_factorial[np.where(possible, other, 0)] for other in others)
        )  # (columns, cell counts)
        probability = np.exp(np.where(possible, log_probability, -np.inf))
        gain = np.log(total * n / np.maximum(row * column, 1))
        cells[place] = (probability * n / total * gain).sum(-1)
    return cells


def rank_correlation_of(counts: NDArray[Any]) -> Floats:
    """(..., V, B) -> (...): Spearman (mid-ranks) of row and column number; 0 if one is constant.

    Rows and columns may be empty: only the order of those that occur matters.
    """
    table = counts.astype(np.float64)
    rows, columns = table.sum(-1), table.sum(-2)
    half = rows.sum(-1, keepdims=True) / 2
    row_ranks, column_ranks = (
        np.cumsum(margin, axis=-1) - margin / 2 - half for margin in (rows, columns)
    )
    shared = np.einsum("...v,...vb,...b->...", row_ranks, table, column_ranks)
    spread = np.sqrt((rows * row_ranks**2).sum(-1) * (columns * column_ranks**2).sum(-1))
    return np.clip(ratio(shared, spread, spread > 0), -1.0, 1.0)


def scalar(values: Floats) -> Any:
    """A float where there are no axes left, else the array."""
    return float(values) if np.ndim(values) == 0 else values
