"""A cache as a folder of parts: several cache files, and an index of them that is written last.

`index.json` says what each part must be; a file that it does not name means nothing. So a reader
sees the old parts or the new ones.

A cache of more than `PART_BYTES` or `PART_CLIPS` is written so, and stays a folder. A folder takes
the place of a file only when it is whole: until then it is somewhere else (`staging`).

Parts may be of any other size. Those that are there stay, but for the last one, which may grow, and
where a clip in them changes; new ones are as large as the largest, unless a size is given.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.cache.content import SpooledColumns
from data.cache.errors import INDEX, CacheError, DamagedCacheError, how_to_replace
from data.cache.features import Features
from data.cache.hdf5_reader import (
    SCHEMA_VERSION,
    CacheMetadata,
    read_metadata,
    read_open_metadata,
    with_rows,
)
from data.cache.hdf5_writer import write_features
from data.cache.joining import join
from data.cache.row_content import RowContent
from data.cache.rows import NewCache, content_of_rows, write_rows
from data.cache.seal import Seal, open_cache_file
from data.files import (
    UnsafeFileError,
    atomic_write,
    make_folder,
    open_regular,
    remove_own_file,
    sync_folder,
    write_error,
)
from data.versions import other_schema

PART_BYTES = 64_000_000_000
"""Features and thumbnails of a file, or of a part, at most."""
PART_CLIPS = 100_000
"""Clips of a file, or of a part, at most: while one is written, its columns are in memory."""
_MOST_BYTES = 1 << 26
_NAME = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,199}\.h5")
_HASH = re.compile(r"[0-9a-f]{64}")
_OWN_NAME = re.compile(r"[0-9a-f]{32}\.h5")  # of the parts that are written here


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

    def is_there(self) -> bool:
        """Return whether the file of the part has the seal that the index says."""
        with suppress(CacheError), open_cache_file(self.path) as file:
            seal = Seal.read(file)
            return seal is not None and seal.rest_sha256 == self.rest_sha256
        return False

    def read(self) -> tuple[CacheMetadata, Features]:
        """Read the part; its rows stay in the file.

        Raises:
            DamagedCacheError: It is damaged or gone, or is not what the index says.
            CacheError: It cannot be read.
        """
        if not self.path.is_file():
            what = "is no file, but" if os.path.lexists(self.path) else "is gone,"
            raise DamagedCacheError(self.path, f"{self.path} {what} a part that {INDEX} names")
        with open_cache_file(self.path) as file:
            try:
                metadata = read_open_metadata(self.path, file)
            except DamagedCacheError:
                raise
            except CacheError as error:
                seal = Seal.read(file)
                if seal is not None and seal.rest_sha256 == self.rest_sha256:
                    raise
                raise self._is_another() from error
            found = (len(metadata.clips), metadata.rest_sha256, metadata.content_sha256)
            if found != (self.clips, self.rest_sha256, self.content_sha256):
                raise self._is_another()
            return metadata, with_rows(self.path, file, metadata, mapped=True)

    def _is_another(self) -> DamagedCacheError:
        return DamagedCacheError(self.path, f"{self.path} is not the part that {INDEX} names")


class PartFiles:
    """The files of which parts are made, and the parts themselves: here all are on this machine."""

    @contextmanager
    def having(self, paths: Collection[Path]) -> Iterator[None]:
        """Have the features in files during a block."""
        yield

    def keep_part(self, path: Path) -> None:
        """Do with a part that was written what becomes of it."""


HERE = PartFiles()


@dataclass(frozen=True)
class Index:
    """The parts of a folder in order, and the identity of the content of them all."""

    parts: Sequence[Part]
    content_sha256: str


def require_parts(folder: Path) -> None:
    """Raise CacheError for a folder that is no folder of parts, with what it is instead.

    Raises:
        DamagedCacheError: It is one whose index is gone.
    """
    if os.path.lexists(folder / INDEX):
        return
    refuse_lone_parts(folder)
    if (folder / "config.json").is_file():
        what = "it is a run, and its caches are named in its config.json"
    elif (folder / "manifest.jsonl").is_file():
        what = "it is a folder of clips, so extract their features first"
    else:
        what = f"it is a folder, and not one of parts, which has an {INDEX}"
    raise CacheError(f"{folder} is no cache: {what}")


def refuse_lone_parts(path: Path) -> None:
    """Raise DamagedCacheError for a folder of parts whose index is gone."""
    if path.is_dir() and not os.path.lexists(path / INDEX) and own_parts(path):
        index = path / INDEX
        raise DamagedCacheError(index, f"{index} is gone, which names the parts in their order")


def own_parts(folder: Path) -> list[Path]:
    """Return what has the name of a part that is written here, sorted by it."""
    return sorted(path for path in folder.glob("*.h5") if is_own_name(path.name))


def exists(path: Path) -> bool:
    """Return whether there is a cache at `path`, a file or a folder of parts, sound or not."""
    return path.is_file() or (path / INDEX).is_file()


def read_index(folder: Path) -> Index:
    """Read the index of a folder of parts.

    Raises:
        DamagedCacheError: It is damaged.
        CacheError: There is none, or it cannot be read.
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
        again = f"heliograph cache verify --repair {shlex.quote(str(folder))}"
        raise CacheError(f"{error}; remove it, and {again} makes it again") from error
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise DamagedCacheError(path, f"{path} is damaged") from error
    if not parts:
        raise DamagedCacheError(path, f"{path} is damaged: it names no part")
    return Index(parts, content)


