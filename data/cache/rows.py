"""Rows from several caches written as one new file, with bounded memory."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache.features import CacheError, Features
from data.cache.hdf5_reader import CacheMetadata, blank_features, read_array
from data.cache.hdf5_writer import write_cache
from data.clips import Clip

IDENTITY_FIELDS = ("fingerprint", "sampler", "decoder")


@dataclass(frozen=True)
class CacheRow:
    """One clip of a cache to be written: its identity, its frames, and where its features are.

    The features are row `number` of the cache `path`, at the byte `offset`.
    """

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
    def from_metadata(
        cls, clip: Clip, path: Path, metadata: CacheMetadata, number: int
    ) -> "CacheRow":
        """Return row `number` of the cache `path`, with the identity and labels of `clip`."""
        return cls(
            clip=clip,
            frame_index=metadata.clips.frame_index[number].copy(),
            pts_seconds=metadata.clips.pts_seconds[number].copy(),
            source_sha256=metadata.clips.source_sha256[number],
            key=metadata.clips.key[number],
            path=path,
            number=number,
            offset=metadata.features_offset + number * metadata.row_bytes,
            features_sha256=metadata.features_sha256[number] if metadata.features_sha256 else None,
        )

    def read(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Read the features (1, T, D).

        Raises:
            CacheError: They are not those that were written.
        """
        features = read_array(self.path, self.offset, (1, *shape), dtype)
        if self.features_sha256:
            sha256 = hashlib.sha256(features.data).hexdigest()
            if sha256 != self.features_sha256:
                raise CacheError(f"{self.path}: the features of {self.clip.id} are damaged")
        return features


def cache_rows(path: Path, metadata: CacheMetadata) -> Iterator[CacheRow]:
    """Yield all rows of a cache, with the identities and labels that are in it."""
    clips = metadata.clips
    for number, clip_id in enumerate(clips.clip_id):
        clip = Clip(
            id=clip_id,
            path=Path(clip_id),
            object=clips.object[number],
            scenario=clips.scenario[number],
            labels={name: float(column[number]) for name, column in clips.labels.items()},
        )
        yield CacheRow.from_metadata(clip, path, metadata, number)


def stack_rows(
    rows: Sequence[CacheRow],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    identity: Mapping[str, Any],
    failures: Sequence[tuple[str, str]],
    versions: Mapping[str, str],
) -> Features:
    """Return these rows as one cache whose features (N, *shape) have no content yet."""
    label_names = dict.fromkeys(name for row in rows for name in row.clip.labels)
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
        failures=failures,
        versions=versions,
        **identity,
    )


def write_rows(path: Path, clips: Features, rows: Sequence[CacheRow]) -> None:
    """Write the cache `clips` of `stack_rows`; memory holds the features of one clip at a time.

    Raises:
        WriteError: The disk is full or not writable.
        CacheError: A row is damaged.
    """
    shape, dtype = clips.features.shape[1:], clips.features.dtype
    write_cache(path, clips, (row.read(shape, dtype) for row in rows))


def _padded(rows: Sequence[NDArray[Any]], filler: np.generic) -> NDArray[Any]:
    """Return rows of different lengths as one array (N, longest)."""
    padded = np.full((len(rows), max(map(len, rows), default=0)), filler)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded
