"""Discrete symbols: Gumbel-softmax in training, each head's likeliest symbol afterwards."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.agents.channels.base import Channel
from pipeline.agents.message_format import message_text
from pipeline.config import TrainConfig


class DiscreteChannel(Channel):
    """One of `vocab` symbols for each head; a receiver reads them one-hot."""

    name = "discrete"
    title = "symbols (Gumbel-softmax)"
    symbols = True

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.noise_size = config.vocab

    def send(self, logits: Tensor, noise: Tensor, tau: float | Tensor, *, hard: bool) -> Tensor:
        """Return a Gumbel-softmax of the logits, straight-through where `hard`."""
        return gumbel_softmax(logits, noise, tau, hard=hard)

    def penalty(self, logits: Tensor, played: Tensor, sides: int) -> Tensor | None:
        """Return minus the entropy bonus of heads that hardly vary."""
        return entropy_penalty(logits, played, self.config, sides)

    def final(self, logits: Tensor) -> Tensor:
        """Return tokens int64 (..., heads)."""
        return logits.argmax(-1)

    def read(self, messages: Tensor) -> Tensor:
        """Return the one-hot symbols of tokens (..., agents, heads), laid end to end."""
        return F.one_hot(messages, self.config.vocab).flatten(-3).float()

    def text(self, message: np.ndarray) -> str:
        """Return the tokens: heads joined by `-`, agents by ` | `."""
        return message_text(message.tolist())

    def to_json(self, message: np.ndarray) -> dict[str, Any]:
        """Return `message` (text) and `tokens` (agents, heads)."""
        return {"message": self.text(message), "tokens": message.tolist()}

    def from_json(self, line: dict[str, Any]) -> np.ndarray:
        """Return the tokens int64 (agents, heads) of a line of `messages.jsonl`.

        Raises:
            ValueError: If they are not `heads` symbols below `vocab` for each agent.
        """
        tokens, config = line.get("tokens"), self.config
        agents = tokens if isinstance(tokens, list) else []
        if len(agents) != config.agents or not all(map(self._is_agents_part, agents)):
            raise ValueError(str(tokens))
        return np.array(agents, np.int64).reshape(config.agents, config.heads)

    def _is_agents_part(self, symbols: Any) -> bool:
        return (
            isinstance(symbols, list)
            and len(symbols) == self.config.heads
            and all(isinstance(s, int) and 0 <= s < self.config.vocab for s in symbols)
        )


def gumbel_softmax(logits: Tensor, uniform: Tensor, tau: float | Tensor, *, hard: bool) -> Tensor:
    """Return `torch.nn.functional.gumbel_softmax` over the last axis, with its noise given.

    Args:
        logits: (..., vocab).
        uniform: Of the same shape, between 0 and 1.
        tau: Temperature.
        hard: Whether the forward pass sends one-hot symbols (straight-through).
    """
    minus_gumbel = uniform.log().neg_().log_()
    soft = torch.softmax((logits - minus_gumbel) / tau, dim=-1)
    return _StraightThrough.apply(soft) if hard else soft


class _StraightThrough(torch.autograd.Function):
    """The likeliest symbols one-hot; what comes back to them goes on as it is."""

    @staticmethod
    def forward(ctx: Any, soft: Tensor) -> Tensor:
        """Put 1 where a head's largest number is, and 0 elsewhere."""
        return torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient."""
        return gradient


def entropy_penalty(logits: Tensor, played: Tensor, config: TrainConfig, sides: int = 2) -> Tensor:
    """Return minus the bonus of heads that hardly vary: their entropy, averaged over clips.

    Entropy of each sample's softmax, then the mean, as in the paper's code (not the entropy of the
    mean).

    Args:
        logits: (S, A, sides * rounds, heads, vocab), side after side.
        played: (S, rounds), 1 where the round counts.
        config: Gives the threshold, the weight and the size of the vocabulary.
        sides: Clips that a round describes; each side's mean is taken by itself.

    Returns:
        (S,), to be added to the loss.
    """
    log_p = torch.log_softmax(logits, dim=-1)
    minus = (log_p.exp().clamp(min=1e-8) * log_p).sum(dim=-1)  # -entropy (S, A, clips, heads)
    minus = minus.unflatten(2, (sides, -1))  # (S, A, sides, rounds, heads)
    share = played / played.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (minus * share[:, None, None, :, None]).sum(dim=3)  # (S, A, sides, heads)
    low = mean > -config.entropy_threshold * math.log(config.vocab)
    return config.entropy_bonus * (mean * low).sum(dim=(1, 2, 3))
