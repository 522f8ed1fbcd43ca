"""What several caches have in common, and their columns one after the other."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache.errors import CacheError
from data.cache.features import Features
from data.cache.mapped import JoinedRows
from data.differences import first_difference, value_text

_TEXT = ("clip_id", "object", "scenario", "source_sha256", "key")


class CommonMake:
    """The way in which caches were made that are to be together, given one after the other."""

    def __init__(self) -> None:
        self._first: tuple[Path, Mapping[str, Any], str] | None = None
        self._units: dict[str, tuple[Path, str]] = {}

    def require(self, path: Path, clips: Features) -> None:
        """Check that a cache was made as those before it.

        Raises:
            CacheError: It differs in fingerprint, sampler or decoder (the message names the field),
                in the shape of its features, or in the unit of a label.
        """
        features = f"{clips.features.dtype} {clips.features.shape[1:]}"
        first_path, identity, shape = self._first = self._first or (path, clips.identity, features)
        do_not_mix = f"{first_path} and {path} do not mix"
        if difference := first_difference(identity, clips.identity):
            raise CacheError(
                f"{do_not_mix}: {difference.option} is {value_text(difference.left)} in one and "
                f"{value_text(difference.right)} in the other"
            )
        if shape != features:
            raise CacheError(
                f"{do_not_mix}: features are {shape} in one and {features} in the other"
            )
        for label, unit in clips.label_units.items():
            known_path, known = self._units.setdefault(label, (path, unit))
            if unit != known:
                raise CacheError(
                    f"{known_path} and {path} do not mix: the label {label} is in {known!r} in one "
                    f"and in {unit!r} in the other"
                )


def joined_units(caches: Sequence[Features]) -> dict[str, str]:
    """Return the units of labels that any of the caches knows."""
    return {label: unit for clips in caches for label, unit in clips.label_units.items()}


def joined_tables(caches: Sequence[Features]) -> dict[str, str]:
    """Return the table of each label that comes from one table in all caches that have it."""
    tables: dict[str, set[str]] = {}
    for clips in caches:
        for label in clips.labels:
            tables.setdefault(label, set()).add(clips.label_tables.get(label, ""))
    return {label: next(iter(found)) for label, found in tables.items() if len(found) == 1}


def join(caches: Sequence[Features]) -> Features:
    """Return the clips of caches of one make, one after the other; their rows stay where they are.

    Raises:
        CacheError: A clip is in two of them.
    """
    first = caches[0]
    names = dict.fromkeys(chain.from_iterable(clips.labels for clips in caches))
    text: dict[str, Any] = {
        name: [value for clips in caches for value in getattr(clips, name)] for name in _TEXT
    }
    frames = max(clips.frame_index.shape[1] for clips in caches)
    pictures = {clips.thumbnails.shape[1:] for clips in caches if clips.thumbnails.size}
    thumbnails: Any = np.empty((0, 0, 0, 0), dtype=np.uint8)
    if len(pictures) == 1:
        (shape,) = pictures
        none = np.zeros(shape, np.uint8)
        thumbnails = JoinedRows(
            [
                clips.thumbnails
                if clips.thumbnails.size
                else np.broadcast_to(none, (len(clips), *shape))
                for clips in caches
            ]
        )
    return Features(
        features=JoinedRows([clips.features for clips in caches]),
        labels={
            name: np.concatenate(
                [clips.labels.get(name, np.full(len(clips), np.nan)) for clips in caches]
            )
            for name in names
        },
        label_units=joined_units(caches),
        label_tables=joined_tables(caches),
        frame_index=_padded([clips.frame_index for clips in caches], frames, -1),
        pts_seconds=_padded([clips.pts_seconds for clips in caches], frames, np.nan),
        thumbnails=thumbnails,
        without_thumbnails=~np.concatenate([clips.has_thumbnails for clips in caches]),
        start=np.concatenate([clips.start for clips in caches]),
        end=np.concatenate([clips.end for clips in caches]),
        failures=[failure for clips in caches for failure in clips.failures],
        versions=first.versions,
        created=max(clips.created for clips in caches),
        **first.identity,
        **text,
    )


def _padded(columns: Sequence[NDArray[Any]], frames: int, filler: float) -> NDArray[Any]:
    """Return columns (n, F) as one (N, `frames`)."""
    return np.concatenate(
        [
            np.pad(column, ((0, 0), (0, frames - column.shape[1])), constant_values=filler)
            for column in columns
        ]
    )
