"""Ridge regression of many clips, solved for the weights of what they are described by.

A kernel grows with the square of the clips. The regression here is the same but for rounding, and
holds the products of the numbers of a clip with each other in place of those of clips. Clips are
read a block at a time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from data.errors import HeliographError
from pipeline.dataset.blocks import BLOCK_NUMBERS, drawn

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Parts = Callable[[Numbers], Sequence[NDArray[Any]]]
"""Returns the numbers of n clips as vectors, (n, D) each: of every step, say."""

MOST_NUMBERS = 1024
"""Of more numbers a clip, each of its vectors is read on orthogonal axes, so many in all."""
CLIPS_OF_AXES = 2048
"""Training clips that axes are found from, at most."""
ROUNDS = 2
"""Products with the features' own products, by which axes of little variance fall off."""
NUMBERS_AT_ONCE = 1 << 21
FARTHEST = 1e18
"""In standard deviations; float32 cannot hold the square of more."""


class Vectors(ABC):
    """N clips as vectors (N, width), of which some are read at a time.

    Attributes:
        count: N.
    """

    count: int

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.count} x {self.width})"

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers of a vector."""

    @property
    def numbers(self) -> int:
        """Numbers that are read for a vector."""
        return self.width

    @abstractmethod
    def read(self, clips: Numbers) -> Floats:
        """Return the vectors of some clips, (n, width)."""

    def blocks(self, clips: Numbers) -> Iterator[tuple[slice, Floats]]:
        """Yield which of the clips these are, and their vectors."""
        step = max(1, NUMBERS_AT_ONCE // max(1, self.numbers))
        for start in range(0, len(clips), step):
            where = slice(start, start + step)
            yield where, self.read(clips[where])

    def products(self, clips: Numbers, weights: Floats) -> Floats:
        """Return the vectors of clips times weights (width, T): (n, T)."""
        found = np.empty((len(clips), weights.shape[1]))
        for where, vectors in self.blocks(clips):
            found[where] = vectors @ weights
        return found


@dataclass(frozen=True, eq=False, repr=False)
class Standardised(Vectors):
    """Features less their mean over training clips, in standard deviations of these.

    A feature that does not vary among training clips is left at its difference from the mean.

    Attributes:
        count: Clips.
        parts: Their vectors as they are.
        centres: Of each vector, (D,).
        scales: Of each vector, (D,).
        axes: Of each vector, orthonormal (D, K); None: it is read whole.
        sizes: What each vector is multiplied by.
    """

    count: int
    parts: Parts
    centres: list[Floats]
    scales: list[Floats]
    axes: list[Floats | None]
    sizes: list[float]

    @classmethod
    def of(cls, count: int, parts: Parts, sizes: Sequence[float], train: Numbers) -> Standardised:
        """Find mean, deviation and axes of the training clips.

        Axes are those of most variance, by products with random vectors (Halko, Martinsson and
        Tropp 2011, algorithm 4.4).

        Args:
            count: Clips.
            parts: Their vectors.
            sizes: What each is multiplied by.
            train: The training clips.
        """
        first = [np.asarray(part[0], np.float64) for part in parts(train[:1])]
        sums = [np.zeros((2, len(part))) for part in first]
        numbers = sum(map(len, first))
        step = max(1, NUMBERS_AT_ONCE // max(1, numbers))
        for start in range(0, len(train), step):
            for total, one, part in zip(
                sums, first, parts(train[start : start + step]), strict=True
            ):
                apart = np.asarray(part, np.float64) - one
                total += apart.sum(0), np.square(apart).sum(0)
        means = [total / len(train) for total in sums]
        centres = [one + mean for one, (mean, _) in zip(first, means, strict=True)]
        deviations = [np.sqrt(np.maximum(square - mean**2, 0)) for mean, square in means]
        scales = [np.where(own > 0, own, 1) for own in deviations]
        whole = cls(count, parts, centres, scales, [None] * len(first), list(sizes))
        return whole if numbers <= MOST_NUMBERS else whole._shortened(train)

    def _shortened(self, train: Numbers) -> Standardised:
        kept = max(1, MOST_NUMBERS // len(self.centres))
        few = max(2 * kept, min(CLIPS_OF_AXES, BLOCK_NUMBERS // self.numbers))
        axes = [
            None
            if len(centre) <= kept
            else leading_axes((np.asarray(part, np.float64) - centre) / scale, kept)
            for part, centre, scale in zip(
                self.parts(drawn(train, few)), self.centres, self.scales, strict=True
            )
        ]
        return Standardised(self.count, self.parts, self.centres, self.scales, axes, self.sizes)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return sum(
            len(centre) if own is None else own.shape[1]
            for centre, own in zip(self.centres, self.axes, strict=True)
        )

    @property
    def numbers(self) -> int:
        """Features of a clip."""
        return sum(map(len, self.centres))

    def read(self, clips: Numbers) -> Floats:
        """Return the vectors of some clips, (n, width).

        Raises:
            HeliographError: A clip is so much farther from the others than they are from each other
                that float32 cannot hold it.
        """
        found, stop = np.empty((len(clips), self.width)), 0
        for number, part in enumerate(self.parts(clips)):
            rows = np.asarray(part, np.float64) - self.centres[number]
            rows /= self.scales[number]
            if not np.abs(rows).max(initial=0) < FARTHEST:
                raise too_far()
            axes = self.axes[number]
            if axes is not None:
                rows = rows @ axes
            start, stop = stop, stop + rows.shape[1]
            np.multiply(rows, self.sizes[number], out=found[:, start:stop])
        return found

    def of_features(self, weights: Floats) -> list[Floats]:
        """Return weights (width, T) as those of the features as they are, (D, T) for each part."""
        found, stop = [], 0
        for number, axes in enumerate(self.axes):
            length = len(self.centres[number]) if axes is None else axes.shape[1]
            start, stop = stop, stop + length
            own = self.sizes[number] * weights[start:stop]
            whole = own if axes is None else axes @ own
            found.append(whole / self.scales[number][:, None])
        return found


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over n clips, their vectors x (width,) and targets y (T,).

    Attributes:
        count: n.
        x: (width,).
        y: (T,).
        xx: (width, width).
        xy: (width, T).
    """

    count: int
    x: Floats
    y: Floats
    xx: Floats
    xy: Floats

    def __repr__(self) -> str:
        return f"Moments({self.count} clips of {len(self.x)})"

    @classmethod
    def of(cls, vectors: Vectors, targets: Floats, clips: Numbers) -> Moments:
        """Read clips, and sum up: targets are (N, T)."""
        width = vectors.width
        x, xx = np.zeros(width), np.zeros((width, width))
        y, xy = np.zeros(targets.shape[1]), np.zeros((width, targets.shape[1]))
        for where, rows in vectors.blocks(clips):
            own = targets[clips[where]]
            x += rows.sum(0)
            y += own.sum(0)
            xx += rows.T @ rows
            xy += rows.T @ own
        return cls(len(clips), x, y, xx, xy)

    def __add__(self, other: Moments) -> Moments:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Moments(*(own + more for own, more in pairs))

    def centred(self) -> Floats:
        """The products of the vectors less their mean, (width, width)."""
        return np.asarray(self.xx - np.outer(self.x, self.x) / self.count)

    def solve(self, penalties: Floats) -> tuple[Floats, Floats]:
        """Return weights (penalties, width, T) and offsets (penalties, T) of ridge regressions."""
        centred, across = self.centred(), self.xy - np.outer(self.x, self.y) / self.count
        weights = np.empty((len(penalties), *across.shape))
        for own, penalty in zip(weights, penalties, strict=True):
            products = centred + penalty * np.eye(len(centred))
            own[:] = scipy.linalg.solve(products, across, assume_a="pos", overwrite_a=True)
        return weights, (self.y - self.x @ weights) / self.count

    def axes(self, most: int) -> tuple[Floats, Floats]:
        """Return the leading principal axes of the clips, ascending: values (A,), (width, A)."""
        side = len(self.x)
        if not side:
            return np.zeros(0), np.zeros((0, 0))
        chosen = (max(0, side - most), side - 1)
        values, vectors = scipy.linalg.eigh(self.centred(), subset_by_index=chosen)
        return values, vectors


