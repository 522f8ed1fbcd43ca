"""The labels of a cache set anew by a table, and what changes between two states of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.cache.errors import CacheError
from data.cache.features import Features, is_whole_file
from data.cache.hdf5_reader import read_metadata
from data.cache.parts import files_of_cache
from data.cache.shard_store import ShardStore
from data.clips import Clip, objects_of_videos, window_of
from data.windows import Window, video_of
from data.wording import counted


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


def label(path: Path | str, clips: Sequence[Clip], *, prune: bool = False) -> LabelChanges:
    """Set objects, scenarios, labels and units of a cache to what clips say, found by id.

    What is said of a clip that the cache has windows of, and not the clip, is said of these.

    Features and keys stay as they are. Where nothing changes the file is not touched.

    Args:
        path: The cache.
        clips: What a table says of its clips.
        prune: Remove the clips that are not among `clips`.

    Raises:
        CacheError: The cache cannot be read, has none of the clips, has other seconds of a video
            under one of the ids, or a label would have two units.
        BusyError: Another process writes the cache.
        WriteError: The disk is full or not writable; the cache stays as it was.
    """
    path = Path(path)
    made = read_metadata(files_of_cache(path)[0]).clips
    identity = made.identity
    with ShardStore(path, **identity) as store:
        before = store.clips or made
        clips = _with_windows(before, clips)
        _require_fitting(path, before, clips)
        store.relabel(clips, prune=prune)
        return describe_changes(before, store.clips or before, clips)


def _with_windows(before: Features, clips: Sequence[Clip]) -> list[Clip]:
    """Return clips, in place of each that the cache has windows of only these windows."""
    rows: dict[str, list[int]] = {}
    for row, clip_id in enumerate(before.clip_id):
        if video := video_of(clip_id):
            rows.setdefault(video, []).append(row)
    known = set(before.clip_id)
    objects = objects_of_videos(clips) if rows else {}
    found: list[Clip] = []
    for clip in clips:
        if clip.id in known or clip.id not in rows:
            found.append(clip)
            continue
        windows = (Window(float(before.start[n]), float(before.end[n])) for n in rows[clip.id])
        found += [window_of(clip, window, object=objects[clip.id]) for window in windows]
    return found


def describe_changes(before: Features, after: Features, clips: Sequence[Clip]) -> LabelChanges:
    """Return what is different in `after`, of the clips that both have."""
    given = {clip.id for clip in clips}
    rows_after = {clip: row for row, clip in enumerate(after.clip_id)}
    ids = [clip for clip in before.clip_id if clip in rows_after]
    old_rows = [row for row, clip in enumerate(before.clip_id) if clip in rows_after]
    new_rows = [rows_after[clip] for clip in ids]
    columns = []
    for name in ("object", "scenario"):
        was = [getattr(before, name)[row] for row in old_rows]
        now = [getattr(after, name)[row] for row in new_rows]
        both = zip(was, now, strict=True)
        changed = [row for row, (one, two) in enumerate(both) if one != two]
        if changed:
            row = changed[0]
            columns.append(
                f"{name}: {len(changed)} changed ({ids[row]}: {was[row]!r} -> {now[row]!r})"
            )
    for name in dict.fromkeys([*before.labels, *after.labels]):
        unknown = np.full(len(ids), np.nan)
        old = before.labels[name][old_rows] if name in before.labels else unknown
        new = after.labels[name][new_rows] if name in after.labels else unknown
        units = [state.label_units.get(name, "") for state in (before, after)]
        if changes := _column_changes(ids, old, new, units, gone=name not in after.labels):
            columns.append(f"{name}: {', '.join(changes)}")
    known = set(before.clip_id)
    return LabelChanges(
        tuple(columns),
        tuple(clip for clip in before.clip_id if clip not in given),
        tuple(clip.id for clip in clips if clip.id not in known),
    )


def _column_changes(
    ids: Sequence[str],
    old: NDArray[np.float64],
    new: NDArray[np.float64],
    units: Sequence[str],
    *,
    gone: bool,
) -> list[str]:
    """Return what changed in a label, whose values were `old` and are `new`."""
    if gone:
        return [f"no longer a label ({counted((~np.isnan(old)).sum(), 'clip')} had it)"]
    had, has = ~np.isnan(old), ~np.isnan(new)
    different = np.flatnonzero(had & has & (old != new))
    changes = []
    if len(different):
        one = int(different[0])
        changes.append(f"{len(different)} changed ({ids[one]}: {old[one]:g} -> {new[one]:g})")
    if count := int((has & ~had).sum()):
        changes.append(f"{count} new")
    if count := int((had & ~has).sum()):
        changes.append(f"{count} now unknown")
    if units[0] != units[1]:
        changes.append(f"its unit {units[0] or 'unknown'} -> {units[1] or 'unknown'}")
    return changes


def _require_fitting(path: Path, before: Features, clips: Sequence[Clip]) -> None:
    """Raise CacheError where the cache has none of the clips, or other seconds of one."""
    rows = {clip: row for row, clip in enumerate(before.clip_id)}
    named = [clip for clip in clips if clip.id in rows]
    if not named:
        example = f"{clips[0].id!r} is in the table" if clips else "the table is empty"
        raise CacheError(
            f"{path} has none of the {counted(len(clips), 'clip')} of the table: {example}, and "
            f"the cache has {before.clip_id[0] if len(before) else 'no clip'!r}"
        )
    for clip in named:
        row = rows[clip.id]
        if not before.source_sha256[row]:
            continue  # of imported clips nobody knows what they are of
        times = [
            None if np.isnan(seconds) else float(seconds)
            for seconds in (before.start[row], before.end[row])
        ]
        if times == [None, None] and not is_whole_file(before, row):
            continue  # version 1 does not say it
        if times != [clip.start, clip.end]:
            raise CacheError(
                f"{clip.id} is {_span(*times)} in {path} and {_span(clip.start, clip.end)} in the "
                "table: features are of the clip that was extracted; extract it again"
            )


def _span(start: float | None, end: float | None) -> str:
    if start is None and end is None:
        return "the whole file"
    return f"{start or 0:g} s to {'the end' if end is None else f'{end:g} s'}"
