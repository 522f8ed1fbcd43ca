"""The bytes of a feature cache: schema version 1 of the HDF5 file, written and read safely.

A cache is an HDF5 file behind a user block of 512 bytes that holds the SHA-256 of everything after
it. HDF5 never writes to the disk here: it lays the file out in memory, without the features, whose
place is reserved; the features are streamed into that place and the whole is published by rename.
So a full disk is an `OSError` of ours (HDF5 answers it by crashing), memory stays bounded, and every
dataset is contiguous.

Reading takes nothing from the file on trust: links and storage that point elsewhere, types that the
schema does not have, and sizes that the file cannot hold are refused before anything is read.
"""

import hashlib
import io
import json
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from data.features import CacheError, Features
from data.files import WriteError, replacing

SCHEMA_VERSION = 1
USER_BLOCK = 512
_SEAL = re.compile(rb"^heliograph cache sha256=([0-9a-f]{64}) bytes=([0-9]{1,19})\n\0*$")
_STRINGS = ("clip_id", "object", "scenario", "source_sha256", "key")
_JSON = ("fingerprint", "sampler", "decoder", "versions")
_PAGE = 1 << 16
_BLOCK = 1 << 22
_ATTRIBUTE_LIMIT = 60_000  # HDF5 keeps an attribute within a 64 KiB object header


