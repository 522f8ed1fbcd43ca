"""Reading a feature cache without trusting the file.

Links and storage that point elsewhere, types that the schema does not have, and sizes that the
file cannot hold are refused before anything is read. The file is opened once, so that all that is
read belongs to one version of it, even if another process replaces it meanwhile.
"""

import io
import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data.cache.features import CacheError, EncodedText, Features
from data.cache.seal import check_structure, file_size, open_cache_file

SCHEMA_VERSION = 1
STRINGS = ("clip_id", "object", "scenario", "source_sha256", "key")
JSON_ATTRIBUTES = ("fingerprint", "sampler", "decoder", "versions")
OPTIONAL = ("source_sha256", "key", "features_sha256")
_BLOCK = 1 << 22
_READERS = 4


@dataclass(frozen=True)
class CacheMetadata:
    """A cache without the values of its features.

    `clips` holds every column; its `features` has the true shape and type, and no content.
    `features_offset` is where the features start in the file, `features_sha256` the hash of each
    row (empty where the file has none).
    """

    clips: Features
    features_offset: int
    features_sha256: Sequence[str]

    @property
    def row_bytes(self) -> int:
        """Bytes of the features of one clip."""
        return int(np.prod(self.clips.features.shape[1:])) * self.clips.features.dtype.itemsize


def blank_features(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return zeros of this shape that take no memory, for `CacheMetadata`."""
    return np.broadcast_to(np.zeros((), dtype=dtype), shape)


def read_metadata(path: Path) -> CacheMetadata:
    """Read everything of a cache but its features.

    Raises:
        CacheError: The file cannot be read or trusted; the message gives file and reason.
    """
    with open_cache_file(path) as file:
        check_structure(path, file)
        return _read_columns(path, file)


def read_features(path: Path) -> Features:
    """Read a whole cache; the features go straight into one array.

    Raises:
        CacheError: The file cannot be read or trusted; the message gives file and reason.
    """
    with open_cache_file(path) as file:
        seal = check_structure(path, file)
        metadata = _read_columns(path, file, allocate=np.empty)
        features = metadata.clips.features
        if seal and features.size and metadata.features_offset != seal.features_start:
            raise CacheError(f"{path}: its seal and its structure disagree about its features")
        _read_into(path, file, metadata.features_offset, features)
        return metadata.clips


def read_array(
    path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Read the features that start at this offset of a cache's file (see `CacheMetadata`)."""
    with open_cache_file(path) as file:
        features = np.empty(shape, dtype=dtype)
        _read_into(path, file, offset, features)
        return features


def _read_into(path: Path, file: io.FileIO, offset: int, array: NDArray[Any]) -> None:
    """Fill an array with the bytes from this offset on, several blocks in parallel."""
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


def _read_columns(
    path: Path, raw: io.FileIO, allocate: Callable[..., NDArray[Any]] = blank_features
) -> CacheMetadata:
    """Read all but the features, whose array comes from `allocate(shape, dtype)`.

    The hashes of the features are read only for `blank_features`.
    """
    size = file_size(raw)
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
            return _MemberReader(path, file, size).read(allocate)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CacheError(f"{path} is a damaged or foreign HDF5 file: {error}") from error


class _MemberReader:
    """Reader of the members of one open file; each is checked before it is read."""

    def __init__(self, path: Path, file: h5py.File, size: int) -> None:
        self.path = path
        self.file = file
        self.size = size

    def read(self, allocate: Callable[..., NDArray[Any]]) -> CacheMetadata:
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
                features=allocate(features.shape, features.dtype),
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
        hashes = self._strings("features_sha256") if allocate is blank_features else ()
        return CacheMetadata(clips, features.id.get_offset() or 0, hashes)

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
        text = EncodedText(dataset[()])
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
