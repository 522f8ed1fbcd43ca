"""Build senders from a configuration and the shapes of its caches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.agents.channels import build_channel
from pipeline.agents.channels.base import Channel
from pipeline.agents.drawing import drawn_states
from pipeline.agents.modules import Sender, build_sender, sender_sizes
from pipeline.agents.stacked import Stack, stack_sender_states
from pipeline.config import TrainConfig


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
    (state,) = drawn_states(lambda: [factory.sender(dims)], draws, device)
    return stack_sender_states(state, groups)


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
