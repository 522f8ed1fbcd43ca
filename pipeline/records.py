"""What training reads and what it leaves behind: the records between the stages."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data.errors import HeliographError
from pipeline.agents import CompositionalReceiver, CompositionalSender, MultiAgentSender
from pipeline.game import Accuracy
from pipeline.splits import Split, split_clips


@dataclass(frozen=True)
class Examples:
    """What training reads of a cache: features (N, T, D), labels (N, P), and each clip's object.

    A clip with a NaN label gets messages, but is in no part of a split.
    """

    features: np.ndarray
    labels: np.ndarray
    objects: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.labels):
            raise HeliographError("there are no clips to train on")
        if not len(self.features) == len(self.labels) == len(self.objects):
            raise ValueError(
                f"features {self.features.shape}, labels {self.labels.shape} and "
                f"{len(self.objects)} objects disagree on the number of clips"
            )

    def __repr__(self) -> str:
        return f"Examples(features={self.features.shape}, labels={self.labels.shape})"

    def raw(self) -> np.ndarray:
        """All that is known of each clip side by side: float32 (N, values), step after step."""
        return self.features.reshape(len(self.features), -1).astype(np.float32)

    def split(self, rule: str, seed: int) -> Split:
        """Splits the clips that have every label; see `split_clips`."""
        labelled = np.flatnonzero(~np.isnan(self.labels).any(axis=1))
        objects = [self.objects[clip] for clip in labelled]
        split = split_clips(rule, objects, self.labels[labelled], seed)
        return Split(
            labelled[split.train],
            labelled[split.validation],
            labelled[split.test],
            split.generator,
        )


@dataclass(frozen=True)
class Progress:
    """How far a chunk of seeds is: handed to the caller after every epoch."""

    seeds: tuple[int, ...]
    epoch: int  # 1 is the first; those of the oracle count
    epochs: int
    tau: float  # NaN while the encoders learn as an oracle
    loss: float  # mean over the seeds of the chunk; NaN in the oracle
    accuracy_validation: (
        float  # mean over its seeds; NaN without validation objects, or not looked at yet
    )


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
    """What came out of one seed. Tokens are int64 (N, agents, heads), of every clip."""

    seed: int
    split: Split
    sender: CompositionalSender | MultiAgentSender
    receiver: CompositionalReceiver
    tokens: np.ndarray
    epoch: int  # of the checkpoint that is kept
    accuracy_validation: Accuracy | None
    accuracy_test: Accuracy | None  # of the kept checkpoint; None where nothing chose it
    accuracy_last_epoch: Accuracy
    accuracy_published_protocol: Accuracy  # the best of several looks at the test clips themselves
    skipped_batches: int  # batches whose loss was not finite
    history: list[HistoryRow] = field(default_factory=list)
