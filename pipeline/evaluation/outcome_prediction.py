"""Outcomes after an action, predicted from messages alone and from messages and the action.

The agents are frozen, and were never trained on the outcome. Where clips differ in an action (the
speed of a launch), the outcome is predicted for an action that training never showed, from message
and action; and, the paper's question (its phases 83 and 89), whether it is above the median. All
test clips are of objects that training never showed either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import HeliographError
from pipeline.evaluation.context import MessageContext
from pipeline.evaluation.pair_scores import PairScorer, Scores, count_pairs
from pipeline.evaluation.probes import (
    MIN_CLIPS,
    labelled_parts,
    margin_of,
    message_kernel,
    predict_by_ridge,
    require_labels,
    retained,
    score_label_pairs,
    standardise,
)
from pipeline.metrics import bin_property, exceeds
from pipeline.runs import Spread

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Part = tuple[Numbers, Numbers]

ACTION_BINS = 5
"""An action of more values than this is held out by fifths."""


def predict_outcome(
    context: MessageContext,
    feature_kernels: Sequence[Floats],
    labels: Mapping[str, Floats],
    *,
    outcome: str,
    action: str,
) -> dict[str, Any]:
    """Predict the outcome of test clips from message and action, for actions never seen.

    Each value of the action (each fifth, where there are more than five) is left out of training in
    turn, and the test clips that have it are predicted, from

    - `messages`, `features`: these, the action, and their product (ridge regression);
    - `action`: the action alone.

    Accuracy compares clips of the same left-out action, so the action alone is at chance there
    (nearly, where a fifth holds several values); `r2` is of all the predictions together, about the
    mean of what is predicted. `above_median_left_out` asks the same whether the outcome is above
    the training clips' median, and `above_median` asks that without an action, and without leaving
    one out.

    Args:
        context: Messages of a run.
        feature_kernels: Of the raw features, (N, N) for each seed; see `ridge.linear_kernel`.
        labels: The labels of the cache, (N,) each.
        outcome: The label to predict.
        action: The label that is the action.

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
        (np.sum(groups[train] != group) for train, _ in parts for group in set(groups)), default=0
    )
    if groups.max() < 1 or fewest < MIN_CLIPS:
        raise HeliographError(
            f"{outcome!r} after {action!r} cannot be predicted: it needs two values of the action "
            f"and {MIN_CLIPS} clips of known outcome in training and in test"
        )
    sources: dict[str, Sequence[Floats]] = {
        "messages": [message_kernel(messages) for messages in context.tokens],
        "features": feature_kernels,
    }
    nothing = {"action": [np.zeros((len(known), len(known)))] * len(parts)}
    scorer = PairScorer(context.objects, [test for _, test in parts])
    entry: dict[str, Any] = {
        "outcome_label": outcome,
        "action_label": action,
        "left_out": int(groups.max()) + 1,
    }

    def with_action(kernel: Floats, targets: Floats, part: Part) -> Floats:
        return _predict_left_out(kernel, labels[action], targets, groups, part, context)

    def without_action(kernel: Floats, targets: Floats, part: Part) -> Floats:
        return predict_by_ridge(kernel, targets, *part, context)

    scores: dict[str, Scores] = {}
    for source, kernels in (sources | nothing).items():
        counts, errors = [], []
        for kernel, part in zip(kernels, parts, strict=True):
            values, test = with_action(kernel, column, part), part[1]
            right, asked = score_label_pairs(values, column[test], margin_of(context, outcome))
            same = groups[test][:, None] == groups[test]
            counts.append(count_pairs(right, asked & same[..., None], scorer.objects[test]))
            errors.append(_r2(values, column[test]))
        scores[source] = scorer.score(counts)
        entry[source] = scores[source].to_json(0) | {"r2": Spread.numbers(errors)}
    entry["retained"] = retained(scores["messages"], scores["features"])
    entry["above_median"] = _above_median(sources, column, parts, scorer, without_action)
    entry["above_median_left_out"] = _above_median(
        sources | nothing, column, parts, scorer, with_action
    )
    return entry


def _above_median(
    sources: Mapping[str, Sequence[Floats]],
    column: Floats,
    parts: Sequence[Part],
    scorer: PairScorer,
    predict: Callable[[Floats, Floats, Part], Floats],
) -> dict[str, Any]:
    """Score, over test clips, whether each is predicted above the median of the training clips.

    The answer is fitted as 0 or 1 by least squares, for each of `sources`. `ratio` is what the
    paper calls retained: accuracy over accuracy, chance included.
    """
    entry: dict[str, Any] = {}
    scores: dict[str, Scores] = {}
    for source, kernels in sources.items():
        counts = []
        for kernel, part in zip(kernels, parts, strict=True):
            train, test = part
            above = np.where(column > np.median(column[train]), 1.0, 0.0)
            right = share_right(predict(kernel, above, part), above[test] > 0.5)
            each = np.eye(len(test), dtype=bool)[..., None]  # a clip is compared with no other
            counts.append(count_pairs(each * right[:, None, None], each, scorer.objects[test]))
        scores[source] = scorer.score(counts)
        entry[source] = scores[source].to_json(0)
    messages, features = scores["messages"], scores["features"]
    return entry | {
        "retained": retained(messages, features),
        "ratio": float(messages.mean[0] / features.mean[0]),
    }


def share_right(values: Floats, above: NDArray[np.bool_]) -> Floats:
    """Return 1 where a prediction is on the right side of one half, 0 where not, 0.5 on it.

    Predictions equal to one half up to rounding are on it.

    Args:
        values: Predictions, (n,).
        above: Whether the truth is above one half, (n,).
    """
    table = exceeds(np.append(values, 0.5)[:, None])[..., 0]  # one half is compared like the rest
    larger, smaller = table[:-1, -1], table[-1, :-1]
    return np.where(larger | smaller, larger == above, 0.5)


def _predict_left_out(
    kernel: Floats,
    action: Floats,
    targets: Floats,
    groups: Numbers,
    part: Part,
    context: MessageContext,
) -> Floats:
    """Predict the test clips of `part`, each without training clips of its own action.

    From what is in `kernel`, the action, and their product; where training shows one action only,
    nothing can be learnt about it and it is left out.
    """
    train, test = part
    predicted = np.empty(len(test))
    for group in np.unique(groups[test]):
        inside, members = train[groups[train] != group], groups[test] == group
        scaled = standardise(action, inside)
        combined = kernel + np.multiply.outer(scaled, scaled) * (1 + kernel)
        predicted[members] = predict_by_ridge(combined, targets, inside, test[members], context)
    return predicted


def _r2(values: Floats, column: Floats) -> float:
    """Return 1 - squared errors over squared distances from the mean."""
    total = float(((column - column.mean()) ** 2).sum())
    return 1 - float(((values - column) ** 2).sum()) / total
