"""Several caches as one."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache.errors import CacheError
from data.cache.hdf5_reader import CacheMetadata, read_metadata
from data.cache.hdf5_writer import WRITERS
from data.cache.joining import CommonMake
from data.cache.ledger import ledger_path
from data.cache.parts import (
    content_of,
    files_of_cache,
    is_larger_than_a_file,
    write_as_it_fits,
)
from data.cache.row_batches import RowBatches
from data.cache.rows import CacheRow, NewCache, cache_row, survey
from data.cache.verification import is_intact, read_to_copy
from data.columns import Columns, ranges
from data.digests import Digests, DigestTable, digest_of
from data.duplicates import Stretch, share_objects_of_many
from data.files import remove_own_file, require_own_file, temporary_path
from data.versions import common_versions, package_versions

_PLACE = np.dtype([("file", "i4"), ("row", "i4")])


def merge(
    paths: Sequence[Path | str], out: Path | str, *, part_bytes: int | None = None
) -> list[str]:
    """Write the clips of several caches as one, in order.

    Memory holds the features of one clip, and the columns of one file and of what is made of it.

    What is larger than a file should be becomes a folder of parts, and so does what replaces one.
    A clip that is in two of them with the same key is taken once, with its thumbnails if one of
    them has some. Clips of equal content have one object. The ledger of a file that was at
    `out`, and is none of `paths`, is removed.

    Args:
        paths: The caches.
        out: What is written.
        part_bytes: Features and thumbnails of a file of it at most, as for `extract`.

    Returns:
        Sentences about clips that have another object now.

    Raises:
        CacheError: They differ in fingerprint, sampler or decoder (the message names the field) or
            in the shape of the features or the unit of a label, two different clips have one id,
            clips of equal content have two objects, or a row is damaged.
        WriteError: The disk is full or not writable.
        UnsafeFileError: Something else than a file is where the cache or its ledger is.
    """
    out = Path(out)
    require_own_file(ledger_path(out))
    merged, notes = _merged(paths)
    is_input = os.path.abspath(out) in map(os.path.abspath, paths)
    if is_input and out.is_file() and is_larger_than_a_file(merged, part_bytes):
        raise CacheError(
            f"{out} is a file, and all clips together take more than a file should: choose "
            "another output, which becomes a folder of parts"
        )
    write_as_it_fits(out, merged, staging=temporary_path(out), part_bytes=part_bytes)
    if not is_input:
        remove_own_file(ledger_path(out))
    return notes


def is_merge(out: Path | str, paths: Sequence[Path | str]) -> bool:
    """Return whether a cache has, undamaged, the content that `merge` of others would write.

    Raises:
        CacheError: The others cannot be merged, or the cache cannot be read.
    """
    out = Path(out)
    merged, _ = _merged(paths)
    return content_of(out) == merged.content_sha256(out.parent) and is_intact(out)


def _merged(paths: Sequence[Path | str]) -> tuple[NewCache, list[str]]:
    """Return what several caches are as one, and notes about objects."""
    files = _Inputs([file for path in paths for file in files_of_cache(Path(path))])
    if not files.paths:
        raise CacheError("no caches to merge")
    found = _Survey(files)
    objects, notes = found.shared_objects()
    rows = found.rows()
    merged = NewCache(
        rows=rows,
        shape=found.shape,
        dtype=found.dtype,
        identity=found.identity,
        failures=found.failures(),
        versions=common_versions(found.versions) | package_versions(*WRITERS),
        common=survey(rows),
        objects=objects,
    )
    return merged, notes


class _Inputs:
    """The files of caches that are merged; memory holds the columns of those that are in use.

    Attributes:
        paths: The files.
        starts: (files + 1,), the number of the first clip of each file, and of none.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.starts = np.zeros(1, np.int64)
        self._identities: list[str] = []  # of what was first read
        self._open: dict[int, CacheMetadata] = {}

    def first_read(self, file: int) -> CacheMetadata:
        """Read a file, each in its turn.

        Raises:
            CacheError: It cannot be read or trusted.
        """
        metadata = read_to_copy(self.paths[file])
        self._identities.append(metadata.rest_sha256)
        self.starts = np.append(self.starts, self.starts[-1] + len(metadata.clips))
        return metadata

    def having(self, files: Collection[int]) -> Mapping[int, CacheMetadata]:
        """Return what is in some files, and have no others in memory.

        Raises:
            CacheError: One is damaged, or was replaced since.
        """
        self._open = {file: known for file, known in self._open.items() if file in files}
        for file in set(files) - self._open.keys():
            metadata, path = read_metadata(self.paths[file]), self.paths[file]
            if metadata.rest_sha256 != self._identities[file]:
                raise CacheError(f"{path} was replaced meanwhile: start the same command again")
            self._open[file] = metadata
        return self._open

    def file_of(self, number: int) -> int:
        """Return the file of a clip, by its number among the clips of all files."""
        return int(np.searchsorted(self.starts, number, side="right")) - 1

    def stretch(self, number: int, identity: Mapping[str, Any]) -> Stretch:
        """Return what the content of a clip is, by its number among the clips of all files."""
        file = self.file_of(number)
        row = number - int(self.starts[file])
        return cache_row(self.paths[file], self.having({file})[file], row).stretch(identity)


