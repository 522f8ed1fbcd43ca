"""Manifests, folders and files that name clips."""

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.clips import Clip, ClipError
from data.files import as_bytes, atomic_write, walk
from data.tables import TABLE_SUFFIXES, read_table, refuse_alike, refuse_same_ids

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
_TIME_KEYS = ("start", "end")
_LOG = logging.getLogger(__name__)


def list_clips(paths: Sequence[Path | str]) -> list[Clip]:
    """Return the clips that tables, folders and video files name, in the order given.

    A table is a manifest or any other of `data.tables.TABLE_SUFFIXES`; what was understood of it is
    a line of the log, and each warning one more. A folder gives the video files below it, sorted,
    without hidden ones, links followed (`data.files.walk`); their ids are relative to it. Any other
    file is a clip, whatever its name; its id is its name, with as many parent folders as tell it
    from the others.

    Raises:
        ClipError: A path does not exist, a line is wrong, a folder has no videos, the tables have
            no clips, two clips have one id, or two objects differ in spelling alone.
        HeliographError: A folder cannot be read.
    """
    clips: list[Clip] = []
    single = [path for path in map(Path, paths) if _is_single(path)]
    names = iter(_distinct_names(single))
    for path in map(Path, paths):
        if not os.path.lexists(path):
            raise ClipError(f"{path} does not exist")
        if path.is_dir():
            clips += _in_folder(path)
        elif _is_single(path):
            clips.append(Clip(id=next(names), path=path))
        else:
            table = read_table(path)
            _LOG.info("%s", table.summary.line)
            for warning in table.summary.warnings:
                _LOG.warning("warning: %s: %s", path, warning)
            for note in table.summary.notes:
                _LOG.info("note: %s: %s", path, note)
            clips += table.clips
    if paths and not clips:
        raise ClipError(f"there are no clips in {', '.join(map(str, paths))}")
    refuse_same_ids(clips)
    refuse_alike("object", ((clip.object, clip.id) for clip in clips if clip.has_object))
    return clips


def read_manifest(path: Path) -> list[Clip]:
    """Read the clips of one table, as `data.tables.read_table` does, and say nothing about it.

    Raises:
        ClipError: The file cannot be read or a line is wrong; the message gives file, line and
            reason.
    """
    return read_table(path).clips


def write_manifest(clips: Sequence[Clip], path: Path) -> None:
    """Write a JSONL manifest, whole or not at all; paths below its folder become relative.

    Raises:
        WriteError: The disk is full or not writable.
    """
    atomic_write(path, encode_manifest(clips, path))


def encode_manifest(clips: Sequence[Clip], path: Path) -> bytes:
    """Return what `write_manifest` writes to this path."""
    folder = Path(os.path.abspath(path)).parent
    lines = []
    for clip in clips:
        target = Path(os.path.abspath(clip.path))
        if target.is_relative_to(folder):
            target = target.relative_to(folder)
        entry: dict[str, Any] = {"id": clip.id, "path": target.as_posix()}
        times = {name: getattr(clip, name) for name in _TIME_KEYS}
        entry |= {name: seconds for name, seconds in times.items() if seconds is not None}
        entry["object"] = clip.object
        if clip.scenario:
            entry["scenario"] = clip.scenario
        if clip.labels:
            entry["labels"] = {
                name: None if math.isnan(value) else value for name, value in clip.labels.items()
            }
        if clip.units:
            entry["units"] = dict(clip.units)
        lines.append(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
    return as_bytes("".join(lines))


def _is_single(path: Path) -> bool:
    return not path.is_dir() and path.suffix.lower() not in TABLE_SUFFIXES


def _in_folder(folder: Path) -> list[Clip]:
    videos = [
        parent / name
        for parent, names in walk(folder)
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES
    ]
    if not videos:
        raise ClipError(f"{folder} holds no video files ({', '.join(sorted(VIDEO_SUFFIXES))})")
    ids = sorted((path.relative_to(folder).as_posix(), path) for path in videos)
    return [Clip(id=name, path=path) for name, path in ids]


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return the last parts of each path, as many as tell it from the others."""
    parts = [Path(os.path.abspath(path)).parts[1:] for path in paths]
    lengths = [1] * len(paths)
    while True:
        names = ["/".join(part[-length:]) for part, length in zip(parts, lengths, strict=True)]
        counts = Counter(names)
        longer = [
            min(length + (counts[name] > 1), len(part))
            for name, length, part in zip(names, lengths, parts, strict=True)
        ]
        if longer == lengths:
            return names
        lengths = longer
