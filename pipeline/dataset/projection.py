"""Features on fewer axes: faster, and with less for small training sets to get lost in.

A linear map without an offset, so that it folds into the first convolution: the agents that are
kept have the paper's architecture over the backbone's own features, and nothing else to carry.
Features are read a block of clips at a time: what is in memory does not grow with their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from data.memory import require_memory
from pipeline.config import TrainConfig
from pipeline.dataset.blocks import BLOCK_NUMBERS, clip_blocks

MOST_ROWS = 1 << 17
"""Time steps that axes are found from; where there are more, those of clips drawn at random."""
WIDE = 2048
"""Of more dimensions than this, and fewer time steps, axes are found by the products of steps."""

Floats = NDArray[np.float64]


def training_axes(features: NDArray[Any], config: TrainConfig, clips: NDArray[np.int64]) -> Floats:
    """The axes (D, axes) that a run with these settings finds from features (N, T, D).

    Args:
        features: of all clips.
        config: its settings.
        clips: numbers of the training clips.

    Raises:
        OutOfMemoryError: as for `principal_axes`.
    """
    return principal_axes(
        features,
        config.axes,
        config.shrinkage,
        standardise=config.standardise,
        keep_mean=config.keep_mean,
        clips=clips,
    )


def principal_axes(
    features: NDArray[Any],
    axes: int,
    shrinkage: float = 0.0,
    *,
    standardise: bool = False,
    keep_mean: bool = False,
    clips: NDArray[np.int64] | None = None,
) -> Floats:
    """The leading principal axes of features, whitened.

    They are at right angles to the mean, so that the projected features have a mean of zero without
    an offset. Along an axis of variance v they are divided by sqrt(v + shrinkage * mean v), then
    all by one number, so that their mean square is one: with shrinkage the weak axes stay weak.

    Args:
        features: (N, T, D).
        axes: how many; D at most.
        standardise: first divide each dimension by its standard deviation.
        keep_mean: find them about zero instead, so that they may lie along the mean.
        shrinkage: 0 makes all axes equal, a large one leaves them as they are.
        clips: numbers of the training clips; None: all.

    Returns float64 (D, axes); an axis along which nothing varies is zero.

    Raises:
        OutOfMemoryError: there is too little memory to find them.
    """
    rows = _Rows(features, clips)
    size = features.shape[-1]
    spread = np.ones(size)
    if standardise:
        centre = rows.mean(lambda block: block)
        spread = np.sqrt(rows.mean(lambda block: (block - centre) ** 2))
    unit = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)  # (D,)
    mean = np.zeros(size) if keep_mean else rows.mean(lambda block: block * unit)
    direction = mean / (np.linalg.norm(mean) or 1.0)

    def centred(block: Floats) -> Floats:
        block *= unit
        if not keep_mean:
            block -= np.outer(block @ direction, direction)
        return block

    values, vectors = rows.leading(min(axes, size), centred)
    values = np.where(values > values.max() * 1e-10, values, 0)
    soft = values + shrinkage * values.mean()
    scale = np.divide(1, np.sqrt(soft), out=np.zeros_like(soft), where=values > 0)
    size_after = np.sqrt((values * scale**2).mean()) or 1.0
    return unit[:, None] * vectors * scale / size_after


def energy_axes(
    features: NDArray[Any], axes: int, *, clips: NDArray[np.int64] | None = None
) -> Floats:
    """An orthonormal basis (D, axes) of most of the energy of features (N, T, D).

    All of D, as they are, where there are no more.

    Raises:
        OutOfMemoryError: there is too little memory to find it.
    """
    size = features.shape[-1]
    if size <= axes:
        return np.eye(size)
    return _Rows(features, clips).leading(axes, lambda block: block, of_each=False)[1]


def project(features: NDArray[Any], axes: Sequence[Floats]) -> NDArray[np.float32]:
    """Features (N, T, D) on each of S sets of axes (D, K): (S, N, T, K)."""
    columns = [of_seed.astype(np.float32) for of_seed in axes]
    shape = (len(columns), *features.shape[:2], columns[0].shape[1])
    projected = np.empty(shape, np.float32)
    for where, block in clip_blocks(features):
        block = block.astype(np.float32)
        for number, of_seed in enumerate(columns):
            np.matmul(block, of_seed, out=projected[number, where])
    return projected


class _Rows:
    """The time steps of clips as float64 rows (n, D), a block at a time."""

    def __init__(self, features: NDArray[Any], clips: NDArray[np.int64] | None) -> None:
        count = len(features) if clips is None else len(clips)
        most = max(1, MOST_ROWS // max(1, features.shape[1]))
        if count > most:
            drawn = np.sort(np.random.default_rng(0).choice(count, most, replace=False))
            clips, count = drawn if clips is None else clips[drawn], most
        self.features, self.clips = features, clips
        self.count, self.size = count * features.shape[1], features.shape[2]

    def __iter__(self) -> Iterator[Floats]:
        for _, block in clip_blocks(self.features, self.clips):
            yield block.reshape(-1, self.size).astype(np.float64)

    def mean(self, of: Callable[[Floats], Floats]) -> Floats:
        """Return the mean (D,) of something of each row."""
        return sum((of(block).sum(axis=0) for block in self), np.zeros(self.size)) / self.count

    def leading(
        self, axes: int, of: Callable[[Floats], Floats], *, of_each: bool = True
    ) -> tuple[Floats, Floats]:
        """Return the largest mean squares (axes,), ascending, and where they are, (D, axes).

        Args:
            axes: how many.
            of: makes of a block (n, D) of its own what is squared.
            of_each: whether the squares are of each row, or else of all together.
        """
        by_steps = self.count < self.size > WIDE
        side = self.count if by_steps else self.size
        block = min(BLOCK_NUMBERS, self.count * self.size)
        held = self.count * self.size if by_steps else 2 * block
        require_memory(
            8 * (3 * side**2 + 2 * block + held),
            f"finding {axes} axes of {self.size:,} dimensions",
            "extract fewer (--pool), or close other programs",
        )
        if by_steps:
            rows = np.concatenate([of(found) for found in self])
            values, vectors = _leading_by_steps(rows, axes)
            return (values / self.count if of_each else values), vectors
        products = np.zeros((side, side))
        for rows in self:
            rows = of(rows)
            products += rows.T @ rows
        if of_each:
            products /= self.count
        chosen = (side - axes, side - 1)
        values, vectors = scipy.linalg.eigh(products, subset_by_index=chosen, overwrite_a=True)
        return values, vectors


def _leading_by_steps(rows: Floats, axes: int) -> tuple[Floats, Floats]:
    """As `_Rows.leading`, of fewer rows (n, D) than dimensions, by their products (n, n)."""
    known = min(axes, len(rows))
    chosen = (len(rows) - known, len(rows) - 1)
    squares, mixtures = scipy.linalg.eigh(rows @ rows.T, subset_by_index=chosen)
    squares = np.maximum(squares, 0)
    lengths = np.sqrt(squares)
    is_real = lengths > lengths.max(initial=0) * math.sqrt(np.finfo(float).eps)
    scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=is_real)
    vectors = np.zeros((rows.shape[1], axes))
    vectors[:, axes - known :] = rows.T @ (mixtures * scale)
    values = np.zeros(axes)
    values[axes - known :] = np.where(is_real, squares, 0)
    return values, vectors
