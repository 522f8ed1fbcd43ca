"""Clips of equal content: one file under two ids, or stretches of one file that overlap.

Such clips show one thing, so they have one object: otherwise a split by object has the same pixels
in training and in test.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.columns import ranges
from data.digests import Digests
from data.windows import video_of

FRAME_SECONDS = 1 / 24
"""Stretches that share no more than about one frame touch, and do not overlap."""
_AT_ONCE = 1 << 12  # stretches at least, of sources that are looked at together
_SHARED, _FIRST, _LAST = 1, 2, 4  # a clip whose source others have, and the ends of these


@dataclass(frozen=True, slots=True)
class Stretch:
    """A clip: what its content is, and whose.

    Attributes:
        clip: Its id.
        object: Its object; empty, or the id itself, where none was given.
        source: Equal for clips of one file: a hash or a path; empty where it is not known.
        start: In seconds of the file; NaN is its start.
        end: NaN is the end of the file.
    """

    clip: str
    object: str
    source: str
    start: float = math.nan
    end: float = math.nan

    @property
    def has_object(self) -> bool:
        """Whether an object was given: it is not just the clip itself, or the window's video."""
        return self.object not in ("", self.clip, video_of(self.clip))

    def overlaps(self, other: "Stretch") -> bool:
        """Return whether two clips share more than one frame, or most of the shorter one."""
        if not self.source or self.source != other.source:
            return False
        (start, end), (other_start, other_end) = self._times(), other._times()
        shared = min(end, other_end) - max(start, other_start)
        shorter = min(end - start, other_end - other_start)
        return shared > min(FRAME_SECONDS, shorter / 2)

    def _times(self) -> tuple[float, float]:
        start = 0.0 if math.isnan(self.start) else self.start
        return start, math.inf if math.isnan(self.end) else self.end


@dataclass(frozen=True)
class Contradiction:
    """Two clips of equal content whose objects differ, and their numbers in the order given."""

    earlier: Stretch
    later: Stretch
    numbers: tuple[int, int]

    def __str__(self) -> str:
        return (
            f"{self.earlier.clip!r} and {self.later.clip!r} have the same content, but the objects "
            f"{self.earlier.object!r} and {self.later.object!r}"
        )


@dataclass(frozen=True)
class SharedObjects:
    """The objects of clips, where clips of equal content share one.

    Attributes:
        objects: Of each clip, in the order in which they were given.
        contradictions: Clips whose given objects differ; they keep them.
        united: Each clip that has an object now that it did not have, with the clip whose it is.
    """

    objects: tuple[str, ...]
    contradictions: tuple[Contradiction, ...] = ()
    united: tuple[tuple[Stretch, Stretch], ...] = ()

    @property
    def note(self) -> str:
        """A sentence about the clips that share an object now; empty without any."""
        return _note(self.united)


@dataclass(frozen=True)
class ChangedObjects:
    """What `SharedObjects` has, of the clips alone that have an object now that they did not have.

    Attributes:
        objects: Number of a clip -> its object.
        contradictions: As in `SharedObjects`.
        note: As in `SharedObjects`.
    """

    objects: Mapping[int, str]
    contradictions: tuple[Contradiction, ...] = ()
    note: str = ""


def share_objects(stretches: Iterable[Stretch]) -> SharedObjects:
    """Give clips of equal content one object where no two given ones contradict each other.

    Clips without an object get the one of those that overlap, directly or through others; where
    none was given, the id of the first. An object that is the id of another clip of the same
    content, or of its video, counts as not given: it was made here.
    """
    clips = list(stretches)
    objects = [clip.object or clip.clip for clip in clips]
    contradictions: list[Contradiction] = []
    united: list[tuple[Stretch, Stretch]] = []
    for rows in _linked(clips):
        ids = {name for row in rows for name in (clips[row].clip, video_of(clips[row].clip))}
        given = [row for row in rows if clips[row].has_object and clips[row].object not in ids]
        wrong = [row for row in given if clips[row].object != clips[given[0]].object]
        if wrong:
            for row in wrong:  # rather named with a clip that it overlaps than with the first
                partners = (
                    other
                    for other in given
                    if other < row
                    and clips[other].object != clips[row].object
                    and clips[other].overlaps(clips[row])
                )
                other = next(partners, given[0])
                contradictions.append(Contradiction(clips[other], clips[row], (other, row)))
            continue
        owner = (given or rows)[0]
        for row in rows:
            before, objects[row] = objects[row], objects[owner]
            if before != objects[owner]:
                united.append((replace(clips[row], object=objects[owner]), clips[owner]))
    return SharedObjects(tuple(objects), tuple(contradictions), tuple(united))


