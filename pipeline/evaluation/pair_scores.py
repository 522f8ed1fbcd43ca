"""Answers about pairs of test clips: how many are right, and how far to trust the number.

A seed's answers are summed by pair of objects (`PairCounts`). From the counts of all seeds come the
accuracy of each seed, its mean, and an interval for other objects and other seeds. Test objects
are shared by the seeds and clips by their objects, so the variance is that of what each object
contributes to all seeds together (clustered by object, as in Liang and Zeger 1986), and what the
seeds differ by beyond their objects. An accuracy has the score interval of Wilson 1927 with that
variance, Student's t in place of z, and never fewer doubts than one wrong pair of objects would
leave; a difference has its t interval. `benchmarks/coverage.py` measures how often they hold.

Two results of one `PairScorer` are of the same objects, so that their difference is paired, and so
is their ratio (the delta method).

Columns, everywhere: one for each property, then, for accuracies, one for "all at once".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from pipeline.game import judge_pairs
from pipeline.metrics import merge_ties, number_objects
from pipeline.runs import Spread

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class PairCounts:
    """Right and asked answers of one seed by ordered pair of its G test objects: (G, G, columns).

    `objects` (G,) are their numbers among all the objects of the clips.
    """

    objects: NDArray[np.int64]
    right: Floats
    asked: Floats

    def __post_init__(self) -> None:
        number = len(self.objects)
        if self.right.shape != self.asked.shape or self.right.shape[:2] != (number, number):
            raise ValueError(
                f"{number} objects, but right {self.right.shape} and asked {self.asked.shape}"
            )

    def __repr__(self) -> str:
        return f"PairCounts({len(self.objects)} objects, {self.right.shape[2]} columns)"


def count_pairs(right: Floats, asked: Bools, objects: NDArray[np.int64]) -> PairCounts:
    """Sum the share of right answers (n, n, columns) of n clips by pair of objects (n,)."""
    known, index = np.unique(objects, return_inverse=True)
    member = (index[:, None] == np.arange(len(known))).astype(np.float64)  # (n, G)
    sums = (
        np.einsum("ig,ijc,jh->ghc", member, values, member, optimize=True)
        for values in (right * asked, asked.astype(np.float64))
    )
    return PairCounts(known, *sums)


def score_pairs(
    says_more: NDArray[Any], labels: Floats, margins: Sequence[float]
) -> tuple[Floats, Bools]:
    """Return the share of right answers and which pairs count, each (n, n, properties + 1).

    Args:
        says_more: bool (..., n, n, properties), "has the first clip more?"; leading axes (several
            receivers, or draws) are pooled.
        labels: (n, properties).
        margins: per property; a pair whose values differ by no more does not count.
    """
    right, asked = judge_pairs(says_more, labels[:, None], labels[None], margins)
    return right.reshape(-1, *right.shape[-3:]).mean(0), asked


def score_auc(scores: Floats, high: Bools) -> tuple[Floats, Bools]:
    """As `score_pairs`, for the area under the ROC curve: does a high clip score above a low one?

    Args:
        scores: (n, properties).
        high: (n, properties), whether the clip's value is high.

    Returns:
        (n, n, properties) each; scores equal up to rounding are half right.
    """
    merged = merge_ties(scores)
    above = merged[:, None] - merged[None]
    return (np.sign(above) + 1) / 2, high[:, None] & ~high[None]


@dataclass(frozen=True)
class Scores:
    """Accuracies of S seeds, or differences of them.

    `per_seed` is (S, columns), and `influence` (G, S, columns) what each of G test objects adds to
    the accuracy of a seed beyond its share.
    """

    per_seed: Floats
    influence: Floats
    within: tuple[float, float] = (0.0, 1.0)

    def __repr__(self) -> str:
        return f"Scores(per_seed={self.per_seed.shape}, objects={len(self.influence)})"

    def __sub__(self, other: Scores) -> Scores:
        """The paired difference: both must come from one `PairScorer`."""
        return self.less(other, 1.0)

    def less(self, other: Scores, times: float) -> Scores:
        """The paired difference from the other's scores times a number."""
        return Scores(
            self.per_seed - times * other.per_seed,
            self.influence - times * other.influence,
            (-1.0, 1.0),
        )

    @property
    def mean(self) -> Floats:
        """Over the seeds that could be asked, (columns,)."""
        known = ~np.isnan(self.per_seed)
        return _share(np.nan_to_num(self.per_seed).sum(0), known.sum(0).astype(np.float64))

    def interval(self) -> Floats:
        """Both ends of the 95 % interval of the mean over seeds: (columns, 2).

        NaN where nothing was asked, or where there are fewer than two objects.
        """
        objects = len(self.influence)
        if objects < 2:
            return np.full((self.per_seed.shape[1], 2), np.nan)
        if self.within == (0.0, 1.0):
            variance, freedom = self._variance()
            return _score_interval(self.mean, variance, stdtrit(freedom, 0.975), objects)
        half = self.half_width()
        return np.clip(np.stack([self.mean - half, self.mean + half], axis=-1), *self.within)

    def half_width(self) -> Floats:
        """Half the width of the t interval of the mean over seeds: (columns,)."""
        variance, freedom = self._variance()
        return np.asarray(stdtrit(freedom, 0.975) * np.sqrt(variance))

    def _variance(self) -> tuple[Floats, Floats]:
        """Return the variance of the mean and its degrees of freedom, (columns,) each.

        These are those of the objects and of the seeds together (Satterthwaite 1946).
        """
        objects, seeds, _ = self.influence.shape
        known = ~np.isnan(self.per_seed)
        count = np.maximum(known.sum(0), 1)  # (columns,)
        by_object = ((self.influence.sum(1) / count) ** 2).sum(0)
        if seeds < 2:
            return by_object, np.full(len(by_object), objects - 1.0)
        freedom = np.maximum(count - 1, 1)
        apart = np.where(known, self.per_seed - self.mean, 0.0)
        own = self.influence - self.influence.mean(1, keepdims=True)
        excess = (apart**2).sum(0) - (own**2).sum((0, 1))  # beyond what their objects explain
        by_seed = np.maximum(excess, 0) / (count * freedom)
        total = by_object + by_seed
        squares = by_object**2 / (objects - 1) + by_seed**2 / freedom
        return total, np.divide(
            total**2, squares, out=np.full(len(total), objects - 1.0), where=squares > 0
        )

    def to_json(self, column: int) -> dict[str, Any]:
        """One column as `metrics.json` states a fraction over seeds, with its `interval`."""
        ends = self.interval()[column].tolist()
        return Spread.numbers(self.per_seed[:, column].tolist()) | {"interval": ends}

    def by_property(self, properties: Sequence[str]) -> dict[str, Any]:
        """All at once at the top, each property under `properties`; accuracies only."""
        ends = self.interval().tolist()
        stated = [
            Spread.numbers(values.tolist()) | {"interval": both}
            for values, both in zip(self.per_seed.T, ends, strict=True)
        ]
        return stated[-1] | {"properties": dict(zip(properties, stated[:-1], strict=True))}