class _MergedRows(RowBatches):
    """The rows of several caches as one.

    Args:
        files: Those of the caches.
        places: (N,), records of the file in which each row is, and its number there.
        thumbnails: Number of a row that has none -> file and row of those of the same clip.
    """

    def __init__(
        self,
        files: _Inputs,
        places: NDArray[Any],
        thumbnails: Mapping[int, tuple[int, int]],
    ) -> None:
        self._files, self._places, self._thumbnails = files, places, thumbnails

    def __len__(self) -> int:
        return len(self._places)

    def _make(self, start: int, stop: int) -> list[CacheRow]:
        thumbnails = {
            number: self._thumbnails[number]
            for number in range(start, stop)
            if number in self._thumbnails
        }
        own = self._places[start:stop].tolist()
        both = *own, *thumbnails.values()
        opened = self._files.having({file for file, _ in both})

        def row_of(file: int, row: int) -> CacheRow:
            return cache_row(self._files.paths[file], opened[file], row)

        made = [row_of(*place) for place in own]
        for number, place in thumbnails.items():
            row = made[number - start]
            made[number - start] = replace(row, thumbnails=row_of(*place).thumbnails)
        return made


class _Survey:
    """What is found by looking at all clips of several caches once.

    Raises:
        CacheError: As for `merge`, but for clips of equal content that have two objects.
    """

    def __init__(self, files: _Inputs) -> None:
        self._files = files
        # The number of a clip among those that are left, digests of its key and of its object.
        record = [("number", "i8"), ("high", "u8"), ("low", "u8"), ("object", "u8")]
        self._known = DigestTable(record)  # by the digest of its id
        self._places = Columns(_PLACE)  # of each clip that is left
        self._clips = 0  # that are left
        self._ends: list[int] = []  # how many there were after each file
        self._has_thumbnails = bytearray()
        self._thumbnails: dict[int, tuple[int, int]] = {}  # of clips whose own row has none
        self._objects: dict[int, str] = {}  # that another row of the same clip has
        self._left = Columns("i8")  # of each row, the number of its clip
        self._failures: dict[str, str] = {}
        self.versions: list[Mapping[str, str]] = []
        self._made = CommonMake()
        self._sources = Digests(self._read())
        (self._rows,) = self._places.finish()

    def _read(self) -> Iterator[int]:
        """Read every file; yield the digest of each clip's source."""
        for file in range(len(self._files.paths)):
            yield from self._read_file(file)

    def _read_file(self, file: int) -> Iterator[int]:
        clips = self._files.first_read(file).clips
        self._made.require(self._files.paths[file], clips)
        if file == 0:
            self.identity = clips.identity
            self.shape, self.dtype = clips.features.shape[1:], clips.features.dtype
        self.versions.append(clips.versions)
        self._failures |= dict(clips.failures)
        columns = clips.clip_id, clips.key, clips.object, clips.source_sha256, clips.has_thumbnails
        places, left = [], []
        for row, (clip_id, key, object, source, pictures) in enumerate(zip(*columns, strict=True)):
            own, key_halves = digest_of(clip_id), divmod(digest_of(key), 1 << 64)
            of_object = digest_of(object or clip_id) >> 64
            known = self._known.get(own)
            if known is None:
                known = self._clips, *key_halves, of_object
                self._known[own] = known
                self._clips += 1
                places.append((file, row))
                self._has_thumbnails.append(bool(pictures))
            elif known[1:3] != key_halves or not key:
                first = self._files.paths[int(np.searchsorted(self._ends, known[0], "right"))]
                path = self._files.paths[file]
                raise CacheError(f"{first} and {path} both have a clip {clip_id}, and they differ")
            else:
                self._note_again(known[0], file, row, pictures=bool(pictures))
                self._objects.pop(known[0], None)
                if of_object != known[3]:
                    self._objects[known[0]] = object or clip_id
            left.append(known[0])
            yield digest_of(source)
        self._places.add(np.array(places, _PLACE))
        self._left.add(np.array(left, np.int64))
        self._ends.append(self._clips)

    def _note_again(self, number: int, file: int, row: int, *, pictures: bool) -> None:
        """Note one more row of a clip, which may have thumbnails that it has not."""
        if pictures and not self._has_thumbnails[number]:
            self._thumbnails[number] = file, row
            self._has_thumbnails[number] = True

    def rows(self) -> _MergedRows:
        """Return the row of each clip that is left."""
        return _MergedRows(self._files, self._rows, self._thumbnails)

    def failures(self) -> list[tuple[str, str]]:
        """Return the clips that are in none of the caches, and why."""
        return [one for one in self._failures.items() if digest_of(one[0]) not in self._known]

    def shared_objects(self) -> tuple[dict[int, str], list[str]]:
        """Return the objects that clips share with others of equal content, and a note about it.

        Returns:
            Number of a clip -> its object, where it is not that of its row; and the notes.

        Raises:
            CacheError: Clips of equal content have two objects.
        """
        shared = share_objects_of_many(
            self._sources,
            lambda number: self._files.stretch(number, self.identity),
            none=digest_of(""),
        )
        if shared.contradictions:
            contradiction = shared.contradictions[0]
            first, second = (
                self._files.paths[self._files.file_of(number)] for number in contradiction.numbers
            )
            raise CacheError(
                f"{first} and {second} do not mix: {contradiction}; give them one object in one of "
                "the caches (heliograph cache label CACHE TABLE)"
            )
        (left,), objects = self._left.finish(), dict(self._objects)
        last = {int(left[row]): row for row in shared.objects}  # of these clips, which says more
        numbers = np.array(sorted(last), np.int64)
        for some in ranges(len(left)) if last else ():
            rows = np.flatnonzero(np.isin(left[some], numbers)) + some.start
            last |= zip(left[rows].tolist(), rows.tolist(), strict=True)
        for row, object in shared.objects.items():
            if last[int(left[row])] == row:
                objects[int(left[row])] = object
        return objects, [shared.note] if shared.note else []
