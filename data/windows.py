"""Windows: stretches of equal length into which a long video is cut, one clip each."""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

LEAST_SECONDS = 1e-3
MOST_WINDOWS = 1_000_000
"""Windows of one video: those of a day, one every tenth of a second."""
_ID = re.compile(r"(?P<video>.+)#\d{6,}(\.\d{1,6})?-(\d{6,}(\.\d{1,6})?)?", re.DOTALL)


class Window(NamedTuple):
    """The frames shown at `start` <= time < `end`, in seconds, to a millionth."""

    start: float
    end: float

    def id(self, video: str) -> str:
        """Return the id of the window as a clip; those of one video sort by time.

        >>> Window(2.0, 4.5).id("a/cam.mp4")
        'a/cam.mp4#000002-000004.5'
        """
        return stretch_id(video, self.start, self.end)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """A rule that cuts a video: a window of `span` seconds begins every `every` seconds.

    Raises:
        ValueError: One is no time, or less than a thousandth of a second.
    """

    every: float
    span: float

    def __post_init__(self) -> None:
        for name in ("every", "span"):
            seconds = getattr(self, name)
            if not LEAST_SECONDS <= seconds < math.inf:
                raise ValueError(f"{name} must be {LEAST_SECONDS:g} seconds or more, not {seconds}")

    def count(self, start: float, end: float, *, slack: float = 0.0) -> int:
        """Return how many windows lie between two times; `cut` has the arguments."""
        room = end + slack + 1e-6 - start - self.span
        return 0 if room < 0 else math.floor(room / self.every + 1e-9) + 1

    def cut(self, start: float, end: float, *, slack: float = 0.0) -> list[Window]:
        """Return the windows that lie between two times, the first one from `start`.

        Args:
            start: In seconds.
            end: In seconds.
            slack: How many seconds of its end the last window may lack.
        """
        starts = (
            start + number * self.every for number in range(self.count(start, end, slack=slack))
        )
        return [Window(round(begin, 6), round(begin + self.span, 6)) for begin in starts]


def stretch_id(video: str, start: float | None, end: float | None) -> str:
    """Return the id of a stretch of a video that a table names; of all of it the video's own.

    >>> stretch_id("cam.mp4", None, 2.5), stretch_id("cam.mp4", 3, None)
    ('cam.mp4#000000-000002.5', 'cam.mp4#000003-')
    """
    if start is None and end is None:
        return video
    first, last = _plain(start or 0), "" if end is None else _plain(end)
    return f"{video}#{first}-{last}"


def video_of(clip: str) -> str:
    """Return the id of the video that a clip is a window of, by the clip's id; else empty.

    >>> video_of("a/cam.mp4#000002-000004.5"), video_of("a#1.mp4")
    ('a/cam.mp4', '')
    """
    found = _ID.fullmatch(clip)
    return found["video"] if found else ""


def _plain(seconds: float) -> str:
    return f"{seconds:013.6f}".rstrip("0").rstrip(".")
