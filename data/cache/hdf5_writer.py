"""Writing a feature cache: schema version 2, sealed, and published whole.

A cache is an HDF5 file behind a user block of 512 bytes with its `Seal`: the SHA-256 of everything
but the features and thumbnails, whose hashes are among what it covers. It is quick to check, and
is checked before HDF5 opens a file, because HDF5 can crash on a damaged structure.

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from data.cache.blocks import DIGEST_BYTES, BlockHasher, rows_in_block
from data.cache.errors import CacheError
from data.cache.features import Features
from data.cache.hdf5_reader import JSON_ATTRIBUTES, SCHEMA_VERSION, STRINGS, identity_of
from data.cache.seal import USER_BLOCK, Seal
from data.files import WriteError, replacing
from data.screening import record
from data.versions import package_versions

WRITERS = ("heliograph", "h5py", "numpy")
"""The packages that write a cache, whose versions are in it."""
_PAGE = 1 << 16
_PIECE = 1 << 24
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


def write_features(path: Path, clips: Features) -> Seal:
    """Write a cache of features in memory, and return its seal; raises as `write_cache` does."""
    return write_cache(path, clips, _blocks(clips.features), _blocks(clips.thumbnails))


def write_cache(
    path: Path,
    clips: Features,
    features: Iterable[NDArray[Any]],
    thumbnails: Iterable[NDArray[Any]] = (),
    *,
    sound: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Seal:
    """Write a cache, and return its seal.

    Args:
        path: What to write; on an error it stays as it was.
        clips: Everything but the values of features and thumbnails, whose shapes it has.
        features: Blocks (n, T, D) that add up to N rows.
        thumbnails: Blocks (n, F, h, w) that add up to N rows, if `clips` has thumbnails.
        sound: The SHA-256 of the features, and of the thumbnails, that each clip had before it was
            damaged: a row of another is written as it is, and found to be damaged by who reads it.

    Raises:
        WriteError: The disk is full or not writable.
        CacheError: `clips` has something that the schema cannot hold.
    """
    rows_per_block = rows_in_block(math.prod(clips.features.shape[1:]) * clips.features.itemsize)
    image, offsets = _layout(path, clips, rows_per_block)
    _check_free_space(path, image.size)
    with replacing(path) as file:
        blocks = BlockHasher(rows_per_block)
        feature_rows = _write_rows(
            path, file, offsets["features"], clips.features, features, sound[0], blocks.add
        )
        thumbnail_rows: list[str] = []
        if clips.thumbnails.size:
            thumbnail_rows = _write_rows(
                path, file, offsets["thumbnails"], clips.thumbnails, thumbnails, sound[1]
            )
        for name, content in (
            ("features_sha256", "".join(feature_rows).encode()),
            ("thumbnails_sha256", "".join(thumbnail_rows).encode()),
            ("block_xxh3", blocks.finish() if clips.features.size else b""),
            ("content_sha256", clips.hash_content(feature_rows, thumbnail_rows).encode()),
        ):
            image.seek(offsets[name])
            image.write(content)
        seal = Seal(
            byte_count=image.size - USER_BLOCK,
            features=_range(offsets["features"], clips.features),
            thumbnails=_range(offsets["thumbnails"], clips.thumbnails),
            rest_sha256="",
        )
        rest = hashlib.sha256()
        for start, stop in seal.rest(image.size):
            file.seek(start)
            for first in range(start, stop, _PIECE):
                piece = image.bytes(first, min(first + _PIECE, stop))
                rest.update(piece)
                file.write(piece)
        seal = replace(seal, rest_sha256=rest.hexdigest())
        file.seek(0)
        file.write(seal.user_block())
        record(identity_of(seal))  # before anybody can read the file
    return seal


def _write_rows(
    path: Path,
    file: BinaryIO,
    offset: int,
    rows: Any,
    blocks: Iterable[NDArray[Any]],
    sound: Sequence[str],
    also: Callable[[Any], None] = lambda row: None,
) -> list[str]:
    """Write blocks of rows from an offset of a file on; return the SHA-256 of each row.

    `rows` has the shape and type of all of them, `sound` hashes that they should have, perhaps.
    `also` is called with the bytes of each row, or with others for one that has another hash.
    """
    sha256: list[str] = []
    file.seek(offset)
    for block in blocks:
        block = np.ascontiguousarray(block, dtype=rows.dtype)
        if block.shape[1:] != rows.shape[1:]:
            raise CacheError(f"{path}: rows of shape {block.shape[1:]} among {rows.shape[1:]}")
        for row in block:
            content = row.data.cast("B") if row.size else b""
            found = hashlib.sha256(content).hexdigest()
            should = sound[len(sha256)] if sound else found
            sha256.append(should)
            also(content if should == found else bytes(byte ^ 255 for byte in content))
        if block.size:
            file.write(block.data.cast("B"))
    if len(sha256) != len(rows):
        raise CacheError(f"{path}: {len(sha256)} rows of features for {len(rows)} clips")
    return sha256


def _range(offset: int, rows: Any) -> tuple[int, int]:
    return (offset, offset + rows.nbytes) if rows.size else (USER_BLOCK, USER_BLOCK)


def _layout(path: Path, clips: Features, rows_per_block: int) -> tuple[_SparseFile, dict[str, int]]:
    """Return the file in memory, and the offsets of what is filled in later."""
    image = _SparseFile()
    attributes = {name: _json(getattr(clips, name)) for name in JSON_ATTRIBUTES}
    if not clips.versions:
        attributes["versions"] = _json(package_versions(*WRITERS))
    attributes["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    count, blocks = len(clips), -(-len(clips) // rows_per_block) if clips.features.size else 0
    text = np.dtype("S64")
    later = {
        "features": (clips.features.shape, clips.features.dtype),
        "features_sha256": ((count,), text),
        "block_xxh3": ((blocks, DIGEST_BYTES), np.dtype("u1")),
        "content_sha256": ((1,), text),
    }
    if clips.thumbnails.size:
        later["thumbnails"] = (clips.thumbnails.shape, clips.thumbnails.dtype)
        later["thumbnails_sha256"] = ((count,), text)
    with h5py.File(image, "w", userblock_size=USER_BLOCK) as file:
        offsets = {name: _reserve(file, name, *kind) for name, kind in later.items()}
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["rows_per_block"] = rows_per_block
        for name, value in attributes.items():
            if len(value.encode()) > _ATTRIBUTE_LIMIT:
                raise CacheError(f"{path}: {name} takes more than {_ATTRIBUTE_LIMIT} bytes")
            file.attrs[name] = value
        for name in STRINGS:
            values = _encoded(path, name, getattr(clips, name))
            file.create_dataset(name, data=values.astype(_text_type(values)))
        if clips.without_thumbnails.any():
            file.create_dataset("without_thumbnails", data=clips.without_thumbnails.astype("u1"))
        file.create_dataset("frame_index", data=clips.frame_index.astype("<i8"))
        for name in ("pts_seconds", "start", "end"):
            file.create_dataset(name, data=getattr(clips, name).astype("<f8"))
        labels = file.create_group("labels")
        for name, column in clips.labels.items():
            if not name or "/" in name or "\0" in name or name == ".":
                raise CacheError(f"{path}: {name!r} cannot be the name of a label")
            label = labels.create_dataset(name, data=column.astype("<f8"))
            label.attrs["unit"] = clips.label_units.get(name, "")
            label.attrs["table_sha256"] = clips.label_tables.get(name, "")
        clip_ids = _encoded(path, "failures", [clip for clip, _ in clips.failures])
        reasons = _encoded(path, "failures", [reason for _, reason in clips.failures])
        kind = np.dtype([("clip_id", _text_type(clip_ids)), ("reason", _text_type(reasons))])
        failures = np.empty(len(clip_ids), dtype=kind)
        failures["clip_id"], failures["reason"] = clip_ids, reasons
        file.create_dataset("failures", data=failures)
    return image, {"thumbnails": 0, "thumbnails_sha256": 0, **offsets}


def _reserve(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Create a contiguous dataset whose space in the file is reserved; return its offset."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind = h5py.h5t.py_create(dtype.newbyteorder("<"), logical=True)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), creation)
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
            f"{path} cannot be written: it needs {size:,} bytes, and {free:,} are free; "
            "make room and start again, or choose another disk"
        )


def _blocks(rows: Any) -> Iterator[NDArray[Any]]:
    step = max(1, (1 << 24) // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
