"""What the bottleneck costs: the agents' nets trained briefly without it, on the same splits.

- `oracle`: the receiver reads the encoders' outputs of both clips, whatever their width;
- `continuous`: the heads say real numbers (the tanh of their outputs), as many as a discrete
  message has symbols to choose from: heads x vocabulary for each agent.

All seeds are trained at once. The cost is bounded: features on the principal axes that the run used
or else on the leading `AXES` of them, `STEPS` batches of `PAIRS` pairs, the last state kept.
Nothing is chosen, so the number to set them beside is `accuracy_last_epoch`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor

from pipeline.agents import (
    AgentFactory,
    AgentWindows,
    CompositionalReceiver,
    Stack,
    encode,
    init_agents,
    receiver_logits,
    sender_logits,
    stack_receivers,
)
from pipeline.config import TrainConfig
from pipeline.dataset import Examples, principal_axes
from pipeline.evaluation.context import CPU, EvaluationContext, compare_vectors
from pipeline.evaluation.fresh_receivers import answers

AXES = 256
STEPS = 300
PAIRS = 32
SENDER_RATE, RECEIVER_RATE = 1e-3, 3e-3

Speak = Callable[[Stack, list[Tensor], AgentWindows], Tensor]
"""Inputs of each group -> messages (S, rows, width)."""


def train_controls(
    context: EvaluationContext,
    examples: Examples,
    factory: AgentFactory,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Each of `CONTROLS` for the seeds of a run: entries like a baseline's."""
    found: dict[str, Any] = {}
    for name in CONTROLS:
        progress(f"control {name}")
        found[name] = _train(context, examples, factory, name)
    return found


def _train(
    context: EvaluationContext, examples: Examples, factory: AgentFactory, name: str
) -> dict[str, Any]:
    config = context.config
    views, dims = _views(context, examples)
    senders, _ = init_agents(factory, dims, views.groups, context.seeds, CPU)
    width, speak = CONTROLS[name](context)
    receivers = _receivers(context, width)
    groups = [
        {"params": list(senders.values()), "lr": SENDER_RATE},
        {"params": list(receivers.values()), "lr": RECEIVER_RATE},
    ]
    adam = torch.optim.Adam(groups)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        a, b = (
            np.stack([rng.choice(split.train, PAIRS) for split in context.splits]) for _ in "ab"
        )
        answer, weight = answers(context, a, b)
        heard = speak(senders, views.gather(torch.from_numpy(np.concatenate([a, b], 1))), views)
        predicted = receiver_logits(receivers, *heard.chunk(2, dim=1))[:, 0]  # (S, pairs, P)
        loss = F.binary_cross_entropy_with_logits(predicted, answer, weight, reduction="sum")
        adam.zero_grad()
        (loss / PAIRS).backward()
        adam.step()
    says = []
    with torch.no_grad():
        every = torch.arange(len(examples.labels)).expand(len(context.seeds), -1)
        spoken = speak(senders, views.gather(every), views)  # (S, N, width)
    for number, clips in enumerate(context.tests):
        own = {key: value.detach()[number : number + 1] for key, value in receivers.items()}
        says.append(compare_vectors(own, spoken[number, clips]))
    graded = context.resampler.score_pairs(says, context.labels, context.tests, config.tie_margins)
    return graded.by_property(config.properties)


def _views(context: EvaluationContext, examples: Examples) -> tuple[AgentWindows, list[int]]:
    """The agents' views of projected features, and the dimensions of each cache."""
    config = context.config
    projected = [
        torch.stack([_projected(own, split.train, config) for split in context.splits])
        for own in examples.caches
    ]  # of each cache (S, N, T, axes)
    views = AgentWindows.of(projected, config.agents, config.agent_caches)
    return views, [own.shape[-1] for own in projected]


def _projected(features: NDArray[Any], train: NDArray[np.int64], config: TrainConfig) -> Tensor:
    """On the axes that the run itself used; else rotated to the leading `AXES` of them."""
    inside = features[train]
    kept = (
        principal_axes(inside, config.axes, config.shrinkage, standardise=config.standardise)
        if config.axes
        else _leading_axes(inside)
    )
    return torch.from_numpy(features.astype(np.float32) @ kept.astype(np.float32))


def _leading_axes(features: NDArray[Any]) -> NDArray[np.float64]:
    """An orthonormal basis (D, axes) of most of what features (n, T, D) are made of."""
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    if rows.shape[1] <= AXES:
        return np.eye(rows.shape[1])
    size = rows.shape[1]
    return np.asarray(eigh(rows.T @ rows, subset_by_index=(size - AXES, size - 1))[1])


def _receivers(context: EvaluationContext, width: int) -> Stack:
    config = context.config
    fresh = []
    for seed in context.seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh.append([CompositionalReceiver(width, config.hidden_dim, config.properties)])
    return stack_receivers(fresh, CPU)


def _side_by_side(values: Tensor) -> Tensor:
    """(S, A, rows, ...) -> (S, rows, A * ...)."""
    return values.transpose(1, 2).flatten(2)


def _oracle(context: EvaluationContext) -> tuple[int, Speak]:
    def speak(senders: Stack, inputs: list[Tensor], views: AgentWindows) -> Tensor:
        return _side_by_side(encode(senders, inputs, views.groups))

    return context.config.agents * context.config.hidden_dim, speak


def _continuous(context: EvaluationContext) -> tuple[int, Speak]:
    config = context.config

    def speak(senders: Stack, inputs: list[Tensor], views: AgentWindows) -> Tensor:
        logits = sender_logits(senders, inputs, config.heads, views.groups)
        return _side_by_side(torch.tanh(logits))

    return config.agents * config.heads * config.vocab, speak


CONTROLS: dict[str, Callable[[EvaluationContext], tuple[int, Speak]]] = {
    "oracle": _oracle,
    "continuous": _continuous,
}
