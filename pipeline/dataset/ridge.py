"""Ridge regression on a kernel: few clips, thousands of features, many seeds.

Standardised features enter only through their inner products, so a seed costs one product of
(clips, features) matrices, and everything after it is as small as the number of clips. Of more than
`MOST_CLIPS` clips the same regression is solved in the space of their features (`feature_space`).
"""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.memory import require_memory
from pipeline.dataset.blocks import clip_blocks, column_blocks, drawn
from pipeline.dataset.feature_space import (
    NUMBERS_AT_ONCE,
    Moments,
    Standardised,
    Vectors,
    predictions,
    steps_of,
    too_far,
)
from pipeline.metrics import merge_ties

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

PENALTIES: Floats = np.logspace(-2, 4, 7)
FOLDS = 5
LARGEST = 2.0**40
"""Features above this, or below its inverse, are brought to about 1 before they are squared."""

KERNELS_OF_A_REGRESSION = 6
"""What a regression holds besides its kernel, in multiples of it: parts of it, and eigenvectors."""

MOST_CLIPS = 2048
"""Of more clips, regressions are solved in the space of their features."""
MOST_IN_FOLDS = 8192
"""Of more training clips, there, so many are drawn to choose the penalty by."""

Likeness = Floats | Vectors
"""How alike N clips are: a kernel (N, N), or vectors of the clips whose products it would be."""

Goodness = Callable[[Floats, Numbers], float]
"""Scores predictions (n, targets) for clips (n,); larger is better, NaN where it cannot tell."""


def likeness(features: Sequence[NDArray[np.generic]], train: Numbers) -> Likeness:
    """Return the mean products of standardised features (N, ...), as `linear_kernel` has them.

    Raises:
        HeliographError: See `linear_kernel`.
    """
    if len(features[0]) <= MOST_CLIPS:
        return linear_kernel(features, train)
    return Standardised.of(len(features[0]), *steps_of(features), train)


def linear_kernel(
    features: NDArray[np.generic] | Sequence[NDArray[np.generic]], train: Numbers
) -> Floats:
    """Return the mean products of standardised features: (N, F) to (N, N).

    Mean and deviation are those of the training clips; a feature that does not vary there is left
    at its difference from the mean. Clips with equal features have equal rows. Features are read a
    block of columns at a time, and what fits in one block keeps the bits of one product.

    Args:
        features: (N, ...), or several of the same clips, whose F numbers a clip are laid end to
            end.
        train: The training clips.

    Raises:
        HeliographError: A clip is so much farther from the others than they are from each other
            that float32 cannot hold it.
        OutOfMemoryError: The kernel of so many clips does not fit into memory.
    """
    parts = [features] if isinstance(features, np.ndarray) else list(features)
    require_kernel_memory(len(parts[0]))
    equal = first_equal_rows(*parts)
    kernel, width = np.zeros((len(equal), len(equal))), 0
    for columns in column_blocks(parts):
        rows = in_range(np.asarray(columns, dtype=np.float32), train)
        rows = rows - rows[train].mean(0)
        scale = rows[train].std(0)
        with np.errstate(over="ignore", invalid="ignore"):
            rows /= np.where(scale > 0, scale, 1)
            kernel += rows @ rows.T
        width += rows.shape[1]
    kernel /= width
    if not np.isfinite(kernel).all():
        raise too_far()
    if (equal == np.arange(len(equal))).all():
        return kernel
    return kernel[np.ix_(equal, equal)]


def require_kernel_memory(clips: int, kernels: int = 1) -> None:
    """Check that so many kernels of clips, and a regression on one of them, fit into memory.

    Raises:
        OutOfMemoryError: They do not; the sentence gives the sizes.
    """
    require_memory(
        8 * clips**2 * (kernels + KERNELS_OF_A_REGRESSION),
        f"ridge regression on {clips:,} clips",
        "take fewer clips",
    )


def in_range(features: NDArray[np.float32], train: Numbers) -> NDArray[np.float32]:
    """Return features (N, F) whose squares float32 can hold, for those whose squares it cannot.

    A feature that is very large or very small in all training clips is multiplied by a power of
    two, which changes no digit; the others stay as they are, to the bit.
    """
    exponents = _exponents(features, train)
    if not exponents.any():
        return features
    with np.errstate(over="ignore"):
        return np.ldexp(features, exponents)


