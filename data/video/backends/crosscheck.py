"""Comparison of a decoder with the reference: times of all frames, pixels of some."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from data.video.backends.base import ReadFrames
from data.video.frames import FrameIndices, Frames, VideoError
from data.video.pyav import NO_ENTRY, DecodeSession

GREY_LEVELS = 2  # most that pixels of two decoders may differ


class CannotAgree(VideoError):
    """A decoder that cannot, or would not, return the frames of the reference."""


def largest_difference(a: Frames, b: Frames) -> int:
    """Return the largest difference of two pixels; 256 where the shapes differ."""
    if a.shape != b.shape:
        return 256
    return int((np.maximum(a, b) - np.minimum(a, b)).max(initial=0))


def agreement(session: DecodeSession, indices: FrameIndices, read: ReadFrames) -> str:
    """Return `agrees` if `read` returns the reference's frames at `indices`, else why not."""
    try:
        frames = read(session, indices, "cpu")
    except CannotAgree as error:
        return error.reason
    difference = largest_difference(frames, session.frames(indices))
    if difference <= GREY_LEVELS:
        return "agrees"
    return f"its pixels differ by up to {difference} grey levels"


def check_times(
    session: DecodeSession,
    name: str,
    times: npt.NDArray[np.float64],
    indices: FrameIndices | None = None,
) -> None:
    """Compare a decoder's times with the reference's.

    Args:
        session: The open file.
        name: The decoder's name, for the error.
        times: float64, seconds after the first frame.
        indices: The frames that `times` are of; all of them by default.

    Raises:
        CannotAgree: The number of times differs, or one of them by half a millisecond or more.
    """
    expected = session.times()[0] if indices is None else session.times()[0][indices]
    path = session.container.path
    if len(times) != len(expected):
        raise CannotAgree(path, f"{name} shows {len(times):,} frames, not {len(expected):,}")
    # Half a millisecond: both round the same ticks, to single or to double precision.
    if len(times) and float(np.abs(times - expected).max()) > 5e-4 + 1e-6 * float(expected[-1]):
        raise CannotAgree(path, f"{name} gives its frames other times")


def check_one_frame(
    session: DecodeSession, indices: FrameIndices, frames: Frames, name: str
) -> Frames:
    """Return `frames` after a comparison of one of them: the one the reference decodes fastest.

    Raises:
        CannotAgree: Its pixels differ from the reference's by more than `GREY_LEVELS`.
    """
    if not len(indices):
        return frames
    packet_index = session.container.packet_index
    if session.random_access:
        packets = packet_index.order[indices]
        entries = np.union1d([0], np.flatnonzero(packet_index.entry != NO_ENTRY))
        before = entries[np.searchsorted(entries, packets, side="right") - 1]
        position = int(np.argmin(packets - before))
    else:
        position = int(np.argmin(indices))
    expected = session.frames(indices[position : position + 1])[0]
    difference = largest_difference(frames[position], expected)
    if difference > GREY_LEVELS:
        raise CannotAgree(
            session.container.path,
            f"{name} returns other pixels (they differ by up to {difference} grey levels)",
        )
    return frames
