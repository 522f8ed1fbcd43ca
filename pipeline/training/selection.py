"""Looks at a seed while it trains: how well it is understood, and which of its states is kept."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pipeline.agents import Stack
from pipeline.config import TrainConfig
from pipeline.dataset import Split
from pipeline.game import Accuracy, Verdicts, hear, pooled_accuracy, published_accuracy
from pipeline.runs import HistoryRow

EVALUATE_EVERY = 10  # epochs
PUBLISHED_EVERY = 50  # epochs; the paper looks at its test objects at epochs 1, 50, 100, ...


@dataclass(frozen=True)
class Checkpoint:
    """One seed at one epoch: stacks with S = 1, and what it says of every clip."""

    epoch: int
    senders: Stack
    receivers: Stack
    tokens: np.ndarray
    validation: Accuracy
    test: Accuracy

    def copied(self) -> Checkpoint:
        """The same, no longer following the training."""
        senders = {name: value.clone() for name, value in self.senders.items()}
        receivers = {name: value.clone() for name, value in self.receivers.items()}
        return dataclasses.replace(self, senders=senders, receivers=receivers)

    def to_state(self) -> dict[str, Any]:
        """Tensors and plain values, for `torch.save`."""
        scores = {name: _scores(getattr(self, name)) for name in ("validation", "test")}
        return vars(self) | scores | {"tokens": torch.from_numpy(self.tokens)}

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device) -> Checkpoint:
        """Reads what `to_state` wrote."""
        stacks = {
            name: {key: value.to(device) for key, value in state[name].items()}
            for name in ("senders", "receivers")
        }
        scores = {name: _accuracy(state[name]) for name in ("validation", "test")}
        return cls(**state | stacks | scores | {"tokens": state["tokens"].numpy()})


@dataclass
class SeedTracker:
    """What is remembered of one seed's training."""

    seed: int
    split: Split
    chosen: int | None = None  # the epoch to keep, where one was chosen before
    history: list[HistoryRow] = field(default_factory=list)
    best: Checkpoint | None = None  # on validation, or at the chosen epoch
    last: Checkpoint | None = None
    published: Accuracy | None = None  # the best of the published protocol's looks

    def look(
        self,
        stacks: tuple[Stack, Stack],
        tokens: np.ndarray,
        labels: np.ndarray,
        config: TrainConfig,
        *,
        epoch: int,
        tau: float,
        loss: float,
    ) -> HistoryRow:
        """Scores the seed, keeps what is best on validation, and the last.

        Args:
            stacks: senders and receivers with S = 1; they may change afterwards.
            tokens: what the senders say of all N clips.
            labels: (N, P), the true ones.
        """
        senders, receivers = stacks
        margins = config.tie_margins
        validation, test = (
            (hear(receivers, tokens[clips], config.vocab), labels[clips])
            for clips in (self.split.validation, self.split.test)
        )
        state = Checkpoint(
            epoch,
            senders,
            receivers,
            tokens,
            pooled_accuracy(*validation, margins),
            pooled_accuracy(*test, margins),
        )
        published = published_accuracy(*test, margins)
        if epoch == 1 or epoch % PUBLISHED_EVERY == 0 or epoch == config.epochs:
            before = self.published
            if before is None or published.together > before.together:
                self.published = published
        if epoch == self.chosen or (self.chosen is None and self._is_better(state, config)):
            self.best = state.copied()
        if epoch == config.epochs:
            self.last = state.copied()
        self.history.append(
            HistoryRow(
                self.seed,
                epoch,
                tau,
                loss,
                state.validation.together,
                state.test.together,
                published.together,
            )
        )
        return self.history[-1]

    def _is_better(self, state: Checkpoint, config: TrainConfig) -> bool:
        """Whether validation prefers a state; never where it has nothing to compare."""
        settled = state.epoch > config.epochs // 2  # before, a good look is mostly luck
        before = -math.inf if self.best is None else self.best.validation.together
        return settled and state.validation.together >= before

    def kept(self) -> Checkpoint:
        """The state that stands for the seed: the best on validation, or else the last."""
        kept = self.best or self.last
        assert kept is not None  # the last epoch is always looked at
        return kept

    def best_receiver(self, labels: np.ndarray, config: TrainConfig) -> int:
        """The receiver that does best on validation; the first where nothing can choose."""
        clips = self.split.validation
        if not len(clips):
            return 0
        kept = self.kept()
        verdicts = hear(kept.receivers, kept.tokens[clips], config.vocab)
        scores = [
            pooled_accuracy(
                Verdicts(says[None], verdicts.message), labels[clips], config.tie_margins
            ).together
            for says in verdicts.says_more
        ]
        return int(np.argmax(scores))

    def to_state(self) -> dict[str, Any]:
        """Tensors and plain values, for `torch.save`."""
        return {
            "history": [dataclasses.astuple(row) for row in self.history],
            "best": self.best and self.best.to_state(),
            "last": self.last and self.last.to_state(),
            "published": self.published and _scores(self.published),
        }

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Goes on where `to_state` was taken."""
        self.history = [HistoryRow(*row) for row in state["history"]]
        self.best, self.last = (
            state[name] and Checkpoint.from_state(state[name], device) for name in ("best", "last")
        )
        self.published = state["published"] and _accuracy(state["published"])


def _scores(accuracy: Accuracy) -> list[float]:
    return [accuracy.together, *accuracy.each]


def _accuracy(scores: list[float]) -> Accuracy:
    return Accuracy(scores[0], tuple(scores[1:]))