def _exponents(features: NDArray[np.float32], train: Numbers) -> NDArray[np.int32]:
    """Return the power of two that `in_range` multiplies each feature by, (F,)."""
    size = np.abs(features[train]).max(0, initial=0)
    extreme = (size > 0) & ((size > LARGEST) | (size < 1 / LARGEST))
    return np.where(extreme, -np.frexp(size)[1], 0)


def first_equal_rows(*features: NDArray[np.generic]) -> Numbers:
    """Return for each row of several features the first row with the same bytes in all: (N,).

    A product of matrices rounds equal rows differently, and regression magnifies the difference
    until equal clips seem to differ. Their rows of the kernel are therefore those of the first.
    """
    if any(_all_rows_differ(part) for part in features):
        return np.arange(len(features[0]))
    first: dict[bytes, int] = {}
    digests = map(_digest, zip(*features, strict=True))
    return np.array([first.setdefault(digest, index) for index, digest in enumerate(digests)])


def equal_rows_of_many(features: NDArray[np.generic]) -> Numbers:
    """As `first_equal_rows`, of the features of many clips, which are read a block at a time."""
    first: dict[bytes, int] = {}
    rows = (row for _, block in clip_blocks(features, numbers=NUMBERS_AT_ONCE) for row in block)
    return np.array([first.setdefault(_digest([row]), index) for index, row in enumerate(rows)])


