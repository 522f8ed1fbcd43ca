"""Per-seed validation and checkpoint selection during training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pipeline.agents import AgentWindows, Channel, Stack
from pipeline.config import LAST
from pipeline.dataset import Split
from pipeline.game import Accuracy, Answers, ClipTable, Game
from pipeline.runs import HistoryRow

EVALUATE_EVERY = 10  # epochs
PUBLISHED_EVERY = 50  # epochs; the paper evaluates its test objects at epochs 1, 50, 100, ...


@dataclass(frozen=True)
class SeedCheckpoint:
    """One seed at one epoch: stacks with S = 1, and its messages (N, A, ...) of every clip."""

    epoch: int
    senders: Stack
    receivers: Stack
    messages: np.ndarray
    validation: Accuracy
    test: Accuracy

    def to_state(self) -> dict[str, Any]:
        """Return tensors and plain values, for `torch.save`."""
        scores = {name: _scores(getattr(self, name)) for name in ("validation", "test")}
        return vars(self) | scores | {"messages": torch.from_numpy(self.messages)}

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device) -> SeedCheckpoint:
        """Read what `to_state` returned."""
        stacks = {
            name: {key: value.to(device) for key, value in state[name].items()}
            for name in ("senders", "receivers")
        }
        scores = {name: _accuracy(state[name]) for name in ("validation", "test")}
        return cls(**state | stacks | scores | {"messages": state["messages"].numpy()})


class KeptNetworks:
    """Copies of the networks of many seeds, each from the epoch at which it was taken last."""

    def __init__(self) -> None:
        self._copies: list[Stack] = []

    @torch.no_grad()
    def take(self, stacks: Sequence[Stack], seeds: Sequence[int]) -> list[list[Stack]]:
        """Copy the networks of some seeds over those that were taken of them before.

        Args:
            stacks: With axes S, of which these are numbers: the same ones each time.
            seeds: Which.

        Returns:
            Of each of these seeds its part of every stack, S = 1, until it is taken again.
        """
        if not self._copies:
            self._copies = [
                {name: torch.empty_like(value.detach()) for name, value in stack.items()}
                for stack in stacks
            ]
        first = next(iter(stacks[0].values()))
        rows = torch.tensor([*seeds])
        if first.device.type == "cuda":
            rows = rows.pin_memory()
        rows = rows.to(first.device, non_blocking=True)
        for copies, stack in zip(self._copies, stacks, strict=True):
            for name, value in stack.items():
                if len(seeds) == len(first):
                    copies[name].copy_(value)
                else:
                    copies[name].index_copy_(0, rows, value.index_select(0, rows))
        return [
            [{name: value[n : n + 1] for name, value in own.items()} for own in self._copies]
            for n in seeds
        ]


@dataclass
class SeedTracker:
    """Validation, history and the kept checkpoint of one seed.

    Attributes:
        game: Judges.
        seed: Its number.
        split: Its clips.
        table: Of all clips, with their true labels.
        chosen_epoch: The epoch to keep, where one was chosen before.
        windows: What receivers see of every clip (S = 1); None where they see none.
        history: A row for each evaluation.
        best: The best checkpoint on validation, or that of the chosen or last epoch.
        last: That of the last epoch.
        published: The best accuracy of the published protocol; None where the game has none.
    """

    game: Game
    seed: int
    split: Split
    table: ClipTable
    chosen_epoch: int | None = None
    windows: AgentWindows | None = None
    history: list[HistoryRow] = field(default_factory=list)
    best: SeedCheckpoint | None = None
    last: SeedCheckpoint | None = None
    published: Accuracy | None = None

    def evaluate(
        self,
        test: tuple[Accuracy, Accuracy | None],
        validation: Accuracy,
        *,
        epoch: int,
        tau: float,
        loss: float,
    ) -> bool:
        """Take in how the seed did; return whether this epoch is to be kept.

        Args:
            test: On the clips of the test, and by the published protocol.
            validation: On the clips of validation.
            epoch: Epochs done.
            tau: Temperature of the epoch.
            loss: Mean loss of the epoch.
        """
        on_test, published = test
        epochs = self.game.config.epochs
        if published and (epoch == 1 or epoch % PUBLISHED_EVERY == 0 or epoch == epochs):
            before = self.published
            if before is None or published.together > before.together:
                self.published = published
        self.history.append(
            HistoryRow(
                self.seed,
                epoch,
                tau,
                loss,
                validation.together,
                on_test.together,
                published.together if published else math.nan,
            )
        )
        return epoch == self.chosen_epoch or (
            self.chosen_epoch is None and self._is_better(epoch, validation)
        )

    def _answers(
        self, receivers: Stack, messages: np.ndarray, channel: Channel, clips: np.ndarray
    ) -> Answers:
        device = next(iter(receivers.values())).device
        read = channel.read(torch.from_numpy(messages[clips]).to(device))
        return self.game.answer(receivers, read, clips, self.windows)

    def _is_better(self, epoch: int, validation: Accuracy) -> bool:
        """Whether to keep a state: what validation prefers (never without clips), or the last."""
        config = self.game.config
        if config.kept_epoch == LAST:
            return epoch == config.epochs
        settled = epoch > config.epochs // 2  # before, a good score is mostly luck
        before = -math.inf if self.best is None else self.best.validation.together
        return settled and validation.together >= before

    def kept(self) -> SeedCheckpoint:
        """Return the checkpoint of the seed: the best, or else the last."""
        kept = self.best or self.last
        assert kept is not None  # the last epoch is always evaluated
        return kept

    def best_receiver(self, channel: Channel) -> int:
        """Return the receiver that does best on validation; 0 where nothing can choose."""
        clips = self.split.validation
        if not len(clips):
            return 0
        kept = self.kept()
        answers = self._answers(kept.receivers, kept.messages, channel, clips)
        scores = [
            self.game.accuracy(of_one, self.table, clips).together
            for of_one in answers.by_receiver()
        ]
        return int(np.argmax(scores))

    def to_state(self) -> dict[str, Any]:
        """Return tensors and plain values, for `torch.save`."""
        return {
            "history": [dataclasses.astuple(row) for row in self.history],
            "best": self.best and self.best.to_state(),
            "last": self.last and self.last.to_state(),
            "published": self.published and _scores(self.published),
        }

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Resume where `to_state` was taken."""
        self.history = [HistoryRow(*row) for row in state["history"]]
        self.best, self.last = (
            state[name] and SeedCheckpoint.from_state(state[name], device)
            for name in ("best", "last")
        )
        self.published = state["published"] and _accuracy(state["published"])


def _scores(accuracy: Accuracy) -> list[float]:
    return [accuracy.together, *accuracy.each]


def _accuracy(scores: list[float]) -> Accuracy:
    return Accuracy(scores[0], tuple(scores[1:]))