class PairScorer:
    """Scores the test clips of the seeds of a run by their objects."""

    def __init__(self, objects: Sequence[str], tests: Sequence[NDArray[np.int64]]) -> None:
        """`objects` (N,) names the object of each clip, `tests` the test clips of each seed."""
        self.objects = number_objects(list(objects), len(objects))
        self._tested = np.unique(self.objects[np.concatenate(list(tests))])
        self._seeds = len(tests)

    def __repr__(self) -> str:
        return f"PairScorer({len(self._tested)} objects, {self._seeds} seeds)"

    def score(self, counts: Sequence[PairCounts]) -> Scores:
        """The scores of every seed's count_pairs, in the order of the seeds."""
        if len(counts) != self._seeds:
            raise ValueError(f"{len(counts)} counts for {self._seeds} seeds")
        per_seed = [_share(own.right.sum((0, 1)), own.asked.sum((0, 1))) for own in counts]
        influence = np.zeros((len(self._tested), len(counts), counts[0].right.shape[2]))
        for number, own in enumerate(counts):
            rows = np.searchsorted(self._tested, own.objects)
            influence[rows, number] = _influence(own, per_seed[number])
        return Scores(np.stack(per_seed), influence)

    def score_pairs(
        self,
        says_more: Sequence[NDArray[Any]],
        labels: Floats,
        clips: Sequence[NDArray[np.int64]],
        margins: Sequence[float],
    ) -> Scores:
        """Score every seed's answers about its own `clips`; see the function `score_pairs`."""
        return self.score(
            [
                count_pairs(*score_pairs(answers, labels[part], margins), self.objects[part])
                for answers, part in zip(says_more, clips, strict=True)
            ]
        )


def _influence(counts: PairCounts, accuracy: Floats) -> Floats:
    """Return what each of G objects adds to the accuracy (columns,) of a seed: (G, columns).

    Scaled for the accuracy being that of these objects, by the root of G / (G - 1).
    """
    excess = counts.right - np.nan_to_num(accuracy) * counts.asked  # (G, G, columns)
    same = np.arange(len(excess))
    rows = excess.sum(0) + excess.sum(1) - excess[same, same]
    scale = np.sqrt(len(same) / max(len(same) - 1, 1))
    return np.asarray(scale * rows / np.maximum(counts.asked.sum((0, 1)), 1))


def _score_interval(mean: Floats, variance: Floats, reach: Floats, objects: int) -> Floats:
    """Return the score interval of shares (columns,) with a variance of their own: (columns, 2)."""
    chance = mean * (1 - mean)
    doubt = np.divide(variance, chance, out=np.zeros_like(chance), where=chance > 1e-12)
    width = reach**2 * np.maximum(doubt, 1 / objects**2)
    centre = mean + width / 2
    half = np.sqrt(width * np.maximum(chance, 0) + width**2 / 4)
    ends = np.stack([centre - half, centre + half], axis=-1) / (1 + width)[:, None]
    return np.clip(ends, 0.0, 1.0)


def _share(right: Floats, asked: Floats) -> Floats:
    return np.divide(right, asked, out=np.full(np.shape(right), np.nan), where=asked > 0)
