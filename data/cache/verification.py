"""Checking every byte of a cache."""

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.cache.errors import (
    INDEX,
    NO_HDF5,
    SHARDS,
    CacheError,
    DamagedCacheError,
    how_to_replace,
    shards_of,
)
from data.cache.hdf5_reader import CacheMetadata, read_metadata, read_open_metadata
from data.cache.ledger import damage_of_ledger, ledger_entries
from data.cache.mapped import RowsOfFile
from data.cache.part_reader import read_parts
from data.cache.parts import Part, files_of_cache, read_index, require_parts
from data.cache.row_content import RowPlace
from data.cache.seal import (
    USER_BLOCK,
    Seal,
    file_size,
    open_cache_file,
    read_user_block,
    sha256_of_ranges,
)
from data.files import version_of
from data.wording import counted

_SHARD = re.compile(r"[0-9a-f]{64}\.h5")
_DAMAGED = ("its features are damaged", "its thumbnails are damaged")


@dataclass(frozen=True)
class Problem:
    """Something wrong with a cache, and the clip that it concerns (None: the whole file).

    `lost` is the part of a folder whose clips are lost with it. `way_out` says what to do where no
    cache of ours is there that a repair could mend; "" where the reason says it.
    """

    clip: str | None
    reason: str
    lost: Part | None = None
    way_out: str | None = None

    def __str__(self) -> str:
        return f"{self.clip}: {self.reason}" if self.clip else self.reason


