"""The labels of a cache set anew by a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.cache.errors import CacheError
from data.cache.features import Features, is_whole_file
from data.cache.hdf5_reader import read_metadata
from data.cache.label_changes import LabelChanges
from data.cache.parts import files_of_cache
from data.cache.shard_store import ShardStore
from data.clips import Clip, objects_of_videos, window_of
from data.windows import Window, video_of
from data.wording import counted


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
        given, known = {clip.id for clip in clips}, set(before.clip_id)
        store.relabel(clips, prune=prune)
        return LabelChanges(
            columns=store.changes.columns if store.changes else (),
            unnamed=tuple(clip for clip in before.clip_id if clip not in given),
            missing=tuple(clip.id for clip in clips if clip.id not in known),
        )


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
