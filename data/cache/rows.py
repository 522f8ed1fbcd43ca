"""Rows from several caches written as one new file, with bounded memory."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache.content import SpooledColumns
from data.cache.errors import CacheError
from data.cache.features import Features, stretch_of
from data.cache.hdf5_reader import CacheMetadata, blank_features
from data.cache.hdf5_writer import write_cache
from data.cache.row_content import RowContent, RowPlace, sha256_of_rows
from data.cache.seal import Seal, open_cache_file
from data.clips import Clip
from data.duplicates import Stretch

_ROWS_AT_ONCE = 1 << 13  # whose columns are hashed together
_LISTS = ("clip_id", "object", "scenario", "source_sha256", "key")


@dataclass(frozen=True, slots=True)
class CacheRow:
    """One clip of a cache to be written: its identity, and where its features are.

    They are row `number` of the cache `path`; `thumbnails` is None where the clip has none.
    `tables` has the SHA-256 of the table that a label came from, where it is known; None: it is
    that of the clip.
    """

    clip: Clip
    path: Path
    number: int
    metadata: CacheMetadata
    thumbnails: RowPlace | None
    tables: Mapping[str, str] | None

    def table_of(self, label: str) -> str:
        """Return the SHA-256 of the table that a label came from, empty where it is unknown."""
        return self.clip.table_sha256 if self.tables is None else self.tables.get(label, "")

    @property
    def frame_index(self) -> NDArray[np.int64]:
        """The frames (F,) of the clip that the backbone saw."""
        return self.metadata.clips.frame_index[self.number]

    @property
    def pts_seconds(self) -> NDArray[np.float64]:
        """Their times (F,)."""
        return self.metadata.clips.pts_seconds[self.number]

    @property
    def source_sha256(self) -> str:
        """The hash of the clip's file."""
        return self.metadata.clips.source_sha256[self.number]

    @property
    def key(self) -> str:
        """The hash of all that the features depend on."""
        return self.metadata.clips.key[self.number]

    @property
    def content(self) -> RowContent:
        """Where its features and thumbnails are."""
        features = RowPlace(self.path, self.metadata.features, self.number)
        return RowContent(self.clip.id, features, self.thumbnails)

    @classmethod
    def from_metadata(
        cls,
        clip: Clip,
        path: Path,
        metadata: CacheMetadata,
        number: int,
        tables: Mapping[str, str] | None = None,
    ) -> "CacheRow":
        """Return row `number` of the cache `path`, with the identity and labels of `clip`."""
        clips = metadata.clips
        has_thumbnails = clips.thumbnails.size and not clips.without_thumbnails[number]
        return cls(
            clip=clip,
            path=path,
            number=number,
            metadata=metadata,
            thumbnails=RowPlace(path, metadata.thumbnails, number) if has_thumbnails else None,
            tables=tables,
        )

    def relabelled(self, clip: Clip, tables: Mapping[str, str] | None = None) -> "CacheRow":
        """Return the row with the object, scenario, labels and units that `clip` says."""
        said = ("object", "scenario", "labels", "units", "table_sha256")
        own = replace(self.clip, **{name: getattr(clip, name) for name in said})
        return replace(self, clip=own, tables=tables)

    def stretch(self, identity: Mapping[str, Any]) -> Stretch:
        """Return what the content of the clip is, of a cache of this identity."""
        seconds = [np.nan if one is None else one for one in (self.clip.start, self.clip.end)]
        return stretch_of(
            identity,
            clip_id=self.clip.id,
            object=self.clip.object,
            source_sha256=self.source_sha256,
            key=self.key,
            seconds=(seconds[0], seconds[1]),
            pts_seconds=self.pts_seconds,
        )


def cache_rows(path: Path, metadata: CacheMetadata) -> Iterator[CacheRow]:
    """Yield all rows of a cache, with the identities and labels that are in it."""
    for number in range(len(metadata.clips)):
        yield cache_row(path, metadata, number)


def cache_row(path: Path, metadata: CacheMetadata, number: int) -> CacheRow:
    """Return a row of a cache, with the identity and labels that are in it."""
    clips = metadata.clips
    clip_id = clips.clip_id[number]
    clip = Clip(
        id=clip_id,
        path=Path(clip_id),
        start=_seconds(clips.start[number]),
        end=_seconds(clips.end[number]),
        object=clips.object[number],
        scenario=clips.scenario[number],
        labels={name: float(column[number]) for name, column in clips.labels.items()},
        units=clips.label_units,
    )
    return CacheRow.from_metadata(clip, path, metadata, number, clips.label_tables)