class _Image(io.RawIOBase):
    """A sparse file in memory, for HDF5 to write to; what was never written costs nothing."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._position = 0
        self.size = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def truncate(self, size: int | None = None) -> int:
        self.size = self._position if size is None else size
        return self.size

    def write(self, content: Any) -> int:
        for page, start, stop, done in _pieces(self._position, len(content)):
            memory = self._pages.setdefault(page, bytearray(_PAGE))
            memory[start:stop] = content[done : done + stop - start]
        self._position += len(content)
        self.size = max(self.size, self._position)
        return len(content)

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self.size - self._position))
        buffer[:count] = self.bytes(self._position, self._position + count)
        self._position += count
        return count

    def bytes(self, start: int, stop: int) -> bytes:
        """What lies between two offsets; zeros where nothing was written."""
        content = bytearray(max(0, stop - start))
        for page, first, last, done in _pieces(start, len(content)):
            if page in self._pages:
                content[done : done + last - first] = self._pages[page][first:last]
        return bytes(content)


def _pieces(position: int, count: int) -> Iterator[tuple[int, int, int, int]]:
    """(page, start and stop within it, bytes before it) of a range of bytes."""
    done = 0
    while done < count:
        page, start = divmod(position + done, _PAGE)
        stop = min(_PAGE, start + count - done)
        yield page, start, stop, done
        done += stop - start


@dataclass(frozen=True)
class Table:
    """A cache's file without the bytes of its features.

    `clips` holds every column; its `features` has the true shape and type, and no content.
    """

    clips: Features
    features_offset: int
    features_sha256: Sequence[str]

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.clips.features.shape[1:])) * self.clips.features.dtype.itemsize


def blank(count: int, steps: int, dimensions: int, dtype: Any) -> NDArray[Any]:
    """Features of this shape that take no memory, to stand in a `Table`."""
    return np.broadcast_to(np.zeros((), dtype=dtype), (count, steps, dimensions))


def package_versions() -> dict[str, str]:
    """Versions of the packages that write a cache."""
    return {name: version(name) for name in ("heliograph", "h5py", "numpy")}


# Writing ------------------------------------------------------------------------------------------


def write(path: Path, clips: Features, rows: Iterable[NDArray[Any]]) -> None:
    """Write a cache whose features (N, T, D) come as `rows`, arrays (n, T, D) that add up to N.

    Everything else comes from `clips`. Raises `WriteError` when the disk is full or not writable,
    `CacheError` for what the schema cannot hold; either way `path` stays as it was.
    """
    image, features_offset, hashes_offset = _layout(path, clips)
    features_stop = features_offset + math.prod(clips.features.shape) * clips.features.itemsize
    _check_free_space(path, image.size)
    digest = hashlib.sha256()
    row_hashes = []
    with replacing(path) as file:

        def emit(content: Any) -> None:
            digest.update(content)
            file.write(content)

        file.write(bytes(USER_BLOCK))
        emit(image.bytes(USER_BLOCK, features_offset))
        for block in rows:
            block = np.ascontiguousarray(block, dtype=clips.features.dtype)
            if block.shape[1:] != clips.features.shape[1:]:
                raise CacheError(
                    f"{path}: features of shape {block.shape[1:]} among {clips.features.shape[1:]}"
                )
            for row in block:
                row_hashes.append(hashlib.sha256(row.data).hexdigest().encode())
            emit(block.data.cast("B") if block.size else b"")
        if file.tell() != features_stop or len(row_hashes) != len(clips):
            raise CacheError(f"{path}: {len(row_hashes)} rows of features for {len(clips)} clips")
        image.seek(hashes_offset)
        image.write(b"".join(row_hashes))
        emit(image.bytes(features_stop, image.size))
        seal = f"heliograph cache sha256={digest.hexdigest()} bytes={image.size - USER_BLOCK}\n"
        file.seek(0)
        file.write(seal.encode().ljust(USER_BLOCK, b"\0"))


def _layout(path: Path, clips: Features) -> tuple[_Image, int, int]:
    """The file in memory but for the features and their hashes, and the offsets of both."""
    image = _Image()
    attributes = {name: _json(getattr(clips, name)) for name in _JSON}
    if not clips.versions:
        attributes["versions"] = _json(package_versions())
    attributes["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    with h5py.File(image, "w", userblock_size=USER_BLOCK) as file:
        features_offset = _reserve(file, b"features", clips.features.shape, clips.features.dtype)
        hashes_offset = _reserve(file, b"features_sha256", (len(clips),), np.dtype("S64"))
        file.attrs["schema_version"] = SCHEMA_VERSION
        for name, text in attributes.items():
            if len(text.encode()) > _ATTRIBUTE_LIMIT:
                raise CacheError(f"{path}: {name} takes more than {_ATTRIBUTE_LIMIT} bytes")
            file.attrs[name] = text
        for name in _STRINGS:
            values = _encoded(path, name, getattr(clips, name))
            file.create_dataset(name, data=values.astype(_text_type(values)))
        file.create_dataset("frame_index", data=clips.frame_index.astype("<i8"))
        file.create_dataset("pts_seconds", data=clips.pts_seconds.astype("<f8"))
        labels = file.create_group("labels")
        for name, column in clips.labels.items():
            if not name or "/" in name or "\0" in name or name == ".":
                raise CacheError(f"{path}: {name!r} cannot be the name of a label")
            labels.create_dataset(name, data=column.astype("<f8"))
        clip_ids = _encoded(path, "failures", [clip for clip, _ in clips.failures])
        reasons = _encoded(path, "failures", [reason for _, reason in clips.failures])
        kind = np.dtype([("clip_id", _text_type(clip_ids)), ("reason", _text_type(reasons))])
        failures = np.empty(len(clip_ids), dtype=kind)
        failures["clip_id"], failures["reason"] = clip_ids, reasons
        file.create_dataset("failures", data=failures)
    if not len(clips) or 0 in clips.features.shape:
        return image, image.size, image.size
    return image, features_offset, hashes_offset


def _reserve(file: h5py.File, name: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Create a contiguous dataset whose place in the file is fixed and left unwritten."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind = h5py.h5t.py_create(dtype.newbyteorder("<"), logical=True)
    dataset = h5py.h5d.create(file.id, name, kind, h5py.h5s.create_simple(shape), plan)
    return dataset.get_offset() or 0


def _encoded(path: Path, name: str, values: Sequence[str]) -> NDArray[np.bytes_]:
    encoded = []
    for value in values:
        if "\0" in value:
            raise CacheError(f"{path}: {name} {value!r} holds a NUL character")
        encoded.append(value.encode("utf-8", "surrogateescape"))
    width = max([1, *map(len, encoded)])
    return np.array(encoded, dtype=f"S{width}")


def _text_type(values: NDArray[np.bytes_]) -> Any:
    return h5py.string_dtype("utf-8", values.dtype.itemsize)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _check_free_space(path: Path, size: int) -> None:
    folder = next((parent for parent in path.absolute().parents if parent.is_dir()), None)
    if folder is None:
        return
    free = shutil.disk_usage(folder).free
    if size > free:
        raise WriteError(
            f"{path} cannot be written: it needs {size / 1e6:.1f} MB and {free / 1e6:.1f} MB are free"
        )


# Reading ------------------------------------------------------------------------------------------


def read_table(path: Path) -> Table:
    """Everything of a cache but its features; raises `CacheError` with the file and the reason."""
    with _opened(path) as file:
        return _read_table(path, file)


def read(path: Path) -> Features:
    """A whole cache; the features are read straight into one array."""
    with _opened(path) as file:
        table = _read_table(path, file)
        features = np.empty(table.clips.features.shape, dtype=table.clips.features.dtype)
        _read_into(path, file, table.features_offset, features)
        return replace(table.clips, features=features)


def read_at(
    path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """An array of features that starts at this offset of a cache's file (see `Table`)."""
    with _opened(path) as file:
        features = np.empty(shape, dtype=dtype)
        _read_into(path, file, offset, features)
        return features