def files_of_index(folder: Path) -> list[Path]:
    """Return the files that the index of a folder names, whatever is in them.

    Raises:
        CacheError: The index is damaged.
    """
    return [part.path for part in read_index(folder).parts]


def files_of_cache(path: Path, *, but_lost: bool = False) -> list[Path]:
    """Return the files of a cache: itself, or the parts of a folder, as the index says.

    Args:
        path: The cache.
        but_lost: Leave out the parts of a folder that are lost (`lost_parts`).

    Raises:
        CacheError: The index or a part is damaged.
    """
    if not path.is_dir():
        return [path]
    index = read_index(path)
    lost = lost_parts(index)
    if lost and not but_lost:
        lost[0].read()  # it raises
    return [part.path for part in index.parts if part not in lost]


def columns_of(path: Path) -> Features:
    """Return the clips of a cache without their features; of a folder, those of parts not lost.

    Raises:
        CacheError: The cache cannot be read, or every part of it is lost.
    """
    tables = [read_metadata(file).clips for file in files_of_cache(path, but_lost=True)]
    if not tables:
        raise CacheError(f"every part of {path} is gone or damaged; {how_to_replace(path)}")
    return join(tables) if len(tables) > 1 else tables[0]


def lost_parts(index: Index) -> list[Part]:
    """Return the parts that are gone, or damaged outside their features.

    Raises:
        CacheError: A part cannot be read for another reason.
    """
    lost = []
    for part in index.parts:
        try:
            part.read()
        except DamagedCacheError:
            lost.append(part)
    return lost


def write_parts(folder: Path, clips: Features, clips_per_part: int) -> None:
    """Write a cache as a folder of parts; those of an older index are removed.

    Raises:
        WriteError: The disk is full or not writable; an older index and its parts stay.
        CacheError: The schema cannot hold something.
    """
    older, parts = _older(folder), []
    for start in range(0, max(1, len(clips)), clips_per_part):
        part = clips.select(range(start, min(start + clips_per_part, len(clips))))
        part = replace(part, failures=() if start else clips.failures)
        path = new_part(folder, part.content_sha256, older)
        seal = write_features(path, part)
        parts.append(Part(path, len(part), seal.rest_sha256, part.content_sha256))
    _publish(folder, Index(parts, clips.content_sha256), older)


def _older(folder: Path) -> dict[Path, Part]:
    """Return the parts that the index of a folder names; none if it is damaged, or there is none.

    They may be gone.
    """
    with suppress(CacheError):
        return {part.path: part for part in read_index(folder).parts}
    return {}


def _publish(folder: Path, index: Index, older: Iterable[Path]) -> None:
    """Write the index of a folder if it changes, and then remove parts that it does not name."""
    write_index(folder, index)
    remove_parts({*older, *own_parts(folder)} - {part.path for part in index.parts})


def remove_parts(paths: Iterable[Path]) -> None:
    """Remove files that no index names; a folder of their name stays, as it means nothing."""
    for path in paths:
        with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
            path.unlink()


def write_index(folder: Path, index: Index) -> None:
    """Write the index of a folder if it changes.

    Raises:
        WriteError: The disk is full or not writable.
    """
    stated = {
        "schema_version": SCHEMA_VERSION,
        "content_sha256": index.content_sha256,
        "parts": [part.to_json() for part in index.parts],
    }
    text, path = json.dumps(stated, indent=1), folder / INDEX
    if not path.is_file() or path.read_bytes() != text.encode():
        atomic_write(path, text)


def is_larger_than_a_file(new: NewCache, part_bytes: int | None = None) -> bool:
    """Return whether a cache has more clips, or bytes of features, than a file should.

    Args:
        new: The cache.
        part_bytes: How many bytes that is; None: `PART_BYTES`.
    """
    return len(new) > PART_CLIPS or exceeds_a_file(len(new) * new.row_bytes, part_bytes)


