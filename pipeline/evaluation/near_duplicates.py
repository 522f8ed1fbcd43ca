"""Accuracy without the test clips that look like training clips of another object."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pipeline.dataset import Lookalikes
from pipeline.evaluation.context import MessageContext
from pipeline.evaluation.game_scores import answer_clips
from pipeline.evaluation.pair_scores import PairCounts, count_pairs


def score_without_near_duplicates(
    context: MessageContext, lookalikes: Lookalikes
) -> dict[str, Any] | None:
    """Score the kept receivers on the test clips that look like no training clip.

    Args:
        context: Messages and receivers of a run.
        lookalikes: Of its clips.

    Returns:
        `left_out`, how many clips of each seed, and `kept_receiver`, None where no seed has other
        clips to compare; None where nothing is left out.
    """
    splits = tuple(lookalikes.without(split) for split in context.splits)
    left_out = [
        len(before.test) - len(after.test)
        for before, after in zip(context.splits, splits, strict=True)
    ]
    if not any(left_out):
        return None
    rest = dataclasses.replace(context, splits=splits)
    game, table = context.game, context.table
    played = [len(own) > 0 and not any(game.obstacles(table, own)) for own in rest.tests]
    if not any(played):
        return {"left_out": left_out, "kept_receiver": None}
    counts: list[PairCounts | None] = []
    for number, clips in enumerate(rest.tests):
        if not played[number]:
            counts.append(None)
            continue
        answers = answer_clips(rest, number, context.tokens[number, clips], clips)
        right, asked = game.judge(answers, table, clips)
        counts.append(count_pairs(right, asked, rest.scorer.objects[clips]))
    columns = next(own.right.shape[2] for own in counts if own is not None)
    nothing = PairCounts(
        np.zeros(0, np.int64), np.zeros((0, 0, columns)), np.zeros((0, 0, columns))
    )
    scores = rest.scorer.score([own or nothing for own in counts])
    return {"left_out": left_out, "kept_receiver": scores.by_property(game.scored_properties)}
