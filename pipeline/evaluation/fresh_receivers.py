"""Receivers that never met the sender: does the code mean something to a newcomer?

Fresh receivers, of the architecture of those that grew up with the agents, learn from the frozen
messages of the training clips alone and are asked about test clips. As a control the same is done
with the training messages dealt to other training clips, where there is nothing to learn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.agents import CompositionalReceiver, Stack, receiver_logits, stack_receivers
from pipeline.evaluation.context import (
    CPU,
    EvaluationContext,
    MessageContext,
    compare_clips,
    one_hot_tokens,
    one_thread,
)
from pipeline.evaluation.pair_scores import Scores

LISTENERS = 3
STEPS = 300
PAIRS = 64
LEARNING_RATE = 3e-3  # the published receivers'

Numbers = NDArray[np.int64]


def score_fresh_receivers(context: MessageContext, *, seed: int = 0) -> dict[str, Any]:
    """Accuracies of fresh receivers on the test clips, all seeds at once.

    `accuracy` pools the receivers of a seed; `permuted` is the control; `above_permuted` their
    paired difference; `trained_minus_fresh` by how much the receivers that the run kept do better.
    """
    rng = np.random.default_rng(seed)
    train = [split.train for split in context.splits]
    true = [context.tokens[number] for number in range(len(train))]
    dealt = []
    for words, clips in zip(true, train, strict=True):
        other = words.copy()
        other[clips] = words[rng.permutation(clips)]
        dealt.append(other)
    with one_thread():
        stack = _train(context, np.stack([*true, *dealt]), [*train, *train], rng)
    graded = [
        _grade(context, {name: value[start:] for name, value in stack.items()})
        for start in (0, len(train))
    ]
    fresh, control = graded
    properties = context.config.properties
    familiar = _grade(context, context.receivers)
    return {
        "accuracy": fresh.by_property(properties),
        "permuted": control.by_property(properties),
        "above_permuted": (fresh - control).by_property(properties),
        "trained_minus_fresh": (familiar - fresh).by_property(properties),
    }


def _grade(context: MessageContext, receivers: Stack) -> Scores:
    says = [
        compare_clips(
            {name: value.detach()[number : number + 1] for name, value in receivers.items()},
            context.tokens[number, clips],
            context.config.vocab,
        )
        for number, clips in enumerate(context.tests)
    ]
    return context.resampler.score_pairs(
        says, context.labels, context.tests, context.config.tie_margins
    )


def _train(
    context: MessageContext, tokens: Numbers, train: list[Numbers], rng: np.random.Generator
) -> Stack:
    """Receivers of L lines of messages (L, N, positions): a stack with axes (L, LISTENERS)."""
    config = context.config
    spoken = one_hot_tokens(tokens, config.vocab)  # (L, N, msg)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = [
            CompositionalReceiver(spoken.shape[-1], config.hidden_dim, config.properties)
            for _ in range(LISTENERS)
        ]
    stack = stack_receivers([fresh] * len(tokens), CPU)
    adam = torch.optim.Adam(list(stack.values()), lr=LEARNING_RATE)
    lines = np.arange(len(tokens))[:, None]
    for _ in range(STEPS):
        a, b = (np.stack([rng.choice(own, PAIRS) for own in train]) for _ in range(2))
        answer, weight = answers(context, a, b)
        predicted = receiver_logits(stack, spoken[lines, a], spoken[lines, b])  # (L, R, pairs, P)
        target, counted = (side.unsqueeze(1).expand_as(predicted) for side in (answer, weight))
        loss = F.binary_cross_entropy_with_logits(predicted, target, counted, reduction="sum")
        adam.zero_grad()
        (loss / PAIRS).backward()
        adam.step()
    return stack


def answers(context: EvaluationContext, a: Numbers, b: Numbers) -> tuple[Tensor, Tensor]:
    """Whether a has more, and whether the pair counts: float32 (L, pairs, properties) each."""
    first, second = context.labels[a], context.labels[b]
    counted = np.abs(first - second) > np.asarray(context.config.tie_margins)
    more, kept = (values.astype(np.float32) for values in (first > second, counted))
    return torch.from_numpy(more), torch.from_numpy(kept)
