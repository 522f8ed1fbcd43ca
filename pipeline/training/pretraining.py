"""Encoders that learn before they speak: both clips in plain sight, no bottleneck.

The paper pre-trains the encoders of its property grids this way (`Oracle` of
`_phase54c_multiseed.py`, `MultiAgentOracle` of `_phase72_4agent_80seeds.py`) and hands those of the
first clip to the senders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.agents import AgentWindows, Stack, encode, stack_layers, stacked_linear
from pipeline.config import TrainConfig
from pipeline.game import (
    PUBLISHED_DRAWS,
    beyond_margin,
    comparison_loss,
    draw_pairs,
    epoch_pairs,
    seed_batches,
)
from pipeline.training.optimizer import adam, backward

EVALUATE_EVERY = 10  # epochs


def pretrain(
    first: Stack,
    second: Stack,
    views: AgentWindows,
    train: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    config: TrainConfig,
    seeds: Sequence[int],
    progress: Callable[[int], None] | None = None,
) -> None:
    """Trains the encoders of stacked senders in place, `first` for the first clip of a pair.

    What stays in `first` is the state of the best training accuracy, looked at every ten epochs.

    Args:
        first, second: stacks as `stack_senders` makes them.
        views: of all N clips.
        train: training clip numbers of each seed.
        labels: (N, P) of each seed.
        progress: called with the number of epochs done.
    """
    device = next(iter(first.values())).device
    comparers = _stack_comparers(config, seeds, device)
    oracle = {f"first.{name}": value for name, value in first.items() if "heads" not in name}
    oracle |= {f"second.{name}": value for name, value in second.items() if "heads" not in name}
    oracle |= {f"comparer.{name}": value for name, value in comparers.items()}
    optimiser = adam(oracle, lr=config.oracle_lr)
    generators = [np.random.RandomState(seed) for seed in seeds]
    once = config.replace(pairings=1)  # nothing is said that could be heard twice
    best = np.full(len(seeds), -1.0)
    kept = {name: value.detach().clone() for name, value in first.items()}

    def compare(a: Tensor, b: Tensor) -> Tensor:
        seen = [
            encode(first, views.gather(a), views.groups),
            encode(second, views.gather(b), views.groups),
        ]  # (S, A, B, hidden)
        x = torch.cat([side.transpose(1, 2).flatten(2) for side in seen], dim=-1).unsqueeze(1)
        for number in range(len(comparers) // 2 - 1):
            x = F.relu(stacked_linear(comparers, f"shared{number}", x))
        return stacked_linear(comparers, "heads", x)  # (S, 1, B, P)

    for epoch in range(1, config.oracle_epochs + 1):
        epochs = [epoch_pairs(*own, once) for own in zip(generators, train, labels, strict=True)]
        for batch in seed_batches(epochs, device):
            loss = comparison_loss(compare(batch.a, batch.b), batch.answer, batch.weight)
            optimiser.step(backward(loss, batch.active))
        if epoch == 1 or epoch % EVALUATE_EVERY == 0:
            accuracy = _training_accuracy(compare, train, labels, config, device)
            for seed in np.flatnonzero(accuracy > best).tolist():
                best[seed] = accuracy[seed]
                for name, value in first.items():
                    kept[name][seed] = value.detach()[seed]
        if progress is not None:
            progress(epoch)
    with torch.no_grad():
        for name, value in first.items():
            value.copy_(kept[name])


@torch.no_grad()
def _training_accuracy(
    compare: Callable[[Tensor, Tensor], Tensor],
    train: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    config: TrainConfig,
    device: torch.device,
) -> np.ndarray:
    """All properties right at once, on 30 draws of training pairs without ties; (S,)."""
    right = np.zeros((2, len(train)))
    generators = [np.random.RandomState(999) for _ in train]
    for _ in range(PUBLISHED_DRAWS):
        drawn = [draw_pairs(g, own, config.batch) for g, own in zip(generators, train, strict=True)]
        a, b = (np.stack(side) for side in zip(*drawn, strict=True))
        more = compare(torch.from_numpy(a).to(device), torch.from_numpy(b).to(device))[:, 0] > 0
        for seed, (verdict, own) in enumerate(zip(more.cpu().numpy(), labels, strict=True)):
            asked = beyond_margin(own, a[seed], b[seed], config.tie_margins).all(axis=1)
            correct = (verdict == (own[a[seed]] > own[b[seed]])).all(axis=1)
            right[:, seed] += (correct & asked).sum(), asked.sum()
    return right[0] / right[1].clip(min=1)


def _stack_comparers(config: TrainConfig, seeds: Sequence[int], device: torch.device) -> Stack:
    """The paper's comparing nets: one hidden layer for one agent, two for several."""
    seen = 2 * config.agents * config.hidden_dim
    hidden = (
        [config.hidden_dim] if config.agents == 1 else [2 * config.hidden_dim, config.hidden_dim]
    )
    sizes = [seen, *hidden, len(config.properties)]
    names = [*(f"shared{number}" for number in range(len(hidden))), "heads"]
    layers = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = [nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes)]
        layers.append({name: (m.weight, m.bias.data) for name, m in zip(names, made, strict=True)})
    return stack_layers(layers, (len(seeds), 1), device)
