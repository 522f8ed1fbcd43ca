"""The contract of a channel between senders and receivers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from pipeline.config import TrainConfig


class Channel(ABC):
    """How the outputs of the senders' heads become messages.

    A sender has `heads` heads with `vocab` outputs each ("logits" below), whatever the channel.
    Add a channel with one file in this folder that defines a subclass.

    Attributes:
        name: The value of `--channel` that selects it.
        title: What it sends, in a few words.
        symbols: Whether messages are tokens (agents, heads) of `vocab` symbols, which the metrics
            of language and the interventions need.
        noise_size: Uniform numbers that `send` takes for each head of each clip.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    symbols: ClassVar[bool]

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.noise_size = 0

    @property
    def message_size(self) -> int:
        """Length of the vector that a receiver reads for one message of all agents."""
        return self.config.agents * self.config.heads * self.config.vocab

    @abstractmethod
    def send(self, logits: Tensor, noise: Tensor, tau: float | Tensor, *, hard: bool) -> Tensor:
        """Return what training sends, differentiable.

        Args:
            logits: Outputs of the heads, float32 (..., heads, vocab).
            noise: Uniform between 0 and 1, neither of them: float32 (..., heads, noise_size).
            tau: Temperature of this epoch; on a GPU a tensor ().
            hard: Whether the soft epochs are over.

        Returns:
            float32 (..., heads, size); laid end to end over agents and heads it has
            `message_size` numbers.
        """

    def penalty(self, logits: Tensor, played: Tensor, sides: int) -> Tensor | None:
        """Return a term (S,) to add to the loss of each seed, or None.

        Args:
            logits: (S, agents, sides * rounds, heads, vocab).
            played: (S, rounds), 1 where a round counts.
            sides: Clips that each round describes, laid side after side along the third axis.
        """
        return None

    @abstractmethod
    def final(self, logits: Tensor) -> Tensor:
        """Return the messages after training: (..., heads, vocab) -> what is stored."""

    @abstractmethod
    def read(self, messages: Tensor) -> Tensor:
        """Return what a receiver reads: stored (..., agents, heads, ...) -> (..., message_size)."""

    @abstractmethod
    def text(self, message: np.ndarray) -> str:
        """Return the text form of one stored message."""

    @abstractmethod
    def to_json(self, message: np.ndarray) -> dict[str, Any]:
        """Return the keys of one message in `messages.jsonl`: `message` and its content."""

    @abstractmethod
    def from_json(self, line: dict[str, Any]) -> np.ndarray:
        """Return the stored message of a line of `messages.jsonl`.

        Raises:
            ValueError: If senders of this configuration cannot send it; the text says what it is.
        """
