"""Packets whose bytes lie in shares in a transport stream, between those of other streams.

Source: ISO/IEC 13818-1, 2.4.3.2 (transport packets), 2.4.3.6 (PES packets).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.video.pyav.nal_units import PacketBytes
from data.video.pyav.sample_tables.pes import PES_BYTES, TIME_BYTES
from data.video.pyav.sample_tables.table import SampleTable, UnusualTable, read_at

# Of a transport packet. Recorders put a time before each, or a code for corrections behind it.
PACKET_BYTES = 188

Rows = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class TransportTable(SampleTable):
    """The packets of a stream in a transport stream, in decoding order.

    `position` is where the transport packet lies that a packet begins in.

    Attributes:
        pid: The number of the stream.
        length: The bytes from one transport packet to the next.
        end: Where the last one ends.
    """

    pid: int
    length: int
    end: int

    @property
    def values(self) -> dict[str, int]:
        """What is no array in it, for `restored`."""
        return {"pid": self.pid, "length": self.length, "end": self.end}

    def content(self, file: int, number: int) -> bytes:
        """Return the bytes of one packet (`SampleTable.content`)."""
        data = self._stretch(file, number, number + 1)
        shares = []
        for at in range(0, len(data), self.length):
            if (data[at + 1] & 0x1F) << 8 | data[at + 2] == self.pid and data[at + 3] & 0x10:
                begin = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
                if data[at + 1] & 0x40:
                    begin += PES_BYTES + data[begin + PES_BYTES - 1]
                shares.append(data[begin : at + PACKET_BYTES])
        content = b"".join(shares)
        if len(content) != self.size[number]:
            raise OSError("the file has changed")
        return content

    def _read(self, file: int, first: int, last: int) -> PacketBytes:
        """Return the packets from `first` to `last`, which is not one of them."""
        try:
            shares = Shares(rows_of(self._stretch(file, first, last), self.length), self.pid)
        except UnusualTable:
            raise OSError("the file has changed") from None
        end = np.cumsum(self.size[first:last], dtype=np.int64)
        if shares.size.sum() != end[-1]:
            raise OSError("the file has changed")
        return PacketBytes(shares.content, end - self.size[first:last], end)

    def _stretch(self, file: int, first: int, last: int) -> bytes:
        """Return the transport packets from one packet's start to another's."""
        start = int(self.position[first])
        end = int(self.position[last]) if last < len(self) else self.end
        return read_at(file, start, end - start)


def rows_of(data: bytes, length: int) -> Rows:
    """Return the transport packets in `data`, uint8 (n, PACKET_BYTES); it begins with one.

    Args:
        data: The bytes; a part of a packet at the end is left out.
        length: The bytes from one packet to the next.
    """
    count = (len(data) + length - PACKET_BYTES) // length
    data = data.ljust(count * length, b"\0")
    return np.frombuffer(data, np.uint8, count * length).reshape(count, length)[:, :PACKET_BYTES]


def pids_of(rows: Rows) -> npt.NDArray[np.int16]:
    """Return the number of the stream of each transport packet."""
    return (rows[:, 1].astype(np.int16) & 0x1F) << 8 | rows[:, 2]


class Shares:
    """The shares of one stream's packets in transport packets; its arrays have shape (m,).

    Attributes:
        number: The numbers of the transport packets.
        count: Their continuity counters.
        filled: Whether they hold any bytes of the stream.
        starts: The numbers, among these m, of those in which a packet starts.
        heads: uint8 (starts, 19), how the headers of those packets begin.
        header: The bytes of each header.
    """

    def __init__(self, rows: Rows, pid: int) -> None:
        """Take the shares out of transport packets.

        Args:
            rows: The transport packets.
            pid: The number of the stream.

        Raises:
            UnusualTable: They are damaged, scrambled or marked as interrupted, or a header is cut.
        """
        self.number = np.flatnonzero(pids_of(rows) == pid)
        self._rows = rows if len(self.number) == len(rows) else rows[self.number]
        marks, flags, adaptation = self._rows[:, 1], self._rows[:, 3], self._rows[:, 4]
        self.count, self.filled = flags & 15, flags & 0x10 != 0
        adapted = flags & 0x20 != 0
        broken = marks & 0x80 | flags & 0xC0
        interrupted = adapted & (adaptation > 0) & (self._rows[:, 5] & 0x80 != 0)
        begin = np.where(adapted, adaptation.astype(np.int64) + 5, 4)
        is_start = marks & 0x40 != 0
        unusual = interrupted | ~(adapted | self.filled) | (is_start & ~self.filled)
        if bool(broken.any() or (unusual | (self.filled & (begin >= PACKET_BYTES))).any()):
            raise UnusualTable
        begin[~self.filled] = PACKET_BYTES
        self.starts = np.flatnonzero(is_start)
        places = begin[self.starts, None] + np.arange(PES_BYTES + 2 * TIME_BYTES)
        self.heads = self._rows[self.starts[:, None], places.clip(max=PACKET_BYTES - 1)]
        self.header = PES_BYTES + self.heads[:, PES_BYTES - 1].astype(np.int64)
        begin[self.starts] += self.header
        if len(begin) and begin.max() > PACKET_BYTES:
            raise UnusualTable
        self._begin = begin
        self.size = PACKET_BYTES - begin

    @property
    def content(self) -> npt.NDArray[np.uint8]:
        """The bytes of the stream, without the headers of its packets."""
        own = np.arange(PACKET_BYTES, dtype=np.uint8) >= self._begin.astype(np.uint8)[:, None]
        return self._rows[own]
