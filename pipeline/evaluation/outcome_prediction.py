"""What happens next, from messages alone and from messages and an action.

The agents are frozen, and were never asked about the outcome. Where clips differ in an action (the
speed of a launch), it is predicted for an action that training never showed, from message and
action; and, the paper's question (its phases 83 and 89), whether it is above the median. All test
clips are of objects that training never showed either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import HeliographError
from pipeline.evaluation.context import MessageContext
from pipeline.evaluation.pair_scores import Resampler, Scores, count_pairs, spread
from pipeline.evaluation.probes import (
    LEAST_CLIPS,
    by_ridge,
    known_labels,
    margin_of,
    message_gram,
    parts_of,
    retained,
    score_one,
    standard,
)
from pipeline.metrics import bin_property

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Part = tuple[Numbers, Numbers]

ACTION_BINS = 5
"""An action of more values than this is held out by fifths."""


def predict_outcome(
    context: MessageContext,
    grams: Sequence[Floats],
    labels: Mapping[str, Floats],
    *,
    outcome: str,
    action: str,
) -> dict[str, Any]:
    """Predicts the label `outcome` of test clips from message and action, for actions never seen.

    Each value of the label `action` (each fifth, where there are more than five) is left out of
    training in turn, and the test clips that have it are predicted, from

    - `messages`, `features`: these, the action, and their product (ridge regression);
    - `action`: the action alone.

    Accuracy compares clips of the same left-out action, so the action alone is at chance there
    (nearly, where a fifth holds several values); `r2` is of all the predictions together, about the
    mean of what is predicted.

    `above_median_left_out` asks the same whether the outcome is above the training clips' median,
    and `above_median` asks that without an action, and without leaving one out.
    Raises HeliographError for a label that the cache lacks, or too few values to leave one out.
    """
    known_labels(labels, (outcome, action))
    known = ~np.isnan(labels[action])
    groups = np.full(len(known), -1)
    groups[known] = bin_property(labels[action][known], bins=ACTION_BINS)
    column = np.where(known, labels[outcome], np.nan)
    parts = parts_of(context, column)
    alone = min(
        (np.sum(groups[train] != own) for train, _ in parts for own in set(groups)), default=0
    )
    if groups.max() < 1 or alone < LEAST_CLIPS:
        raise HeliographError(
            f"{outcome!r} after {action!r} cannot be predicted: it needs two values of the action "
            f"and {LEAST_CLIPS} clips of known outcome in training and in test"
        )
    given: dict[str, Sequence[Floats]] = {
        "messages": [message_gram(words) for words in context.tokens],
        "features": grams,
    }
    nothing = {"action": [np.zeros((len(known), len(known)))] * len(parts)}
    resampler = Resampler(context.objects, [test for _, test in parts])
    found: dict[str, Any] = {
        "outcome_label": outcome,
        "action_label": action,
        "left_out": int(groups.max()) + 1,
    }

    def after(kernel: Floats, targets: Floats, part: Part) -> Floats:
        return _leaving_out(kernel, labels[action], targets, groups, part, context)

    def before(kernel: Floats, targets: Floats, part: Part) -> Floats:
        return by_ridge(kernel, targets, *part, context)

    scores: dict[str, Scores] = {}
    for side, own in (given | nothing).items():
        predicted = [after(kernel, column, part) for kernel, part in zip(own, parts, strict=True)]
        counts = []
        for values, (_, test) in zip(predicted, parts, strict=True):
            right, asked = score_one(values, column[test], margin_of(context, outcome))
            same = groups[test][:, None] == groups[test]
            counts.append(count_pairs(right, asked & same[..., None], resampler.objects[test]))
        scores[side] = resampler.score(counts)
        errors = [
            _r2(values, column[test]) for values, (_, test) in zip(predicted, parts, strict=True)
        ]
        found[side] = scores[side].to_json(0) | {"r2": spread(errors)}
    found["retained"] = retained(scores["messages"], scores["features"])
    found["above_median"] = _above_median(given, column, parts, resampler, before)
    found["above_median_left_out"] = _above_median(given | nothing, column, parts, resampler, after)
    return found


def _above_median(
    given: Mapping[str, Sequence[Floats]],
    column: Floats,
    parts: Sequence[Part],
    resampler: Resampler,
    predict: Callable[[Floats, Floats, Part], Floats],
) -> dict[str, Any]:
    """Scores, over test clips, of saying whether each is above the median of the training clips.

    From each side of `given`; the answer is learnt as 0 or 1 by least squares. `ratio` is what
    the paper calls retained: accuracy over accuracy, chance included.
    """
    found: dict[str, Any] = {}
    scores: dict[str, Scores] = {}
    for side, kernels in given.items():
        counts = []
        for kernel, part in zip(kernels, parts, strict=True):
            train, test = part
            above = np.where(column > np.median(column[train]), 1.0, 0.0)
            right = (predict(kernel, above, part) > 0.5) == (above[test] > 0.5)
            each = np.eye(len(test), dtype=bool)[..., None]  # a clip is compared with no other
            counts.append(count_pairs(each * right[:, None, None], each, resampler.objects[test]))
        scores[side] = resampler.score(counts)
        found[side] = scores[side].to_json(0)
    messages, features = scores["messages"], scores["features"]
    return found | {
        "retained": retained(messages, features),
        "ratio": float(messages.mean[0] / features.mean[0]),
    }


def _leaving_out(
    kernel: Floats,
    action: Floats,
    targets: Floats,
    groups: Numbers,
    part: Part,
    context: MessageContext,
) -> Floats:
    """Predictions of the test clips of `part`, each without training clips of its own action.

    From what is in `kernel`, the action, and their product; where training shows one action only,
    nothing can be learnt about it and it is left out.
    """
    train, test = part
    predicted = np.empty(len(test))
    for group in np.unique(groups[test]):
        inside, own = train[groups[train] != group], groups[test] == group
        move = standard(action, inside)
        given = kernel + np.multiply.outer(move, move) * (1 + kernel)
        predicted[own] = by_ridge(given, targets, inside, test[own], context)
    return predicted


def _r2(values: Floats, column: Floats) -> float:
    """1 - squared errors over squared distances from the mean; below 0: worse than the mean."""
    spread_of = float(((column - column.mean()) ** 2).sum())
    return 1 - float(((values - column) ** 2).sum()) / spread_of
