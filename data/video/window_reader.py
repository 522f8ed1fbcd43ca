"""Reading the windows of a video, however much they overlap, in one pass over its file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.video.frames import FrameBatch, FrameIndices, Frames, LimitExceeded, Limits, VideoError
from data.video.info import VideoInfo
from data.video.pyav import DecodeSession, FrameCountChanged, open_video
from data.video.reader import sampled_indices
from data.video.sampling import Sampling
from data.windows import MOST_WINDOWS, Window, Windows
from data.wording import counted

Choose = Callable[[Sequence[Window]], Sequence[Window]]


@dataclass(frozen=True)
class WindowFrames:
    """What was read of a window: the frames that its sampling picks, or why there are none.

    `info` is what is known about the file, where that is not what it was at the window before.
    """

    window: Window
    batch: FrameBatch | None = None
    error: VideoError | None = None
    info: VideoInfo | None = None


def read_windows(
    path: Path | str,
    sampling: Sampling,
    windows: Windows,
    choose: Choose,
    *,
    start: float | None = None,
    end: float | None = None,
    accept_damaged: bool = False,
    limits: Limits | None = None,
    threads: int = 0,
) -> Iterator[WindowFrames]:
    """Read windows of a video; each has the frames that `read_sampled` reads of those seconds.

    They are read with PyAV, in one pass: no packet is decoded twice, and memory holds the frames of
    the windows that overlap one of them, and what an open file takes. A window that has too few
    frames, or one in a damaged group of pictures, is an error of this window.

    Args:
        path: The video file.
        sampling: Which frames of a window are read.
        windows: How the video is cut; a window at its end that it does not fill, but for less than
            half a frame, is left out.
        choose: Returns those of the windows that are to be read, in their order.
        start: Where the first window begins, in seconds; None for the start of the file.
        end: Where the last one ends at the latest; None for the end of the file.
        accept_damaged: Read damaged files too.
        limits: Limits on reading it; None for those in force.
        threads: Threads of the decoder; 0 for one per core.

    Raises:
        VideoError: As for `read`, or there is no window. Windows that were not yielded before are
            not read.
    """
    with open_video(path, limits=limits, threads=threads, quick=True) as container:
        session = DecodeSession(container, accept_damaged=accept_damaged)
        found = _cut(container.path, session.times()[0], windows, start, end)
        waiting = deque(choose(found))
        told: tuple[object, ...] | None = None
        while waiting:
            try:
                for window, result in _in_one_pass(session, sampling, waiting):
                    knows = _knowledge(session)
                    info = session.info() if knows != told else None
                    told = knows
                    waiting.popleft()
                    if isinstance(result, VideoError):
                        yield WindowFrames(window, error=result, info=info)
                    else:
                        yield WindowFrames(window, batch=result, info=info)
            except FrameCountChanged:
                continue  # the rest is read by the times that the frames really have


def _knowledge(session: DecodeSession) -> tuple[object, ...]:
    """Return what makes the information about a file another when it changes."""
    facts = session.facts
    return session.mismatch, session.full is None, facts.interlaced, facts.pixel_format


def _cut(
    path: Path,
    times: npt.NDArray[np.float64],
    windows: Windows,
    start: float | None,
    end: float | None,
) -> list[Window]:
    """Return the windows of a video; the last frame is shown for one usual step."""
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    first = start or 0.0
    shown_until = float(times[-1]) + usual
    last = shown_until if end is None else min(end, shown_until)
    count = windows.count(first, last, slack=usual / 2)
    if not count:
        what = "it lasts" if start is None and end is None else "there are"
        option = "--every" if windows.span == windows.every else "--span"
        raise VideoError(
            path,
            f"{what} {max(last - first, 0):.3f} s, and a window takes {windows.span:g} s: "
            f"try a smaller {option}",
        )
    if count > MOST_WINDOWS:
        raise VideoError(
            path, f"{count:,} windows, the limit is {MOST_WINDOWS:,}: try a larger --every"
        )
    return windows.cut(first, last, slack=usual / 2)


def _in_one_pass(
    session: DecodeSession, sampling: Sampling, windows: Sequence[Window]
) -> Iterator[tuple[Window, FrameBatch | VideoError]]:
    """Yield what there is of each window, in order, from one decode of all their frames."""
    times, path = session.times()[0], session.container.path
    picked: list[FrameIndices | VideoError] = []
    for window in windows:
        try:
            picked.append(sampled_indices(session, sampling, window.start, window.end))
        except VideoError as error:
            picked.append(error)
    chosen = [indices for indices in picked if not isinstance(indices, VideoError)]
    wanted = np.unique(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)
    # The first frame that is needed from each window on: what is before it can go.
    needed = np.array([len(times) if isinstance(p, VideoError) else p.min() for p in picked])
    needed = np.minimum.accumulate(needed[::-1])[::-1]
    held: dict[int, Frames | VideoError] = {}
    stream, newest = session.stream(wanted), -1
    for window, indices, first in zip(list(windows), picked, needed.tolist(), strict=True):
        for index in [index for index in held if index < first]:
            del held[index]
        if isinstance(indices, VideoError):
            yield window, indices
            continue
        while newest < indices.max():
            newest, frame = next(stream)
            if newest >= first:
                held[newest] = frame
                if not isinstance(frame, VideoError):
                    _check_size(session, frame, len(held) + len(indices))
        frames = []
        for index in indices.tolist():
            if isinstance(frame := held[index], VideoError):
                yield window, frame
                break
            frames.append(frame)
        else:
            yield window, _batch(path, frames, indices, times)


def _batch(
    path: Path, frames: Sequence[Frames], indices: FrameIndices, times: npt.NDArray[np.float64]
) -> FrameBatch | VideoError:
    shapes = {frame.shape for frame in frames}
    if len(shapes) > 1:
        sizes = " and ".join(f"{shape[1]}x{shape[0]}" for shape in sorted(shapes))
        return VideoError(path, f"its frames are of several sizes, {sizes}")
    return FrameBatch(np.stack(frames), indices, times[indices])


def _check_size(session: DecodeSession, frame: Frames, count: int) -> None:
    """Raise `VideoError` if so many frames as this one take more memory than is allowed."""
    limits, path = session.container.limits, session.container.path
    height, width = frame.shape[:2]
    limits.check_frame_size(path, width, height)
    if count * frame.nbytes > limits.batch_bytes:
        reason = (
            f"{counted(count, 'frame')} of {width}x{height} of windows that overlap take "
            f"{count * frame.nbytes:,} bytes, the limit is {limits.batch_bytes:,}"
        )
        raise LimitExceeded(path, reason, "--max-memory")