def with_known_labels(clip: Clip, before: CacheRow | None) -> tuple[Clip, Mapping[str, str] | None]:
    """Return a clip with what the cache knows and it does not say, and the tables of its labels.

    A table is the truth about its clips, unless it is a mere list of them.
    """
    says = clip.labels or clip.has_object or clip.scenario
    if before is None or (clip.table_sha256 and says):
        return clip, None
    known = before.clip
    labels = clip.labels or known.labels
    units = {**known.units, **clip.units}
    clip = replace(
        clip,
        object=clip.object if clip.has_object else known.object,
        scenario=clip.scenario or known.scenario,
        labels=labels,
        units={label: unit for label, unit in units.items() if label in labels},
    )
    return clip, before.tables


def _seconds(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


@dataclass(frozen=True)
class CommonColumns:
    """What the rows of a new cache have in common.

    Attributes:
        labels: The names of the labels that some row has.
        units: Label -> unit, where it is known.
        tables: Label -> table, where all of its known values came from one.
        thumbnails: Shape (F, h, w) of those that there are, if it is one; else zeros.
        frames: How many frames a row has at most.
    """

    labels: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    thumbnails: tuple[int, ...] = (0, 0, 0)
    frames: int = 0


class RowSurvey:
    """Finds out what rows have in common, which come one after the other."""

    def __init__(self) -> None:
        self._labels: dict[str, None] = {}
        self._units: dict[str, tuple[str, str]] = {}  # label -> its unit, and the first clip
        self._known: dict[str, set[str]] = {}  # label -> tables of its known values
        self._unknown: dict[str, set[str]] = {}
        self._thumbnails: set[tuple[int, ...]] = set()
        self._frames = 0

    def add(self, row: CacheRow) -> None:
        """Add a row.

        Raises:
            CacheError: A label has two units.
        """
        clip = row.clip
        for label, value in clip.labels.items():
            self._labels[label] = None
            of_label = self._unknown if isnan(value) else self._known
            of_label.setdefault(label, set()).add(row.table_of(label))
        for label, unit in clip.units.items():
            known, first = self._units.setdefault(label, (unit, clip.id))
            if known != unit:
                raise CacheError(
                    f"{label} is in {known!r} for {first} and in {unit!r} for "
                    f"{clip.id}: a cache has one unit of a label; name all its clips in one "
                    "table, or write another cache"
                )
        if row.thumbnails is not None:
            self._thumbnails.add(row.thumbnails.shape)
        self._frames = max(self._frames, len(row.frame_index))

    def common(self) -> CommonColumns:
        """Return what the rows so far have in common."""
        tables = self._unknown | self._known
        return CommonColumns(
            labels=tuple(self._labels),
            units={label: unit for label, (unit, _) in self._units.items()},
            tables={label: next(iter(one)) for label, one in tables.items() if len(one) == 1},
            thumbnails=next(iter(self._thumbnails)) if len(self._thumbnails) == 1 else (0, 0, 0),
            frames=self._frames,
        )


def survey(rows: Iterable[CacheRow]) -> CommonColumns:
    """Return what rows have in common.

    Raises:
        CacheError: A label has two units.
    """
    found = RowSurvey()
    for row in rows:
        found.add(row)
    return found.common()


def stack_rows(
    rows: Sequence[CacheRow],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    identity: Mapping[str, Any],
    failures: Sequence[tuple[str, str]],
    versions: Mapping[str, str],
) -> Features:
    """Return these rows as one cache whose features (N, *shape) have no content yet.

    It has thumbnails if some row has, and all that there are have one size. The table of a label is
    that of all rows where its value is known, if they have one.

    Raises:
        CacheError: A label has two units.
    """
    new = NewCache(
        rows=rows,
        shape=shape,
        dtype=dtype,
        identity=identity,
        failures=failures,
        versions=versions,
        common=survey(rows),
    )
    return new.part(0, len(rows))[0]


@dataclass(frozen=True)
class NewCache:
    """A cache that is to be written, of which memory holds the columns of a few clips at a time.

    Attributes:
        rows: What is in it, in order.
        shape: (T, D) of the features of a row.
        dtype: Their type.
        identity: Fingerprint, sampler and decoder.
        failures: (clip id, reason) of clips that are not in it.
        versions: Of packages, to record.
        common: What the rows have in common.
        objects: Number of a row -> its object, where that is not the clip's.
    """

    rows: Sequence[CacheRow]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    identity: Mapping[str, Any]
    failures: Sequence[tuple[str, str]]
    versions: Mapping[str, str]
    common: CommonColumns
    objects: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def row_bytes(self) -> int:
        """Bytes of features and thumbnails of a row."""
        return math.prod(self.shape) * self.dtype.itemsize + math.prod(self.common.thumbnails)

    def part(self, start: int, stop: int) -> tuple[Features, Sequence[RowContent]]:
        """Return some clips, their features without content, and their rows.

        Failures are with the last clip of all: a part that is followed by others stays as it is.
        """
        columns: dict[str, Any] = {name: [] for name in _LISTS}
        labels = {name: np.full(stop - start, np.nan) for name in self.common.labels}
        frames = np.full((stop - start, self.common.frames), -1, np.int64)
        times = np.full((stop - start, self.common.frames), np.nan)
        ends = np.full((stop - start, 2), np.nan)
        rows = []
        for at in range(stop - start):
            row = self.rows[start + at]
            clip = row.clip
            rows.append(row.content)
            object = self.objects.get(start + at, clip.object)
            values = clip.id, object, clip.scenario, row.source_sha256, row.key
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
            for name, number in clip.labels.items():
                labels[name][at] = number
            ends[at] = clip.start, clip.end
            frames[at, : len(row.frame_index)] = row.frame_index
            times[at, : len(row.pts_seconds)] = row.pts_seconds
        clips = Features(
            features=blank_features((len(rows), *self.shape), self.dtype),
            labels=labels,
            frame_index=frames,
            pts_seconds=times,
            start=ends[:, 0],
            end=ends[:, 1],
            label_units=self.common.units,
            label_tables=self.common.tables,
            thumbnails=blank_features((len(rows), *self.common.thumbnails), np.dtype(np.uint8)),
            without_thumbnails=np.array([row.thumbnails is None for row in rows], dtype=bool),
            failures=self.failures if stop >= len(self) else (),
            versions=self.versions,
            **columns,
            **self.identity,
        )
        return clips, rows

    def content_sha256(self, folder: Path) -> str:
        """Return the identity of the content; columns go to files in `folder` meanwhile.

        Raises:
            WriteError: The disk is full or not writable.
        """
        with SpooledColumns(folder) as columns:
            for start in range(0, len(self), _ROWS_AT_ONCE):
                self.spool(columns, *self.part(start, min(start + _ROWS_AT_ONCE, len(self))))
            return self.hash(columns)

    def spool(self, columns: SpooledColumns, clips: Features, rows: Sequence[RowContent]) -> None:
        """Add the columns of a part to those of the parts before it."""
        features, thumbnails = sha256_of_rows(rows)
        lists = clips.hashed_lists(features, thumbnails)
        shown = thumbnails if math.prod(self.common.thumbnails) else ()
        columns.add({**lists, "thumbnails": shown}, clips.hashed_arrays())

    def hash(self, columns: SpooledColumns) -> str:
        """Return the identity of the content, all parts being among the columns."""
        nothing, _ = self.part(len(self), len(self))
        frames = self.common.frames if len(self) else 0
        shapes = (self.shape, self.common.thumbnails, (frames,), (frames,))
        stated = nothing.stated() | {"shapes": [[len(self), *shape] for shape in shapes]}
        if not len(self):
            return nothing.hash_content((), ())
        return columns.hash(stated)


def write_rows(
    path: Path,
    clips: Features,
    rows: Sequence[RowContent],
    *,
    sound: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Seal:
    """Write the cache `clips` of `stack_rows`, and return its seal.

    Memory holds the features of one clip at a time. `sound` is as for `write_cache`.

    Raises:
        WriteError: The disk is full or not writable.
        CacheError: A row is damaged.
    """
    return write_cache(path, clips, _features_of(rows), _thumbnails_of(rows, clips), sound=sound)


def _features_of(rows: Sequence[RowContent]) -> Iterator[NDArray[Any]]:
    """Yield the features of rows; those that follow each other in a file are read at one go."""
    for path, own in groupby(rows, key=lambda row: row.path):
        with open_cache_file(path) as file:
            for row in own:
                yield row.read(file)


def _thumbnails_of(rows: Sequence[RowContent], clips: Features) -> Iterator[NDArray[np.uint8]]:
    """Yield the thumbnails of rows, black ones where there are none."""
    none = np.zeros((1, *clips.thumbnails.shape[1:]), np.uint8)
    for path, own in groupby(rows, key=lambda row: row.thumbnails and row.thumbnails.path):
        if path is None:
            yield from (none for _ in own)
            continue
        with open_cache_file(path) as file:
            for row in own:
                yield row.read_thumbnails(file)


def content_of_rows(clips: Features, rows: Sequence[RowContent]) -> str:
    """Return the identity of the content of the cache `clips` of `stack_rows`."""
    return clips.hash_content(*sha256_of_rows(rows))
