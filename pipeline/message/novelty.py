"""Novelty of a clip: how far it is from the training data, where its message means nothing.

The distance of a clip is the Euclidean distance of its features, all time steps concatenated, to
the nearest training clip. It is compared with the distances of the training clips to the nearest
one of *another* object: a clip that is farther than all of those is unlike anything seen.

Measured with efficientnet_lite0 on simulated ramps: 37 of 38 clips of other scenes and real videos
are detected, and none of 64 ramps of held-out properties; of real objects on springs (26 objects,
3 splits) 3 of 216 held-out clips. Distances in the leading principal axes, whitened or not, detect
one clip in four: what is novel lies off the axes along which training clips vary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import HeliographError
from pipeline.dataset import clip_blocks

MAX_CLIPS = 4000  # training clips to compare with; of more, evenly spaced ones
CLIPS_AT_ONCE = 256  # whose distances to all of them are in memory
SQUARED_NUMBERS = 1 << 20  # that are float64 at one time

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far a clip is from the training clips, in the units of the features.

    Attributes:
        value: To the nearest training clip.
        nearest: The id of that clip.
        quantile: Share of training clips that are nearer than that to a clip of another object.
        limit: The largest distance of a training clip to the nearest one of another object.
        cache: Of several, the one in which the clip is most novel.
    """

    value: float
    nearest: str
    quantile: float
    limit: float
    cache: str = ""

    @property
    def unfamiliar(self) -> bool:
        """Whether the clip is farther away than any training clip is from other objects."""
        return self.value > self.limit

    def __str__(self) -> str:
        if not self.limit:  # clips of several objects have the very same features
            return "unlike anything seen" if self.unfamiliar else "familiar"
        if self.unfamiliar:
            return f"unlike anything seen ({self.value / self.limit:.1f} x the limit)"
        return f"familiar ({self.value / self.limit:.2f} of the limit)"

    def to_json(self) -> dict[str, Any]:
        """Return the fields, and whether the clip is unfamiliar."""
        return asdict(self) | {"unfamiliar": self.unfamiliar}


class NoveltyDetector:
    """Measures how far clips are from training clips."""

    def __init__(
        self,
        features: NDArray[Any],
        objects: Sequence[str],
        clips: Sequence[str],
        *,
        cache: str = "",
    ) -> None:
        """Keep the training clips to compare with.

        Args:
            features: Of the training clips, (n, steps, dim).
            objects: Of each, (n,).
            clips: Their ids, (n,).
            cache: Name of the cache.

        Raises:
            HeliographError: for clips of fewer than two objects, which give no limit.
        """
        if len(set(objects)) < 2:
            raise HeliographError("the training clips are of fewer than two objects")
        kept = np.array(thinned(range(len(features))))
        self.cache = cache
        self.clips = [clips[clip] for clip in kept.tolist()]
        self._dtype = _dtype_for(features)
        self._training = features[kept]
        self._centred = _flat(self._training, self._dtype)
        self._centre = self._centred.mean(0)
        self._centred -= self._centre  # about it float32 is exact enough
        self._squares = _squares(self._centred)
        names = np.asarray(objects)[kept]
        nearest = np.empty(len(names))
        for start in range(0, len(names), CLIPS_AT_ONCE):
            some = slice(start, start + CLIPS_AT_ONCE)
            squared = self._squared(self._centred[some])
            squared[names[some, None] == names] = np.inf
            nearest[some] = squared.min(1)
        self._limits = np.sort(np.sqrt(nearest))  # (n,)

    def __repr__(self) -> str:
        return f"NoveltyDetector({len(self.clips)} clips, limit {self.limit:.3g})"

    @property
    def limit(self) -> float:
        """Clips farther away are unlike anything seen."""
        return float(self._limits[-1])

    def __call__(self, features: NDArray[Any]) -> list[Distance]:
        """Return the distance of each clip of features (N, steps, dim)."""
        flat = _flat(features, self._dtype)
        nearest = self._squared(flat - self._centre).argmin(1)
        values = np.linalg.norm(flat - _flat(self._training[nearest], self._dtype), axis=1)
        below = np.searchsorted(self._limits, values) / len(self._limits)
        return [
            Distance(
                value=float(value),
                nearest=self.clips[clip],
                quantile=float(quantile),
                limit=self.limit,
                cache=self.cache,
            )
            for value, clip, quantile in zip(values, nearest, below, strict=True)
        ]

    def _squared(self, centred: Floats) -> NDArray[np.float64]:
        """Squared distances (N, n) of clips to those of training, of both about its mean."""
        squared = _squares(centred)[:, None] + self._squares
        product = centred @ self._centred.T
        product *= 2.0
        squared -= product
        return np.maximum(squared, 0.0, out=squared)


def most_novel(distances: Sequence[Distance]) -> Distance:
    """Return, of one clip's distances in several caches, the largest relative to its limit."""
    return max(distances, key=lambda distance: distance.value / max(distance.limit, 1e-300))


def _dtype_for(features: NDArray[Any]) -> type[np.floating[Any]]:
    """Return float32, or float64 for features whose squares float32 cannot hold."""
    size = float(np.maximum(features.max(initial=0), -features.min(initial=0)))
    return np.float32 if 1e-12 < size < 1e12 or not size else np.float64


def _flat(features: NDArray[Any], dtype: type[np.floating[Any]]) -> Floats:
    return features.reshape(len(features), -1).astype(dtype)


def _squares(rows: Floats) -> NDArray[np.float64]:
    """Return the squared length of each row, (n,), computed in float64."""
    blocks = [
        (block.astype(np.float64) ** 2).sum(1)
        for _, block in clip_blocks(rows, numbers=SQUARED_NUMBERS)
    ]
    return np.concatenate(blocks)


def thinned(clips: Sequence[int]) -> Sequence[int]:
    """Return the training clips to compare with: of more than `MAX_CLIPS`, evenly spaced ones."""
    return clips[:: max(1, -(-len(clips) // MAX_CLIPS))]
