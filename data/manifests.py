"""Manifests, folders and files that name clips."""

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.clips import Clip, ClipError, id_of_file
from data.files import Address, absolute, as_bytes, atomic_write, missing, path_of, walk
from data.remote import find_files
from data.tables import TABLE_SUFFIXES, read_table, refuse_alike, refuse_same_ids
from data.windows import video_of

# A folder gives the files with these names: one row for each format that is read, as
# `data.video.pyav.sniffing.FORMATS` has them, and their streams without a container last.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mj2", ".f4v", ".ismv"),
    *(".mkv", ".mk3d", ".webm", ".avi", ".divx", ".flv", ".asf", ".wmv", ".ogv", ".ogm"),
    *(".ts", ".mts", ".m2ts", ".m2t", ".trp", ".mpg", ".mpeg", ".mpe", ".vob", ".vro"),
    *(".mxf", ".dv", ".dif", ".rm", ".rmvb", ".gxf", ".wtv", ".nut", ".y4m", ".ivf", ".obu"),
    *(".264", ".h264", ".avc", ".h26l", ".265", ".h265", ".hevc", ".266", ".h266", ".vvc"),
    *(".m1v", ".m2v", ".mpv", ".mjpeg", ".mjpg", ".vc1", ".h261", ".h263"),
)
# These are as often no video: a folder does not give them, and says so.
DOUBTFUL_SUFFIXES = (".apng", ".gif", ".ogg", ".ogx")
_TIME_KEYS = ("start", "end")
_LOG = logging.getLogger(__name__)


def list_clips(paths: Sequence[Path | str]) -> list[Clip]:
    """Return the clips that tables, folders and video files name, in the order given.

    A table is a manifest or any other of `data.tables.TABLE_SUFFIXES`; what was understood of it is
    a line of the log, and each warning one more. A folder gives the video files below it, sorted,
    without hidden ones, links followed (`data.files.walk`); their ids are relative to it, and a
    line of the log counts files that may be videos and are not taken (`.gif`). A folder that has a
    video file's name and holds none is one clip, which nobody can read. Any other file is a clip,
    whatever its name; its id is its name. Ids that are the names of different files, in two folders
    or in tables of two folders, get as many parent folders as tell one from the other.

    Any of these may be at an address (`data.remote`): what has the name of a table or a video is
    one, and of anything else what is below it is listed.

    Raises:
        ClipError: A path does not exist, a line is wrong, a folder has no videos, the tables have
            no clips, two clips have one id, or two objects differ in spelling alone.
        HeliographError: A folder cannot be read, or an address not be had.
    """
    clips: list[Clip] = []
    for path in map(path_of, paths):
        is_remote = isinstance(path, Address)
        if not is_remote and not os.path.lexists(path):
            raise ClipError(missing(path))
        if _is_single(path):
            clips.append(Clip(id=id_of_file(path.name), path=path))
        elif (is_remote and path.suffix.lower() not in TABLE_SUFFIXES) or path.is_dir():
            clips += _in_folder(path)
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
    clips = _told_apart(clips)
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
        target = path_of(absolute(clip.path))
        if target.is_relative_to(folder):
            target = target.relative_to(folder)
        entry: dict[str, Any] = {"id": clip.id, "path": str(target)}
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
    suffix = path.suffix.lower()
    if isinstance(path, Address):
        return suffix in VIDEO_SUFFIXES or (
            path.scheme in ("http", "https") and suffix not in TABLE_SUFFIXES
        )
    if path.is_dir():
        return suffix in VIDEO_SUFFIXES and not any(_files_in(path, VIDEO_SUFFIXES))
    return suffix not in TABLE_SUFFIXES


def _files_in(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Yield the files below a folder, without hidden ones, whose names end in one of `suffixes`."""
    for parent, names in walk(folder):
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield parent / name


def _remote_files(folder: Address) -> list[Path]:
    """Return the files below an address, without hidden ones."""
    files = [(path, path.parts[len(folder.parts) :]) for path in find_files(folder)]
    return [path for path, parts in files if not any(part.startswith(".") for part in parts)]


def _in_folder(folder: Path) -> list[Clip]:
    if isinstance(folder, Address):
        files = _remote_files(folder)
        if files == [folder]:  # a video without the name of one
            return [Clip(id=id_of_file(folder.name), path=folder)]
        if not files:
            raise ClipError(f"{folder}: there is no such file, and no folder with files")
    else:
        files = list(_files_in(folder, (*VIDEO_SUFFIXES, *DOUBTFUL_SUFFIXES)))
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    doubtful = Counter(
        path.suffix.lower() for path in files if path.suffix.lower() in DOUBTFUL_SUFFIXES
    )
    counts = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(doubtful.items()))
    note = f"files that may be videos are not taken ({counts}): name them if they are"
    if not videos:
        raise ClipError(
            f"{folder} holds no video files ({', '.join(sorted(VIDEO_SUFFIXES))})"
            f"{f'; {note}' if doubtful else ''}"
        )
    if doubtful:
        _LOG.info("note: %s: %s", folder, note)
    ids = sorted((path.relative_to(folder).as_posix(), path) for path in videos)
    return [Clip(id=id_of_file(name), path=path) for name, path in ids]


def _told_apart(clips: list[Clip]) -> list[Clip]:
    """Return clips with more of their paths in ids that are the names of different files.

    The object of a clip that is the clip itself changes with its id.
    """
    while True:
        counts = Counter(clip.id for clip in clips)
        longer = [_longer(clip) if counts[clip.id] > 1 else clip for clip in clips]
        if longer == clips:
            return clips
        clips = longer


def _longer(clip: Clip) -> Clip:
    """Return a clip whose id ends its path with one more folder of the path before the id."""
    parts = path_of(absolute(clip.path)).parts[1:]
    file = video_of(clip.id) or clip.id
    count = file.count("/") + 1
    if count >= len(parts) or id_of_file("/".join(parts[-count:])) != file:
        return clip
    name = id_of_file("/".join(parts[-count - 1 :]))
    objects = {file: name, clip.id: name + clip.id.removeprefix(file)}
    return replace(clip, id=objects[clip.id], object=objects.get(clip.object, clip.object))
