"""Selective queries: which part of a message to ask about a question, and what it tells alone.

A part is what one agent says; of one agent, a position. For each question (a property of the run,
and an outcome after an action) the part is chosen by cross-validation over the objects of the
training clips, then asked about test clips. Beside it stand the other parts, one by one, of as many
symbols, and the whole message. On a grid a part that says nothing of a property is right less
often than not: what test cells have more of, training cells with the same symbol have less of. The
paper (its phase 89) takes the positions to ask from the information that they have about all clips,
those of the test too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.dataset import ridge
from pipeline.evaluation.actions import ActedClips, Floats, Numbers, Part, with_action
from pipeline.evaluation.context import MessageContext
from pipeline.evaluation.pair_scores import PairCounts, PairScorer, Scores, count_pairs
from pipeline.evaluation.probes import (
    labelled_parts,
    margin_of,
    message_likeness,
    predict_by_ridge,
    score_label_pairs,
    standardise,
)

Goodness = Callable[[ridge.Likeness, Part], float]
"""How well a kernel predicts over folds of the training clips of a part."""
Count = Callable[[ridge.Likeness, Part], PairCounts]
"""What a kernel predicts of which of two test clips has more."""


def ask_parts(context: MessageContext, clips: ActedClips) -> dict[str, Any] | None:
    """Ask the part that helps, the others, and all of them, about each question.

    Args:
        context: Messages of a run.
        clips: The same with an outcome.

    Returns:
        By property and outcome: which part is `asked` in each seed, from 1; accuracies
        `from_asked`, `from_another` (the other parts, one by one, pooled) and `from_all`; and the
        `gap` between the first two. None for a message of one symbol.
    """
    owners = np.array([agent for agent, _ in context.positions])
    if context.config.agents < 2:
        owners = np.arange(len(owners))
    if len(owners) < 2:
        return None
    whole = [message_likeness(messages) for messages in context.tokens]
    alone = [
        [message_likeness(messages[:, owners == part]) for messages in context.tokens]
        for part in np.unique(owners)
    ]
    entry = {}
    for number, name in enumerate(context.properties):
        column = context.labels[:, number]
        parts = labelled_parts(context, column)
        if parts:
            scorer = PairScorer(context.objects, [test for _, test in parts])
            question = _of_property(context, column, name, scorer)
            entry[name] = _ask(alone, whole, parts, scorer, *question)
    entry[clips.name] = _ask(alone, whole, clips.parts, clips.scorer, *_of_outcome(clips))
    return entry


def _of_property(
    context: MessageContext, column: Floats, name: str, scorer: PairScorer
) -> tuple[Goodness, Count]:
    objects = context.scorer.objects

    def ranks(train: Numbers) -> Floats:
        return ridge.relative_ranks(column[:, None], train)

    def goodness(kernel: ridge.Likeness, part: Part) -> float:
        targets = ranks(part[0])
        return ridge.best_penalty(kernel, targets, part[0], objects, ridge.closeness(targets))[1]

    def count(kernel: ridge.Likeness, part: Part) -> PairCounts:
        train, test = part
        values = predict_by_ridge(kernel, ranks(train)[:, 0], train, test, context)
        scored = score_label_pairs(values, column[test], margin_of(context, name))
        return count_pairs(*scored, scorer.objects[test])

    return goodness, count


def _of_outcome(clips: ActedClips) -> tuple[Goodness, Count]:
    def goodness(kernel: ridge.Likeness, part: Part) -> float:
        train, targets = part[0], clips.outcome[:, None]
        combined = with_action(kernel, standardise(clips.action, train))
        return ridge.best_penalty(
            combined, targets, train, clips.scorer.objects, ridge.closeness(targets)
        )[1]

    def count(kernel: ridge.Likeness, part: Part) -> PairCounts:
        values = clips.predict_left_out(kernel, clips.outcome, part)
        return clips.count_ordered(values, part[1])

    return goodness, count


def _ask(
    alone: Sequence[Sequence[ridge.Likeness]],
    whole: Sequence[ridge.Likeness],
    parts: Sequence[Part],
    scorer: PairScorer,
    goodness: Goodness,
    count: Count,
) -> dict[str, Any]:
    """Ask one question in every seed: kernels of the parts (parts, S) and of the whole message."""
    asked, chosen, others, all_of_them = [], [], [], []
    for number, part in enumerate(parts):
        kernels = [of_part[number] for of_part in alone]
        best = int(np.argmax([goodness(kernel, part) for kernel in kernels]))
        counts = [count(kernel, part) for kernel in kernels]
        rest = [one for place, one in enumerate(counts) if place != best]
        asked.append(best + 1)
        chosen.append(counts[best])
        right = np.mean([one.right for one in rest], axis=0)
        others.append(PairCounts(rest[0].objects, right, rest[0].asked))
        all_of_them.append(count(whole[number], part))
    scores: list[Scores] = [scorer.score(counts) for counts in (chosen, others, all_of_them)]
    names = ("from_asked", "from_another", "from_all")
    entry = {name: one.to_json(0) for name, one in zip(names, scores, strict=True)}
    return {"asked": asked} | entry | {"gap": (scores[0] - scores[1]).to_json(0)}
