"""Reading a feature cache without trusting the file.

The bytes outside the features are checked against the seal before HDF5 sees them, and the features
block by block as they are read. Links and storage that point elsewhere, types that the schema does
not have, and sizes that the file cannot hold are refused before anything is read. The file is
opened once, so that all that is read belongs to one version of it, even if another process replaces
it meanwhile. docs/cache_format.md describes the schema.
"""

import io
import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data.cache.blocks import DIGEST_BYTES, RowHashes, StoredRows
from data.cache.errors import CacheError, DamagedCacheError
from data.cache.features import EncodedText, Features
from data.cache.mapped import MappedRows, RowsOfFile
from data.cache.seal import (
    USER_BLOCK,
    Seal,
    check_structure,
    file_size,
    open_cache_file,
    require_hdf5,
    sha256_of_ranges,
)
from data.memory import require_memory
from data.screening import MEMORY_BYTES, SECONDS, is_recorded, require_screened, screen
from data.versions import other_schema

SCHEMA_VERSION = 2
READ_VERSIONS = (1, 2)
LARGE = 1 << 25
"""Bytes of features that are rather left in their file than all read."""
STRINGS = ("clip_id", "object", "scenario", "source_sha256", "key")
JSON_ATTRIBUTES = ("fingerprint", "sampler", "decoder", "versions")
OPTIONAL = ("source_sha256", "key", "features_sha256")
_CHECKER = "data.cache.hdf5_reader:check_structure_of"
_UNCHECKED = "data.cache.hdf5_reader:check_unchecked"


@dataclass(frozen=True)
class CacheMetadata:
    """A cache without the values of its features.

    `clips` holds every column; its `features` and `thumbnails` have the true shape and type, and no
    content. `seal` is None for a file without one. `content_sha256` is the identity of the content
    (see `Features.content_sha256`), empty if it cannot be known without reading the features.
    """

    clips: Features
    seal: Seal | None
    schema_version: int
    features: StoredRows
    thumbnails: StoredRows
    content_sha256: str

    @property
    def rest_sha256(self) -> str:
        """The identity of the file; empty without a seal."""
        return self.seal.rest_sha256 if self.seal else ""


