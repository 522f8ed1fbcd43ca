"""Clips: stretches of video files with an identity and labels."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.digests import Digests, digest_of
from data.duplicates import Stretch, share_objects, share_objects_of_many
from data.errors import HeliographError, InvalidValueError
from data.files import Address, path_of, text_of
from data.windows import Window, video_of
from data.wording import counted

_TIME_FIELDS = ("start", "end")
_KNOWN_PATHS = 1 << 12  # whose links are followed once


class ClipError(HeliographError):
    """A clip, or a list of clips, that cannot be what it says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A stretch of a video file, with its identity and labels.

    `id` is unique among the clips of a run. `start` and `end` are seconds of presentation time;
    None means the ends of the file. `object` is the identity by which clips are split into train
    and test; a clip without one is its own object. `labels` are numbers, NaN where unknown, and
    `units` the units of those whose unit is known. `table_sha256` is the hash of the table that
    named the clip, empty for a clip that was found in a folder or named by itself.

    Raises:
        ClipError: A value is not as described.
    """

    id: str
    path: Path
    start: float | None = None
    end: float | None = None
    object: str = ""
    scenario: str = ""
    labels: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    table_sha256: str = field(default="", repr=False, compare=False)  # where, not what, it is

    def __post_init__(self) -> None:
        def set_field(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        if not self.id or "\n" in self.id or "\r" in self.id:
            raise ClipError(f"{self.id!r} cannot be the id of a clip: it is not one line of text")
        set_field("path", path_of(self.path))
        set_field("object", self.object or self.id)
        for text in (self.id, self.object, self.scenario, *self.labels, *self.units.values()):
            if not _is_text(text):
                raise ClipError(f"{self.id!r}: {text!r} is not text")
        set_field("labels", {name: float(value) for name, value in self.labels.items()})
        for name in _TIME_FIELDS:
            value = getattr(self, name)
            if value is not None:
                if not math.isfinite(value) or value < 0:
                    raise ClipError(f"{self.id}: {name} is {value} seconds")
                set_field(name, float(value))
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ClipError(f"{self.id}: end {self.end} s is not after start {self.start} s")
        for name, value in self.labels.items():
            if "/" in name or name in ("", "."):
                raise ClipError(f"{self.id}: {name!r} cannot be the name of a label")
            if math.isinf(value):
                raise ClipError(f"{self.id}: label {name!r} is {value}")
        for name in self.units:
            if name not in self.labels:
                raise ClipError(f"{self.id}: there is a unit of {name!r}, which is no label")

    @property
    def has_object(self) -> bool:
        """Whether an object was given: it is not just the clip itself, or the window's video."""
        return self.object not in (self.id, video_of(self.id))


def window_of(clip: Clip, window: Window, *, object: str) -> Clip:
    """Return a window of a clip as a clip of its own, with the clip's labels.

    Args:
        clip: The video, or a stretch of one.
        window: Seconds of the video's file.
        object: The object of all windows of the video.
    """
    return replace(clip, id=window.id(clip.id), start=window.start, end=window.end, object=object)


def part_of(clips: Sequence[Clip], number: int, count: int) -> list[Clip]:
    """Return the clips of part `number` of `count` contiguous parts of about one size.

    Raises:
        InvalidValueError: There is no such part, or it would be empty.
    """
    if not 1 <= number <= count:
        last = f", the last {count}/{count}" if count > 1 else ""
        raise InvalidValueError(
            f"there is no part {number}/{count}: the first is 1/{max(1, count)}{last}"
        )
    if count > len(clips):
        raise InvalidValueError(
            f"there is no part {number}/{count}: {counted(len(clips), 'clip')} make "
            f"{counted(len(clips), 'part')} at most"
        )
    start, end = ((number + step) * len(clips) // count for step in (-1, 0))
    return list(clips[start:end])


def objects_of_videos(clips: Sequence[Clip]) -> dict[str, str]:
    """Return for each clip, by its id, the object that its windows have.

    It is the clip's object. Clips of one file for which none was given have one together, the id of
    the first of them, or that of another clip whose seconds they share: the windows of one video
    never meet in training and test unless a table says so.
    """
    stretches = [_stretch(*one) for one in zip(clips, _sources(clips), strict=True)]
    ids: dict[str, list[str]] = {}
    for stretch in stretches:
        ids.setdefault(stretch.source, []).append(stretch.clip)
    shared = share_objects(stretches).objects
    alone: dict[str, str] = {}  # of clips of a file without an object: the first one's id
    return {
        stretch.clip: alone.setdefault(stretch.source, stretch.clip)
        if object in ids[stretch.source]
        else object
        for stretch, object in zip(stretches, shared, strict=True)
    }


def id_of_file(name: str) -> str:
    """Return the id of a clip that has the name of its file: the name, its line breaks escaped."""
    return name.replace("\n", r"\n").replace("\r", r"\r")


def refuse_contradictions(clips: Sequence[Clip]) -> None:
    """Raise if clips of one file, links followed, that overlap have different objects.

    Raises:
        ClipError: Two do; the message has the file, both ids and both objects.
    """
    sources = Digests(map(digest_of, _sources(clips)))
    shared = share_objects_of_many(
        sources, lambda number: _stretch(clips[number], f"{sources[number]:x}")
    )
    for contradiction in shared.contradictions:
        others = len(shared.contradictions) - 1
        more = f", and so in {others} more clip{'s' * (others > 1)}" if others else ""
        raise ClipError(
            f"{clips[contradiction.numbers[0]].path}: {contradiction}{more}: give them one object"
        )


def _sources(clips: Iterable[Clip]) -> Iterator[str]:
    """Yield the path of each clip's file, links followed; clips of one file are close together."""
    known: dict[str, str] = {}
    for path in (clip.path for clip in clips):
        text = text_of(path)
        if text not in known:
            if len(known) == _KNOWN_PATHS:
                known.clear()
            known[text] = text if isinstance(path, Address) else os.path.realpath(text)
        yield known[text]


def _stretch(clip: Clip, source: str) -> Stretch:
    return Stretch(
        clip.id,
        clip.object,
        source,
        math.nan if clip.start is None else clip.start,
        math.nan if clip.end is None else clip.end,
    )


def _is_text(text: str) -> bool:
    """Return whether a file can hold the text: no NUL, and no single surrogate of UTF-16."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return "\0" not in text
