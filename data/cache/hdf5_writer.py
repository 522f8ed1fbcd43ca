"""Writing a feature cache: schema version 1, sealed, and published whole.

A cache is an HDF5 file behind a user block of 512 bytes with its `Seal`: the SHA-256 of everything
after it, where the features are, and the SHA-256 of everything but them. The second hash is quick
to check, and is checked before HDF5 opens a file, because HDF5 can crash on a damaged structure.

HDF5 never writes to the disk here: it lays the file out in memory and reserves the space of the
features; the features are streamed into that space and the whole is published by rename. So a full
disk raises our own `OSError` (HDF5 would crash), memory stays bounded, and every dataset is
contiguous.
"""

import hashlib
import io
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data.cache.features import CacheError, Features
from data.cache.hdf5_reader import JSON_ATTRIBUTES, SCHEMA_VERSION, STRINGS
from data.cache.seal import USER_BLOCK, Seal
from data.files import WriteError, replacing

_PAGE = 1 << 16
_ATTRIBUTE_LIMIT = 60_000  # HDF5 keeps an attribute within a 64 KiB object header


class _SparseFile(io.RawIOBase):
    """A sparse file in memory, for HDF5 to write to; unwritten pages take no memory."""

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
        """Return the bytes between two offsets; zeros where nothing was written."""
        content = bytearray(max(0, stop - start))
        for page, first, last, done in _pieces(start, len(content)):
            if page in self._pages:
                content[done : done + last - first] = self._pages[page][first:last]
        return bytes(content)


def _pieces(position: int, count: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (page, start and stop within it, bytes before it) of a range of bytes."""
    done = 0
    while done < count:
        page, start = divmod(position + done, _PAGE)
        stop = min(_PAGE, start + count - done)
        yield page, start, stop, done
        done += stop - start


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that write a cache."""
    return {name: version(name) for name in ("heliograph", "h5py", "numpy")}


def write_cache(path: Path, clips: Features, blocks: Iterable[NDArray[Any]]) -> None:
    """Write a cache whose features (N, T, D) come in `blocks` (n, T, D) that add up to N.

    Everything else comes from `clips`. On an error `path` stays as it was.

    Raises:
        WriteError: The disk is full or not writable.
        CacheError: `clips` has something that the schema cannot hold.
    """
    image, features_offset, hashes_offset = _layout(path, clips)
    features_stop = features_offset + math.prod(clips.features.shape) * clips.features.itemsize
    _check_free_space(path, image.size)
    digest, rest_digest = hashlib.sha256(), hashlib.sha256()
    row_hashes = []
    with replacing(path) as file:

        def emit(content: Any, *, is_features: bool = False) -> None:
            digest.update(content)
            if not is_features:
                rest_digest.update(content)
            file.write(content)

        file.write(bytes(USER_BLOCK))
        emit(image.bytes(USER_BLOCK, features_offset))
        for block in blocks:
            block = np.ascontiguousarray(block, dtype=clips.features.dtype)
            if block.shape[1:] != clips.features.shape[1:]:
                raise CacheError(
                    f"{path}: features of shape {block.shape[1:]} among {clips.features.shape[1:]}"
                )
            for row in block:
                row_hashes.append(hashlib.sha256(row.data).hexdigest().encode())
            if block.size:
                emit(block.data.cast("B"), is_features=True)
        if file.tell() != features_stop or len(row_hashes) != len(clips):
            raise CacheError(f"{path}: {len(row_hashes)} rows of features for {len(clips)} clips")
        image.seek(hashes_offset)
        image.write(b"".join(row_hashes))
        emit(image.bytes(features_stop, image.size))
        seal = Seal(
            sha256=digest.hexdigest(),
            byte_count=image.size - USER_BLOCK,
            features_start=features_offset,
            features_stop=features_stop,
            rest_sha256=rest_digest.hexdigest(),
        )
        file.seek(0)
        file.write(seal.user_block())


def _layout(path: Path, clips: Features) -> tuple[_SparseFile, int, int]:
    """Return the file in memory without the features and their hashes, and the offsets of both."""
    image = _SparseFile()
    attributes = {name: _json(getattr(clips, name)) for name in JSON_ATTRIBUTES}
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
        for name in STRINGS:
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
    """Create a contiguous dataset whose space in the file is reserved; return its offset."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind = h5py.h5t.py_create(dtype.newbyteorder("<"), logical=True)
    dataset = h5py.h5d.create(file.id, name, kind, h5py.h5s.create_simple(shape), creation)
    return dataset.get_offset() or 0


def _encoded(path: Path, name: str, values: Sequence[str]) -> NDArray[np.bytes_]:
    encoded = []
    for value in values:
        if "\0" in value:
            raise CacheError(f"{path}: {name} {value!r} holds a NUL character")
        try:
            encoded.append(value.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError as error:
            raise CacheError(f"{path}: {name} {value!r} is not text") from error
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
            f"{path} cannot be written: it needs {size:,} bytes, and {free:,} are free"
        )
