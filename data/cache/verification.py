"""Checking every byte of a cache."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.cache.errors import CacheError
from data.cache.hdf5_reader import CacheMetadata, read_checked, read_metadata, read_open_metadata
from data.cache.ledger import read_ledger
from data.cache.rows import CacheRow, cache_rows
from data.cache.seal import USER_BLOCK, file_size, open_cache_file, sha256_of_ranges
from data.files import version_of

_SCANNED_BYTES = 1 << 25
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

    Every byte is checked: the seal, each clip's features and thumbnails, numbers that are not
    finite, and clips that are done according to the ledger but missing. If an extraction replaces
    the file meanwhile, the new one is checked.

    Raises:
        CacheError: There is no such file, or its ledger is damaged.
    """
    path = Path(path)
    while True:
        version = version_of(path)
        problems = _problems(path)
        if version == version_of(path):
            return problems


def read_to_copy(path: Path) -> CacheMetadata:
    """Read a cache but its features, which are then read row by row to be written again.

    The rows of an old cache that has no hash of each are checked here, all at once.

    Raises:
        CacheError: The file cannot be read or trusted.
    """
    metadata = read_metadata(path)
    if metadata.clips.features.size and not metadata.features.sha256 and not is_intact(path):
        raise CacheError(f"{path} is damaged: it does not match the hash in its seal")
    return metadata


def is_intact(path: Path) -> bool:
    """Return whether every byte of a cache matches its seal, or a hash that the seal covers."""
    try:
        with open_cache_file(path) as file:
            return _is_intact(path, file)
    except CacheError:
        return False


def _is_intact(path: Path, file: io.FileIO) -> bool:
    metadata = read_open_metadata(path, file)
    seal = metadata.seal
    file.seek(0)
    if seal is None or file.read(USER_BLOCK) != seal.user_block():
        return False
    if metadata.schema_version == 1:
        return sha256_of_ranges(file, (USER_BLOCK, file_size(file))) == seal.sha256
    for rows in (metadata.features, metadata.thumbnails):
        if rows.hashes is None:
            continue
        per_block = rows.hashes.rows_per_block
        step = per_block * max(1, _SCANNED_BYTES // (per_block * rows.row_bytes))
        for first in range(0, rows.shape[0], step):
            content = np.empty((min(step, rows.shape[0] - first), *rows.shape[1:]), rows.dtype)
            read_checked(path, file, rows, content, metadata.clips.clip_id, first)
    thumbnails = metadata.thumbnails.sha256
    content_sha256 = metadata.clips.hash_content(metadata.features.sha256, thumbnails)
    return content_sha256 == metadata.content_sha256


def _problems(path: Path) -> list[Problem]:
    try:
        metadata = read_metadata(path)
    except CacheError as error:
        return [Problem(None, str(error))]
    problems = [
        Problem(row.clip.id, reason)
        for row in cache_rows(path, metadata)
        if (reason := _damage(row))
    ]
    damaged = any(problem.reason == _DAMAGED for problem in problems)
    if not damaged and not is_intact(path):
        problems.append(Problem(None, f"{path} does not match the hash in its seal"))
    return problems + _missing_clips(path, metadata)


def _damage(row: CacheRow) -> str | None:
    features = row.features.read()
    if features is None or (row.thumbnails and row.thumbnails.read() is None):
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
