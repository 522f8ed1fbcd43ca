"""The clock of a stream: where it goes back, and times that never do.

A recorder that starts again, the cells of a DVD and files that are joined leave one file with
several clocks. Its frames come in the order of a decode from the start, and its times go on: the
first frame of each further part is shown one usual step after the frame before it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# A transport or program stream counts 33 bits. Where its clock goes back by hours, FFmpeg takes
# that for the end of the count, and adds 2^33: a leap of more than half of that is a new part.
WRAPPED_FORMATS = ("mpegts", "mpeg")
LEAP = 1 << 32

# With more steps back than one in so many frames, timestamps are no use.
FRAMES_A_PART = 10


def find_joints(
    pts: npt.NDArray[np.int64],
    shown: npt.NDArray[np.bool_],
    entry: npt.NDArray[np.int8],
    *,
    reordered: bool,
    leaps: bool,
) -> npt.NDArray[np.int64]:
    """Return the numbers of the packets at which the clock goes back, int64, growing.

    Whatever precedes an entry in the file is shown before it and before all that follows it: groups
    of pictures never overlap in time.

    Args:
        pts: int64 (n,), the time of each packet, in file order.
        shown: (n,), whether a frame is shown for it.
        entry: int8 (n,), not 0 where decoding may start.
        reordered: Whether packets are known that are shown before others that they follow. Where
            there is neither such a packet nor an entry, each packet is a group of its own.
        leaps: Whether a leap ahead by half of a 33-bit clock is a joint too.
    """
    in_order = not reordered and not entry.any()
    starts = np.arange(len(pts)) if in_order else np.union1d([0], np.flatnonzero(entry))
    lowest = np.minimum.reduceat(np.where(shown, pts, np.iinfo(np.int64).max), starts)
    highest = np.maximum.reduceat(np.where(shown, pts, np.iinfo(np.int64).min), starts)
    of_frames = highest >= lowest  # groups in which something is shown
    starts, lowest, highest = starts[of_frames], lowest[of_frames], highest[of_frames]
    joints = lowest[1:] < highest[:-1]
    if leaps:
        joints |= lowest[1:] - highest[:-1] > LEAP
    return starts[1:][joints]


def duration(pts: npt.NDArray[np.int64], joints: npt.NDArray[np.int64]) -> int:
    """Return the ticks from the first packet to the last, those of each part added."""
    parts = np.split(pts, joints)
    return sum(int(np.ptp(part)) for part in parts if len(part))


def steady(
    ticks: npt.NDArray[np.int64], *, leaps: bool
) -> tuple[npt.NDArray[np.int64], list[int]] | None:
    """Return the times of frames in the order in which they are shown, made to go on at joints.

    Args:
        ticks: int64 (n,), as the file has them.
        leaps: As of `find_joints`.

    Returns:
        int64 (n,), after the first; and the indices of the frames at which a part begins. None
        where the times go back too often to be of any use, or stand still.
    """
    steps = np.diff(ticks)
    if len(steps) and not steps.any():
        return None
    back = steps < 0
    if leaps:
        back |= steps > LEAP
    joints = np.flatnonzero(back) + 1
    if len(joints) * FRAMES_A_PART > len(ticks):
        return None
    forward = steps[~back & (steps > 0)]
    steps[back] = int(np.median(forward)) if len(forward) else 1
    return np.concatenate([[0], np.cumsum(steps)]).astype(np.int64), joints.tolist()
