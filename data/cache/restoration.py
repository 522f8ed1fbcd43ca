"""Mending a cache file that is damaged outside its features, where it can be shown what was there.

A damaged copy of the seal is written again from the other one, or from the bytes of the file where
they hash to what is left of it. Damaged names, labels, hashes or structure are mended if everything
together, perhaps with what the ledger knows, has the identity of the content that the file states.
"""

import hashlib
import io
import math
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.cache.blocks import StoredRows
from data.cache.errors import NO_HDF5, CacheError, DamagedCacheError, how_to_replace
from data.cache.features import Features
from data.cache.hdf5_reader import CacheMetadata, read_unchecked
from data.cache.ledger import read_ledger
from data.cache.row_content import RowContent, RowPlace
from data.cache.rows import cache_rows, stack_rows, write_rows
from data.cache.seal import (
    USER_BLOCK,
    Seal,
    check_structure,
    file_size,
    is_nearly,
    looks_sealed,
    open_cache_file,
    read_user_block,
    sha256_of_ranges,
)
from data.files import open_regular, write_error
from data.wording import counted

_MOST_TRIED = 64  # values that differ from the ledger's, each tried alone
_OF_LEDGER = {
    "clip_id": "clip",
    "object": "object",
    "scenario": "scenario",
    "source_sha256": "source_sha256",
    "key": "key",
}


def restore_file(path: Path) -> list[str]:
    """Mend what is damaged outside the features of a file; return what was done, in sentences.

    Raises:
        CacheError: Nothing shows what was there; the message says what to type next.
        WriteError: The file cannot be written; it stays as it was.
    """
    done = restore_seal(path)
    with open_cache_file(path) as file:
        try:
            check_structure(path, file)
            return done
        except DamagedCacheError as error:
            reason = error.reason
        except CacheError as error:
            if str(error).endswith(NO_HDF5):
                raise CacheError(f"{error}; {how_to_replace(path)}") from error
            raise
    content = find_content(path, reason, cache=path)
    write_rows(path, content.clips, content.rows, sound=content.sound)
    return [*done, content.told]


def restore_seal(path: Path) -> list[str]:
    """Write the seal of a cache again where a copy is damaged and the other, or the rest, is not.

    One copy is damaged at a time, so that a kill leaves the other one.
    """
    with open_cache_file(path) as file:
        block = read_user_block(file)
        if not looks_sealed(block):
            return []
        seal = Seal.from_user_block(block)
        if seal is not None and not seal.sha256:
            if not seal.damage(block):
                return []
            with suppress(DamagedCacheError):
                check_structure(path, file)
                return _write_seal(path, file, seal, block)
        with suppress(CacheError):  # of version 1 the hashes stand there once
            seal = _seal_of_bytes(file, read_unchecked(path, file))
            if seal.is_meant_by(block) and seal.damage(block):
                return _write_seal(path, file, seal, block)
    return []


def _seal_of_bytes(file: io.FileIO, metadata: CacheMetadata) -> Seal:
    """Return the seal that the bytes of a file would have."""
    size = file_size(file)
    places = [
        (rows.offset, rows.offset + rows.shape[0] * rows.row_bytes)
        if math.prod(rows.shape)
        else (USER_BLOCK, USER_BLOCK)
        for rows in (metadata.features, metadata.thumbnails)
    ]
    everything = (USER_BLOCK, size)
    version_1 = metadata.schema_version == 1
    seal = Seal(
        byte_count=size - USER_BLOCK,
        features=places[0],
        rest_sha256="",
        thumbnails=places[1],
        sha256=sha256_of_ranges(file, everything) if version_1 else "",
    )
    return replace(seal, rest_sha256=sha256_of_ranges(file, *seal.rest(size)))


def _write_seal(path: Path, read: io.FileIO, seal: Seal, found: bytes) -> list[str]:
    sound = seal.user_block()
    try:
        with open_regular(path, "r+b") as file:
            if not os.path.samestat(os.fstat(file.fileno()), os.fstat(read.fileno())):
                return []  # replaced meanwhile: that one has a seal of its own
            half = USER_BLOCK if seal.sha256 else USER_BLOCK // 2
            for start in range(0, USER_BLOCK, half):
                part = slice(start, start + half)
                if found[part] != sound[part]:
                    os.pwrite(file.fileno(), sound[part], start)
                    os.fsync(file.fileno())
    except OSError as error:
        raise write_error(path, error) from error
    return [f"{path}: {seal.damage(found)}; it was written again"]


@dataclass(frozen=True)
class Content:
    """What is left of a cache that is damaged outside its features: `stack_rows` of its rows.

    `sound` are the hashes of features and thumbnails as they were, some perhaps of damaged ones.
    `told` is a sentence about it.
    """

    clips: Features
    rows: Sequence[RowContent]
    sound: tuple[Sequence[str], Sequence[str]]
    told: str

    @property
    def content_sha256(self) -> str:
        """The identity of the content."""
        return self.clips.hash_content(*self.sound)


