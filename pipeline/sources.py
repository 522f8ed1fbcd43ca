"""What a run reads: its caches, their provenance, and the clips as training sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data import cache
from data.errors import HeliographError
from data.features import Features
from data.files import sha256_file
from pipeline.records import Examples

if TYPE_CHECKING:
    from pipeline.run import Run


@dataclass(frozen=True)
class Source:
    """A cache that a run was trained on: how its features came to be, and their shape."""

    path: Path
    sha256: str
    fingerprint: Mapping[str, Any]
    sampler: Mapping[str, Any]
    decoder: Mapping[str, Any]
    dtype: str
    steps: int
    dim: int

    @classmethod
    def of(cls, path: Path, features: Features) -> Source:
        """Describes a cache that has just been loaded from `path`."""
        _, steps, dim = features.features.shape
        return cls(
            path.resolve(),
            sha256_file(path),
            features.fingerprint,
            features.sampler,
            features.decoder,
            str(features.features.dtype),
            steps,
            dim,
        )

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types; `Source(**...)` with a Path reads it back."""
        return dataclasses.asdict(self) | {"path": str(self.path)}


def examples_of(features: Features, properties: tuple[str, ...]) -> Examples:
    """What training and evaluation read of a cache.

    A clip without an object counts as an object of its own. Raises HeliographError for a property
    that the cache has no label for, naming the ones it has.
    """
    unknown = [name for name in properties if name not in features.labels]
    if unknown:
        known = ", ".join(features.labels) or "none"
        raise HeliographError(f"the cache has no label {unknown[0]!r}: its labels are {known}")
    labels = np.stack([features.labels[name] for name in properties], axis=1)
    objects = tuple(
        own or clip for own, clip in zip(features.object, features.clip_id, strict=True)
    )
    return Examples(features.features, labels, objects)


def load_cache(run: Run) -> Features:
    """The cache of a run; raises HeliographError where it is gone or no longer the same."""
    path = run.source.path
    if not path.is_file():
        raise HeliographError(f"the cache that {run.folder} was trained on is gone: {path}")
    if sha256_file(path) != run.source.sha256:
        raise HeliographError(f"{path} has changed since {run.folder} was trained on it")
    return cache.load(path)
