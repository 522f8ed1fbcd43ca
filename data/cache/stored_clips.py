"""What a cache has already, clip by clip; memory holds the columns of one file."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache.errors import INDEX, CacheError, DamagedCacheError
from data.cache.features import Features, clip_key
from data.cache.hdf5_reader import CacheMetadata, read_metadata
from data.cache.joining import join
from data.cache.ledger import ledger_entries
from data.cache.parts import read_index
from data.cache.rows import CacheRow, cache_row
from data.cache.verification import read_to_copy
from data.clips import Clip, ClipError
from data.digests import Digests, DigestTable, digest_of
from data.files import version_of


class StoredClips:
    """The clips of the cache at `path`, a file or a folder of parts; none if there is nothing.

    They are numbered in their order. They are found by the digests of their ids and keys, 64 bytes
    a clip, which are in files without names where they are many.

    Attributes:
        path: The cache.
        version: What a write of it changes.
        identity: Fingerprint, sampler and decoder; empty without clips.
        shape: (T, D) of the features, and their type; None without clips.
        units: Label -> unit, where it is known.
        tables: Label -> table, where all clips have it from one.
        failures: (clip id, reason) of clips that are not there.
        gaps: The number of the clip before which each lost part was, and how many clips it had.

    Args:
        path: The cache.
        but_lost: Whether to leave out parts of a folder that are gone, or damaged outside their
            features.

    Raises:
        CacheError: A file is damaged, or a clip is in two of them.
    """

    def __init__(self, path: Path, *, but_lost: bool = False) -> None:
        self.gaps: list[tuple[int, int]] = []
        self.path, self.version = path, version_of_cache(path)
        self.identity: dict[str, Any] = {}
        self.shape: tuple[tuple[int, ...], np.dtype[Any]] | None = None
        self.units: dict[str, str] = {}
        self.versions: list[Mapping[str, str]] = []  # that files record
        self.failures: list[tuple[str, str]] = []
        self._tables: dict[str, set[str]] = {}
        self._schema_versions: set[int] = set()
        self._files: list[tuple[Path, str]] = []  # with the identity of what was read
        self._starts = np.zeros(1, np.int64)  # number of the first clip of each file, and of none
        self._ids = DigestTable([("number", "i8")])
        self._numbers = DigestTable([("number", "i8")])  # by key
        self._open: tuple[int, CacheMetadata] | None = None  # number of a file, and what is in it
        self._keys = Digests(self._read(but_lost))
        self._open = None
        self._times = {} if self.is_up_to_date else self._times_of_ledger()

    def _read(self, but_lost: bool) -> Iterator[int]:
        """Read every file; yield the digest of each clip's key."""
        number = 0  # of the clip
        for path, metadata in self._files_there(but_lost):
            self._note_file(path, metadata)
            for clip_id, key in zip(metadata.clips.clip_id, metadata.clips.key, strict=True):
                own = digest_of(clip_id)
                if own in self._ids:
                    raise CacheError(f"{self.path}: clip id {clip_id!r} appears twice")
                self._ids[own] = (number,)
                own = digest_of(key)
                if key:
                    self._numbers[own] = (number,)
                yield own
                number += 1
            self._starts = np.append(self._starts, number)

    def _files_there(self, but_lost: bool) -> Iterator[tuple[Path, CacheMetadata]]:
        """Yield the files, one in memory at a time; note gaps."""
        if not self.path.is_dir():
            if os.path.lexists(self.path):
                yield self.path, read_to_copy(self.path)
            return
        for part in read_index(self.path).parts:
            try:
                metadata, _ = part.read()
            except DamagedCacheError:
                if not but_lost:
                    raise
                self.gaps.append((len(self), part.clips))
            else:
                yield part.path, metadata

    def _note_file(self, path: Path, metadata: CacheMetadata) -> None:
        clips = metadata.clips
        self._files.append((path, metadata.rest_sha256))
        self._schema_versions.add(metadata.schema_version)
        if len(clips):
            if self.shape is None:
                self.shape = clips.features.shape[1:], clips.features.dtype
                self.identity = clips.identity
            self.units |= clips.label_units
            if clips.versions not in self.versions:
                self.versions.append(clips.versions)
            for label in clips.labels:
                self._tables.setdefault(label, set()).add(clips.label_tables.get(label, ""))
            self.failures += clips.failures

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def tables(self) -> dict[str, str]:
        """Label -> table, where all files have it from one."""
        return {label: next(iter(one)) for label, one in self._tables.items() if len(one) == 1}

    @property
    def labels(self) -> list[str]:
        """The labels that any file has."""
        return list(self._tables)

    @property
    def is_up_to_date(self) -> bool:
        """Whether every file is of a version that says which seconds of its file a clip is."""
        return min(self._schema_versions, default=2) > 1

    @property
    def keys(self) -> DigestTable:
        """The digests of the keys that are there."""
        return self._numbers

    def number_of(self, clip_id: int) -> int | None:
        """Return the number of the clip of an id, given by its digest."""
        found = self._ids.get(clip_id)
        return None if found is None else found[0]

    def others(self, clip_ids: Iterable[int]) -> NDArray[np.int64]:
        """Return the numbers of the clips whose ids are not among these, given by digests."""
        others = np.ones(len(self), bool)
        for number in map(self.number_of, clip_ids):
            if number is not None:
                others[number] = False
        return np.flatnonzero(others)

    def number_of_key(self, key: int) -> int | None:
        """Return the number of the last clip that has a key."""
        found = self._numbers.get(key)
        return None if found is None else found[0]

    def key_of(self, number: int) -> int:
        """Return the digest of a clip's key."""
        return self._keys[number]

    def places(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the file and the row in it of clips (n,)."""
        files = np.searchsorted(self._starts, numbers, side="right") - 1
        return files, numbers - self._starts[files]

    def numbers(self, files: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.int64]:
        """Return the numbers of clips (n,) by their files and the rows in them."""
        return self._starts[files] + rows

    def forget(self, clip_ids: Collection[str]) -> None:
        """Let the features of these clips not be found by their key any more."""
        numbers = map(self.number_of, map(digest_of, clip_ids))
        self._numbers.remove(self._keys[number] for number in numbers if number is not None)

    def file(self, file: int) -> tuple[Path, CacheMetadata]:
        """Return the path of a file, and what is in it.

        Raises:
            CacheError: It is damaged, or was replaced since.
        """
        path, identity = self._files[file]
        if self._open is None or self._open[0] != file:
            self._open = None  # before another takes as much memory
            metadata = read_metadata(path)
            if metadata.rest_sha256 != identity:
                raise CacheError(f"{path} was replaced meanwhile: start the same command again")
            self._open = file, metadata
        return path, self._open[1]

    def row(self, path: Path, metadata: CacheMetadata, number: int) -> CacheRow:
        """Return a row of one of the files.

        Version 1 does not say which seconds of its file a clip is. The ledger may know them, and
        the key shows whether it is right.
        """
        row = cache_row(path, metadata, number)
        known = self._times.get(row.clip.id)
        if known is None or metadata.schema_version > 1:
            return row
        if clip_key(self.identity, row.source_sha256, known.start, known.end) != row.key:
            return row
        return replace(row, clip=replace(row.clip, start=known.start, end=known.end))

    def _times_of_ledger(self) -> dict[str, Clip]:
        times: dict[str, Clip] = {}
        with suppress(CacheError):
            for entry in ledger_entries(self.path):
                with suppress(ClipError, TypeError):
                    times[entry["clip"]] = Clip(
                        id=entry["clip"],
                        path=self.path,
                        start=entry.get("start"),
                        end=entry.get("end"),
                    )
        return times

    def names(self, numbers: Iterable[int] | None = None) -> Iterator[tuple[str, str]]:
        """Yield id and hash of the file of clips, whose numbers ascend; None: of all."""
        for number in range(len(self)) if numbers is None else numbers:
            file = int(np.searchsorted(self._starts, number, side="right")) - 1
            clips = self.file(file)[1].clips
            row = number - int(self._starts[file])
            yield clips.clip_id[row], clips.source_sha256[row]

    def columns(self) -> Features | None:
        """Return all clips without their features, in memory; None where there are none."""
        tables = [self.file(file)[1].clips for file in range(len(self._files))]
        tables = [table for table in tables if len(table)]
        return join(tables) if len(tables) > 1 else next(iter(tables), None)


def version_of_cache(path: Path) -> object:
    """Return what a write of a cache changes."""
    return version_of(path / INDEX if path.is_dir() else path)
