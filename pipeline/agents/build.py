"""The nets of a run: what its configuration and the shapes of its caches make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.agents.modules import CompositionalReceiver, Sender, build_sender
from pipeline.agents.stacked import Stack, stack_receivers, stack_senders
from pipeline.config import TrainConfig


@dataclass(frozen=True)
class AgentFactory:
    """Builds fresh nets. `steps` and `dims` are those of each cache, in their order."""

    config: TrainConfig
    steps: tuple[int, ...]
    dims: tuple[int, ...]
    names: tuple[str, ...] = ()  # of the caches

    def sender(self, dims: Sequence[int] | None = None) -> Sender:
        """A sender; `dims` replaces the caches' own, where features are projected first."""
        config = self.config
        return build_sender(
            input_dim=dims or self.dims,
            steps=self.steps,
            agents=config.agents,
            heads=config.heads,
            vocab=config.vocab,
            hidden_dim=config.hidden_dim,
            logit_clamp=config.logit_clamp,
            caches=config.agent_caches,
            names=self.names,
        )

    def receiver(self) -> CompositionalReceiver:
        """A receiver."""
        config = self.config
        size = config.agents * config.heads * config.vocab
        return CompositionalReceiver(size, config.hidden_dim, config.properties)

    def receivers(self) -> list[CompositionalReceiver]:
        """As many receivers as hear one seed's senders."""
        return [self.receiver() for _ in range(self.config.receivers)]


def init_agents(
    factory: AgentFactory,
    dims: Sequence[int],
    groups: tuple[tuple[int, ...], ...],
    seeds: Sequence[int],
    device: torch.device,
) -> tuple[Stack, Stack]:
    """Fresh senders and receivers, drawn in the order of the paper's code: senders first."""
    senders, receivers = [], []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            senders.append(factory.sender(dims))
            receivers.append(factory.receivers())
    return stack_senders(senders, device, groups), stack_receivers(receivers, device)


def fresh_senders(
    factory: AgentFactory,
    dims: Sequence[int],
    groups: tuple[tuple[int, ...], ...],
    draws: Sequence[int],
    device: torch.device,
) -> Stack:
    """A sender for each of these numbers, which seed its weights."""
    senders = []
    for draw in draws:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draw)
            senders.append(factory.sender(dims))
    return stack_senders(senders, device, groups)


def fresh_receivers(factory: AgentFactory, draws: Sequence[int], device: torch.device) -> Stack:
    """As many receivers as a seed has for each of these numbers, which seed their weights."""
    receivers = []
    for draw in draws:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draw)
            receivers.append(factory.receivers())
    return stack_receivers(receivers, device)


def fold_axes(sender: Sender, axes: Sequence[np.ndarray], into: Sender) -> None:
    """Gives `into`, over D dimensions, the weights of `sender` with its axes folded in.

    `axes` (D, axes) are of each agent's features, one per agent.
    """
    state = sender.state_dict()
    first = [name for name in state if name.endswith("temporal.0.weight")]
    for name, own in zip(first, axes, strict=True):  # (256, axes, kernel) -> (256, D, kernel)
        projection = torch.from_numpy(own)
        state[name] = torch.einsum("da,oak->odk", projection, state[name].double()).float()
    into.load_state_dict(state)
