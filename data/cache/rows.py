"""Rows from several caches written as one new file, with bounded memory."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache.blocks import StoredRows, read_rows
from data.cache.errors import CacheError, DamagedCacheError
from data.cache.features import Features, row_sha256
from data.cache.hdf5_reader import CacheMetadata, blank_features
from data.cache.hdf5_writer import write_cache
from data.cache.seal import Seal, open_cache_file
from data.clips import Clip


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where one row is: row `number` of the rows of a file."""

    path: Path
    rows: StoredRows
    number: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the row."""
        return self.rows.shape[1:]

    @property
    def offset(self) -> int:
        """Where in the file the row begins, in bytes."""
        return self.rows.offset + self.number * self.rows.row_bytes

    @property
    def sha256(self) -> str:
        """The SHA-256 of the row, empty if the whole file has been checked."""
        return self.rows.sha256[self.number] if self.rows.sha256 else ""

    def content_sha256(self) -> str:
        """Return the SHA-256 of the row as it was written, or, where none was kept, as it is."""
        return self.sha256 or row_sha256(self.read())[0]

    def read(self) -> NDArray[Any] | None:
        """Read the row (1, ...); None if it is not the one that was written.

        Raises:
            CacheError: The file cannot be read.
        """
        row = np.empty((1, *self.shape), self.rows.dtype)
        with open_cache_file(self.path) as file:
            try:
                read_rows(file.fileno(), self.offset, row, None)
            except EOFError as error:
                raise CacheError(f"{self.path} ends before its features do") from error
        content, sha256 = row.data if row.size else b"", self.sha256
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            return None
        return row


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
    def features(self) -> RowPlace:
        """Where its features are."""
        return RowPlace(self.path, self.metadata.features, self.number)

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
        has_thumbnails = metadata.clips.has_thumbnails[number]
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

    def read(self) -> NDArray[Any]:
        """Read the features (1, T, D).

        Raises:
            CacheError: They are not those that were written.
        """
        return self._read(self.features, "features")

    def read_thumbnails(self) -> NDArray[np.uint8]:
        """Read the thumbnails (1, F, h, w).

        Raises:
            CacheError: There are none, or they are not those that were written.
        """
        if self.thumbnails is None:
            raise CacheError(f"{self.path} has no thumbnails")
        return self._read(self.thumbnails, "thumbnails")

    def _read(self, place: RowPlace, what: str) -> NDArray[Any]:
        row = place.read()
        if row is None:
            raise DamagedCacheError(
                self.path, f"{self.path}: the {what} of {self.clip.id} are damaged"
            )
        return row


def cache_rows(path: Path, metadata: CacheMetadata) -> Iterator[CacheRow]:
    """Yield all rows of a cache, with the identities and labels that are in it."""
    clips = metadata.clips
    for number, clip_id in enumerate(clips.clip_id):
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
        yield CacheRow.from_metadata(clip, path, metadata, number, clips.label_tables)


def relabelled(
    rows: Sequence[CacheRow], clips: Sequence[Clip], *, prune: bool = False
) -> list[CacheRow]:
    """Return rows with what `clips` say of those with their ids; `prune` removes the others."""
    said = {clip.id: clip for clip in clips}
    return [
        row.relabelled(said[row.clip.id]) if row.clip.id in said else row
        for row in rows
        if row.clip.id in said or not prune
    ]


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
    label_names = dict.fromkeys(name for row in rows for name in row.clip.labels)
    thumbnails = {row.thumbnails.shape for row in rows if row.thumbnails}
    (frames,) = thumbnails if len(thumbnails) == 1 else [(0, 0, 0)]
    return Features(
        features=blank_features((len(rows), *shape), dtype),
        clip_id=[row.clip.id for row in rows],
        object=[row.clip.object for row in rows],
        scenario=[row.clip.scenario for row in rows],
        labels={
            name: np.array([row.clip.labels.get(name, np.nan) for row in rows])
            for name in label_names
        },
        frame_index=_padded([row.frame_index for row in rows], np.int64(-1)),
        pts_seconds=_padded([row.pts_seconds for row in rows], np.float64(np.nan)),
        source_sha256=[row.source_sha256 for row in rows],
        key=[row.key for row in rows],
        start=np.array([row.clip.start for row in rows], dtype=np.float64),
        end=np.array([row.clip.end for row in rows], dtype=np.float64),
        label_units=_units(rows),
        label_tables=_tables(rows),
        thumbnails=blank_features((len(rows), *frames), np.dtype(np.uint8)),
        without_thumbnails=np.array([row.thumbnails is None for row in rows], dtype=bool),
        failures=failures,
        versions=versions,
        **identity,
    )


def _units(rows: Sequence[CacheRow]) -> dict[str, str]:
    """Return the unit of each label; raises CacheError where it has two."""
    first: dict[str, CacheRow] = {}
    for row in rows:
        for label, unit in row.clip.units.items():
            other = first.setdefault(label, row).clip
            if other.units[label] != unit:
                raise CacheError(
                    f"{label} is in {other.units[label]!r} for {other.id} and in {unit!r} for "
                    f"{row.clip.id}: a cache has one unit of a label; name all its clips in one "
                    "table, or write another cache"
                )
    return {label: row.clip.units[label] for label, row in first.items()}


def _tables(rows: Sequence[CacheRow]) -> dict[str, str]:
    """Return the table of each label whose known values all came from one."""
    known: dict[str, set[str]] = {}
    unknown: dict[str, set[str]] = {}
    for row in rows:
        for label, value in row.clip.labels.items():
            of_label = unknown if np.isnan(value) else known
            of_label.setdefault(label, set()).add(row.table_of(label))
    tables = unknown | known
    return {label: next(iter(found)) for label, found in tables.items() if len(found) == 1}


def write_rows(path: Path, clips: Features, rows: Sequence[CacheRow]) -> Seal:
    """Write the cache `clips` of `stack_rows`, and return its seal.

    Memory holds the features of one clip at a time.

    Raises:
        WriteError: The disk is full or not writable.
        CacheError: A row is damaged.
    """
    none = np.zeros((1, *clips.thumbnails.shape[1:]), np.uint8)
    thumbnails = (row.read_thumbnails() if row.thumbnails else none for row in rows)
    return write_cache(path, clips, (row.read() for row in rows), thumbnails)


def content_of_rows(clips: Features, rows: Sequence[CacheRow]) -> str:
    """Return the identity of the content of the cache `clips` of `stack_rows`."""
    thumbnails = [row.thumbnails.content_sha256() if row.thumbnails else "" for row in rows]
    return clips.hash_content([row.features.content_sha256() for row in rows], thumbnails)


def _padded(rows: Sequence[NDArray[Any]], filler: np.generic) -> NDArray[Any]:
    """Return rows of different lengths as one array (N, longest)."""
    padded = np.full((len(rows), max(map(len, rows), default=0)), filler)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded
