"""The agents of the paper: a temporal encoder, senders of symbols, receivers that compare.

Architecture, sizes and state-dict names are those of "Emergent Compositional Communication for
Latent World Properties" (arXiv 2604.03266) and of its published checkpoints, so that these load
here and ours load there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data.errors import HeliographError

PUBLISHED_PROPERTIES = ("elasticity", "friction")


def agent_windows(steps: int, agents: int) -> list[range]:
    """The time steps that each agent sees: `steps // agents` consecutive ones, at least one each.

    With more agents than steps the windows cycle; steps that do not divide evenly are left over at
    the end, as in the paper's code (`features[:, i*w:(i+1)*w]`).

    >>> agent_windows(8, 2)
    [range(0, 4), range(4, 8)]
    >>> agent_windows(2, 3)
    [range(0, 1), range(1, 2), range(0, 1)]
    """
    if steps < 1 or agents < 1:
        raise ValueError(
            f"needs at least one step and one agent, got {steps} steps, {agents} agents"
        )
    width = max(1, steps // agents)
    starts = [agent % (steps // width) * width for agent in range(agents)]
    return [range(start, start + width) for start in starts]


class TemporalEncoder(nn.Module):
    """Two convolutions over time, a mean over time, and a linear layer, as in the paper."""

    def __init__(self, hidden_dim: int = 128, input_dim: int = 384, n_frames: int = 8) -> None:
        super().__init__()
        kernel = min(3, n_frames)
        self.temporal = nn.Sequential(
            nn.Conv1d(input_dim, 256, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv1d(256, 128, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
        )
        self.fc = nn.Sequential(nn.Linear(128, hidden_dim), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, input_dim) -> (batch, hidden_dim)."""
        return self.fc(
            self.temporal(x.transpose(1, 2)).squeeze(-1)
        )  # Conv1d wants (batch, dim, frames)


class CompositionalSender(nn.Module):
    """One agent: an encoder and `n_heads` heads that say one of `vocab_size` symbols each.

    A sender of one head (the paper's holistic 1x64 control) names it `head`, as its checkpoint
    does.
    """

    def __init__(
        self,
        hidden_dim: int = 128,
        input_dim: int = 384,
        vocab_size: int = 8,
        n_heads: int = 2,
        n_frames: int = 8,
    ) -> None:
        super().__init__()
        self.encoder = TemporalEncoder(hidden_dim, input_dim, n_frames)
        self.vocab_size = vocab_size
        self.n_heads = n_heads
        if n_heads == 1:
            self.head = nn.Linear(hidden_dim, vocab_size)
        else:
            self.heads = nn.ModuleList(nn.Linear(hidden_dim, vocab_size) for _ in range(n_heads))

    def logits(self, x: Tensor) -> Tensor:
        """(batch, frames, input_dim) -> (batch, n_heads, vocab_size)."""
        h = self.encoder(x)
        heads = [self.head] if self.n_heads == 1 else self.heads
        return torch.stack([head(h) for head in heads], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, input_dim) -> tokens int64 (batch, n_heads): each head's likeliest."""
        return self.logits(x).argmax(-1)


class MultiAgentSender(nn.Module):
    """Several senders, each over its own window of the clip; state-dict names `senders.<i>`."""

    def __init__(self, senders: Sequence[CompositionalSender], windows: Sequence[range]) -> None:
        super().__init__()
        if len(senders) != len(windows):
            raise ValueError(f"{len(senders)} senders but {len(windows)} windows")
        self.senders = nn.ModuleList(senders)
        self.windows = list(windows)

    def logits(self, x: Tensor) -> Tensor:
        """(batch, frames, input_dim) -> (batch, agents, n_heads, vocab_size)."""
        views = [x[:, window.start : window.stop] for window in self.windows]
        senders = [sender for sender in self.senders if isinstance(sender, CompositionalSender)]
        return torch.stack([s.logits(view) for s, view in zip(senders, views, strict=True)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, input_dim) -> integer tokens (batch, agents, n_heads)."""
        return self.logits(x).argmax(-1)


class CompositionalReceiver(nn.Module):
    """Reads two messages and answers, per property, whether the first clip has more of it.

    `msg_dim` is agents * heads * vocab: the one-hot symbols of a message, laid end to end. Head
    names: `elast_head` and `friction_head` for the published pair of properties, `head` for a
    single property, `heads.<property>` otherwise.
    """

    def __init__(
        self, msg_dim: int, hidden_dim: int = 128, properties: Sequence[str] = PUBLISHED_PROPERTIES
    ) -> None:
        super().__init__()
        self.shared = nn.Sequential(
            nn.Linear(2 * msg_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim // 2),
            nn.ReLU(),
        )
        self.properties = tuple(properties)
        for name in head_names(self.properties):
            *parents, leaf = name.split(".")
            if parents and not hasattr(self, parents[0]):
                self.add_module(parents[0], nn.Module())
            self.get_submodule(".".join(parents)).add_module(leaf, nn.Linear(hidden_dim // 2, 1))

    def forward(self, message_a: Tensor, message_b: Tensor) -> Tensor:
        """Two (batch, msg_dim) -> logits (batch, properties); above 0: the first clip has more."""
        h = self.shared(torch.cat([message_a, message_b], dim=-1))
        heads = [self.get_submodule(name) for name in head_names(self.properties)]
        return torch.cat([head(h) for head in heads], dim=-1)


def head_names(properties: Sequence[str]) -> list[str]:
    """State-dict names of a receiver's heads, in the order of the properties.

    Raises HeliographError for a property that cannot be a name in a state dict.
    """
    if tuple(properties) == PUBLISHED_PROPERTIES:
        return ["elast_head", "friction_head"]
    if len(properties) == 1:
        return ["head"]
    for name in properties:
        if not name or "." in name or hasattr(nn.Module, name):
            raise HeliographError(
                f"the property {name!r} cannot name a receiver's head: rename the label"
            )
    return [f"heads.{name}" for name in properties]


def build_sender(
    *, input_dim: int, steps: int, agents: int, heads: int, vocab: int, hidden_dim: int = 128
) -> CompositionalSender | MultiAgentSender:
    """One agent over all the steps, or several over their windows, with fresh weights."""
    windows = agent_windows(steps, agents)
    senders = [
        CompositionalSender(hidden_dim, input_dim, vocab, heads, n_frames=len(window))
        for window in windows
    ]
    return senders[0] if agents == 1 else MultiAgentSender(senders, windows)


def checkpoint_key(part: str, heads: int, vocab: int) -> str:
    """The published checkpoints' key of a part.

    >>> checkpoint_key("sender", 2, 8)
    'sender_2x8'
    """
    return f"{part}_{heads}x{vocab}"


def message_text(tokens: Sequence[Sequence[int]]) -> str:
    """Heads joined by `-`, agents by ` | `.

    >>> message_text([[3, 7], [1, 2]])
    '3-7 | 1-2'
    """
    return " | ".join("-".join(str(int(symbol)) for symbol in agent) for agent in tokens)
