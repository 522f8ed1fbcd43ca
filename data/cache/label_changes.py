"""What new labels change in a cache, found while memory holds the columns of few clips."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache.features import Features
from data.cache.rows import NewCache
from data.cache.stored_clips import StoredClips
from data.digests import digest_of
from data.wording import counted

_AT_ONCE = 1 << 13  # clips that are compared together


@dataclass(frozen=True)
class LabelChanges:
    """What new labels changed in a cache.

    Attributes:
        columns: A sentence for each label, and for objects and scenarios, that changed.
        unnamed: Ids of the clips of the cache that the table does not name.
        missing: Ids of the clips of the table that the cache does not have.
    """

    columns: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass
class _Column:
    """How often something changed, and the first clip, as they were, at which it did."""

    changed: int = 0
    first: tuple[int, str, Any, Any] | None = None  # number and id of the clip, before and after

    def note(
        self, rows: NDArray[np.int64], numbers: NDArray[np.int64], ids: Sequence[str],
        before: Sequence[Any] | NDArray[Any], after: Sequence[Any] | NDArray[Any],
    ) -> None:  # fmt: skip
        """Note the rows, of clips with these numbers, in which something changed."""
        self.changed += len(rows)
        if len(rows):
            row = int(rows[np.argmin(numbers[rows])])
            if self.first is None or numbers[row] < self.first[0]:
                self.first = int(numbers[row]), ids[row], before[row], after[row]


@dataclass
class _Text(_Column):
    """An object or a scenario."""

    def add(
        self, numbers: NDArray[np.int64], ids: Sequence[str], old: Sequence[str], new: Sequence[str]
    ) -> None:
        """Compare the values of some clips."""
        both = enumerate(zip(old, new, strict=True))
        rows = np.array([row for row, (one, two) in both if one != two], np.int64)
        self.note(rows, numbers, ids, old, new)

    def sentence(self, name: str) -> str | None:
        """Return what changed; None if nothing did."""
        if self.first is None:
            return None
        _, clip, before, after = self.first
        return f"{name}: {self.changed} changed ({clip}: {before!r} -> {after!r})"


@dataclass
class _Label(_Column):
    """A label, NaN where it is unknown."""

    had: int = 0
    appeared: int = 0
    vanished: int = 0

    def add(
        self,
        numbers: NDArray[np.int64],
        ids: Sequence[str],
        old: NDArray[np.float64],
        new: NDArray[np.float64],
    ) -> None:
        """Compare the values of some clips."""
        had, has = ~np.isnan(old), ~np.isnan(new)
        self.note(np.flatnonzero(had & has & (old != new)), numbers, ids, old, new)
        self.had += int(had.sum())
        self.appeared += int((has & ~had).sum())
        self.vanished += int((had & ~has).sum())

    def sentence(self, name: str, units: tuple[str, str], *, gone: bool) -> str | None:
        """Return what changed, and its unit; None if nothing did."""
        if gone:
            return f"{name}: no longer a label ({counted(self.had, 'clip')} had it)"
        changes = []
        if self.first is not None:
            _, clip, before, after = self.first
            changes.append(f"{self.changed} changed ({clip}: {before:g} -> {after:g})")
        if self.appeared:
            changes.append(f"{self.appeared} new")
        if self.vanished:
            changes.append(f"{self.vanished} now unknown")
        if units[0] != units[1]:
            changes.append(f"its unit {units[0] or 'unknown'} -> {units[1] or 'unknown'}")
        return f"{name}: {', '.join(changes)}" if changes else None


@dataclass
class _Comparison:
    """The columns of clips that a cache had, and of what is written of them."""

    labels: dict[str, _Label]
    object: _Text = field(default_factory=_Text)
    scenario: _Text = field(default_factory=_Text)

    def add(
        self,
        before: Features,
        rows: NDArray[np.int64],
        numbers: NDArray[np.int64],
        after: Features,
        new_rows: NDArray[np.int64],
    ) -> None:
        """Compare rows (n,) of a file of the cache with rows (n,) of what is written.

        Args:
            before: The file.
            rows: Its rows.
            numbers: The numbers of their clips in the whole cache.
            after: What is written.
            new_rows: The rows of the same clips there.
        """
        ids = [before.clip_id[row] for row in rows]
        for name in ("object", "scenario"):
            was, now = getattr(before, name), getattr(after, name)
            text: _Text = getattr(self, name)
            text.add(numbers, ids, [was[row] for row in rows], [now[row] for row in new_rows])
        unknown = np.full(len(ids), np.nan)
        for name, label in self.labels.items():
            old = before.labels[name][rows] if name in before.labels else unknown
            new = after.labels[name][new_rows] if name in after.labels else unknown
            label.add(numbers, ids, old, new)


def label_changes(stored: StoredClips, new: NewCache) -> tuple[str, ...]:
    """Return a sentence for each column that a cache has otherwise once it is written anew.

    Clips that it has before and after are compared.

    Raises:
        CacheError: A file of it is damaged, or was replaced since.
    """
    known = dict.fromkeys([*stored.labels, *new.common.labels])
    found = _Comparison({name: _Label() for name in known})
    for start in range(0, len(new), _AT_ONCE):
        after, _ = new.part(start, min(start + _AT_ONCE, len(new)))
        of_ids = (stored.number_of(digest_of(clip_id)) for clip_id in after.clip_id)
        numbers = np.array([-1 if number is None else number for number in of_ids], np.int64)
        there = np.flatnonzero(numbers >= 0)
        files, rows = stored.places(numbers[there])
        for file in np.unique(files).tolist():
            own = files == file
            before = stored.file(file)[1].clips
            found.add(before, rows[own], numbers[there[own]], after, there[own])
    sentences = [found.object.sentence("object"), found.scenario.sentence("scenario")]
    for name, label in found.labels.items():
        units = stored.units.get(name, ""), new.common.units.get(name, "")
        sentences.append(label.sentence(name, units, gone=name not in new.common.labels))
    return tuple(filter(None, sentences))
