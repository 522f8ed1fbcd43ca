"""Samplers: from the times of a clip's shown frames to the indices of those to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data.errors import HeliographError
from data.wording import counted

MOST = 10**12  # more than any clip has, and what numpy can still describe
CLOCK_TICK = 1e-3  # seconds: the coarsest clock that a container usually has, Matroska's
PARTS = 10  # of a clip, whose frame rates are compared
WAY_OUT = "`extract` takes fewer with --frames, or repeats the last with --pad"
Times = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class ClipTooShort(HeliographError):
    """A clip with fewer frames, or less time, than the sampling needs."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """A rule that picks `frames` frames of a clip; `name` is a key of `SAMPLERS`.

    uniform       `linspace(0, n - 1, frames)` cut to integers, over the n shown frames
    uniform-time  the frames shown at `frames` equal times, from that of the first to that of the
                  last; one that is shown for long may be taken more than once
    fps           one frame every 1/`fps` seconds from the first: the frame shown at that time
    window        `frames` frames, every `stride`-th, around the middle of the clip
    middle        frame n // 2, the paper's static feature (`frames` must be 1)
    published     `uniform` over the frames that the *header claims*, as the paper's code does
                  through OpenCV: short clips repeat frames, and a frame that cannot be read is
                  replaced by the last one that could

    `pad` repeats the last frame of a clip that is too short, as the paper does; without it such a
    clip raises `ClipTooShort`.
    """

    name: str = "uniform"
    frames: int = 8
    fps: float | None = None
    stride: int = 1
    pad: bool = False

    def __post_init__(self) -> None:
        if self.name not in SAMPLERS:
            raise ValueError(f"no sampling {self.name!r}: choose one of {', '.join(SAMPLERS)}")
        for name, count in (("frames", self.frames), ("stride", self.stride)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, not {count}")
            if count > MOST:
                raise ValueError(f"{name} must be at most {MOST:,}, not {count}")
        if self.stride != 1 and self.name != "window":
            raise ValueError(f"a stride (--stride) is for the sampling window, not for {self.name}")
        if self.fps is None and self.name == "fps":
            raise ValueError("the sampling fps needs a rate (--fps), in frames per second")
        if self.fps is not None and self.name != "fps":
            raise ValueError(f"a rate (--fps) is for the sampling fps, not for {self.name}")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise ValueError(f"fps must be a positive number, not {self.fps}")
        if self.name == "middle" and self.frames != 1:
            raise ValueError(f"the sampling middle picks 1 frame, not {self.frames}")

    def indices(self, pts_seconds: Times, *, claimed: int | None = None) -> Indices:
        """Return the indices of the frames to read, int64 (frames,), never decreasing.

        Args:
            pts_seconds: float64 (n,), times of the clip's shown frames, never decreasing.
            claimed: The header's frame count, which only `published` uses.

        Raises:
            ClipTooShort: The clip is too short, and `pad` is off; the error has both numbers.
        """
        times = np.asarray(pts_seconds, dtype=np.float64)
        if times.ndim != 1:
            raise ValueError(f"pts_seconds must have one axis, not shape {times.shape}")
        if not len(times):
            raise ClipTooShort(f"the clip has 0 frames, {self.frames} are asked for")
        return SAMPLERS[self.name](self, times, claimed).astype(np.int64)

    def describe(self) -> dict[str, Any]:
        """Return JSON values; `Sampling(**sampling.describe())` is the same sampling."""
        return dataclasses.asdict(self)


def _check_length(sampling: Sampling, n: int, needed: int) -> None:
    """Check before an array is allocated, which may be far longer than any clip."""
    if n < needed and not sampling.pad:
        raise ClipTooShort(
            f"the clip has {counted(n, 'frame')}, {needed} are asked for ({WAY_OUT})"
        )


def _uniform(sampling: Sampling, times: Times, claimed: int | None) -> Indices:
    n, count = len(times), sampling.frames
    _check_length(sampling, n, count)
    if n < count:
        return np.minimum(np.arange(count), n - 1)
    return np.linspace(0, n - 1, count).astype(np.int64)


def _uniform_time(sampling: Sampling, times: Times, claimed: int | None) -> Indices:
    n, count = len(times), sampling.frames
    _check_length(sampling, n, count)
    if n < count:
        return np.minimum(np.arange(count), n - 1)
    usual = (times[-1] - times[0]) / max(n - 1, 1)
    wanted = np.linspace(times[0], times[-1], count) + min(CLOCK_TICK, usual / 2)
    return np.searchsorted(times, wanted, side="right") - 1


def varies(times: Times) -> bool:
    """Return whether the frame rate varies by over 10 %.

    That is: of ten parts of equally many frames one lasts over 10 % longer or shorter than the
    mean of the parts, and by more than a tick of a clock of milliseconds.

    Args:
        times: float64 (n,), times of shown frames in seconds, never decreasing.
    """
    edges = np.unique(np.linspace(0, max(len(times) - 1, 0), PARTS + 1).astype(np.int64))
    if len(edges) < 3:
        return False
    frames = np.diff(edges)
    usual = (times[-1] - times[0]) / frames.sum() * frames
    differs = np.abs(np.diff(times[edges]) - usual)
    return bool((differs > np.maximum(0.1 * usual, CLOCK_TICK)).any())


def _fps(sampling: Sampling, times: Times, claimed: int | None) -> Indices:
    assert sampling.fps is not None
    end = times[0] + (sampling.frames - 1) / sampling.fps
    # The last frame is shown as long as the one before it.
    last = times[-1] - times[-2] if len(times) > 1 else 0.0
    tolerance = 1e-6  # container clocks tick in microseconds at their finest
    if end >= times[-1] + max(last, 2 * tolerance) - tolerance and not sampling.pad:
        shown = times[-1] + last - times[0]
        noun, verb = ("frame", "needs") if sampling.frames == 1 else ("frames", "need")
        raise ClipTooShort(
            f"the clip lasts {shown:.3f} s, {sampling.frames} {noun} at "
            f"{sampling.fps:g} per second {verb} more than "
            f"{end - times[0]:.3f} s ({WAY_OUT})"
        )
    wanted = times[0] + np.arange(sampling.frames) / sampling.fps
    return np.searchsorted(times, wanted + tolerance, side="right") - 1


def _window(sampling: Sampling, times: Times, claimed: int | None) -> Indices:
    n, span = len(times), (sampling.frames - 1) * sampling.stride + 1
    _check_length(sampling, n, span)
    start = max((n - span) // 2, 0)
    return np.minimum(start + np.arange(sampling.frames) * sampling.stride, n - 1)


def _middle(sampling: Sampling, times: Times, claimed: int | None) -> Indices:
    return np.array([len(times) // 2])


def _published(sampling: Sampling, times: Times, claimed: int | None) -> Indices:
    indices = np.linspace(0, (claimed or len(times)) - 1, sampling.frames).astype(np.int64)
    readable = indices[indices < len(times)]
    return np.minimum(indices, readable[-1])


SAMPLERS: dict[str, Callable[[Sampling, Times, int | None], Indices]] = {
    "uniform": _uniform,
    "uniform-time": _uniform_time,
    "fps": _fps,
    "window": _window,
    "middle": _middle,
    "published": _published,
}
