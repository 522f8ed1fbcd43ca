"""Calibration of readouts: score cards of messages, and how far they err on held-out clips.

Scores are values of a property, or their logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import number_objects
from pipeline.runs import Run

LEVEL = 0.9
"""Of the intervals."""
LEAST_OBJECTS = math.ceil(LEVEL / (1 - LEVEL) - 1e-9)
"""Held-out objects that an interval needs: of fewer, even the largest error is no bound."""
PENALTIES = np.logspace(-1, 3, 9)
"""In clips: a symbol that as many training clips have is believed by half."""
FOLDS = 5
QUANTILES = 99
"""Errors that a readout keeps, evenly spaced in their distribution."""
MOST_MESSAGES = 100_000
"""That are read to learn a readout."""

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class SpokenClips:
    """The clips of a run with the messages of one seed.

    Attributes:
        tokens: (N, positions).
        labels: (N, properties); NaN where unknown.
        objects: Of each clip, (N,).
        train: The clips with every label that the agents were trained on.
        held_out: Those of objects that they were not trained on.
    """

    tokens: Numbers
    labels: Floats
    objects: tuple[str, ...]
    train: Numbers
    held_out: Numbers

    @classmethod
    def of(cls, run: Run, seed: int | None = None) -> SpokenClips:
        """Read the messages of a seed of a run; None: of the chosen one."""
        lines, tokens = run.messages(seed), run.tokens(seed)
        names = run.config.properties
        rows = [[line["labels"][name] for name in names] for line in lines]
        labels = np.array(rows, dtype=np.float64).reshape(len(lines), len(names))
        known = np.isfinite(labels).all(axis=1)
        is_train = np.array([line["part"] == "train" for line in lines])
        objects = tuple(line["object"] or line["clip"] for line in lines)
        trained = {objects[clip] for clip in np.flatnonzero(is_train).tolist()}
        is_new = np.array([name not in trained for name in objects])
        return cls(
            tokens.reshape(len(lines), -1),
            labels,
            objects,
            np.flatnonzero(is_train & known),
            np.flatnonzero(is_new & known),
        )


@dataclass(frozen=True)
class Witnesses:
    """Errors of readouts on held-out clips; every object weighs the same.

    Attributes:
        errors: True minus estimated scores, (n,).
        object: The number of each one's object, (n,).
        seed: The number of the seed that erred, (n,).
        clip: The number of the clip, (n,).
        estimated: The scores that were estimated, (n,).
    """

    errors: Floats
    object: Numbers
    seed: Numbers
    clip: Numbers
    estimated: Floats

    @classmethod
    def of(
        cls, seeds: Sequence[SpokenClips], number: int, logarithm: bool, vocab: int
    ) -> Witnesses:
        """Fit the property with this number in every seed, and see how far each errs."""
        objects = number_objects(seeds[0].objects, len(seeds[0].objects))
        errors, estimates, clips = [], [], []
        for own in seeds:
            column = own.labels[:, number]
            with np.errstate(invalid="ignore", divide="ignore"):
                scores = to_scores(column, logarithm)
            known = own.held_out[np.isfinite(scores[own.held_out])]
            offset, points = fit_points(own, scores, vocab)
            estimated = offset + add_points(points, own.tokens[known])
            errors.append(scores[known] - estimated)
            estimates.append(estimated)
            clips.append(known)
        clip = np.concatenate(clips)
        seed = np.repeat(np.arange(len(seeds)), [len(own) for own in clips])
        return cls(np.concatenate(errors), objects[clip], seed, clip, np.concatenate(estimates))

    @property
    def objects(self) -> int:
        """How many objects there are."""
        return len(np.unique(self.object))

    @property
    def weights(self) -> Floats:
        """Of each error, (n,): each object has one over one more than their number."""
        known, index, often = np.unique(self.object, return_inverse=True, return_counts=True)
        return np.asarray(1 / often[index] / (len(known) + 1))

    def among(self, kept: NDArray[np.bool_]) -> Witnesses:
        """Return some of them, (n,)."""
        return Witnesses(*(values[kept] for values in vars(self).values()))

    def reach(self) -> float | None:
        """Return the error that a clip of a new object exceeds with a chance of 1 - `LEVEL`.

        None where there are too few objects to tell.
        """
        if self.objects < LEAST_OBJECTS:
            return None
        sizes = np.abs(self.errors)
        order = np.argsort(sizes)
        below = np.cumsum(self.weights[order])  # less than one: a new object may err more than all
        return float(sizes[order][np.searchsorted(below, LEVEL - 1e-9)])

    def quantiles(self) -> Floats:
        """Return at most `QUANTILES` evenly spaced quantiles of the errors, ascending."""
        if not len(self.errors):
            return np.zeros(0)
        order = np.argsort(self.errors)
        share = np.cumsum(self.weights[order])
        wanted = (np.arange(QUANTILES) + 0.5) / QUANTILES * share[-1]
        return self.errors[order][np.minimum(np.searchsorted(share, wanted), len(order) - 1)]


def witnesses_of(run: Run) -> tuple[tuple[int | None, ...], list[SpokenClips]]:
    """Return the seeds of a run whose held-out clips bear witness, and their messages.

    The chosen seed alone, as None, where the run has no others; at least one, and of many clips no
    more than make `MOST_MESSAGES` messages.
    """
    most = max(1, MOST_MESSAGES // len(run.messages()))
    seeds = [seed for seed in run.seeds[:most] if run.has(f"seeds/{seed}/messages.jsonl")]
    every: tuple[int | None, ...] = tuple(seeds) or (None,)
    return every, [SpokenClips.of(run, seed) for seed in every]


def fit_points(clips: SpokenClips, scores: Floats, vocab: int) -> tuple[float, Floats]:
    """Return the offset and the points (positions, vocab) of the training clips' scores (N,).

    The penalty is the one of `PENALTIES` with the smallest squared error over folds of objects.
    """
    tokens, wanted = clips.tokens[clips.train], scores[clips.train]
    hot = (tokens[:, :, None] == np.arange(vocab)).reshape(len(tokens), -1).astype(np.float64)
    names = [clips.objects[clip] for clip in clips.train.tolist()]
    fold = number_objects(names, len(names)) % FOLDS
    squared = np.zeros(len(PENALTIES))
    for left_out in range(FOLDS):
        inside, outside = fold != left_out, fold == left_out
        if inside.any() and outside.any():
            for number, penalty in enumerate(PENALTIES):
                offset, weights = _solve(hot[inside], wanted[inside], penalty)
                squared[number] += ((offset + hot[outside] @ weights - wanted[outside]) ** 2).sum()
    offset, weights = _solve(hot, wanted, float(PENALTIES[squared.argmin()]))
    return offset, weights.reshape(-1, vocab)


def _solve(hot: Floats, wanted: Floats, penalty: float) -> tuple[float, Floats]:
    """Return the offset and the weights of ridge regression on rows (n, F)."""
    mean, level = hot.mean(0), float(wanted.mean())
    centred = hot - mean
    gram = centred.T @ centred + penalty * np.eye(hot.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (wanted - level))
    return level - float(mean @ weights), weights


def add_points(points: Floats, tokens: Numbers) -> Floats:
    """Return the sum of the points of each message's symbols: (N,) for tokens (N, positions)."""
    return np.asarray(points[np.arange(len(points)), tokens].sum(axis=1))


