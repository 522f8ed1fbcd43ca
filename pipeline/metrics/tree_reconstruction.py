"""Tree reconstruction error: how far messages are from sums of a part for each property.

Shapes as in `pipeline.metrics.information`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.metrics.information import check, joint_counts, ratio, scalar, words_by_concepts
from pipeline.metrics.metric import Metric


def tree_reconstruction_error(
    tokens: ArrayLike, attributes: ArrayLike, *, weights: ArrayLike | None = None
) -> Any:
    """Return the error, in 0 .. 1, small for a good code; see `TREE_RECONSTRUCTION_ERROR`.

    >>> square = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> tree_reconstruction_error(square, square)
    0.0
    """
    messages, bins = check(tokens, attributes)
    counts = joint_counts(messages, bins, weights)  # (..., P, A, V, B)
    table = words_by_concepts(counts).astype(np.float64)  # (..., words, concepts)
    between = words_by_concepts(joint_counts(bins, bins, weights))  # (..., concepts, concepts)
    parts = np.linalg.pinv(between.astype(np.float64), hermitian=True)
    words = counts[..., 0, :, :].sum(-1)  # (..., P, V), clips with each word
    clips = words[..., 0, :].sum(-1)
    total = clips * messages.shape[-1] - (words**2).sum((-1, -2)) / clips
    error = clips * messages.shape[-1] - ((table @ parts) * table).sum((-1, -2))
    varied = np.asarray(words.max(-1).sum(-1) < clips * messages.shape[-1])
    share = np.where(varied, ratio(error, total, varied), 1.0)
    return scalar(np.where(share < ROUNDING, 0.0, np.minimum(share, 1.0)))


ROUNDING = 1e-12
"""Smaller errors are rounding."""

TREE_RECONSTRUCTION_ERROR = Metric(
    name="tree_reconstruction_error",
    title="Tree reconstruction error",
    function=tree_reconstruction_error,
    definition="the squared distance between messages, each symbol as a one-hot vector, and the "
    "best sums of one vector for each property's bin, over that between messages and their mean. "
    "1 where no position varies. (The best vectors are a least-squares solution.)",
    chance="about 1 - A (B - 1) / (N - 1) for A properties of B bins and N clips",
    source="Andreas 2019 (ICLR): TRE with a vector for each primitive, the sum as composition and"
    " the squared distance; his code, github.com/jacobandreas/tre, finds the vectors by gradient "
    "descent. The division by the distance from the mean is ours, so that codes can be compared",
    better="smaller",
    lies="It counts what is said, not what is left out: a code that is silent about a property "
    "can have no error. A sum of parts can mix the properties within a position, so that no "
    "symbol has a meaning of its own.",
    liked="positional",
    fooled="one property",
    vectorised=True,
)
