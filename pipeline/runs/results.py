"""The result of training one seed, and the rows of its history."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import nn

from pipeline.agents import Sender
from pipeline.dataset import Split
from pipeline.game import Accuracy


@dataclass(frozen=True)
class HistoryRow:
    """One evaluation of one seed during training, a row of `history.csv`.

    Accuracies are fractions; the loss is in nats; NaN where there was nothing to compute.
    """

    seed: int
    epoch: int
    tau: float
    loss: float
    accuracy_validation: float
    accuracy_test: float
    accuracy_published_protocol: float


@dataclass
class SeedResult:
    """The trained agents of one seed, their messages and their accuracies.

    Attributes:
        seed: Its number.
        split: The clips that it was trained, validated and tested on, and those set aside.
        sender: The sender that is kept.
        receiver: The receiver that is kept.
        tokens: The message of every clip: int64 (N, agents, heads); on a continuous channel
            float32 (N, agents, heads, vocab).
        epoch: Of the checkpoint that is kept.
        accuracy_validation: Of that checkpoint on validation clips; None without any.
        accuracy_test: Of that checkpoint on test clips; None where nothing chose it.
        accuracy_last_epoch: On test clips.
        accuracy_published_protocol: The best of several evaluations on the test clips themselves.
        skipped_batches: Batches whose loss was not finite.
        labels: What a null seed learned from, (N, P): those of the clips, permuted by object; None
            for a seed of the run.
        history: An entry for each evaluation during training.
    """

    seed: int
    split: Split
    sender: Sender
    receiver: nn.Module
    tokens: np.ndarray
    epoch: int
    accuracy_validation: Accuracy | None
    accuracy_test: Accuracy | None
    accuracy_last_epoch: Accuracy
    accuracy_published_protocol: Accuracy | None
    skipped_batches: int
    history: list[HistoryRow] = field(default_factory=list)
    labels: np.ndarray | None = None
