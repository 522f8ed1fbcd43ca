"""What the bottleneck costs: the agents' nets trained briefly without it, on the same splits.

- `oracle`: the receiver reads the encoders' outputs, whatever their width;
- `continuous`: the heads send real numbers (the tanh of their outputs), as many as a discrete
  message has symbols to choose from: heads x vocabulary for each agent.

All seeds are trained at once. The cost is bounded: features on the principal axes that the run used
or else on the leading ones, `STEPS` batches of `ROUNDS` rounds, the last state kept. Nothing is
chosen, so the number to compare with is `accuracy_last_epoch`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pipeline.agents import AgentWindows, Stack, encode, sender_logits
from pipeline.evaluation.adam import Adam
from pipeline.evaluation.context import CPU, EvaluationContext

STEPS = 300
ROUNDS = 32
SENDER_RATE, RECEIVER_RATE = 1e-3, 3e-3

Send = Callable[[Stack, list[Tensor], AgentWindows], Tensor]
"""Inputs of each group -> messages (S, rows, size)."""


def train_controls(
    context: EvaluationContext, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Train each of `CONTROLS` for the seeds of a run; return entries like a baseline's."""
    entries: dict[str, Any] = {}
    for name in CONTROLS:
        progress(f"control {name}")
        entries[name] = _train(context, name)
    return entries


def _train(context: EvaluationContext, name: str) -> dict[str, Any]:
    game, config, seeds = context.game, context.config, context.seeds
    windows = AgentWindows.of(context.projected, config.agents, config.agent_caches)
    receiver_windows = context.projected_windows
    dims = [features.shape[-1] for features in context.projected]
    senders, _ = game.init_agents(context.factory, dims, windows.groups, seeds, CPU)
    size, send = CONTROLS[name](context)
    receivers = game.fresh_receivers(size, context.factory, seeds, CPU, dims, count=1)
    optimisers = (
        Adam(senders.values(), lr=SENDER_RATE),
        Adam(receivers.values(), lr=RECEIVER_RATE),
    )
    generators, count = context.generators(), context.rounds_per_step(ROUNDS)
    train = [split.train for split in context.splits]
    for _ in range(STEPS):
        rounds = game.sample(generators, train, count, context.table).tensors()
        messages = send(senders, windows.gather(rounds.described), windows)
        predicted = game.predict(receivers, messages, rounds, receiver_windows)
        loss = game.round_losses(predicted, rounds).sum()
        (loss / count).backward()
        for adam in optimisers:
            adam.step()
    with torch.no_grad():
        every = torch.arange(len(context.labels)).expand(len(seeds), -1)
        messages = send(senders, windows.gather(every), windows)  # (S, N, size)
    answers = [
        game.answer(
            {key: value.detach()[n : n + 1] for key, value in receivers.items()},
            messages[n, clips],
            clips,
            receiver_windows and receiver_windows.of_seed(n),
        )
        for n, clips in enumerate(context.tests)
    ]
    return context.score_answers(answers).by_property(game.scored_properties)


def _laid_end_to_end(values: Tensor) -> Tensor:
    """(S, A, rows, ...) -> (S, rows, A * ...)."""
    return values.transpose(1, 2).flatten(2)


def _oracle(context: EvaluationContext) -> tuple[int, Send]:
    def send(senders: Stack, inputs: list[Tensor], windows: AgentWindows) -> Tensor:
        return _laid_end_to_end(encode(senders, inputs, windows.groups))

    return context.config.agents * context.config.hidden_dim, send


def _continuous(context: EvaluationContext) -> tuple[int, Send]:
    config = context.config

    def send(senders: Stack, inputs: list[Tensor], windows: AgentWindows) -> Tensor:
        logits = sender_logits(senders, inputs, config.heads, windows.groups)
        return _laid_end_to_end(torch.tanh(logits))

    return config.agents * config.heads * config.vocab, send


CONTROLS: dict[str, Callable[[EvaluationContext], tuple[int, Send]]] = {
    "oracle": _oracle,
    "continuous": _continuous,
}
"""Message size and sending of each control."""