def find_content(
    path: Path, reason: str, *, cache: Path, identities: Collection[str] = ()
) -> Content:
    """Return what a cache file had whose content is what its identity says, whatever is damaged.

    Args:
        path: The file.
        reason: What is damaged, for messages.
        cache: The cache that it is, or is a part of: its ledger may know more.
        identities: What else than the file says of the identity of its content.

    Raises:
        CacheError: Nothing shows what was there.
    """
    lost = CacheError(f"{reason}, and nothing shows what was there; {how_to_replace(path)}")
    try:
        with open_cache_file(path) as file:
            metadata = read_unchecked(path, file)
    except CacheError as error:
        raise lost from error
    if metadata.schema_version == 1:
        raise lost  # it has no identity of its content
    hashes = {
        "features": _row_hashes(path, metadata.features),
        "thumbnails": _row_hashes(path, metadata.thumbnails),
    }
    stated = {name: list(getattr(metadata, name).sha256) for name in hashes}
    for clips in _candidates(cache, metadata.clips):
        for of_rows in (hashes, stated):
            content = clips.hash_content(of_rows["features"], of_rows["thumbnails"]).encode()
            if any(
                is_nearly(content, one.encode()) for one in (metadata.content_sha256, *identities)
            ):
                return _content_of(path, replace(metadata, clips=clips), hashes, of_rows)
    raise lost


def _row_hashes(path: Path, rows: StoredRows) -> list[str]:
    """Return the SHA-256 of each row as it is in the file."""
    places = [RowPlace(path, replace(rows, sha256=()), row) for row in range(rows.shape[0])]
    if not math.prod(rows.shape[1:]):
        return [hashlib.sha256().hexdigest()] * len(places)
    found = []
    for place in places:
        row: Any = place.read()
        found.append(hashlib.sha256(row.data.cast("B")).hexdigest())
    return found


def _content_of(
    path: Path,
    metadata: CacheMetadata,
    found: dict[str, list[str]],
    sound: dict[str, list[str]],
) -> Content:
    """Return the clips of a cache with their rows as they are, be they sound or not."""
    clips = metadata.clips
    damaged = {
        number
        for name in ("features", "thumbnails")
        for number, (one, other) in enumerate(zip(found[name], sound[name], strict=False))
        if one != other
    }
    unchecked = replace(
        metadata,
        features=replace(metadata.features, sha256=()),
        thumbnails=replace(metadata.thumbnails, sha256=()),
    )
    rows = list(cache_rows(path, unchecked))
    restored = stack_rows(
        rows,
        clips.features.shape[1:],
        clips.features.dtype,
        identity=clips.identity,
        failures=clips.failures,
        versions=clips.versions,
    )
    left = f"the features of {counted(len(damaged), 'clip')} are damaged as well"
    told = f"{path} was damaged outside its features: the content that was written is there again"
    told += f"; {left}" if damaged else ""
    contents = [row.content for row in rows]
    return Content(restored, contents, (sound["features"], sound["thumbnails"]), told)


def _candidates(path: Path, clips: Features) -> Iterator[Features]:
    """Yield what the columns of a cache may have been: as they are, and with the ledger's values.

    A value that differs from the ledger's is tried alone first: a later run may have changed
    others.
    """
    yield clips
    differing = _differences_from_ledger(path, clips)
    alone = [[one] for one in differing] if len(differing) <= _MOST_TRIED else []
    for changes in (*alone, differing):
        with suppress(CacheError):  # for example two clips of one name
            yield _changed(clips, changes)


def _differences_from_ledger(path: Path, clips: Features) -> list[tuple[str, int, Any]]:
    """Return (column, row, value) where a cache and its ledger differ; labels are `labels/<name>`.

    The entry of a clip is the one of its key, or of its name.
    """
    by_clip: dict[str, dict[str, Any]] = {}
    with suppress(CacheError):
        for entry in read_ledger(path):
            if entry["outcome"] in ("done", "kept"):
                by_clip[entry["clip"]] = by_clip.get(entry["clip"], {}) | entry
    by_key = {entry.get("key"): entry for entry in by_clip.values()}
    differing: list[tuple[str, int, Any]] = []
    for row, (clip_id, key) in enumerate(zip(clips.clip_id, clips.key, strict=True)):
        entry = by_key.get(key) or by_clip.get(clip_id) or {}
        for column, name in _OF_LEDGER.items():
            if name in entry and entry[name] != getattr(clips, column)[row]:
                differing.append((column, row, entry[name]))
        for label, value in entry.get("labels", {}).items():
            value = math.nan if value is None else float(value)
            if label in clips.labels and not np.array_equal(
                clips.labels[label][row], value, equal_nan=True
            ):
                differing.append((f"labels/{label}", row, value))
    return differing


def _changed(clips: Features, changes: Sequence[tuple[str, int, Any]]) -> Features:
    columns: dict[str, Any] = {name: list(getattr(clips, name)) for name in _OF_LEDGER}
    labels = {name: column.copy() for name, column in clips.labels.items()}
    for column, row, value in changes:
        kind, _, label = column.partition("/")
        (labels[label] if kind == "labels" else columns[column])[row] = value
    return replace(clips, labels=labels, **columns)
