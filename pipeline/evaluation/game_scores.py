"""Baselines, null and permuted positions of a game that is not about pairs, by its own judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.context import MessageContext, one_hot_tokens
from pipeline.evaluation.pair_scores import Scores
from pipeline.game import Answers
from pipeline.metrics import p_value

DRAWS = 10
"""Permutations that the accuracy drop of a position is the mean of."""

Tokens = NDArray[np.int64]


def score_game(
    context: MessageContext,
    *,
    permutations: int,
    frames: Mapping[str, Sequence[NDArray[Any]]] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Score the kept receivers of a run next to baselines and a null.

    Args:
        context: Messages and receivers of a run.
        permutations: Of the null, in which messages are permuted across test clips.
        frames: What clips show without a network, by baseline: arrays (N, ...), which stand in
            place of features where a baseline is another trial in place of a message.
        seed: Of the random numbers.

    Returns:
        `kept_receiver`, `baselines` and `game`, as `docs/metrics_json.md` describes them.
    """
    generators, shown = context.generators(seed), frames or {}
    game, properties = context.game, context.game.scored_properties
    tokens = [context.tokens[n, clips] for n, clips in enumerate(context.tests)]
    answers = _answers(context, tokens)
    kept = context.score_answers(answers)
    null = np.array([_permuted_accuracy(context, answers, generators) for _ in range(permutations)])
    low, high = np.quantile(null, [0.025, 0.975])
    drops = [
        (kept - _permuted_position(context, tokens, position, generators)).to_json(-1)
        for position in range(context.tokens.shape[2])
    ]
    return {
        "kept_receiver": kept.by_property(properties),
        "baselines": {
            **{name: _baselines(context, own).get("other_trial") for name, own in shown.items()},
            **_baselines(context, context.caches),
        },
        "game": game.metrics()["game"]
        | {
            "null_mean": float(null.mean()),
            "null_low": float(low),
            "null_high": float(high),
            "p_value": p_value(float(kept.mean[-1]), null),
            "position_drops": drops,
        },
    }


def _answers(context: MessageContext, tokens: list[Tokens]) -> list[Answers]:
    """Return the kept receivers' answers for tokens (n, positions) of each seed's test clips."""
    return [
        answer_clips(context, n, of_seed, clips)
        for n, (of_seed, clips) in enumerate(zip(tokens, context.tests, strict=True))
    ]


def answer_clips(context: MessageContext, number: int, tokens: Tokens, clips: Tokens) -> Answers:
    """Return the answers of a seed's kept receiver for the tokens (n, positions) of n clips."""
    return context.game.answer(
        context.receiver(number),
        one_hot_tokens(tokens, context.config.vocab),
        clips,
        context.windows,
    )


def _permuted_accuracy(
    context: MessageContext, answers: list[Answers], generators: list[np.random.Generator]
) -> float:
    """Return the mean accuracy over seeds if clips had each other's messages."""
    accuracies = [
        context.game.accuracy(of_seed.reordered(rng.permutation(len(clips))), context.table, clips)
        for of_seed, clips, rng in zip(answers, context.tests, generators, strict=True)
    ]
    return float(np.nanmean([accuracy.together for accuracy in accuracies]))


def _permuted_position(
    context: MessageContext,
    tokens: list[Tokens],
    position: int,
    generators: list[np.random.Generator],
) -> Scores:
    """Score messages with the symbols of one position permuted across test clips."""
    draws = []
    for _ in range(DRAWS):
        changed = [of_seed.copy() for of_seed in tokens]
        for of_seed, rng in zip(changed, generators, strict=True):
            of_seed[:, position] = rng.permutation(of_seed[:, position])
        draws.append(context.score_answers(_answers(context, changed)))
    return Scores(
        np.mean([scores.per_seed for scores in draws], axis=0),
        np.mean([scores.influence for scores in draws], axis=0),
    )


def _baselines(context: MessageContext, caches: Sequence[NDArray[Any]]) -> dict[str, Any]:
    """Return the accuracy of each baseline of the game on features (N, ...) of some caches.

    None where it has nothing to go by.
    """
    if not caches:
        return {}
    by_seed = [
        context.game.baselines(caches, context.table, split.train, clips)
        for split, clips in zip(context.splits, context.tests, strict=True)
    ]
    entries: dict[str, Any] = {}
    for name in by_seed[0]:
        answers = [answer for seed in by_seed if (answer := seed[name]) is not None]
        whole = len(answers) == len(by_seed)
        properties = context.game.scored_properties
        entries[name] = context.score_answers(answers).by_property(properties) if whole else None
    return entries
