"""Clips after an action: an outcome predicted for actions that training never showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.errors import HeliographError
from pipeline.dataset import Vectors, ridge
from pipeline.evaluation.context import MessageContext
from pipeline.evaluation.pair_scores import PairCounts, PairScorer, count_pairs
from pipeline.evaluation.probes import (
    MIN_CLIPS,
    labelled_parts,
    margin_of,
    predict_by_ridge,
    require_labels,
    score_label_pairs,
    standardise,
)
from pipeline.metrics import bin_property, exceeds

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Part = tuple[Numbers, Numbers]

ACTION_BINS = 5
"""An action of more values than this is held out by fifths."""


@dataclass(frozen=True)
class ActedClips:
    """The clips of a run with an action and an outcome.

    Attributes:
        context: Messages of the run.
        name: Of the outcome.
        outcome: (N,), NaN where it or the action is not known.
        action: (N,).
        groups: The value of the action, or its fifth, -1 where unknown, (N,).
        parts: Training and test clips of each seed.
        scorer: Of the test clips.
    """

    context: MessageContext
    name: str
    outcome: Floats
    action: Floats
    groups: Numbers
    parts: list[Part]
    scorer: PairScorer

    @classmethod
    def of(
        cls, context: MessageContext, labels: Mapping[str, Floats], outcome: str, action: str
    ) -> ActedClips:
        """Take the outcome and the action from the labels, (N,) each.

        Raises:
            HeliographError: The cache lacks a label, or has too few values to leave one out.
        """
        require_labels(labels, (outcome, action))
        known = ~np.isnan(labels[action])
        groups = np.full(len(known), -1)
        groups[known] = bin_property(labels[action][known], bins=ACTION_BINS)
        column = np.where(known, labels[outcome], np.nan)
        parts = labelled_parts(context, column)
        fewest = min(
            (np.sum(groups[train] != group) for train, _ in parts for group in set(groups)),
            default=0,
        )
        if groups.max() < 1 or fewest < MIN_CLIPS:
            raise HeliographError(
                f"{outcome!r} after {action!r} cannot be predicted: it needs two values of the "
                f"action and {MIN_CLIPS} clips of known outcome in training and in test"
            )
        scorer = PairScorer(context.objects, [test for _, test in parts])
        return cls(context, outcome, column, labels[action], groups, parts, scorer)

    def predict_left_out(self, kernel: ridge.Likeness, targets: Floats, part: Part) -> Floats:
        """Predict the test clips of a part, each without training clips of its own action.

        From what is in the kernel, the action, and their product; where training shows one action
        only, nothing can be learnt about it and it is left out.
        """
        train, test = part
        predicted = np.empty(len(test))
        for group in np.unique(self.groups[test]):
            inside, members = train[self.groups[train] != group], self.groups[test] == group
            combined = with_action(kernel, standardise(self.action, inside))
            predicted[members] = predict_by_ridge(
                combined, targets, inside, test[members], self.context
            )
        return predicted

    def count_ordered(self, values: Floats, test: Numbers) -> PairCounts:
        """Count of which pairs of test clips of one action the right one is predicted more of."""
        right, asked = score_label_pairs(
            values, self.outcome[test], margin_of(self.context, self.name)
        )
        same = self.groups[test][:, None] == self.groups[test]
        return count_pairs(right, asked & same[..., None], self.scorer.objects[test])

    def is_above(self, train: Numbers) -> Bools:
        """Return which outcomes are above the median of the training clips, (N,)."""
        above: Bools = self.outcome > np.median(self.outcome[train])
        return above

    def count_each(self, right: Floats, test: Numbers) -> PairCounts:
        """Count shares of right answers about test clips, each by itself, (n,)."""
        each = np.eye(len(test), dtype=bool)[..., None]  # a clip is compared with no other
        return count_pairs(each * right[:, None, None], each, self.scorer.objects[test])


@dataclass(frozen=True, eq=False, repr=False)
class ActedVectors(Vectors):
    """Vectors of clips, columns of an action, and their products.

    Attributes:
        count: Clips.
        vectors: Of these or other clips.
        who: Which vector each clip has, (N,).
        columns: Of the action, (N,) each.
    """

    count: int
    vectors: Vectors
    who: Numbers
    columns: tuple[Floats, ...] = ()

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.vectors.width + len(self.columns) * (1 + self.vectors.width)

    def read(self, clips: Numbers) -> Floats:
        """Return the vectors of some clips, (n, width)."""
        own = self.vectors.read(self.who[clips])
        columns = [column[clips, None] for column in self.columns]
        return np.hstack([own, *columns, *(own * column for column in columns)])


def of_clips(kernel: ridge.Likeness, who: Numbers) -> ridge.Likeness:
    """Return the likeness of clips that are each like one of those of `kernel`, by its number."""
    if isinstance(kernel, Vectors):
        return ActedVectors(len(who), kernel, who)
    return np.asarray(kernel[np.ix_(who, who)])


def with_action(kernel: ridge.Likeness, *columns: Floats) -> ridge.Likeness:
    """Return the likeness by what is in `kernel`, by columns of the action, and by their products.

    As a kernel k that is k + c c' + c c' k.
    """
    if isinstance(kernel, Vectors):
        return ActedVectors(len(kernel), kernel, np.arange(len(kernel)), columns)
    added = sum(np.multiply.outer(column, column) for column in columns)
    return np.asarray(kernel + added * (1 + kernel))


def share_right(values: Floats, above: Bools) -> Floats:
    """Return 1 where a prediction is on the right side of one half, 0 where not, 0.5 on it.

    Predictions equal to one half up to rounding are on it.

    Args:
        values: Predictions, (n,).
        above: Whether the truth is above one half, (n,).
    """
    table = exceeds(np.append(values, 0.5)[:, None])[..., 0]  # one half is compared like the rest
    larger, smaller = table[:-1, -1], table[-1, :-1]
    return np.where(larger | smaller, larger == above, 0.5)