def exceeds_a_file(size: int, part_bytes: int | None = None) -> bool:
    """Return whether these are more bytes than a file should have."""
    return size > (PART_BYTES if part_bytes is None else part_bytes)


def new_part(folder: Path, content: str, older: Collection[Path]) -> Path:
    """Return how a part of this content is called: never as an older one, which may be read."""
    while (path := folder / f"{content[:32]}.h5") in older:
        content = hashlib.sha256(content.encode()).hexdigest()
    return path


def is_own_name(name: str) -> bool:
    """Return whether a part that is written here may have this name."""
    return _OWN_NAME.fullmatch(name) is not None


def write_as_it_fits(
    path: Path,
    new: NewCache,
    *,
    staging: Path,
    files: PartFiles = HERE,
    part_bytes: int | None = None,
) -> None:
    """Write a cache as a file, or as a folder of parts.

    It is a folder where it is larger than a file should be, or where `path` is one. A part whose
    rows are where they were stays.

    Args:
        path: The file or folder.
        new: What is to be in it.
        staging: Where a folder is made that is to take the place of a file, or of nothing.
        files: Those in which the rows are, and the parts.
        part_bytes: Features and thumbnails of a file, or of a part, at most; None: as the parts
            that are there, or `PART_BYTES`.

    Raises:
        WriteError: The disk is full or not writable; what was at `path` stays as it was.
        CacheError: A row is damaged.
    """
    if path.is_dir():
        require_parts(path)
        _write_part_rows(path, new, files, part_bytes)
    elif is_larger_than_a_file(new, part_bytes):
        _remove_folder(staging)
        make_folder(staging)
        _write_part_rows(staging, new, files, part_bytes)
        remove_own_file(path)
        _move(staging, path)
    else:
        clips, rows = new.part(0, len(new))
        with files.having({row.path for row in rows}):
            write_rows(path, clips, rows)


def finish_staging(staging: Path, path: Path) -> None:
    """Put a folder in its place that a killed `write_as_it_fits` has made; remove half of one."""
    if (staging / INDEX).exists() and not os.path.lexists(path):
        _move(staging, path)
    else:
        _remove_folder(staging)


def _move(staging: Path, path: Path) -> None:
    try:
        os.rename(staging, path)
        sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error


def _remove_folder(folder: Path) -> None:
    if not os.path.lexists(folder):
        return
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise write_error(folder, error) from error


def _write_part_rows(folder: Path, new: NewCache, files: PartFiles, part_bytes: int | None) -> None:
    older, parts, start = _older(folder), list[Part](), 0
    count = max(1, min(PART_CLIPS, (part_bytes or PART_BYTES) // max(1, new.row_bytes)))
    if part_bytes is None and len(older) > 1:
        count = max(1, min(count, max(part.clips for part in older.values())))
    with SpooledColumns(folder) as columns:
        while start < len(new) or not parts:
            part, (clips, rows) = _next_part(new, start, older, count)
            new.spool(columns, clips, rows)
            if part is None:
                content = content_of_rows(clips, rows)
                path = new_part(folder, content, older)
                with files.having({row.path for row in rows}):
                    seal = write_rows(path, clips, rows)
                    files.keep_part(path)
                part = Part(path, len(rows), seal.rest_sha256, content)
            parts.append(part)
            start += len(rows)
            del clips, rows  # before the next part takes as much memory
        _publish(folder, Index(parts, new.hash(columns)), older)


def _next_part(
    new: NewCache, start: int, older: dict[Path, Part], count: int
) -> tuple[Part | None, tuple[Features, Sequence[RowContent]]]:
    """Return the clips of the next part and their rows, with the older part that is just these.

    Any of these that is followed by others is full, whatever size parts have now; the last one
    may grow.
    """
    first = new.rows[start : start + 1]
    known = older.get(first[0].path) if first else None
    is_last = known is None or known is next(reversed(older.values()))
    for size in (count,) if known is None or is_last else (known.clips, count):
        chosen = None  # as above
        chosen = new.part(start, min(start + size, len(new)))
        if known and _is_part(known, *chosen):
            return known, chosen
    assert chosen is not None
    return None, chosen


def _is_part(part: Part, clips: Features, rows: Sequence[RowContent]) -> bool:
    """Return whether rows are all those of a part, and nothing of them changes."""
    in_place = all(row.path == part.path and row.number == n for n, row in enumerate(rows))
    return in_place and part.content_sha256 == content_of_rows(clips, rows)


def content_of(path: Path) -> str:
    """Return the identity of the content of a cache, as it or the index of its parts says.

    Raises:
        CacheError: The cache or the index cannot be read.
    """
    return (read_index if path.is_dir() else read_metadata)(path).content_sha256


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError
    return text
