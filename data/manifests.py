"""Manifests, folders and files that name clips."""

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.clips import Clip, ClipError
from data.files import UnsafeFileError, atomic_write, is_hollow, open_regular, walk

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
LONGEST_LINE = 1 << 20  # characters
_TEXT_KEYS = ("id", "path", "object", "scenario")
_TIME_KEYS = ("start", "end")


def list_clips(paths: Sequence[Path | str]) -> list[Clip]:
    """Return the clips that manifests, folders and video files name, in the order given.

    A manifest is .jsonl, .csv or .txt (see `READERS`). A folder gives the video files below it,
    sorted, without hidden ones, links followed (`data.files.walk`); their ids are relative to it.
    Any other file is a clip, whatever its name; its id is its name, with as many parent folders as
    tell it from the others.

    Raises:
        ClipError: A path does not exist, a line is wrong, a folder has no videos, the manifests
            have no clips, or two clips have one id.
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
            clips += read_manifest(path)
    if paths and not clips:
        raise ClipError(f"there are no clips in {', '.join(map(str, paths))}")
    _refuse_duplicates(clips)
    return clips


def read_manifest(path: Path) -> list[Clip]:
    """Read the clips of one manifest; paths in it are relative to its folder.

    Raises:
        ClipError: The file cannot be read or a line is wrong; the message gives file, line and
            reason.
    """
    reader = READERS[path.suffix.lower()]
    clips: list[Clip] = []
    try:
        if is_hollow(path):
            raise ClipError(f"{path} is no manifest: hardly any of its bytes were ever written")
        file = io.TextIOWrapper(
            open_regular(path, follow_links=True), encoding="utf-8-sig", newline=""
        )
        with file:
            for number, entry in reader(path, _lines(path, file)):
                try:
                    clips.append(_clip(path.parent, entry))
                except (ClipError, TypeError, ValueError, OverflowError) as error:
                    raise ClipError(f"{path}, line {number}: {error}") from error
    except OSError as error:
        raise ClipError(f"{path} cannot be read: {error.strerror}") from error
    except UnsafeFileError as error:
        raise ClipError(str(error)) from error
    except UnicodeDecodeError as error:
        raise ClipError(f"{path} is not UTF-8 text: {error.reason}") from error
    _refuse_duplicates(clips)
    return clips


def _lines(path: Path, file: io.TextIOWrapper) -> Iterator[str]:
    """Yield the lines of a manifest; a file of one endless line would not fit into memory."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise ClipError(f"{path}, line {number}: more than {LONGEST_LINE:,} characters")
        yield line


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
        lines.append(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
    # Bytes of a file's name that are no valid text become escape sequences of JSON.
    return "".join(lines).encode("utf-8", "backslashreplace")


def _clip(folder: Path, entry: Mapping[str, Any]) -> Clip:
    unknown = [name for name in entry if name not in (*_TEXT_KEYS, *_TIME_KEYS, "labels")]
    if unknown:
        keys = ", ".join((*_TEXT_KEYS, *_TIME_KEYS, "labels"))
        raise ClipError(f"unknown key {unknown[0]!r}; the keys are {keys}")
    for name in _TEXT_KEYS:
        if not isinstance(entry.get(name, ""), str):
            raise ClipError(f"{name} is {entry[name]!r}, not text")
    for name in _TIME_KEYS:
        if not isinstance(entry.get(name), int | float | None) or isinstance(entry.get(name), bool):
            raise ClipError(f"{name} is {entry[name]!r}, not a number of seconds")
    if not entry.get("path"):
        raise ClipError("no path")
    labels = entry.get("labels", {})
    if not isinstance(labels, dict):
        raise ClipError(f"labels is {labels!r}, not an object of numbers")
    for name, value in labels.items():
        if not isinstance(value, int | float | None) or isinstance(value, bool):
            raise ClipError(f"label {name!r} is {value!r}, not a number")
    return Clip(
        id=entry.get("id") or entry["path"],
        path=folder / entry["path"],
        start=entry.get("start"),
        end=entry.get("end"),
        object=entry.get("object", ""),
        scenario=entry.get("scenario", ""),
        labels={name: math.nan if value is None else value for name, value in labels.items()},
    )


_Entries = Iterator[tuple[int, Mapping[str, Any]]]


def _read_jsonl(path: Path, lines: Iterator[str]) -> _Entries:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", str(error))
            raise ClipError(f"{path}, line {number}: not JSON: {reason}") from error
        if not isinstance(entry, dict):
            raise ClipError(f"{path}, line {number}: not a JSON object")
        yield number, entry


def _read_csv(path: Path, lines: Iterator[str]) -> _Entries:
    """Read a header with `path`, and optionally `id`, `object`, `scenario`, `start`, `end`.

    Every other column with numbers is a label, empty cells of it unknown; columns of text are left
    out.
    """
    reader = csv.DictReader(lines, strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        header = reader.fieldnames or []
        if "path" not in header:
            columns = ", ".join(map(repr, header)) or "none"
            raise ClipError(f"{path}, line 1: no column 'path' in the header; there is {columns}")
        if len(set(header)) != len(header):
            raise ClipError(f"{path}, line 1: a column appears twice in the header")
        for row in reader:
            if None in row or None in row.values():
                raise ClipError(f"{path}, line {reader.line_num}: not {len(header)} cells")
            rows.append((reader.line_num, row))
    except csv.Error as error:
        start = (rows[-1][0] if rows else 1) + 1  # of the row that could not be read
        raise ClipError(f"{path}, line {start}: {error}") from error
    further = [name for name in header if name not in (*_TEXT_KEYS, *_TIME_KEYS)]
    labels = [name for name in further if any(_number(row[name]) is not None for _, row in rows)]
    for number, row in rows:
        entry: dict[str, Any] = {name: row[name] for name in _TEXT_KEYS if name in row}
        for name in _TIME_KEYS:
            if name in row:
                entry[name] = _cell(row[name])
        entry["labels"] = {name: _cell(row[name]) for name in labels}
        yield number, entry


def _read_txt(path: Path, lines: Iterator[str]) -> _Entries:
    """Read one path a line; empty lines are skipped."""
    for number, line in enumerate(lines, start=1):
        if text := line.rstrip("\r\n"):
            yield number, {"path": text}


READERS: dict[str, Callable[[Path, Iterator[str]], _Entries]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".txt": _read_txt,
}


def _cell(text: str) -> float | str | None:
    """Return a number, None for an empty cell, or any other text, which `_clip` refuses."""
    if not text.strip():
        return None
    value = _number(text)
    return text if value is None else value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_single(path: Path) -> bool:
    return not path.is_dir() and path.suffix.lower() not in READERS


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


def _refuse_duplicates(clips: Sequence[Clip]) -> None:
    seen: dict[str, Clip] = {}
    for clip in clips:
        other = seen.setdefault(clip.id, clip)
        if other is not clip:
            raise ClipError(f"two clips have the id {clip.id!r}: {other.path} and {clip.path}")