def verify(path: Path | str, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
    """Return everything that is wrong with a cache, by clip where possible; empty if it is sound.

    The cache may be a folder of parts. Of one whose extraction was interrupted the shards are
    checked.

    Every byte is checked: the seal, each clip's features and thumbnails, numbers that are not
    finite, the ledger, and clips that are done according to it but missing. If an extraction
    replaces the file meanwhile, the new one is checked.

    Args:
        path: The cache.
        progress: Called with how many clips, or parts of a folder, are checked, of how many.

    Raises:
        CacheError: There is no such file, or its ledger cannot be read.
    """
    path = Path(path)
    if path.is_dir() and path.name.endswith(SHARDS) and not (path / INDEX).exists():
        path = path.with_name(path.name.removesuffix(SHARDS))
    if not os.path.lexists(path) and shards_of(path).is_dir():
        return _problems_of_shards(path, _Ledger.of(path))
    if path.is_dir():
        with suppress(DamagedCacheError):  # which is among the problems
            require_parts(path)
    else:
        with open_cache_file(path):
            pass  # or it raises
    changing = path / INDEX if path.is_dir() else path
    while True:
        version = version_of(changing)
        ledger = _Ledger.of(path)
        check = _problems_of_parts if path.is_dir() else _problems
        problems = check(path, ledger, progress or (lambda *_: None))
        if version == version_of(changing):
            return [*problems, *ledger.problems]


@dataclass(frozen=True)
class _Ledger:
    """What a ledger says.

    Attributes:
        clips: Key and name of its shard of each clip that is done.
        problems: What is wrong with the ledger.
    """

    clips: Mapping[str, tuple[str, str]]
    problems: Sequence[Problem]

    @classmethod
    def of(cls, path: Path) -> "_Ledger":
        """Read the ledger of a cache."""
        last: dict[str, Mapping[str, Any]] = {}
        shards: dict[str, str] = {}
        damaged: list[int] = []
        for entry in ledger_entries(path, damaged):
            last[entry["clip"]] = entry
            if "shard" in entry:
                shards[entry["key"]] = entry["shard"]
        clips = {
            clip: (entry["key"], shards.get(entry["key"], entry["key"]))  # older shards: the key
            for clip, entry in last.items()
            if entry["outcome"] in ("done", "kept") and "key" in entry
        }
        damage = damage_of_ledger(path, damaged)
        return cls(clips, [Problem(None, damage)] if damage else [])


def read_to_copy(path: Path) -> CacheMetadata:
    """Read a cache but its features, which are then read row by row to be written again.

    The rows of an old cache that has no hash of each are checked here, all at once.

    Raises:
        CacheError: The file cannot be read or trusted.
    """
    metadata = read_metadata(path)
    if metadata.clips.features.size and not metadata.features.sha256 and not is_intact(path):
        raise DamagedCacheError(path, f"{path} is damaged: it does not match the hash in its seal")
    return metadata


def is_intact(path: Path) -> bool:
    """Return whether every byte of a cache matches its seal, or a hash that the seal covers."""
    try:
        if path.is_dir():
            return all(is_intact(file) for file in files_of_cache(path))
        with open_cache_file(path) as file:
            return not _damage_of_seal(file) and _is_intact(path, file)
    except CacheError:
        return False


def _damage_of_seal(file: io.FileIO) -> str:
    """Return in words which copy of the seal is damaged; empty if none is."""
    block = read_user_block(file)
    seal = Seal.from_user_block(block)
    return seal.damage(block) if seal else "its seal is damaged"


def _is_intact(path: Path, file: io.FileIO) -> bool:
    """Return whether all that the seal, or a hash under it, covers is as it was written."""
    metadata = read_open_metadata(path, file)
    seal = metadata.seal
    if seal is None:
        return False
    if metadata.schema_version == 1:
        return sha256_of_ranges(file, (USER_BLOCK, file_size(file))) == seal.sha256
    for rows in (metadata.features, metadata.thumbnails):
        RowsOfFile(path, file, rows, metadata.clips.clip_id).check()
    thumbnails = metadata.thumbnails.sha256
    content_sha256 = metadata.clips.hash_content(metadata.features.sha256, thumbnails)
    return content_sha256 == metadata.content_sha256


def _problems_of_parts(
    folder: Path, ledger: _Ledger, progress: Callable[[int, int], None]
) -> list[Problem]:
    try:
        parts = read_index(folder).parts
    except CacheError as error:
        return [_problem_of(folder, error)]
    problems: list[Problem] = []
    keys: set[str] = set()
    for done, part in enumerate(parts, 1):
        found = _problems(part.path) if part.path.exists() else []
        try:
            metadata, _ = part.read()
        except DamagedCacheError as error:
            found = [Problem(None, error.reason, lost=part)]
        except CacheError as error:
            found = [Problem(None, str(error))]
        else:
            keys |= set(metadata.clips.key)
        problems += (
            replace(problem, reason=f"{problem.reason} (in {part.path})")
            if problem.clip
            else problem
            for problem in found
        )
        progress(done, len(parts))
    if all(problem.clip for problem in problems):
        problems += _missing(folder, ledger, keys)
    if not problems:
        try:
            read_parts(folder, mapped=True)
        except CacheError as error:
            problems.append(Problem(None, _reason(error)))
    return list(dict.fromkeys(problems))


def _problems_of_shards(path: Path, ledger: _Ledger) -> list[Problem]:
    """Return what is wrong with the shards of a cache that is not there yet."""
    shards = sorted(shards_of(path).glob("[0-9a-f]*.h5"))
    clips: dict[str, list[str]] = {}
    for clip, (_, name) in ledger.clips.items():
        clips.setdefault(name, []).append(clip)
    damaged, done = [], 0
    for shard in shards:
        own = clips.get(shard.stem, [])
        if _problems(shard):
            reason = f"its shard is damaged ({shard})"
            damaged += [Problem(clip, reason) for clip in own]
            damaged += [] if own else [Problem(None, f"{shard} is damaged")]
            done += len(own)
        else:
            done += len(read_metadata(shard).clips)
    ended = f"{path} is not written yet: its extraction ended after {counted(done, 'clip')}"
    return [Problem(None, ended), *damaged, *ledger.problems]


def _problems(
    path: Path,
    ledger: _Ledger | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Problem]:
    try:
        metadata = read_metadata(path)
    except CacheError as error:
        return [_problem_of(path, error)]
    problems = []
    for number, clip in enumerate(metadata.clips.clip_id):
        if reason := _damage(path, metadata, number):
            problems.append(Problem(clip, reason))
        progress(number + 1, len(metadata.clips.clip_id))
    damaged = any(problem.reason in _DAMAGED for problem in problems)
    with open_cache_file(path) as file:
        if not damaged and not _is_intact(path, file):
            problems.append(Problem(None, f"{path} does not match the hash in its seal"))
        if damage := _damage_of_seal(file):
            sound = "" if problems else "; its content is sound"
            problems.append(Problem(None, f"{path}: {damage}{sound}"))
    if _SHARD.fullmatch(path.name) and not is_shard(path, metadata):
        problems.append(Problem(None, f"{path} is another shard than its name says"))
    return problems + (_missing(path, ledger, set(metadata.clips.key)) if ledger else [])


def _problem_of(path: Path, error: CacheError) -> Problem:
    if isinstance(error, DamagedCacheError):
        return Problem(None, error.reason)
    no_hdf5 = str(error).endswith(NO_HDF5)
    return Problem(None, str(error), way_out=how_to_replace(path) if no_hdf5 else "")


def _reason(error: CacheError) -> str:
    """Return what is wrong, without what to do."""
    return error.reason if isinstance(error, DamagedCacheError) else str(error)


def _damage(path: Path, metadata: CacheMetadata, number: int) -> str | None:
    """Return what is wrong with a row, in words; None if nothing is."""
    features = RowPlace(path, metadata.features, number).read()
    thumbnails = metadata.thumbnails
    if features is None:
        return _DAMAGED[0]
    # A clip without thumbnails has a row of zeros, unless no clip has any.
    if thumbnails.row_bytes and RowPlace(path, thumbnails, number).read() is None:
        return _DAMAGED[1]
    if not np.isfinite(features).all():
        return "its features are not finite numbers"
    return None


def is_shard(path: Path, metadata: CacheMetadata) -> bool:
    """Return whether a file has the name of its content, or, as older shards, of its one clip."""
    return path.stem == metadata.content_sha256 or list(metadata.clips.key) == [path.stem]


def _missing(path: Path, ledger: _Ledger, kept: Set[str]) -> list[Problem]:
    """Return clips that are done according to the ledger, but in no file, or in a damaged shard.

    `kept` are the keys that the cache has.
    """
    wrong: dict[str, str] = {}
    problems = []
    for clip, (key, name) in ledger.clips.items():
        if key in kept:
            continue
        if name not in wrong:
            shard = shards_of(path) / f"{name}.h5"
            damage = "its shard is damaged" if shard.exists() and _problems(shard) else ""
            wrong[name] = damage if shard.exists() else "its shard is missing"
        if wrong[name]:
            problems.append(Problem(clip, wrong[name]))
    return problems
