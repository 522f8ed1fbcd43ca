"""Residual entropy: what stays unknown of each property when only its own positions are read.

Shapes as in `pipeline.metrics.information`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.metrics.information import (
    Floats,
    Integers,
    check,
    entropy_of,
    information_of,
    joint_counts,
    ratio,
    scalar,
)
from pipeline.metrics.metric import Metric


def residual_entropy(
    tokens: ArrayLike, attributes: ArrayLike, *, weights: ArrayLike | None = None
) -> Any:
    """Return the residual entropy, in 0 .. 1, small for a good code; see `RESIDUAL_ENTROPY`.

    >>> residual_entropy([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    0.0
    """
    messages, bins = check(tokens, attributes)
    counts = joint_counts(messages, bins, weights)  # (..., P, A, V, B)
    unknown = entropy_of(counts[..., 0, :, :, :].sum(-2))  # (..., A)
    told = ratio(information_of(counts), unknown[..., None, :], unknown[..., None, :] > 0)
    owner = told.argmax(-1)  # (..., P)
    often = None if weights is None else np.asarray(weights, dtype=np.int64)
    left = [
        _entropy_left(messages, bins[..., number], owner == number, often)
        for number in range(bins.shape[-1])
    ]
    varied = unknown > 0
    share = ratio(np.stack(left, axis=-1), unknown, varied)
    number = varied.sum(-1).astype(np.float64)
    return scalar(np.where(number > 0, ratio(share.sum(-1), number, number > 0), np.nan))


def _entropy_left(
    messages: Integers, bins: Integers, read: NDArray[np.bool_], weights: Integers | None
) -> Floats:
    """Return H(bin | symbols that are read), in nats: (...).

    What is read of a message is a sum of random 64-bit numbers, one for each symbol at a position,
    so equal numbers are equal messages but for one case in 10**14.

    Args:
        messages: (..., N, P).
        bins: Of one property, (..., N).
        read: Which positions are, (..., P), with all leading axes.
        weights: How often each clip counts, (..., N).
    """
    rng = np.random.default_rng(0)
    names = np.zeros((*read.shape[:-1], messages.shape[-2]), dtype=np.uint64)
    for position, symbols in enumerate(np.moveaxis(messages, -1, 0)):
        numbers = rng.integers(2**64, size=symbols.max() + 1, dtype=np.uint64)
        names += np.where(read[..., position, None], numbers[symbols], np.uint64(0))
    numbers = rng.integers(2**64, size=bins.max() + 1, dtype=np.uint64)
    together = _entropy_of_names(names + numbers[bins], weights)
    return np.maximum(together - _entropy_of_names(names, weights), 0.0)


def _entropy_of_names(names: NDArray[np.uint64], weights: Integers | None) -> Floats:
    """Return the entropy, in nats, of names (..., N) that count as often as weights (..., N)."""
    if weights is None:
        names = np.sort(names, axis=-1)
        reached = np.arange(1, names.shape[-1] + 1)  # clips up to each one
    else:
        order = np.argsort(names, axis=-1)
        names = np.take_along_axis(names, order, axis=-1)
        often = np.take_along_axis(np.broadcast_to(weights, names.shape), order, axis=-1)
        reached = often.cumsum(-1)
    ends = np.ones(names.shape, dtype=bool)
    ends[..., :-1] = names[..., 1:] != names[..., :-1]
    before = np.zeros(names.shape, dtype=np.int64)  # clips before each one's name
    before[..., 1:] = np.maximum.accumulate(np.where(ends, reached, 0), axis=-1)[..., :-1]
    counts = np.where(ends, reached - before, 0)
    return entropy_of(counts)


RESIDUAL_ENTROPY = Metric(
    name="residual_entropy",
    title="Residual entropy",
    function=residual_entropy,
    definition="H(property | its positions) / H(property), averaged over the properties that "
    "vary. Each position belongs to one property: that of whose entropy it tells the largest "
    "share. A property without positions counts 1.",
    chance="below 1: the fewer the clips for the number of messages, the smaller",
    source="Resnick et al. 2020 (AAMAS; arXiv 1910.11424), which takes the best of all ways to "
    "share out the positions; their code, github.com/backpropper/cbc-emecom, also takes one, by a"
    " rank of symbol frequencies",
    undefined="where no property varies",
    better="smaller",
    lies="Long messages name every clip: then nothing is left unknown, whatever the symbols mean."
    " Compare with the null. Two positions that tell a property only together may be given to "
    "different properties, and then the value is too large.",
    liked="positional",
    fooled="names",
    vectorised=True,
)
