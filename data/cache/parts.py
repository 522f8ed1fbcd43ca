"""A cache as a folder of parts: several cache files, and an index of them that is written last.

`index.json` says what each part must be; a file that it does not name means nothing. So a reader
sees the old parts or the new ones.
"""

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.cache.errors import INDEX, CacheError
from data.cache.features import Features
from data.cache.hdf5_reader import (
    SCHEMA_VERSION,
    CacheMetadata,
    in_memory,
    read_open_metadata,
    with_rows,
)
from data.cache.hdf5_writer import write_features
from data.cache.joining import join, require_same_make
from data.cache.seal import open_cache_file
from data.files import UnsafeFileError, atomic_write, open_regular, version_of
from data.versions import other_schema

_MOST_BYTES = 1 << 26
_NAME = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,199}\.h5")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Part:
    """A file of the folder, as the index describes it."""

    path: Path
    clips: int
    rest_sha256: str
    content_sha256: str

    @classmethod
    def from_json(cls, folder: Path, entry: Any) -> "Part":
        """Return a part that the index of a folder names.

        Raises:
            KeyError, TypeError, ValueError: The entry is damaged.
        """
        if not isinstance(entry["clips"], int):
            raise TypeError
        hashes = [_matching(_HASH, entry[name]) for name in ("rest_sha256", "content_sha256")]
        return cls(folder / _matching(_NAME, entry["name"]), entry["clips"], *hashes)

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the index."""
        return {
            "name": self.path.name,
            "clips": self.clips,
            "rest_sha256": self.rest_sha256,
            "content_sha256": self.content_sha256,
        }

    def read(self) -> tuple[CacheMetadata, Features]:
        """Read the part; its rows stay in the file.

        Raises:
            CacheError: It is damaged, or is not what the index says.
        """
        with open_cache_file(self.path) as file:
            metadata = read_open_metadata(self.path, file)
            found = (len(metadata.clips), metadata.rest_sha256, metadata.content_sha256)
            if found != (self.clips, self.rest_sha256, self.content_sha256):
                raise CacheError(f"{self.path} is not the part that {INDEX} names")
            return metadata, with_rows(self.path, file, metadata, mapped=True)


@dataclass(frozen=True)
class Index:
    """The parts of a folder in order, and the identity of the content of them all."""

    parts: Sequence[Part]
    content_sha256: str


def require_parts(folder: Path) -> None:
    """Raise CacheError for a folder that is no folder of parts, with what it is instead."""
    if os.path.lexists(folder / INDEX):
        return
    if (folder / "config.json").is_file():
        what = "it is a run, and its caches are named in its config.json"
    elif (folder / "manifest.jsonl").is_file():
        what = "it is a folder of clips, so extract their features first"
    else:
        what = f"it is a folder, and not one of parts, which has an {INDEX}"
    raise CacheError(f"{folder} is no cache: {what}")


def read_index(folder: Path) -> Index:
    """Read the index of a folder of parts.

    Raises:
        CacheError: There is none, or it is damaged.
    """
    require_parts(folder)
    path = folder / INDEX
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > _MOST_BYTES:
                raise CacheError(f"{path} has more than {_MOST_BYTES:,} bytes")
            stored = json.loads(file.read())
        if stored["schema_version"] != SCHEMA_VERSION:
            raise CacheError(other_schema(path, stored["schema_version"], str(SCHEMA_VERSION)))
        parts = [Part.from_json(folder, entry) for entry in stored["parts"]]
        content = _matching(_HASH, stored["content_sha256"])
    except UnsafeFileError as error:
        raise CacheError(str(error)) from error
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise CacheError(f"{path} is damaged") from error
    if not parts:
        raise CacheError(f"{path} is damaged: it names no part")
    return Index(parts, content)


def files_of_index(folder: Path) -> list[Path]:
    """Return the files that the index of a folder names, whatever is in them.

    Raises:
        CacheError: The index is damaged.
    """
    return [part.path for part in read_index(folder).parts]


def files_of_cache(path: Path) -> list[Path]:
    """Return the files of a cache: itself, or the parts of a folder, as the index says.

    Raises:
        CacheError: The index or a part is damaged.
    """
    if not path.is_dir():
        return [path]
    index = read_index(path)
    for part in index.parts:
        part.read()
    return [part.path for part in index.parts]


def read_parts(folder: Path, *, mapped: bool | None) -> Features:
    """Read a folder of parts as one cache; its features stay in their files only if `mapped`.

    Raises:
        CacheError: The index or a part is damaged; the message names the file.
    """
    while True:
        version = version_of(folder / INDEX)
        try:
            return _read_parts(folder, mapped=mapped)
        except CacheError:
            if version == version_of(folder / INDEX):
                raise  # otherwise the parts were replaced meanwhile


def _read_parts(folder: Path, *, mapped: bool | None) -> Features:
    index = read_index(folder)
    read = [part.read() for part in index.parts]
    clips = [features for _, features in read]
    require_same_make(
        [(part.path, features) for part, features in zip(index.parts, clips, strict=True)]
    )
    try:
        joined = join(clips)
    except CacheError as error:
        raise CacheError(f"{folder}: {error}") from error
    features = [sha256 for metadata, _ in read for sha256 in metadata.features.sha256]
    thumbnails = [
        sha256
        for metadata, part in read
        for sha256 in (metadata.thumbnails.sha256 if part.thumbnails.size else [""] * len(part))
    ]
    content = joined.hash_content(features, thumbnails)
    if content != index.content_sha256:
        raise CacheError(f"{folder / INDEX} is damaged: its parts together are something else")
    if not mapped:
        joined = replace(joined, features=in_memory(folder, joined.features))
    joined.set_content_sha256(content)
    return joined


def write_parts(folder: Path, clips: Features, clips_per_part: int) -> None:
    """Write a cache as a folder of parts; those of an older index are removed.

    Raises:
        WriteError: The disk is full or not writable; an older index and its parts stay.
        CacheError: The schema cannot hold something.
    """
    older: list[Path] = []
    with suppress(CacheError):
        older = [part.path for part in read_index(folder).parts]
    parts = []
    for start in range(0, max(1, len(clips)), clips_per_part):
        part = clips.select(range(start, min(start + clips_per_part, len(clips))))
        part = replace(part, failures=() if start else clips.failures)
        path = folder / f"{part.content_sha256[:32]}.h5"
        seal = write_features(path, part)
        parts.append(Part(path, len(part), seal.rest_sha256, part.content_sha256))
    index = {
        "schema_version": SCHEMA_VERSION,
        "content_sha256": clips.content_sha256,
        "parts": [part.to_json() for part in parts],
    }
    atomic_write(folder / INDEX, json.dumps(index, indent=1))
    for path in set(older) - {part.path for part in parts}:
        path.unlink(missing_ok=True)


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError
    return text