def reads_logarithms(values: Floats) -> bool:
    """Whether values are positive, and their median is nearer the middle of their logarithms.

    >>> reads_logarithms(np.array([1.0, 10.0, 100.0])), reads_logarithms(np.array([1.0, 2.0, 3.0]))
    (True, False)
    """
    if values.min() <= 0:
        return False
    off_centre = [
        abs(float(np.median(own)) - (own.min() + own.max()) / 2) / (float(np.ptp(own)) or 1.0)
        for own in (values, np.log(values))
    ]
    return bool(off_centre[1] < off_centre[0])


def to_scores(values: Floats, logarithm: bool) -> Floats:
    """Return values, or their logarithms."""
    return np.log(values) if logarithm else values


def band_edges(values: Floats) -> tuple[float, float]:
    """Return the edges between low, middle and high: thirds of the values, halfway between two.

    As in the lexicon, a third that ends at a value that many clips share includes it; where both
    end at one value, that value is the middle.

    >>> band_edges(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    (2.5, 4.5)
    """
    known = np.unique(values)
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    if low == high:
        below, above = known[known < low], known[known > low]
        ends = (below[-1:], known[known == low]), (known[known == low], above[:1])
    else:
        ends = (
            (known[known <= low][-1:], known[known > low][:1]),
            (
                known[known < high][-1:],
                known[known >= high][:1],
            ),
        )
    first, second = (float(np.mean([*one, *other])) for one, other in ends)
    return first, second


def band_chances(
    scores: Floats, errors: Floats, weights: Floats, edges: Floats, objects: int
) -> Floats:
    """Return the probability of each third for estimated scores (N,): (N, 3).

    Each of the errors (n,), whose weights sum to one, is as likely as its weight; one more object
    than those that erred is as likely in each third.
    """
    values = scores[:, None] + errors
    low, high = (values < edges[0]) @ weights, (values > edges[1]) @ weights
    shares = np.stack([low, np.maximum(1 - low - high, 0), high], axis=1)
    return np.asarray((objects * shares + 1 / 3) / (objects + 1))
