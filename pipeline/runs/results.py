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
    """One look at one seed, a line of `history.csv`; accuracies are fractions."""

    seed: int
    epoch: int
    tau: float
    loss: float
    accuracy_validation: float
    accuracy_test: float
    accuracy_published_protocol: float


@dataclass
class SeedResult:
    """What came out of one seed.

    Tokens are int64 (N, agents, heads), of every clip; on a continuous channel the real numbers
    that are said, float32 (N, agents, heads, vocab).
    """

    seed: int
    split: Split
    sender: Sender
    receiver: nn.Module
    tokens: np.ndarray
    epoch: int  # of the checkpoint that is kept
    accuracy_validation: Accuracy | None
    accuracy_test: Accuracy | None  # of the kept checkpoint; None where nothing chose it
    accuracy_last_epoch: Accuracy
    accuracy_published_protocol: Accuracy | None  # the best of several on the test clips themselves
    skipped_batches: int  # batches whose loss was not finite
    history: list[HistoryRow] = field(default_factory=list)