def seal_is_intact(path: Path) -> bool:
    """Whether the file's bytes are those that its user block vouches for."""
    with _opened(path) as file:
        seal = _SEAL.match(file.read(USER_BLOCK))
        if not seal:
            return False
        digest, count = hashlib.sha256(), 0
        while block := file.read(_BLOCK):
            digest.update(block)
            count += len(block)
        return count == int(seal[2]) and digest.hexdigest().encode() == seal[1]


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    path = Path(path)
    if not path.exists():
        raise CacheError(f"{path} does not exist")
    if not path.is_file():
        raise CacheError(f"{path} is not a regular file")
    try:
        file = open(path, "rb", buffering=0)
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        yield file  # type: ignore[misc]


def _read_into(path: Path, file: BinaryIO, offset: int, array: NDArray[Any]) -> None:
    if not array.size:
        return
    memory = memoryview(array.reshape(-1).view(np.uint8))
    file.seek(offset)
    while memory:
        count = file.readinto(memory)  # type: ignore[attr-defined]
        if not count:
            raise CacheError(f"{path} ends before its features do")
        memory = memory[count:]


def _read_table(path: Path, raw: BinaryIO) -> Table:
    size = raw.seek(0, io.SEEK_END)
    raw.seek(0)
    try:
        file = h5py.File(raw, "r")
    except OSError as error:
        if "signature" in str(error):
            hint = "; heliograph cache import reads .pt files" if path.suffix == ".pt" else ""
            raise CacheError(f"{path} is not an HDF5 file{hint}") from error
        raise CacheError(f"{path} is a damaged HDF5 file: {error}") from error
    try:
        with file:
            return _Reader(path, file, size).table()
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CacheError(f"{path} is a damaged or foreign HDF5 file: {error}") from error


class _Reader:
    """Reads the members of one open file, each only after a look at what it claims to be."""

    def __init__(self, path: Path, file: h5py.File, size: int) -> None:
        self.path = path
        self.file = file
        self.size = size

    def table(self) -> Table:
        self._check_version()
        features = self._dataset(self.file, "features")
        if features.ndim != 3 or features.dtype not in (np.dtype("<f2"), np.dtype("<f4")):
            raise CacheError(
                f"{self.path}: features must be float16 or float32 of 3 axes, "
                f"not {features.dtype} {features.shape}"
            )
        columns: dict[str, Any] = {name: self._strings(name) for name in _STRINGS}
        columns |= {name: self._object(name) for name in _JSON}
        try:
            clips = Features(
                features=blank(*features.shape, features.dtype),
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
        return Table(clips, features.id.get_offset() or 0, self._strings("features_sha256"))

    def _check_version(self) -> None:
        if "schema_version" not in self.file.attrs:
            raise CacheError(f"{self.path} is an HDF5 file, but not a feature cache")
        found = self.file.attrs["schema_version"]
        if not isinstance(found, np.integer) or found != SCHEMA_VERSION:
            raise CacheError(
                f"{self.path} has schema version {found}; "
                f"this Heliograph reads version {SCHEMA_VERSION}"
            )

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
        plan = dataset.id.get_create_plist()
        if plan.get_external_count():
            raise CacheError(f"{self.path}: {name} is stored in another file, which is refused")
        if dataset.is_virtual:
            raise CacheError(f"{self.path}: {name} is a virtual dataset, which is refused")
        if plan.get_layout() == h5py.h5d.CHUNKED:
            raise CacheError(f"{self.path}: {name} is chunked; a cache is contiguous")
        if dataset.shape is None:
            raise CacheError(f"{self.path}: {name} is empty of shape")
        claimed = math.prod(map(int, dataset.shape)) * dataset.dtype.itemsize
        offset = dataset.id.get_offset() or 0
        stored = plan.get_layout() == h5py.h5d.COMPACT or offset > 0
        if claimed and (not stored or offset + claimed > self.size):
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

    def _strings(self, name: str) -> list[str]:
        if name not in self.file:
            return []
        dataset = self._dataset(self.file, name)
        if dataset.dtype.kind != "S" or dataset.ndim != 1:
            raise CacheError(f"{self.path}: {name} is {dataset.dtype} {dataset.shape}, not text")
        return [_decoded(value) for value in dataset[()].tolist()]

    def _failures(self) -> list[tuple[str, str]]:
        dataset = self._dataset(self.file, "failures")
        names = dataset.dtype.names
        if names != ("clip_id", "reason") or any(dataset.dtype[n].kind != "S" for n in names):
            raise CacheError(f"{self.path}: failures is {dataset.dtype}, not (clip_id, reason)")
        return [(_decoded(clip), _decoded(reason)) for clip, reason in dataset[()].tolist()]

    def _labels(self) -> dict[str, NDArray[np.float64]]:
        group = self._member(self.file, "labels")
        if not isinstance(group, h5py.Group):
            raise CacheError(f"{self.path}: labels is not a group")
        return {name: self._numbers(group, name, "<f8") for name in group}

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
