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

from pipeline.dataset import ridge
from pipeline.evaluation.actions import ActedClips, Floats, Part, share_right
from pipeline.evaluation.context import MessageContext
from pipeline.evaluation.counterfactuals import ask_counterfactuals
from pipeline.evaluation.pair_scores import Scores
from pipeline.evaluation.probes import (
    message_likeness,
    no_likeness,
    predict_by_ridge,
    retained,
)
from pipeline.evaluation.queries import ask_parts
from pipeline.runs import Spread


def predict_outcome(
    context: MessageContext,
    feature_kernels: Sequence[ridge.Likeness],
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
        feature_kernels: Of the raw features for each seed; see `ridge.likeness`.
        labels: The labels of the cache, (N,) each.
        outcome: The label to predict.
        action: The label that is the action.

    Raises:
        HeliographError: The cache lacks a label, or has too few values to leave one out.
    """
    clips = ActedClips.of(context, labels, outcome, action)
    sources: dict[str, Sequence[ridge.Likeness]] = {
        "messages": [message_likeness(messages) for messages in context.tokens],
        "features": feature_kernels,
    }
    nothing = {"action": [no_likeness(len(clips.outcome))] * len(clips.parts)}
    entry: dict[str, Any] = {
        "outcome_label": outcome,
        "action_label": action,
        "left_out": int(clips.groups.max()) + 1,
    }

    def without_action(kernel: ridge.Likeness, targets: Floats, part: Part) -> Floats:
        return predict_by_ridge(kernel, targets, *part, context)

    scores: dict[str, Scores] = {}
    for source, kernels in (sources | nothing).items():
        counts, errors = [], []
        for kernel, part in zip(kernels, clips.parts, strict=True):
            values, test = clips.predict_left_out(kernel, clips.outcome, part), part[1]
            counts.append(clips.count_ordered(values, test))
            errors.append(_r2(values, clips.outcome[test]))
        scores[source] = clips.scorer.score(counts)
        entry[source] = scores[source].to_json(0) | {"r2": Spread.numbers(errors)}
    entry["retained"] = retained(scores["messages"], scores["features"])
    entry["above_median"] = _above_median(sources, clips, without_action)
    entry["above_median_left_out"] = _above_median(sources | nothing, clips, clips.predict_left_out)
    entry["counterfactual"] = ask_counterfactuals(clips)
    entry["queries"] = ask_parts(context, clips)
    return entry


def _above_median(
    sources: Mapping[str, Sequence[ridge.Likeness]],
    clips: ActedClips,
    predict: Callable[[ridge.Likeness, Floats, Part], Floats],
) -> dict[str, Any]:
    """Score, over test clips, whether each is predicted above the median of the training clips.

    The answer is fitted as 0 or 1 by least squares, for each of `sources`. `above_action` is what
    messages add to the action, where that is one of them. `ratio` is what the paper calls retained:
    accuracy over accuracy, chance included.
    """
    entry: dict[str, Any] = {}
    scores: dict[str, Scores] = {}
    for source, kernels in sources.items():
        counts = []
        for kernel, part in zip(kernels, clips.parts, strict=True):
            train, test = part
            above = clips.is_above(train)
            values = predict(kernel, above.astype(np.float64), part)
            counts.append(clips.count_each(share_right(values, above[test]), test))
        scores[source] = clips.scorer.score(counts)
        entry[source] = scores[source].to_json(0)
    messages, features = scores["messages"], scores["features"]
    if "action" in scores:
        entry["above_action"] = (messages - scores["action"]).to_json(0)
    return entry | {
        "retained": retained(messages, features),
        "ratio": float(messages.mean[0] / features.mean[0]),
    }


def _r2(values: Floats, column: Floats) -> float:
    """Return 1 - squared errors over squared distances from the mean."""
    total = float(((column - column.mean()) ** 2).sum())
    return 1 - float(((values - column) ** 2).sum()) / total
