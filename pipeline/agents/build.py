"""Build senders from a configuration and the shapes of its caches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from pipeline.agents.channels import build_channel
from pipeline.agents.channels.base import Channel
from pipeline.agents.modules import Sender, build_sender, sender_sizes
from pipeline.agents.stacked import Stack, stack_senders
from pipeline.config import TrainConfig

_Built = TypeVar("_Built")


@dataclass(frozen=True)
class AgentFactory:
    """Builds new senders and their channel.

    Attributes:
        config: The configuration of the run.
        steps: Time steps of each cache.
        dims: Feature dimensions of each cache.
        names: Of the caches, for error messages.
    """

    config: TrainConfig
    steps: tuple[int, ...]
    dims: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def channel(self) -> Channel:
        """The channel that the configuration names."""
        return build_channel(self.config)

    def sender(self, dims: Sequence[int] | None = None) -> Sender:
        """Return a new sender.

        Args:
            dims: Replace the dimensions of the caches, where features are projected first.
        """
        dims = dims or self.dims
        sizes = sender_sizes(self.config, steps=self.steps, dims=dims, names=self.names)
        return build_sender(**sizes)


def fresh_senders(
    factory: AgentFactory,
    dims: Sequence[int],
    groups: tuple[tuple[int, ...], ...],
    draws: Sequence[int],
    device: torch.device,
) -> Stack:
    """Return a stack of new senders, one for each number in `draws`, which seeds its weights."""
    senders = [seeded(draw, lambda: factory.sender(dims)) for draw in draws]
    return stack_senders(senders, device, groups)


def seeded(seed: int, build: Callable[[], _Built]) -> _Built:
    """Return what `build` makes with torch's generator seeded, and leave the generator as it was.

    >>> torch.equal(seeded(3, lambda: torch.rand(2)), seeded(3, lambda: torch.rand(2)))
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not those of GPUs, which build nothing
        return build()


def fold_axes(module: nn.Module, axes: Sequence[np.ndarray], into: nn.Module) -> None:
    """Load into `into`, over D dimensions, the weights of `module` with its axes folded in.

    Args:
        module: A net whose temporal encoders read features on axes.
        axes: For each of its encoders, in their order, (D, axes) of its features.
        into: The same net over D dimensions.
    """
    state = module.state_dict()
    first = [name for name in state if name.endswith("temporal.0.weight")]
    for name, columns in zip(first, axes, strict=True):  # (256, axes, kernel) -> (256, D, kernel)
        projection = torch.from_numpy(columns)
        state[name] = torch.einsum("da,oak->odk", projection, state[name].double()).float()
    into.load_state_dict(state)
