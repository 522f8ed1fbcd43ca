"""Rows from several caches as one new file, with bounded memory; used by the store and by merge."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache.features import CacheError, Features
from data.cache.hdf5_reader import Table, blank, read_at
from data.cache.hdf5_writer import write
from data.clips import Clip

IDENTITY = ("fingerprint", "sampler", "decoder")


@dataclass(frozen=True)
class Row:
    """One row of a cache to be: who it is, what was seen, and where its features lie."""

    clip: Clip
    frame_index: NDArray[np.int64]  # (F,)
    pts_seconds: NDArray[np.float64]  # (F,)
    source_sha256: str
    key: str
    path: Path
    number: int
    offset: int
    features_sha256: str | None

    @classmethod
    def of(cls, clip: Clip, path: Path, table: Table, number: int) -> "Row":
        return cls(
            clip=clip,
            frame_index=table.clips.frame_index[number].copy(),
            pts_seconds=table.clips.pts_seconds[number].copy(),
            source_sha256=table.clips.source_sha256[number],
            key=table.clips.key[number],
            path=path,
            number=number,
            offset=table.features_offset + number * table.row_bytes,
            features_sha256=table.features_sha256[number] if table.features_sha256 else None,
        )

    def read(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The features (1, T, D); raises `CacheError` when they are not those that were written."""
        features = read_at(self.path, self.offset, (1, *shape), dtype)
        if self.features_sha256:
            found = hashlib.sha256(features.data).hexdigest()
            if found != self.features_sha256:
                raise CacheError(f"{self.path}: the features of {self.clip.id} are damaged")
        return features


def rows_of(path: Path, table: Table) -> Iterator[Row]:
    """All rows of a cache, with the identities and labels that stand in it."""
    clips = table.clips
    for number, clip_id in enumerate(clips.clip_id):
        clip = Clip(
            id=clip_id,
            path=Path(clip_id),
            object=clips.object[number],
            scenario=clips.scenario[number],
            labels={name: float(column[number]) for name, column in clips.labels.items()},
        )
        yield Row.of(clip, path, table, number)


def header(
    rows: Sequence[Row],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    identity: Mapping[str, Any],
    failures: Sequence[tuple[str, str]],
    versions: Mapping[str, str],
) -> Features:
    """Everything of the file of these rows but the content of its features (N, *shape)."""
    label_names = dict.fromkeys(name for row in rows for name in row.clip.labels)
    return Features(
        features=blank((len(rows), *shape), dtype),
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
        failures=failures,
        versions=versions,
        **identity,
    )


def write_rows(path: Path, clips: Features, rows: Sequence[Row]) -> None:
    """Write the file that `header` describes; memory holds the features of one clip at a time."""
    shape, dtype = clips.features.shape[1:], clips.features.dtype
    write(path, clips, (row.read(shape, dtype) for row in rows))


def _padded(rows: Sequence[NDArray[Any]], filler: np.generic) -> NDArray[Any]:
    """Rows of different lengths as one array (N, longest)."""
    table = np.full((len(rows), max(map(len, rows), default=0)), filler)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table
