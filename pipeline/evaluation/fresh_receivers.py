"""Train new receivers on frozen messages and score them on test clips.

Fresh receivers, of the architecture of those that were trained with the senders, learn from the
messages of the training clips alone. As a control the same is done with the training messages
permuted across training clips, where there is nothing to learn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.agents import AgentWindows, Stack
from pipeline.evaluation.adam import Adam
from pipeline.evaluation.context import CPU, MessageContext, one_hot_tokens, one_thread
from pipeline.evaluation.pair_scores import Scores

RECEIVERS = 3
STEPS = 300
ROUNDS = 64
LEARNING_RATE = 3e-3  # the published receivers'

Numbers = NDArray[np.int64]


def score_fresh_receivers(context: MessageContext, *, seed: int = 0) -> dict[str, Any]:
    """Score fresh receivers on the test clips, all seeds at once.

    Args:
        context: Messages and receivers of a run.
        seed: Of the random numbers.

    Returns:
        `accuracy` pools the receivers of a seed; `permuted` is the control; `above_permuted` their
        paired difference; `trained_minus_fresh` by how much the receivers that the run kept do
        better.
    """
    train = [split.train for split in context.splits]
    true, generators = list(context.tokens), context.generators(seed)
    permuted = []
    for tokens, clips, rng in zip(true, train, generators, strict=True):
        other = tokens.copy()
        other[clips] = tokens[rng.permutation(clips)]
        permuted.append(other)
    windows = context.projected_windows
    messages = one_hot_tokens(np.stack([*true, *permuted]), context.config.vocab)
    with one_thread():
        both = windows and windows.repeated(2)
        stack = _train(context, messages, train * 2, both, generators * 2)
    fresh, control = (
        _score(context, {name: value[start:] for name, value in stack.items()}, windows)
        for start in (0, len(train))
    )
    properties = context.game.scored_properties
    trained = _score(context, context.receivers, context.windows)
    return {
        "accuracy": fresh.by_property(properties),
        "permuted": control.by_property(properties),
        "above_permuted": (fresh - control).by_property(properties),
        "trained_minus_fresh": (trained - fresh).by_property(properties),
    }


def score_messages(context: MessageContext, tokens: Numbers, *, seed: int = 0) -> Scores:
    """Score receivers that learn other messages of the same clips.

    Args:
        context: Of a run.
        tokens: What they learn and are asked about in each seed, (S, N, positions); the symbol
            `vocab` is silence.
        seed: Of the random numbers.
    """
    windows, train = context.projected_windows, [split.train for split in context.splits]
    messages = one_hot_tokens(tokens, context.config.vocab)
    with one_thread():
        stack = _train(context, messages, train, windows, context.generators(seed))
    return _score(context, stack, windows, tokens)


def _score(
    context: MessageContext,
    receivers: Stack,
    windows: AgentWindows | None,
    tokens: Numbers | None = None,
) -> Scores:
    """Score receivers on the messages of the run, or on others (S, N, positions)."""
    said = context.tokens if tokens is None else tokens
    return context.score_answers(
        [
            context.game.answer(
                {name: value.detach()[n : n + 1] for name, value in receivers.items()},
                one_hot_tokens(said[n, clips], context.config.vocab),
                clips,
                windows and windows.of_seed(n),
            )
            for n, clips in enumerate(context.tests)
        ]
    )


def _train(
    context: MessageContext,
    messages: Tensor,
    train: list[Numbers],
    windows: AgentWindows | None,
    generators: list[np.random.Generator],
) -> Stack:
    """Train receivers of L lists of messages (L, N, size): a stack with axes (L, RECEIVERS)."""
    game, count = context.game, context.rounds_per_step(ROUNDS)
    dims = [features.shape[-1] for features in context.projected] if windows else None
    stack = game.fresh_receivers(
        messages.shape[-1], context.factory, [0] * len(messages), CPU, dims, RECEIVERS
    )
    adam = Adam(stack.values(), lr=LEARNING_RATE)
    lists = np.arange(len(messages))[:, None]
    for _ in range(STEPS):
        rounds = game.sample(generators, train, count, context.table).tensors()
        predicted = game.predict(stack, messages[lists, rounds.described], rounds, windows)
        loss = game.round_losses(predicted, rounds).sum()
        (loss / count).backward()
        adam.step()
    return stack
