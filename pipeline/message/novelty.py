"""How unlike the training data a clip is: what agents say of strange clips means nothing.

The rule: the Euclidean distance of the clip's features, all time steps side by side, to the nearest
training clip. Its yardstick are the training clips themselves, each measured to the nearest one of
*another* object. A clip farther off than every one of those is unlike anything seen.

Measured with efficientnet_lite0 on simulated ramps: 37 of 38 clips of other scenes and real videos
are found out, and none of 64 ramps of properties that were held out; of real objects on springs (26
objects, 3 splits) 3 of 216 held-out clips. Distances in the leading principal axes, whitened or
not, found out one clip in four: what is strange lies off the axes along which training clips vary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import HeliographError

MAX_CLIPS = 4000  # training clips to measure to; of more, every so-manieth

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far a clip is from the training clips, in the units of the features."""

    value: float  # to the nearest training clip
    nearest: str  # its id
    quantile: float  # of training clips that are nearer than that to any clip of another object
    limit: float  # the largest distance of a training clip to the nearest of another object
    cache: str = ""  # of several, the one in which the clip is strangest

    @property
    def unfamiliar(self) -> bool:
        """Whether the clip is farther off than any training clip is from other objects."""
        return self.value > self.limit

    def __str__(self) -> str:
        if not self.limit:  # clips of several objects have the very same features
            return "unlike anything seen" if self.unfamiliar else "familiar"
        if self.unfamiliar:
            return f"unlike anything seen ({self.value / self.limit:.1f} x the limit)"
        return f"familiar ({self.value / self.limit:.2f} of the limit)"

    def to_json(self) -> dict[str, Any]:
        """The fields, and whether the clip is unfamiliar."""
        return asdict(self) | {"unfamiliar": self.unfamiliar}


class Familiarity:
    """Measures clips against training clips: features (n, steps, dim), their objects and ids.

    Raises HeliographError for clips of fewer than two objects, which leave no yardstick.
    """

    def __init__(
        self,
        features: NDArray[Any],
        objects: Sequence[str],
        clips: Sequence[str],
        *,
        cache: str = "",
    ) -> None:
        if len(set(objects)) < 2:
            raise HeliographError("the training clips are of fewer than two objects")
        kept = np.arange(0, len(features), -(-len(features) // MAX_CLIPS))
        self.cache = cache
        self.clips = [clips[clip] for clip in kept.tolist()]
        self._known = _flat(features[kept])
        named = np.asarray(objects)[kept]
        apart = _squared(self._known, self._known)  # (n, n)
        apart[named[:, None] == named] = np.inf
        self._yardstick = np.sort(np.sqrt(apart.min(1)))  # (n,)

    def __repr__(self) -> str:
        return f"Familiarity({len(self.clips)} clips, limit {self.limit:.3g})"

    @property
    def limit(self) -> float:
        """Clips farther off are unlike anything seen."""
        return float(self._yardstick[-1])

    def __call__(self, features: NDArray[Any]) -> list[Distance]:
        """The distance of each clip of features (N, steps, dim)."""
        flat = _flat(features)
        nearest = _squared(flat, self._known).argmin(1)
        values = np.linalg.norm(flat - self._known[nearest], axis=1)
        below = np.searchsorted(self._yardstick, values) / len(self._yardstick)
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


def strangest(distances: Sequence[Distance]) -> Distance:
    """Of one clip's distances in several caches, the largest in proportion to its limit."""
    return max(distances, key=lambda one: one.value / max(one.limit, 1e-30))


def _flat(features: NDArray[Any]) -> Floats:
    return features.reshape(len(features), -1).astype(np.float32)


def _squared(left: Floats, right: Floats) -> NDArray[np.float64]:
    """Squared distances (N, n), about the mean of `right`, where float32 is exact enough."""
    centre = right.mean(0)
    left, right = left - centre, right - centre
    norms = (left.astype(np.float64) ** 2).sum(1)[:, None] + (right.astype(np.float64) ** 2).sum(1)
    return np.maximum(norms - 2.0 * (left @ right.T), 0.0)
