"""The training view of cached features: arrays, labels and objects, and their splits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from data.errors import HeliographError
from data.splits import Split, split_clips
from pipeline.metrics import permutations


@dataclass(frozen=True)
class Examples:
    """What training reads: the features of each cache, labels (N, P), and each clip's object.

    `caches` are float arrays (N, T, D), one per cache, of the same clips in the same order: large
    ones are those of a mapped file, which can only be read. A clip with a NaN label gets messages,
    but is in no part of a split.
    """

    caches: tuple[np.ndarray, ...]
    labels: np.ndarray
    objects: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.labels):
            raise HeliographError("there are no clips to train on")
        counts = {len(self.labels), len(self.objects), *(len(cache) for cache in self.caches)}
        if len(counts) > 1:
            raise ValueError(
                f"features {self._shapes()}, labels {self.labels.shape} and "
                f"{len(self.objects)} objects disagree on the number of clips"
            )

    def __repr__(self) -> str:
        return f"Examples(features={self._shapes()}, labels={self.labels.shape})"

    def _shapes(self) -> str:
        return " and ".join(str(cache.shape) for cache in self.caches)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def features(self) -> np.ndarray:
        """The features (N, T, D) of a single cache; several have no common shape: see `raw`."""
        if len(self.caches) > 1:
            raise HeliographError(f"{len(self.caches)} caches have no features of one shape")
        return self.caches[0]

    @property
    def labelled(self) -> np.ndarray:
        """The clips that have every label, int64 ascending."""
        return np.flatnonzero(~np.isnan(self.labels).any(axis=1))

    def permuted(self, seed: int) -> Examples:
        """Return the same clips with the labels of other objects: chance, with every leak in place.

        Whole objects are exchanged, so that clips of one object still share their labels, in
        training and in test.
        """
        labelled = self.labelled
        objects = [self.objects[clip] for clip in labelled]
        donors = labelled[permutations(len(labelled), n=1, seed=seed, groups=objects)[0]]
        labels = self.labels.copy()
        labels[labelled] = self.labels[donors]
        return dataclasses.replace(self, labels=labels)

    def flat_features(self) -> np.ndarray:
        """Return all features of each clip laid end to end, cache after cache: (N, values)."""
        rows = [cache.reshape(len(cache), -1).astype(np.float32) for cache in self.caches]
        return np.concatenate(rows, axis=1)

    def split(self, rule: str, seed: int) -> Split:
        """Splits the clips that have every label; see `split_clips`."""
        labelled = self.labelled
        if not len(labelled):
            raise HeliographError("no clip has a value of every property of the run")
        objects = [self.objects[clip] for clip in labelled]
        return split_clips(rule, objects, self.labels[labelled], seed).of_clips(labelled)