def leading_axes(rows: Floats, count: int) -> Floats:
    """Return orthonormal axes (D, count) of most of the variance of centred rows (n, D)."""
    axes = np.random.default_rng(0).standard_normal((rows.shape[1], count))
    for _ in range(ROUNDS):
        axes = rows.T @ (rows @ axes)
    return np.linalg.qr(axes)[0]


def predictions(vectors: Vectors, clips: Numbers, weights: Floats, offsets: Floats) -> Floats:
    """Return what regressions predict of clips, (penalties, n, T), by `Moments.solve`."""
    penalties, width, targets = weights.shape
    flat = weights.transpose(1, 0, 2).reshape(width, penalties * targets)
    found = vectors.products(clips, flat).reshape(len(clips), penalties, targets)
    return np.asarray(found.transpose(1, 0, 2) + offsets[:, None])


def too_far() -> HeliographError:
    """Return the error about a clip whose distance from the others float32 cannot hold."""
    return HeliographError(
        "the features of some clips are too far from those of the training clips to be "
        "compared with them (more than 1e18 standard deviations): leave these clips out"
    )


def steps_of(features: Sequence[NDArray[Any]]) -> tuple[Parts, list[float]]:
    """Return features (N, ...) of the same clips as vectors, one for each step, and their sizes.

    Products of such vectors are mean products of their numbers.
    """

    def parts(clips: Numbers) -> list[NDArray[Any]]:
        found = []
        for own in features:
            block = np.asarray(own[clips])
            steps = block.shape[1] if block.ndim > 2 else 1
            found += [*block.reshape(len(block), steps, -1).swapaxes(0, 1)]
        return found

    count = sum(own.shape[1] if own.ndim > 2 else 1 for own in features)
    width = sum(math.prod(own.shape[1:]) for own in features)
    return parts, [width**-0.5] * count
