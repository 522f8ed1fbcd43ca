"""What training reads and what it leaves behind: the records between the stages."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data.errors import HeliographError
from pipeline.agents import CompositionalReceiver, Sender
from pipeline.game import Accuracy
from pipeline.splits import Split, split_clips


@dataclass(frozen=True)
class Examples:
    """What training reads: the features of each cache, labels (N, P), and each clip's object.

    `caches` are float arrays (N, T, D), one per cache, of the same clips in the same order. A clip
    with a NaN label gets messages, but is in no part of a split.
    """

    caches: tuple[np.ndarray, ...]
    labels: np.ndarray
    objects: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.labels):
            raise HeliographError("there are no clips to train on")
        counts = {len(self.labels), len(self.objects), *(len(own) for own in self.caches)}
        if len(counts) > 1:
            raise ValueError(
                f"features {self._shapes()}, labels {self.labels.shape} and "
                f"{len(self.objects)} objects disagree on the number of clips"
            )

    def __repr__(self) -> str:
        return f"Examples(features={self._shapes()}, labels={self.labels.shape})"

    def _shapes(self) -> str:
        return " and ".join(str(own.shape) for own in self.caches)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def features(self) -> np.ndarray:
        """The features (N, T, D) of a single cache; several have no common shape: see `raw`."""
        if len(self.caches) > 1:
            raise HeliographError(f"{len(self.caches)} caches have no features of one shape")
        return self.caches[0]

    def raw(self) -> np.ndarray:
        """All that is known of each clip side by side: float32 (N, values), cache after cache."""
        rows = [own.reshape(len(own), -1).astype(np.float32) for own in self.caches]
        return np.concatenate(rows, axis=1)

    def split(self, rule: str, seed: int) -> Split:
        """Splits the clips that have every label; see `split_clips`."""
        labelled = np.flatnonzero(~np.isnan(self.labels).any(axis=1))
        if not len(labelled):
            raise HeliographError("no clip has a value of every property of the run")
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
    validation: tuple[float, ...]  # of each seed, at its latest look; NaN before it, or without any

    @property
    def accuracy_validation(self) -> float:
        """The mean over the chunk's seeds; NaN where one has none."""
        return sum(self.validation) / len(self.validation)


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
    receiver: CompositionalReceiver
    tokens: np.ndarray
    epoch: int  # of the checkpoint that is kept
    accuracy_validation: Accuracy | None
    accuracy_test: Accuracy | None  # of the kept checkpoint; None where nothing chose it
    accuracy_last_epoch: Accuracy
    accuracy_published_protocol: Accuracy  # the best of several looks at the test clips themselves
    skipped_batches: int  # batches whose loss was not finite
    history: list[HistoryRow] = field(default_factory=list)