def share_objects_of_many(
    sources: Digests, stretch: Callable[[int], Stretch], *, none: int = 0
) -> ChangedObjects:
    """Do as `share_objects` where the clips are too many to have the stretch of each in memory.

    Only those are asked for whose source is also that of another one, in order.

    Args:
        sources: The digest of each clip's source.
        stretch: Returns the clip of a number.
        none: The digest of a source that is not known.
    """
    objects: dict[int, str] = {}
    contradictions: list[Contradiction] = []
    united: list[tuple[Stretch, Stretch]] = []
    for numbers in _repeated(sources, none):
        clips = [stretch(number) for number in numbers]
        shared = share_objects(clips)
        objects |= {
            number: object
            for number, clip, object in zip(numbers, clips, shared.objects, strict=True)
            if object != clip.object
        }
        for one in shared.contradictions:
            earlier, later = (numbers[row] for row in one.numbers)
            contradictions.append(replace(one, numbers=(earlier, later)))
        united += shared.united
    return ChangedObjects(objects, tuple(contradictions), _note(united))


def _repeated(sources: Digests, none: int) -> Iterator[list[int]]:
    """Yield the numbers of clips whose source another one has, few at a time, but a source whole.

    As sources first come, so do their clips.
    """
    marks = np.zeros(len(sources), np.uint8)
    for rows, begins in sources.groups(but=none):
        first = np.flatnonzero(begins)
        size = np.diff(first, append=len(rows))
        marks[rows[np.repeat(size > 1, size)]] = _SHARED
        first, size = first[size > 1], size[size > 1]
        marks[rows[first]] |= _FIRST
        marks[rows[first + size - 1]] |= _LAST
    waiting: list[int] = []
    unfinished = 0
    for some in ranges(len(marks)):
        for number in (np.flatnonzero(marks[some]) + some.start).tolist():
            mark = marks[number]
            unfinished += bool(mark & _FIRST) - bool(mark & _LAST)
            waiting.append(number)
            if not unfinished and len(waiting) >= _AT_ONCE:
                yield waiting
                waiting = []
    if waiting:
        yield waiting


def _linked(clips: Sequence[Stretch]) -> list[list[int]]:
    """Return the numbers of the clips that overlap, directly or through others, in groups."""
    of_source: dict[str, list[int]] = {}
    for number, clip in enumerate(clips):
        if clip.source:
            of_source.setdefault(clip.source, []).append(number)
    groups = []
    for numbers in of_source.values():
        if len(numbers) == 1:
            continue
        first, *rest = sorted(numbers, key=lambda row: clips[row]._times())
        group, longest = [first], first
        for number in rest:
            # In the order of their starts a clip that overlaps any overlaps the longest.
            if not clips[number].overlaps(clips[longest]):
                groups.append(group)
                group, longest = [], number
            group.append(number)
            if clips[number]._times()[1] > clips[longest]._times()[1]:
                longest = number
        groups.append(group)
    return [sorted(group) for group in groups if len(group) > 1]


def _note(united: Iterable[tuple[Stretch, Stretch]]) -> str:
    """Return a sentence about clips that share an object now; empty without any."""
    pairs = [pair for pair in united if pair[0].clip != pair[1].clip]
    if not pairs:
        return ""
    clip, other = pairs[0]
    subject = "1 clip has" if len(pairs) == 1 else f"{len(pairs)} clips have"
    return (
        f"{subject} the content of another clip and no object, and share its object: "
        f"{clip.clip!r} that of {other.clip!r}, {clip.object!r}"
    )
