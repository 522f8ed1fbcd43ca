"""Real numbers: the control of equal width (paper, phase 84c)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.agents.channels.base import Channel
from pipeline.agents.message_format import values_text


class ContinuousChannel(Channel):
    """The tanh of the heads' outputs: `heads * vocab` real numbers for each agent."""

    name = "continuous"
    title = "real numbers (tanh)"
    symbols = False

    def send(self, logits: Tensor, noise: Tensor, tau: float | Tensor, *, hard: bool) -> Tensor:
        """Return the tanh of the logits; noise and temperature play no part."""
        return torch.tanh(logits)

    def final(self, logits: Tensor) -> Tensor:
        """Return float32 (..., heads, vocab) between -1 and 1."""
        return torch.tanh(logits)

    def read(self, messages: Tensor) -> Tensor:
        """Return the numbers (..., agents, heads, vocab) laid end to end."""
        return messages.flatten(-3)

    def text(self, message: np.ndarray) -> str:
        """Return the numbers with two decimals, agents joined by ` | `."""
        return values_text(message.reshape(len(message), -1).tolist())

    def to_json(self, message: np.ndarray) -> dict[str, Any]:
        """Return `message` (text) and `values` (agents, heads * vocab)."""
        values = message.reshape(len(message), -1).tolist()
        return {"message": values_text(values), "values": values}

    def from_json(self, line: dict[str, Any]) -> np.ndarray:
        """Return the numbers float32 (agents, heads, vocab) of a line of `messages.jsonl`.

        Raises:
            ValueError: If they are not `heads * vocab` numbers for each agent.
        """
        values, config = line.get("values"), self.config
        agents = values if isinstance(values, list) else []
        if len(agents) != config.agents or not all(map(self._is_agents_part, agents)):
            raise ValueError(str(values))
        return np.array(agents, np.float32).reshape(config.agents, config.heads, config.vocab)

    def _is_agents_part(self, numbers: Any) -> bool:
        return (
            isinstance(numbers, list)
            and len(numbers) == self.config.heads * self.config.vocab
            and all(isinstance(x, int | float) for x in numbers)
        )
