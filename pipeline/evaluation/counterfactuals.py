"""What frozen messages tell of other actions: does the predicted outcome follow the action?

Two questions of the same clips of objects that training never showed:

- Does the prediction rise with the action, from each value to the next (or fall, where outcomes
  fall with it)? It is quadratic in the action, with coefficients that depend on the message, so
  that it need not. The paper (its phase 89) asks this and allows one step the other way. A
  prediction from the action alone does as well, where outcomes rise with it: no message is needed.
- Is the outcome right? The message is that of another clip of the same object, after another
  action, so what is asked did not happen to that clip; it happened to this one, whose outcome is
  known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset import ridge
from pipeline.evaluation.actions import (
    ActedClips,
    Floats,
    Numbers,
    Part,
    of_clips,
    share_right,
    with_action,
)
from pipeline.evaluation.probes import message_likeness, no_likeness, standardise
from pipeline.metrics import merge_ties

MOST_OTHERS = 3
"""Of so many other clips of its object the message is taken in place of a clip's own."""


def ask_counterfactuals(clips: ActedClips) -> dict[str, Any]:
    """Score both questions.

    Args:
        clips: Of a run.

    Returns:
        `levels`, the actions that are asked about; for `messages` (and the action) and for the
        `action` alone, of which share of test clips the prediction is `monotone` in them, and
        `but_once`, all but one step; `other_clip`: whether the outcome is above the training clips'
        median, for an action that training left out, by the message of another clip. None where no
        object has test clips of two actions.
    """
    known = clips.groups >= 0
    levels = np.array(
        [np.median(clips.action[clips.groups == group]) for group in np.unique(clips.groups[known])]
    )
    entry: dict[str, Any] = {"levels": levels.tolist()}
    kernels = [message_likeness(messages) for messages in clips.context.tokens]
    nothing = [no_likeness(len(clips.outcome))] * len(kernels)
    for source, own in (("messages", kernels), ("action", nothing)):
        wrong = [
            _steps_back(kernel, part, clips, levels)
            for kernel, part in zip(own, clips.parts, strict=True)
        ]
        entry[source] = {
            name: clips.scorer.score(
                [
                    clips.count_each((steps <= allowed).astype(np.float64), test)
                    for steps, (_, test) in zip(wrong, clips.parts, strict=True)
                ]
            ).to_json(0)
            for name, allowed in (("monotone", 0), ("but_once", 1))
        }
    others = [_others(clips, test) for _, test in clips.parts]
    entry["other_clip"] = None
    if all(len(clip) for clip, _ in others):
        counts = [
            _count_swapped(kernel, part, clips, *pair)
            for kernel, part, pair in zip(kernels, clips.parts, others, strict=True)
        ]
        entry["other_clip"] = clips.scorer.score(counts).to_json(0)
    return entry


def _steps_back(
    kernel: ridge.Likeness, part: Part, clips: ActedClips, levels: Floats
) -> NDArray[np.int64]:
    """Return over how many steps of the levels each test clip's prediction does not follow, (n,).

    Equal predictions, up to rounding, do not follow.
    """
    train, test = part
    asked = np.repeat(test, len(levels))
    column = np.concatenate([clips.action, np.tile(levels, len(test))])
    values = _predict(kernel, clips.outcome, train, asked, column, clips).reshape(len(test), -1)
    slope = np.cov(clips.action[train], clips.outcome[train])[0, 1]
    merged = merge_ties(values.reshape(-1, 1)).reshape(values.shape)
    return np.asarray((np.diff(merged if slope >= 0 else -merged) <= 0).sum(1))


def _others(clips: ActedClips, test: Numbers) -> tuple[Numbers, Numbers]:
    """Return test clips, and for each another one of its object after another action."""
    rng = np.random.default_rng(0)
    objects = clips.scorer.objects[test]
    own, other = [], []
    for clip, name in zip(test, objects, strict=True):
        there = test[(objects == name) & (clips.groups[test] != clips.groups[clip])]
        taken = rng.permutation(there)[:MOST_OTHERS]
        own += [clip] * len(taken)
        other += taken.tolist()
    return np.array(own, np.int64), np.array(other, np.int64)


def _count_swapped(
    kernel: ridge.Likeness, part: Part, clips: ActedClips, own: Numbers, other: Numbers
) -> Any:
    """Count right answers about clips `own`, by messages of `other`; neither action is shown."""
    train, _ = part
    above = clips.is_above(train)
    right = np.empty(len(own))
    for group in np.unique(clips.groups[own]):
        members = clips.groups[own] == group
        inside = train[clips.groups[train] != group]
        column = np.concatenate([clips.action, clips.action[own[members]]])
        values = _predict(
            kernel, above.astype(np.float64), inside, other[members], column, clips, power=1
        )
        right[members] = share_right(values, above[own[members]])
    return clips.count_each(right, own)


def _predict(
    kernel: ridge.Likeness,
    targets: Floats,
    train: Numbers,
    asked: Numbers,
    action: Floats,
    clips: ActedClips,
    power: int = 2,
) -> Floats:
    """Predict clips that have the message of `asked` (n,) and the last n values of the action."""
    who = np.concatenate([np.arange(len(kernel)), asked])
    scaled = standardise(action, train)
    columns = [scaled] if power == 1 else [scaled, standardise(scaled**2, train)]
    column = targets[who][:, None]
    predicted: Floats = ridge.predict(
        with_action(of_clips(kernel, who), *columns),
        column,
        train,
        np.arange(len(kernel), len(who)),
        objects=clips.scorer.objects[who],
        goodness=ridge.closeness(column),
    )[:, 0]
    return predicted