def blank_features(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return zeros of this shape that take no memory, for `CacheMetadata`."""
    return np.broadcast_to(np.zeros((), dtype=dtype), shape)


def read_metadata(path: Path) -> CacheMetadata:
    """Read everything of a cache but its features.

    Raises:
        CacheError: The file cannot be read or trusted; the message gives file and reason.
    """
    with open_cache_file(path) as file:
        return read_open_metadata(path, file)


def read_open_metadata(path: Path, file: io.FileIO) -> CacheMetadata:
    """Read everything of an open cache but its features.

    A cache that this account has not written, nor checked before, is first read in a process that
    can be killed.

    Raises:
        CacheError: The file cannot be read or trusted; the message gives file and reason.
    """
    seal = check_structure(path, file)
    require_screened(path, identity_of(seal), _CHECKER, error=CacheError)
    return _read_sealed(path, file, seal)


def check_structure_of(path: Path) -> str:
    """Read a cache as `read_metadata` does, and return its identity; for `data.screening`.

    Raises:
        CacheError: The file cannot be read or trusted; the message gives file and reason.
    """
    with open_cache_file(path) as file:
        seal = check_structure(path, file)
        _read_sealed(path, file, seal)
    return identity_of(seal)


def identity_of(seal: Seal) -> str:
    """Return by what `data.screening` knows a cache: the bytes that HDF5 sees, and where they are.

    The hash alone is not enough: rows put elsewhere would move the bytes after them.
    """
    places = "-".join(map(str, (*seal.features, *seal.thumbnails)))
    return f"cache:{seal.rest_sha256}:{places}"


def screen_all(paths: Sequence[Path]) -> dict[Path, str]:
    """Check caches in one process that can be killed, those that this account does not know.

    Returns:
        The reason of each cache that is refused.
    """
    unknown = []
    for path in paths:
        with suppress(CacheError), open_cache_file(path) as file:
            seal = Seal.read(file)
            if seal and not is_recorded(identity_of(seal)):
                unknown.append(path)
    return screen(unknown, _CHECKER)


def _read_sealed(path: Path, file: io.FileIO, seal: Seal) -> CacheMetadata:
    metadata = _read_columns(path, file, seal)
    for rows, (start, stop) in (
        (metadata.features, seal.features),
        (metadata.thumbnails, seal.thumbnails),
    ):
        size = rows.shape[0] * rows.row_bytes
        if size != stop - start or (size and rows.offset != start):
            raise CacheError(f"{path}: its seal and its structure disagree about its features")
    return metadata


def read_features(path: Path, *, mapped: bool | None = False) -> Features:
    """Read a whole cache; the features go straight into one array, or stay in the file (`load`).

    Raises:
        CacheError: The file cannot be read or trusted; the message gives file and reason.
    """
    with open_cache_file(path) as file:
        return with_rows(path, file, read_open_metadata(path, file), mapped=mapped)


def read_unchecked(path: Path, file: io.FileIO) -> CacheMetadata:
    """Read what a damaged open cache still says, but its features; nothing of it can be trusted.

    It is first read in a process that can be killed, for HDF5 can crash on a damaged file.

    Raises:
        CacheError: The file cannot be read, or does not have the schema.
    """
    size = file_size(file)
    identity = f"unchecked:{sha256_of_ranges(file, (0, size))}"
    seconds, memory_bytes = SECONDS + size / 2e7, MEMORY_BYTES + 4 * size
    require_screened(
        path,
        identity,
        _UNCHECKED,
        seconds=seconds,
        memory_bytes=memory_bytes,
        error=CacheError,
    )
    return _read_columns(path, file, None)


def check_unchecked(path: Path) -> str:
    """Read a damaged cache as `read_unchecked` does, and return its identity; for `data.screening`.

    Raises:
        CacheError: The file cannot be read, or does not have the schema.
    """
    with open_cache_file(path) as file:
        require_hdf5(path, file)
        _read_columns(path, file, None)
        return f"unchecked:{sha256_of_ranges(file, (0, file_size(file)))}"


def with_rows(
    path: Path, file: io.FileIO, metadata: CacheMetadata, *, mapped: bool | None
) -> Features:
    """Return the clips of an open file with their features and thumbnails.

    Args:
        path: Of the file, for messages.
        file: The open file.
        metadata: All but its features.
        mapped: Whether the features stay in the file; None: if they are `LARGE`.
    """
    clips, seal = metadata.clips, metadata.seal
    rows = RowsOfFile(path, file, metadata.features, clips.clip_id)
    stays = rows.nbytes > LARGE if mapped is None else mapped
    features = rows if stays else in_memory(path, rows)
    if seal and not metadata.features.hashes and rows.size:
        everything = (USER_BLOCK, file_size(file))
        if sha256_of_ranges(file, everything) != seal.sha256:
            raise DamagedCacheError(
                path, f"{path} is damaged: it does not match the hash in its seal"
            )
    thumbnails: Any = clips.thumbnails
    if thumbnails.size:
        thumbnails = RowsOfFile(path, file, metadata.thumbnails, clips.clip_id, "thumbnails")
    read = replace(clips, features=features, thumbnails=thumbnails)
    if metadata.content_sha256:
        read.set_content_sha256(metadata.content_sha256)
    return read


def in_memory(path: Path, rows: MappedRows) -> NDArray[Any]:
    """Return rows as an array.

    Raises:
        CacheError: A row is damaged, or they do not fit into memory.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        if rows.nbytes > memory:
            raise MemoryError
        array = np.empty(rows.shape, rows.dtype)
    except MemoryError as error:
        raise CacheError(
            f"{path}: its features take {rows.nbytes:,} bytes, and this machine has "
            f"{memory:,} bytes of memory"
        ) from error
    require_memory(rows.nbytes, f"reading {path}", "take a part of its clips, or fewer dimensions")
    rows.read_into(array)
    return array


class _SealedBytes(io.RawIOBase):
    """A cache as HDF5 sees it: zeros where the seal does not cover what is there.

    Nothing that HDF5 takes for structure can hide in the features, or before the file's own start.
    """

    def __init__(self, file: io.FileIO, seal: Seal) -> None:
        self._file = file
        self._blank = ((0, USER_BLOCK), seal.features, seal.thumbnails)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        start = self._file.tell()
        count = self._file.readinto(buffer) or 0
        for first, stop in self._blank:
            first, stop = max(first, start) - start, min(stop, start + count) - start
            if first < stop:
                buffer[first:stop] = bytes(stop - first)
        return count


def _read_columns(path: Path, raw: io.FileIO, seal: Seal | None) -> CacheMetadata:
    """Read all but the features and thumbnails."""
    size = file_size(raw)
    raw.seek(0)
    try:
        file = h5py.File(_SealedBytes(raw, seal) if seal else raw, "r")
    except OSError as error:
        raise CacheError(f"{path} is a damaged HDF5 file: {error}") from error
    try:
        with file:
            return _MemberReader(path, file, size).read(seal)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CacheError(f"{path} is a damaged or foreign HDF5 file: {error}") from error


class _MemberReader:
    """Reader of the members of one open file; each is checked before it is read."""

    def __init__(self, path: Path, file: h5py.File, size: int) -> None:
        self.path = path
        self.file = file
        self.size = size

    def read(self, seal: Seal | None) -> CacheMetadata:
        version = self._version()
        features = self._dataset(self.file, "features")
        if features.ndim != 3 or features.dtype not in (np.dtype("<f2"), np.dtype("<f4")):
            raise CacheError(
                f"{self.path}: features must be float16 or float32 of 3 axes, "
                f"not {features.dtype} {features.shape}"
            )
        columns: dict[str, Any] = {name: self._strings(name) for name in STRINGS}
        columns |= {name: self._object(name) for name in JSON_ATTRIBUTES}
        thumbnails = StoredRows(0, (features.shape[0], 0, 0, 0), np.dtype(np.uint8), (), None)
        if version > 1:
            columns |= {name: self._numbers(self.file, name, "<f8") for name in ("start", "end")}
            columns["label_units"] = self._of_labels("unit")
            columns["label_tables"] = self._of_labels("table_sha256")
            if "thumbnails" in self.file:
                thumbnails = self._thumbnails()
                if "without_thumbnails" in self.file:
                    columns["without_thumbnails"] = self._flags("without_thumbnails")
        stored = self._stored_features(features, version)
        try:
            clips = Features(
                features=blank_features(features.shape, features.dtype),
                thumbnails=blank_features(thumbnails.shape, thumbnails.dtype),
                frame_index=self._numbers(self.file, "frame_index", "<i8"),
                pts_seconds=self._numbers(self.file, "pts_seconds", "<f8"),
                labels=self._labels(),
                failures=self._failures(),
                created=self._text("created"),
                **columns,
            )
        except CacheError as error:
            message = str(error)
            raise CacheError(
                message if message.startswith(str(self.path)) else f"{self.path}: {message}"
            ) from error
        if version > 1:
            (content,) = self._hex_hashes("content_sha256", 1)
        else:
            content = clips.hash_content(stored.sha256, ()) if stored.sha256 else ""
        return CacheMetadata(clips, seal, version, stored, thumbnails, content)

    def _stored_features(self, features: h5py.Dataset, version: int) -> StoredRows:
        count = features.shape[0]
        sha256 = self._hex_hashes("features_sha256", count, optional=version == 1)
        hashes = None
        row_bytes = math.prod(map(int, features.shape[1:])) * features.dtype.itemsize
        if count and row_bytes:
            if version > 1:
                hashes = self._block_hashes(count)
            elif sha256:
                hashes = RowHashes.of_rows(sha256.rows)
        return StoredRows(
            features.id.get_offset() or 0, features.shape, features.dtype, sha256, hashes
        )

    def _block_hashes(self, count: int) -> RowHashes:
        rows_per_block = self.file.attrs.get("rows_per_block")
        if not isinstance(rows_per_block, np.integer) or rows_per_block < 1:
            raise CacheError(f"{self.path}: rows_per_block is {rows_per_block!r}")
        digests = self._numbers(self.file, "block_xxh3", "u1")
        shape = (-(-count // int(rows_per_block)), DIGEST_BYTES)
        if digests.shape != shape:
            raise CacheError(f"{self.path}: block_xxh3 has shape {digests.shape}, not {shape}")
        return RowHashes.of_blocks(digests, int(rows_per_block))

    def _thumbnails(self) -> StoredRows:
        thumbnails = self._dataset(self.file, "thumbnails")
        if thumbnails.ndim != 4 or thumbnails.dtype != np.uint8:
            raise CacheError(
                f"{self.path}: thumbnails must be uint8 of 4 axes, "
                f"not {thumbnails.dtype} {thumbnails.shape}"
            )
        sha256 = self._hex_hashes("thumbnails_sha256", thumbnails.shape[0])
        offset = thumbnails.id.get_offset() or 0
        hashes = RowHashes.of_rows(sha256.rows)
        return StoredRows(offset, thumbnails.shape, thumbnails.dtype, sha256, hashes)

    def _flags(self, name: str) -> NDArray[np.bool_]:
        """Return a column of zeros and ones."""
        flags = self._numbers(self.file, name, "u1")
        if flags.max(initial=0) > 1:
            raise CacheError(f"{self.path}: {name} is {flags.max()} for a clip, not 0 or 1")
        return flags.astype(bool)

    def _hex_hashes(self, name: str, count: int, *, optional: bool = False) -> EncodedText:
        """Return a column of SHA-256, each of 64 hex digits."""
        if optional and name not in self.file:
            return EncodedText(np.empty(0, "S64"))
        dataset = self._dataset(self.file, name)
        if dataset.dtype != np.dtype("S64") or dataset.shape != (count,):
            raise CacheError(f"{self.path}: {name} is {dataset.dtype} {dataset.shape}, not hashes")
        return self._column(name, dataset[()])

    def _column(self, name: str, rows: NDArray[np.bytes_]) -> EncodedText:
        """Return a column as text, in which zero bytes are the padding of each row and no more."""
        characters = rows.view(np.uint8).reshape(len(rows), rows.itemsize)
        is_full = characters.all()  # as hashes are: nothing more to look at
        if not is_full and ((characters[:, :-1] == 0) & (characters[:, 1:] != 0)).any():
            raise CacheError(f"{self.path}: a text in {name} has a zero byte inside")
        return EncodedText(rows)

    def _version(self) -> int:
        if "schema_version" not in self.file.attrs:
            raise CacheError(f"{self.path} is an HDF5 file, but not a feature cache")
        found = self.file.attrs["schema_version"]
        if not isinstance(found, np.integer) or found not in READ_VERSIONS:
            read = f"versions {' and '.join(map(str, READ_VERSIONS))}"
            raise CacheError(other_schema(self.path, found, read))
        return int(found)

    def _member(self, group: h5py.Group, name: str) -> Any:
        link = group.get(name, getlink=True)
        if link is None:
            raise CacheError(f"{self.path} has no {name}")
        if not isinstance(link, h5py.HardLink):
            raise CacheError(f"{self.path}: {name} points somewhere else, which is refused")
        return group[name]

    def _dataset(self, group: h5py.Group, name: str) -> h5py.Dataset:
        dataset = self._member(group, name)
        if not isinstance(dataset, h5py.Dataset):
            raise CacheError(f"{self.path}: {name} is not a dataset")
        creation = dataset.id.get_create_plist()
        if creation.get_external_count():
            raise CacheError(f"{self.path}: {name} is stored in another file, which is refused")
        if dataset.is_virtual:
            raise CacheError(f"{self.path}: {name} is a virtual dataset, which is refused")
        if creation.get_layout() == h5py.h5d.CHUNKED:
            raise CacheError(f"{self.path}: {name} is chunked; a cache is contiguous")
        if dataset.shape is None:
            raise CacheError(f"{self.path}: {name} is empty of shape")
        claimed = math.prod(map(int, dataset.shape)) * dataset.dtype.itemsize
        offset = dataset.id.get_offset() or 0
        # Of a dataset that was never written, HDF5 gives a nonsensical offset and no storage.
        if dataset.id.get_storage_size() < claimed or offset + claimed > self.size:
            raise CacheError(
                f"{self.path}: {name} claims {claimed} bytes, which a file of {self.size} bytes "
                "does not hold"
            )
        return dataset

    def _numbers(self, group: h5py.Group, name: str, kind: str) -> NDArray[Any]:
        dataset = self._dataset(group, name)
        if dataset.dtype != np.dtype(kind):
            raise CacheError(f"{self.path}: {name} is {dataset.dtype}, not {np.dtype(kind)}")
        return dataset[()]

    def _strings(self, name: str) -> Sequence[str]:
        if name in OPTIONAL and name not in self.file:
            return ()
        dataset = self._dataset(self.file, name)
        if dataset.dtype.kind != "S" or dataset.ndim != 1:
            raise CacheError(f"{self.path}: {name} is {dataset.dtype} {dataset.shape}, not text")
        text = self._column(name, dataset[()])
        return text if name in OPTIONAL else list(text)

    def _failures(self) -> list[tuple[str, str]]:
        dataset = self._dataset(self.file, "failures")
        names = dataset.dtype.names
        if names != ("clip_id", "reason") or any(dataset.dtype[n].kind != "S" for n in names):
            raise CacheError(f"{self.path}: failures is {dataset.dtype}, not (clip_id, reason)")
        return [(_decoded(clip), _decoded(reason)) for clip, reason in dataset[()].tolist()]

    def _label_group(self) -> h5py.Group:
        group = self._member(self.file, "labels")
        if not isinstance(group, h5py.Group):
            raise CacheError(f"{self.path}: labels is not a group")
        return group

    def _labels(self) -> dict[str, NDArray[np.float64]]:
        group = self._label_group()
        return {name: self._numbers(group, name, "<f8") for name in group}

    def _of_labels(self, attribute: str) -> dict[str, str]:
        """Return an attribute of each label that has it."""
        group = self._label_group()
        texts = {}
        for name in group:
            text = self._dataset(group, name).attrs.get(attribute, "")
            if not isinstance(text, str):
                raise CacheError(f"{self.path}: {attribute} of label {name!r} is not text")
            texts[name] = text
        return texts

    def _text(self, name: str) -> str:
        if name not in self.file.attrs:
            raise CacheError(f"{self.path} has no attribute {name}")
        text = self.file.attrs[name]
        if not isinstance(text, str):
            raise CacheError(f"{self.path}: attribute {name} is not text")
        return text

    def _object(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads(self._text(name))
        except json.JSONDecodeError as error:
            raise CacheError(f"{self.path}: attribute {name} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise CacheError(f"{self.path}: attribute {name} is not a JSON object")
        return value


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
