"""The gap between clips that the agents were trained on and clips that they were not.

Accuracy on training clips has memory in it. Both are those of the receiver that each seed kept. The
difference is paired: its interval allows for objects that both share.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset import drawn
from pipeline.evaluation.context import MAX_TEST_CLIPS, MessageContext, compare_clips
from pipeline.evaluation.pair_scores import PairScorer, Scores


def score_generalisation(context: MessageContext) -> dict[str, Any] | None:
    """Return the accuracy on training clips, and by how much it exceeds that on test clips.

    Of more than `MAX_TEST_CLIPS` training clips of a seed, as many are drawn. None where a seed has
    no training clips, as of an imported checkpoint.
    """
    trained = [drawn(split.train, MAX_TEST_CLIPS) for split in context.splits]
    if not all(map(len, trained)):
        return None
    both = [np.concatenate(clips) for clips in zip(trained, context.tests, strict=True)]
    scorer = PairScorer(context.objects, both)
    on_training, on_test = (_score(context, scorer, clips) for clips in (trained, context.tests))
    properties = context.config.properties
    return {
        "training": on_training.by_property(properties),
        "gap": (on_training - on_test).by_property(properties),
    }


def _score(context: MessageContext, scorer: PairScorer, clips: list[NDArray[np.int64]]) -> Scores:
    answers = [
        compare_clips(context.receiver(number), context.tokens[number, own], context.config.vocab)
        for number, own in enumerate(clips)
    ]
    return scorer.score_pairs(answers, context.labels, clips, context.config.tie_margins)
