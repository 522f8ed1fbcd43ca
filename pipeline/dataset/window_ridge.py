"""Ridge regression shared out over windows of time steps: how they are read, what each adds.

One regression reads all the windows, which weigh alike however wide they are, and its prediction is
the sum of what each window adds. An agent that sees one window can thus say its part, and the parts
of all agents together are the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.blocks import clip_blocks, column_blocks, drawn
from pipeline.dataset.feature_space import NUMBERS_AT_ONCE, Moments, Standardised
from pipeline.dataset.ridge import (
    MOST_CLIPS,
    MOST_IN_FOLDS,
    Spectrum,
    best_penalty,
    closeness,
    equal_rows_of_many,
    feature_weights,
    first_equal_rows,
    linear_kernel,
    relative_ranks,
    require_kernel_memory,
)

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Features = NDArray[np.generic]
Vectors = NDArray[np.float32]

SMALL = 0.03
"""Of the root mean square of a dimension: what logarithms take for little."""


@dataclass(frozen=True)
class Reading:
    """How a regression reads the steps of its windows.

    Attributes:
        logarithms: Whether of their logarithms, as amounts of motion span decades.
        mean: Whether their mean alone, else every step.
    """

    logarithms: bool = False
    mean: bool = False

    def scale(self, window: Features, train: Numbers) -> Vectors:
        """Return what the logarithms of each dimension are of multiples of, (D,); 0: of none."""
        if not self.logarithms:
            return np.zeros(window.shape[2], np.float32)
        if len(train) > MOST_CLIPS:
            squares = sum(
                np.square(np.asarray(block, np.float64)).sum((0, 1)) / len(train)
                for _, block in clip_blocks(window, train, NUMBERS_AT_ONCE)
            )
        else:
            squares = sum(
                np.square(np.asarray(window[train, step], np.float64)).mean(0)
                for step in range(window.shape[1])
            )
        return np.asarray(SMALL * np.sqrt(squares / window.shape[1]), np.float32)

    def vectors(self, window: Features, scale: Vectors) -> Iterator[Vectors]:
        """Yield the vectors (N, D) of a window (N, T, D) that a regression reads."""
        steps = (
            logarithms(np.asarray(window[:, step], np.float32), scale)
            for step in range(window.shape[1])
        )
        if not self.mean:
            yield from steps
            return
        total = np.zeros((len(window), window.shape[2]))
        for step in steps:
            total += step
        yield (total / window.shape[1]).astype(np.float32)


def logarithms(values: Vectors, scale: Vectors) -> Vectors:
    """Return sign(x) log(1 + |x| / scale) of values (N, D), and x where scale (D,) is 0."""
    if not scale.any():
        return values
    divisor = np.where(scale > 0, scale, 1)
    return np.where(scale > 0, np.sign(values) * np.log1p(np.abs(values) / divisor), values)


def kernels(windows: Sequence[Features], train: Numbers) -> Iterator[tuple[Reading, Floats]]:
    """Yield the readings to choose from, each with the mean of the windows' kernels (N, N).

    A mean is one only where a window has several steps. Every step is read once for both.
    """
    for logs in (False, True):
        each = Reading(logs)
        of_steps, of_mean = (np.zeros((len(windows[0]), len(windows[0]))) for _ in range(2))
        for window in windows:
            steps, total = window.shape[1], np.zeros((len(window), window.shape[2]))
            for vectors in each.vectors(window, each.scale(window, train)):
                of_steps += linear_kernel(vectors, train) / (steps * len(windows))
                total += vectors
            mean = (total / steps).astype(np.float32)
            of_mean += linear_kernel(mean, train) / len(windows)
        yield each, of_steps
        if any(window.shape[1] > 1 for window in windows):
            yield Reading(logs, mean=True), of_mean


@dataclass(frozen=True, eq=False)
class WindowRidge:
    """A regression of the ranks of P properties on W windows, and what each window adds to it.

    Attributes:
        reading: How it reads them.
        scales: Of the logarithms, by window float32 (D,); 0: the features as they are.
        weights: By window float64 (steps * D, P), of all steps end to end.
        biases: By window float64 (P,): parts are 0 in the mean over training clips.
        offset: Mean rank of the training clips, (P,).
        parts: What each window adds, of all clips, by window float64 (N, P).
        goodness: Of its predictions over folds of training objects; larger is better.
    """

    reading: Reading
    scales: list[Vectors]
    weights: list[Floats]
    biases: list[Floats]
    offset: Floats
    parts: list[Floats]
    goodness: float

    def __repr__(self) -> str:
        return f"WindowRidge({self.reading}, {len(self.parts)} windows)"

    @property
    def predictions(self) -> Floats:
        """The ranks predicted of all clips, (N, P)."""
        return np.asarray(sum(self.parts) + self.offset)

    @classmethod
    def fit(
        cls, windows: Sequence[Features], labels: Floats, objects: Numbers, train: Numbers
    ) -> WindowRidge:
        """Regress the ranks of labels on windows; reading and penalty are those of the best folds.

        Args:
            windows: Features of the same N clips, (N, T, D) each.
            labels: (N, P).
            objects: The number of each clip's object, (N,).
            train: The training clips.

        Raises:
            HeliographError: See `linear_kernel`.
        """
        targets = relative_ranks(labels, train)
        if len(labels) > MOST_CLIPS:
            return cls._of_many(windows, targets, objects, train)
        require_kernel_memory(len(labels), 4)
        goodness = closeness(targets)
        best: tuple[float, float, Reading, Floats] | None = None
        for reading, kernel in kernels(windows, train):
            penalty, quality = best_penalty(kernel, targets, train, objects, goodness)
            if best is None or quality > best[0]:
                best = quality, penalty, reading, kernel
        assert best is not None
        quality, penalty, reading, kernel = best
        spectrum = Spectrum.of(kernel[np.ix_(train, train)], targets[train])
        of_clips = spectrum.vectors @ spectrum.shrunk(np.array([penalty]))[0] / len(windows)
        scales = [reading.scale(window, train) for window in windows]
        found = [
            _shared(reading, window, scale, of_clips, train)
            for window, scale in zip(windows, scales, strict=True)
        ]
        weights, biases, parts = (list(column) for column in zip(*found, strict=True))
        return cls(reading, scales, weights, biases, spectrum.offset, parts, quality)

    @classmethod
    def _of_many(
        cls, windows: Sequence[Features], targets: Floats, objects: Numbers, train: Numbers
    ) -> WindowRidge:
        """As `fit`, in the space of features."""
        goodness = closeness(targets)
        best: tuple[float, float, _Vectors] | None = None
        for reading in readings(windows):
            scales = [reading.scale(window, train) for window in windows]
            vectors = _Vectors(windows, reading, scales)
            penalty, quality = best_penalty(
                vectors.standardised(drawn(train, MOST_IN_FOLDS)), targets, train, objects, goodness
            )
            if best is None or quality > best[0]:
                best = quality, penalty, vectors
        assert best is not None
        quality, penalty, vectors = best
        standardised = vectors.standardised(train)
        solution = Moments.of(standardised, targets, train).solve(np.array([penalty]))[0][0]
        weights = vectors.of_windows(standardised.of_features(solution))
        parts = [
            _products(window, scale, own)
            for window, scale, own in zip(windows, vectors.scales, weights, strict=True)
        ]
        biases = [-part[train].mean(0) for part in parts]
        parts = [
            (part + bias)[equal_rows_of_many(window)]
            for window, part, bias in zip(windows, parts, biases, strict=True)
        ]
        offset = targets[train].mean(0)
        return cls(vectors.reading, vectors.scales, weights, biases, offset, parts, quality)


def readings(windows: Sequence[Features]) -> list[Reading]:
    """Return the readings to choose from; a mean is one only where a window has several steps."""
    means = (False, True) if any(window.shape[1] > 1 for window in windows) else (False,)
    return [Reading(logs, mean) for logs in (False, True) for mean in means]


@dataclass(frozen=True, eq=False)
class _Vectors:
    """What a reading makes of windows, a vector after the other: `feature_space.Parts`."""

    windows: Sequence[Features]
    reading: Reading
    scales: list[Vectors]

    def __call__(self, clips: Numbers) -> list[Vectors]:
        """Return the vectors (n, D) of some clips."""
        return [
            vectors
            for window, scale in zip(self.windows, self.scales, strict=True)
            for vectors in self.reading.vectors(window[clips], scale)
        ]

    def standardised(self, train: Numbers) -> Standardised:
        """Return them standardised, every window with the same weight."""
        sizes = []
        for window in self.windows:
            steps = 1 if self.reading.mean else window.shape[1]
            sizes += [(window.shape[2] * steps * len(self.windows)) ** -0.5] * steps
        return Standardised.of(len(self.windows[0]), self, sizes, train)

    def of_windows(self, weights: Sequence[Floats]) -> list[Floats]:
        """Return weights of the vectors (D, P) as those of each window, (steps * D, P)."""
        rest, found = iter(weights), []
        for window in self.windows:
            steps = window.shape[1]
            own = (
                [next(rest) / steps] * steps
                if self.reading.mean
                else [next(rest) for _ in range(steps)]
            )
            found.append(np.concatenate(own))
        return found


def _products(window: Features, scale: Vectors, weights: Floats) -> Floats:
    """Return the steps of a window (N, T, D), or their logarithms, times weights (T * D, P)."""
    part, (_, steps, width) = np.zeros((len(window), weights.shape[1])), window.shape
    for where, block in clip_blocks(window, numbers=NUMBERS_AT_ONCE):
        for own, step in zip(weights.reshape(steps, width, -1), range(steps), strict=True):
            vectors = logarithms(np.asarray(block[:, step], np.float32), scale)
            part[where] += vectors.astype(np.float64) @ own
    return part


def _shared(
    reading: Reading, window: Features, scale: Vectors, of_clips: Floats, train: Numbers
) -> tuple[Floats, Floats, Floats]:
    """Return the weights, biases and parts of a window.

    Args:
        reading: Of the window.
        window: (N, T, D).
        scale: Of its logarithms.
        of_clips: What each training clip adds by its likeness, (train, P).
        train: The training clips.
    """
    steps, (count, width) = (
        window.shape[1],
        (1 if reading.mean else window.shape[1], window.shape[2]),
    )
    part, weights = np.zeros((len(window), of_clips.shape[1])), []
    for vectors in reading.vectors(window, scale):
        own = np.concatenate(
            [
                feature_weights(np.asarray(columns)[train], of_clips / (width * count))
                for columns in column_blocks([vectors])
            ]
        )
        part += vectors.astype(np.float64) @ own
        weights.append(own)
    if reading.mean:
        weights = [weights[0] / steps] * steps
    bias = -part[train].mean(0)
    part = (part + bias)[first_equal_rows(window)]
    return np.concatenate(weights), bias, part
