"""Checking every byte of a cache."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.cache.errors import CacheError
from data.cache.hdf5_reader import CacheMetadata, read_metadata, read_open_metadata
from data.cache.ledger import read_ledger
from data.cache.mapped import RowsOfFile
from data.cache.parts import INDEX, files_of_cache, read_parts
from data.cache.rows import CacheRow, cache_rows
from data.cache.seal import USER_BLOCK, file_size, open_cache_file, sha256_of_ranges
from data.files import version_of

_SHARD = re.compile(r"[0-9a-f]{64}\.h5")
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
    if not path.is_dir():
        with open_cache_file(path):
            pass  # or it raises
    changing = path / INDEX if path.is_dir() else path
    while True:
        version = version_of(changing)
        problems = _problems_of_parts(path) if path.is_dir() else _problems(path)
        if version == version_of(changing):
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
        RowsOfFile(path, file, rows, metadata.clips.clip_id).check()
    thumbnails = metadata.thumbnails.sha256
    content_sha256 = metadata.clips.hash_content(metadata.features.sha256, thumbnails)
    return content_sha256 == metadata.content_sha256


def _problems_of_parts(folder: Path) -> list[Problem]:
    try:
        read_parts(folder, mapped=True)
        files = files_of_cache(folder)
    except CacheError as error:
        return [Problem(None, str(error))]
    return [problem for file in files for problem in _problems(file)]


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
    if _is_shard_of_another(path, metadata):
        problems.append(Problem(None, f"{path} is the shard of another clip"))
    return problems + _shard_problems(path, metadata)


def _damage(row: CacheRow) -> str | None:
    features = row.features.read()
    if features is None or (row.thumbnails and row.thumbnails.read() is None):
        return _DAMAGED
    if not np.isfinite(features).all():
        return "its features are not finite numbers"
    return None


def _is_shard_of_another(path: Path, metadata: CacheMetadata) -> bool:
    """Return whether a file is named as a shard is, by a key that it does not have."""
    return bool(_SHARD.fullmatch(path.name)) and list(metadata.clips.key) != [path.stem]


def _shard_problems(path: Path, metadata: CacheMetadata) -> list[Problem]:
    """Return clips that are done according to the ledger, but in no file, or in a damaged shard."""
    last = {entry["clip"]: entry for entry in read_ledger(path)}
    kept = set(metadata.clips.key)
    parts = path.with_name(path.name + ".parts")
    problems = []
    for clip, entry in last.items():
        if entry["outcome"] not in ("done", "kept") or entry.get("key") in kept:
            continue
        shard = parts / f"{entry.get('key')}.h5"
        if not shard.exists():
            problems.append(Problem(clip, "its shard is missing"))
        elif _problems(shard):
            problems.append(Problem(clip, "its shard is damaged"))
    return problems
