"""Reading a feature cache, taking nothing from the file on trust.

Links and storage that point elsewhere, types that the schema does not have, and sizes that the
file cannot hold are refused before anything is read. The file is opened once: what is read belongs
to one version of it, even while another one is put in its place.
"""

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data.cache.features import CacheError, Features, Text

SCHEMA_VERSION = 1
USER_BLOCK = 512
STRINGS = ("clip_id", "object", "scenario", "source_sha256", "key")
JSON_ATTRIBUTES = ("fingerprint", "sampler", "decoder", "versions")
OPTIONAL = ("source_sha256", "key", "features_sha256")
_SEAL = re.compile(
    rb"heliograph cache sha256=([0-9a-f]{64}) bytes=([0-9]{1,19}) "
    rb"features=([0-9]{1,19})-([0-9]{1,19}) rest_sha256=([0-9a-f]{64})\n\0*"
)
_BLOCK = 1 << 22
_READERS = 4


@dataclass(frozen=True)
class Seal:
    """What the user block of a cache says about the bytes after it.

    `sha256` is that of all `byte_count` bytes; `rest_sha256` that of all but the features, which
    lie at offsets `features_start` to `features_stop` of the file.
    """

    sha256: str
    byte_count: int
    features_start: int
    features_stop: int
    rest_sha256: str

    def block(self) -> bytes:
        """The user block, 512 bytes."""
        text = (
            f"heliograph cache sha256={self.sha256} bytes={self.byte_count} "
            f"features={self.features_start}-{self.features_stop} rest_sha256={self.rest_sha256}\n"
        )
        return text.encode().ljust(USER_BLOCK, b"\0")

    @classmethod
    def of(cls, file: io.FileIO) -> "Seal | None":
        """The seal of an open file; None when it has none that can be read."""
        file.seek(0)
        match = _SEAL.fullmatch(file.read(USER_BLOCK))
        if not match:
            return None
        sha256, rest = match[1].decode(), match[5].decode()
        return cls(sha256, int(match[2]), int(match[3]), int(match[4]), rest)


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


def blank(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Features of this shape that take no memory, to stand in a `Table`."""
    return np.broadcast_to(np.zeros((), dtype=dtype), shape)


def read_table(path: Path) -> Table:
    """Everything of a cache but its features; raises `CacheError` with the file and the reason."""
    with _opened(path) as file:
        _check_structure(path, file)
        return _read_table(path, file)


def read(path: Path) -> Features:
    """A whole cache; the features are read straight into one array."""
    with _opened(path) as file:
        seal = _check_structure(path, file)
        table = _read_table(path, file, place_for=np.empty)
        features = table.clips.features
        if seal and features.size and table.features_offset != seal.features_start:
            raise CacheError(f"{path}: its seal and its structure disagree about its features")
        _read_into(path, file, table.features_offset, features)
        return table.clips


def read_at(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of features that starts at this offset of a cache's file (see `Table`)."""
    with _opened(path) as file:
        features = np.empty(shape, dtype=dtype)
        _read_into(path, file, offset, features)
        return features


def seal_is_intact(path: Path) -> bool:
    """Whether all bytes of the file are those that its user block vouches for."""
    with _opened(path) as file:
        seal = Seal.of(file)
        return seal is not None and seal.sha256 == _digest(file, (USER_BLOCK, _size(file)))


def has_seal(path: Path) -> bool:
    """Whether the file begins with a seal that can be read."""
    with _opened(path) as file:
        return Seal.of(file) is not None


def _size(file: io.FileIO) -> int:
    return file.seek(0, io.SEEK_END)


def _digest(file: io.FileIO, *ranges: tuple[int, int]) -> str:
    """SHA-256 of the bytes in these ranges of offsets, as 64 hex digits."""
    digest = hashlib.sha256()
    for start, stop in ranges:
        file.seek(start)
        while start < stop and (block := file.read(min(_BLOCK, stop - start))):
            digest.update(block)
            start += len(block)
    return digest.hexdigest()


def _check_structure(path: Path, file: io.FileIO) -> Seal | None:
    """Refuse a sealed file with other bytes outside the features: HDF5 could crash on it."""
    seal, size = Seal.of(file), _size(file)
    if seal is None:
        return None
    if seal.byte_count + USER_BLOCK != size:
        raise CacheError(f"{path} has {size} bytes, not {seal.byte_count + USER_BLOCK}: truncated?")
    if _digest(file, (USER_BLOCK, seal.features_start), (seal.features_stop, size)) != (
        seal.rest_sha256
    ):
        raise CacheError(f"{path} is damaged outside its features: in names, labels or structure")
    if not USER_BLOCK <= seal.features_start <= seal.features_stop <= size:
        raise CacheError(f"{path}: its seal places the features outside the file")
    return seal


@contextmanager
def _opened(path: Path) -> Iterator[io.FileIO]:
    path = Path(path)
    if not path.exists():
        raise CacheError(f"{path} does not exist")
    if not path.is_file():
        raise CacheError(f"{path} is not a regular file")
    try:
        with open(path, "rb", buffering=0) as file:
            yield file
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_into(path: Path, file: io.FileIO, offset: int, array: NDArray[Any]) -> None:
    """Fill an array with the bytes from this offset on, several blocks at once."""
    if not array.size:
        return
    memory = array.reshape(-1).view(np.uint8).data

    def fill(start: int) -> None:
        block = memory[start : start + _BLOCK]
        while block:
            count = os.preadv(file.fileno(), [block], offset + start)  # the file's position stays
            if not count:
                raise CacheError(f"{path} ends before its features do")
            block, start = block[count:], start + count

    starts = range(0, len(memory), _BLOCK)
    if len(starts) == 1:
        return fill(0)
    with ThreadPoolExecutor(_READERS) as pool:
        for _ in pool.map(fill, starts):
            pass


def _read_table(
    path: Path, raw: io.FileIO, place_for: Callable[..., NDArray[Any]] = blank
) -> Table:
    """The table, its features an array of their shape and type from `place_for`.

    Where that array is to be filled, the hashes of the features are left out.
    """
    size = _size(raw)
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
            return _Reader(path, file, size).table(place_for)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CacheError(f"{path} is a damaged or foreign HDF5 file: {error}") from error


class _Reader:
    """Reads the members of one open file, each only after a look at what it claims to be."""

    def __init__(self, path: Path, file: h5py.File, size: int) -> None:
        self.path = path
        self.file = file
        self.size = size

    def table(self, place_for: Callable[..., NDArray[Any]]) -> Table:
        self._check_version()
        features = self._dataset(self.file, "features")
        if features.ndim != 3 or features.dtype not in (np.dtype("<f2"), np.dtype("<f4")):
            raise CacheError(
                f"{self.path}: features must be float16 or float32 of 3 axes, "
                f"not {features.dtype} {features.shape}"
            )
        columns: dict[str, Any] = {name: self._strings(name) for name in STRINGS}
        columns |= {name: self._object(name) for name in JSON_ATTRIBUTES}
        try:
            clips = Features(
                features=place_for(features.shape, features.dtype),
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
        hashes = self._strings("features_sha256") if place_for is blank else ()
        return Table(clips, features.id.get_offset() or 0, hashes)

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
        text = Text(dataset[()])
        return text if name in OPTIONAL else list(text)

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