def _all_rows_differ(features: NDArray[np.generic]) -> bool:
    """Return whether a checksum tells all rows apart: quicker than digests, and then enough."""
    if not features.size or not features.flags.c_contiguous:  # which would be copied whole
        return False
    rows = features.reshape(len(features), -1)
    size = next(size for size in (4, 2, 1) if rows[0].nbytes % size == 0)
    words = rows.view(f"u{size}")  # whole numbers, whose sums are exact
    weights = np.arange(1, words.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    sums = np.einsum("ij,j->i", words, weights)
    return len(np.unique(sums)) == len(rows)


def _digest(row: Sequence[NDArray[np.generic]]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in row:
        digest.update(part.tobytes())
    return digest.digest()


def predict(
    kernel: Likeness,
    targets: Floats,
    train: Numbers,
    clips: Numbers,
    *,
    objects: Numbers,
    goodness: Goodness,
) -> Floats:
    """Return predictions of `targets` for `clips`, fitted on the `train` clips.

    One penalty serves all the targets: the one of `PENALTIES` with the best predictions over five
    folds of training objects, the smallest of those that are equally good up to rounding.

    Args:
        kernel: Of N clips.
        targets: (N, T).
        train: The training clips.
        clips: The clips to predict, (n,).
        objects: The number of each clip's object, (N,).
        goodness: Scores the predictions of a fold.

    Returns:
        float64 (n, T).
    """
    best, _ = best_penalty(kernel, targets, train, objects, goodness)
    if isinstance(kernel, Vectors):
        solution = Moments.of(kernel, targets, train).solve(np.array([best]))
        return predictions(kernel, clips, *solution)[0]
    return _solve(kernel, targets, train, clips, np.array([best]))[0]


def feature_weights(features: NDArray[np.generic], of_clips: Floats) -> Floats:
    """Return a regression on products of standardised features as weights of the features.

    Args:
        features: Of the n training clips, (n, F).
        of_clips: What each training clip adds by its product, (n, T).

    Returns:
        float64 (F, T).
    """
    rows = np.asarray(features, dtype=np.float32)
    exponents = _exponents(rows, np.arange(len(rows)))
    rows = np.ldexp(rows, exponents).astype(np.float64)
    scale = rows.std(0)
    scale = np.where(scale > 0, scale, 1)
    weights = ((rows - rows.mean(0)) / scale).T @ of_clips / scale[:, None]
    return np.asarray(np.ldexp(weights, exponents[:, None]))


def best_penalty(
    kernel: Likeness, targets: Floats, train: Numbers, objects: Numbers, goodness: Goodness
) -> tuple[float, float]:
    """Return the one of `PENALTIES` that `predict` takes, and its goodness over the folds."""
    if isinstance(kernel, Vectors):
        train = drawn(train, MOST_IN_FOLDS)
    folds = np.unique(objects[train], return_inverse=True)[1] % FOLDS
    totals = np.zeros(len(PENALTIES))
    for outside, predicted in _of_folds(kernel, targets, train, folds):
        for number, values in enumerate(predicted):
            totals[number] += len(outside) * np.nan_to_num(goodness(values, outside))
    best = int(merge_ties(totals).argmax())
    return float(PENALTIES[best]), float(totals[best])


def _of_folds(
    kernel: Likeness, targets: Floats, train: Numbers, folds: Numbers
) -> Iterator[tuple[Numbers, Floats]]:
    """Yield the clips of each fold, and what the others predict of them, (penalties, n, T)."""
    parts = [train[folds == fold] for fold in range(FOLDS)]
    moments: list[Moments] = []
    if isinstance(kernel, Vectors):
        moments = [Moments.of(kernel, targets, part) for part in parts]
    for fold, outside in enumerate(parts):
        inside = train[folds != fold]
        if not len(inside) or len(outside) < 2:
            continue
        if isinstance(kernel, Vectors):
            rest = [own for number, own in enumerate(moments) if number != fold]
            solution = functools.reduce(operator.add, rest).solve(PENALTIES)
            yield outside, predictions(kernel, outside, *solution)
        else:
            yield outside, _solve(kernel, targets, inside, outside, PENALTIES)


def closeness(targets: Floats) -> Goodness:
    """Return a goodness: minus the mean squared error of predictions of `targets` (N, T)."""

    def goodness(values: Floats, clips: Numbers) -> float:
        return -float(((values - targets[clips]) ** 2).mean())

    return goodness


def _solve(
    kernel: Floats, targets: Floats, train: Numbers, clips: Numbers, penalties: Floats
) -> Floats:
    """Return predictions (penalties, n, T), by one eigendecomposition, the intercept free."""
    spectrum = Spectrum.of(kernel[np.ix_(train, train)], targets[train])
    across = kernel[np.ix_(clips, train)]
    across = across - across.mean(1, keepdims=True) - spectrum.column + spectrum.column.mean()
    coordinates = across @ spectrum.vectors  # (n, train)
    return np.asarray(coordinates @ spectrum.shrunk(penalties) + spectrum.offset)


@dataclass(frozen=True)
class Spectrum:
    """The centred kernel of n training clips by its eigenvectors, and the targets along them.

    Attributes:
        column: Mean of each column of the kernel, (n,).
        offset: Mean of the targets, (T,).
        values: Eigenvalues, (n,).
        vectors: Eigenvectors, (n, n).
        coefficients: Of the centred targets, (n, T).
    """

    column: Floats
    offset: Floats
    values: Floats
    vectors: Floats
    coefficients: Floats

    @classmethod
    def of(cls, inside: Floats, targets: Floats) -> Spectrum:
        """Decompose a kernel (n, n) of clips with targets (n, T)."""
        column, offset = inside.mean(0), targets.mean(0)
        centred = inside - column - column[:, None] + column.mean()
        values, vectors = np.linalg.eigh(centred)
        return cls(column, offset, values, vectors, vectors.T @ (targets - offset))

    def shrunk(self, penalties: Floats) -> Floats:
        """Return the coefficients of each penalty's regression, (penalties, n, T)."""
        return self.coefficients / (np.maximum(self.values, 0)[:, None] + penalties[:, None, None])


def relative_ranks(labels: Floats, train: Numbers) -> Floats:
    """Return the rank of each clip's labels among the values of the training clips, in 0 .. 1.

    Args:
        labels: (N, T).
        train: The training clips.

    Returns:
        float64 (N, T); above 1 for a value above all of them.
    """
    ranks = np.empty(labels.shape)
    for number, column in enumerate(labels.T):
        known = np.unique(column[train])
        ranks[:, number] = np.searchsorted(known, column) / max(1, len(known) - 1)
    return ranks
