"""The headers of PES packets, of which transport and program streams consist, and their clock.

Source: ISO/IEC 13818-1, 2.4.3.6 (PES packets), 2.4.3.7 (times).
"""

from __future__ import annotations

from data.video.pyav.nal_units import Places
from data.video.pyav.sample_tables.table import UnusualTable

# Of a packet's header up to the length of the rest of it, and of a time.
PES_BYTES = 9
TIME_BYTES = 5

# The clock has 33 bits. FFmpeg takes times of more than a minute before the first for its next
# round; what is near that minute, and recordings that start at the end of a round, are left to it.
ROUND = 1 << 33
SECOND = 90_000
NEAR, FAR = 30 * SECOND, 120 * SECOND


def times(fields: Places) -> Places:
    """Return the times of 33 bits in fields of five bytes, int64 (n, 5 or more)."""
    return (
        (fields[:, 0] & 0x0E) << 29
        | fields[:, 1] << 22
        | fields[:, 2] >> 1 << 15
        | fields[:, 3] << 7
        | fields[:, 4] >> 1
    )


def unrolled(ticks: Places, first: int) -> Places:
    """Return times as FFmpeg counts them, those of the clock's next round after the `first`.

    Raises:
        UnusualTable: It may count them in another way.
    """
    near = (ticks < first - NEAR) & (ticks > first - FAR)
    if first > ROUND - FAR or bool(near.any()):
        raise UnusualTable
    return ticks + ROUND * (ticks < first - NEAR)
