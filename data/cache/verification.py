"""Checking every byte of a cache."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.cache.features import CacheError
from data.cache.hdf5_reader import CacheMetadata, read_array, read_metadata
from data.cache.ledger import read_ledger
from data.cache.rows import CacheRow, cache_rows
from data.cache.seal import has_seal, is_seal_intact
from data.files import version_of

_DAMAGED = "its features are damaged"


@dataclass(frozen=True)
class Problem:
    """Something wrong with a cache, and the clip that it concerns (None: the whole file)."""

    clip: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.clip}: {self.reason}" if self.clip else self.reason


def verify(path: Path | str) -> list[Problem]:
    """Return everything that is wrong with a cache, by clip where possible; empty if it is sound.

    Every byte is checked: the seal, each clip's features, numbers that are not finite, and clips
    that are done according to the ledger but missing. If an extraction replaces the file meanwhile,
    the new one is checked.

    Raises:
        CacheError: There is no such file, or its ledger is damaged.
    """
    path = Path(path)
    while True:
        version = version_of(path)
        problems = _problems(path)
        if version == version_of(path):
            return problems


def _problems(path: Path) -> list[Problem]:
    if not has_seal(path):
        return [Problem(None, f"{path} has no seal to check it by: not a cache, or damaged there")]
    intact = is_seal_intact(path)
    try:
        metadata = read_metadata(path)
    except CacheError as error:
        return [Problem(None, str(error))]
    problems = [
        Problem(row.clip.id, reason)
        for row in cache_rows(path, metadata)
        if (reason := _damage(row, metadata))
    ]
    if not intact and not any(problem.reason == _DAMAGED for problem in problems):
        problems.append(Problem(None, f"{path} does not match the hash in its seal"))
    return problems + _missing_clips(path, metadata)


def _damage(row: CacheRow, metadata: CacheMetadata) -> str | None:
    shape, dtype = metadata.clips.features.shape[1:], metadata.clips.features.dtype
    features = read_array(row.path, row.offset, shape, dtype)
    if row.features_sha256 and hashlib.sha256(features.data).hexdigest() != row.features_sha256:
        return _DAMAGED
    if not np.isfinite(features).all():
        return "its features are not finite numbers"
    return None


def _missing_clips(path: Path, metadata: CacheMetadata) -> list[Problem]:
    """Return clips that are done according to their last line in the ledger, but in no file."""
    last = {entry["clip"]: entry for entry in read_ledger(path)}
    kept = set(metadata.clips.key)
    parts = path.with_name(path.name + ".parts")
    return [
        Problem(clip, "its shard is missing")
        for clip, entry in last.items()
        if entry["outcome"] in ("done", "kept")
        and entry.get("key") not in kept
        and not (parts / f"{entry.get('key')}.h5").exists()
    ]
