"""Features of many clips with one fingerprint, in memory."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import HeliographError


class CacheError(HeliographError):
    """A feature cache that cannot be read, trusted or combined."""


def _no_clips() -> NDArray[Any]:
    return np.empty((0, 0))


class EncodedText(Sequence[str]):
    """Texts of an array of bytes (N,), decoded on first use: hashes are seldom used."""

    def __init__(self, rows: NDArray[np.bytes_]) -> None:
        self._rows = rows

    @cached_property
    def _values(self) -> list[str]:
        if not len(self._rows):
            return []
        joined = b"\0".join(self._rows.tolist())  # arrays pad with NUL, so no value holds one
        return joined.decode("utf-8", "surrogateescape").split("\0")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, where: Any) -> Any:
        return self._values[where]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._values == list(other)

    def __repr__(self) -> str:
        return f"EncodedText({len(self)})"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Features:
    """Features (N, T, D) of N clips, the identities of the clips, and how the features were made.

    `frame_index` and `pts_seconds` (N, F) are the frames of each clip that the backbone saw (-1 and
    NaN where unknown); F differs from T where a backbone takes several frames per step. `labels`
    maps a name to float64 (N,), NaN where unknown. `source_sha256` is the hash of each clip's
    bytes, `key` that of everything that its features depend on (both empty where unknown).
    `failures` are (clip id, reason).

    Raises:
        CacheError: Shapes or types are wrong, or two clips have one id.
    """

    features: NDArray[Any]
    clip_id: Sequence[str]
    object: Sequence[str]
    scenario: Sequence[str]
    labels: Mapping[str, NDArray[np.float64]]
    fingerprint: Mapping[str, Any]
    sampler: Mapping[str, Any] = field(default_factory=dict)
    decoder: Mapping[str, Any] = field(default_factory=dict)
    frame_index: NDArray[np.int64] = field(default_factory=_no_clips)
    pts_seconds: NDArray[np.float64] = field(default_factory=_no_clips)
    source_sha256: Sequence[str] = ()
    key: Sequence[str] = ()
    failures: Sequence[tuple[str, str]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    def __post_init__(self) -> None:
        features = np.asarray(self.features)
        if features.ndim != 3 or features.dtype not in (np.float16, np.float32):
            raise CacheError(
                "features must be float16 or float32 of shape (clips, steps, dimensions), "
                f"not {features.dtype} {features.shape}"
            )
        count = len(features)
        columns: dict[str, Any] = {"features": features}
        for name in ("clip_id", "object", "scenario", "source_sha256", "key"):
            values = getattr(self, name)
            columns[name] = (values if isinstance(values, EncodedText) else list(values)) or [
                ""
            ] * count
        for name, kind in (("frame_index", np.int64), ("pts_seconds", np.float64)):
            array = np.asarray(getattr(self, name), dtype=kind)
            columns[name] = array if array.size else np.zeros((count, 0), dtype=kind)
        columns["labels"] = {
            name: np.asarray(values, dtype=np.float64) for name, values in self.labels.items()
        }
        columns["failures"] = [(str(clip), str(reason)) for clip, reason in self.failures]
        for name, values in columns.items():
            object.__setattr__(self, name, values)
        self._check(count)

    def _check(self, count: int) -> None:
        for name in ("clip_id", "object", "scenario", "source_sha256", "key"):
            if len(getattr(self, name)) != count:
                raise CacheError(f"{len(getattr(self, name))} {name} for {count} clips of features")
        for name in ("frame_index", "pts_seconds"):
            values = getattr(self, name)
            if values.ndim != 2 or len(values) != count:
                raise CacheError(f"{name} has shape {values.shape} for {count} clips of features")
        if self.frame_index.shape != self.pts_seconds.shape:
            raise CacheError(
                f"frame_index has shape {self.frame_index.shape} "
                f"but pts_seconds {self.pts_seconds.shape}"
            )
        for name, values in self.labels.items():
            if values.shape != (count,):
                raise CacheError(f"label {name!r} has shape {values.shape} for {count} clips")
        if "" in self.clip_id:
            raise CacheError("a clip id is empty")
        if len(set(self.clip_id)) != count:
            clip = next(clip for clip, times in Counter(self.clip_id).items() if times > 1)
            raise CacheError(f"clip id {clip!r} appears twice")

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        clips, steps, dimensions = self.features.shape
        parts = [f"{clips} clips x {steps} steps x {dimensions} {self.features.dtype}"]
        parts.append(f"{len(set(self.object))} objects")
        parts.append(f"labels {', '.join(self.labels) or 'none'}")
        if self.failures:
            parts.append(f"{len(self.failures)} failures")
        return f"Features({', '.join(parts)})"

    def select(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> "Features":
        """Return the clips at these rows, in this order; failures are kept."""
        rows = np.asarray(rows, dtype=np.int64)
        changes: dict[str, Any] = {
            name: getattr(self, name)[rows] for name in ("features", "frame_index", "pts_seconds")
        }
        for name in ("clip_id", "object", "scenario", "source_sha256", "key"):
            column = getattr(self, name)
            changes[name] = [column[row] for row in rows]
        changes["labels"] = {name: values[rows] for name, values in self.labels.items()}
        return replace(self, **changes)

    def differences(self, other: "Features") -> list[str]:
        """Return the names of the fields that differ, `created` left out; empty if none does."""
        return [
            item.name
            for item in fields(self)
            if item.name != "created"
            and not _same(getattr(self, item.name), getattr(other, item.name))
        ]


def _same(left: Any, right: Any) -> bool:
    if left is right:
        return True
    if isinstance(left, np.ndarray):
        same_kind = left.shape == right.shape and left.dtype == right.dtype
        return bool(same_kind and np.array_equal(left, right, equal_nan=True))
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    return bool(left == right)
