"""Batches: clips whose features become one shard, together with what the ledger says of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np

from data.cache.features import Features
from data.cache.ledger import entry_of
from data.clips import Clip

BATCH_CLIPS = 256  # in a shard
BATCH_BYTES = 64 << 20
BATCH_SECONDS = 10  # after which a batch is written, however small: the work that a kill costs

_JOINED = ("features", "frame_index", "pts_seconds", "thumbnails", "start", "end")


class Batch:
    """Clips that are not in a shard yet, and entries of others that need none."""

    def __init__(self) -> None:
        self.keys: dict[str, None] = {}
        self.entries: list[dict[str, Any]] = []
        self.began = time.monotonic()
        self._done: list[tuple[Clip, Features, Mapping[str, Any]]] = []
        self._ids: set[str] = set()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._done or self.entries)

    @property
    def is_due(self) -> bool:
        """Whether it is to be written now."""
        return (
            max(len(self._done), len(self.entries)) >= BATCH_CLIPS
            or self._bytes >= BATCH_BYTES
            or self.seconds_left < 0
        )

    @property
    def seconds_left(self) -> float:
        """Until it is to be written, however small; negative afterwards."""
        return self.began + BATCH_SECONDS - time.monotonic()

    def fits(self, row: Features) -> bool:
        """Return whether a clip, a cache of one row, can be in one shard with the others."""
        if not self._done:
            return True
        return row.clip_id[0] not in self._ids and _shapes(self._done[0][1]) == _shapes(row)

    def add(self, clip: Clip, row: Features, details: Mapping[str, Any]) -> None:
        """Add a clip, its features as a cache of one row, and details for the ledger."""
        self._done.append((clip, row, details))
        self.keys[row.key[0]] = None
        self._ids.add(clip.id)
        self._bytes += row.features.nbytes + row.thumbnails.nbytes

    def shard(self) -> Features | None:
        """Return the features of all clips as one cache; None if there are none.

        Nobody asks a shard for objects, scenarios and labels.
        """
        rows = [row for _, row, _ in self._done]
        if not rows:
            return None
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(row, name) for row in rows]) for name in _JOINED
        }
        columns |= {
            name: [getattr(row, name)[0] for row in rows]
            for name in ("clip_id", "source_sha256", "key")
        }
        empty = [""] * len(rows)
        without = np.zeros(len(rows), bool)
        return replace(
            rows[0], object=empty, scenario=empty, labels={}, without_thumbnails=without, **columns
        )

    def all_entries(self, shard: str) -> list[dict[str, Any]]:
        """Return what the ledger says, once all clips are in the shard of this name."""
        done = [
            entry_of(clip, "done", **_details(clip, row), **details, shard=shard, row=number)
            for number, (clip, row, details) in enumerate(self._done)
        ]
        return [*self.entries, *done]


def _details(clip: Clip, row: Features) -> dict[str, Any]:
    return {
        "key": row.key[0],
        "source_sha256": row.source_sha256[0],
        "object": clip.object,
        "scenario": clip.scenario,
        "labels": {name: None if isnan(value) else value for name, value in clip.labels.items()},
    }


def _shapes(row: Features) -> Sequence[Any]:
    """Return what the rows of a shard share."""
    arrays = (row.features, row.frame_index, row.thumbnails)
    return *(array.shape[1:] for array in arrays), row.features.dtype
