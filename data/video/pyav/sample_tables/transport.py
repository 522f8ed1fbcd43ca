"""The packets of a transport stream: where they are and when they are shown.

Each is read from the shares of 188 bytes in which it lies. What is not simple is left to FFmpeg:
packets without a time or of another length than they say, gaps in the count of shares, tables of
programs that change, damage, scrambling, and packets that are not one picture each.

Source: ISO/IEC 13818-1, 2.4.3 (transport packets, PES packets), 2.4.4 (tables of programs).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.video.pyav.nal_units import Bytes, PacketBytes, Places
from data.video.pyav.packets import PacketFacts
from data.video.pyav.sample_tables.access_units import CutPackets
from data.video.pyav.sample_tables.pes import (
    FAR,
    PES_BYTES,
    ROUND,
    TIME_BYTES,
    times,
    unrolled,
)
from data.video.pyav.sample_tables.table import UnusualTable, read_at
from data.video.pyav.sample_tables.transport_table import (
    PACKET_BYTES,
    Rows,
    Shares,
    TransportTable,
    pids_of,
    rows_of,
)

if TYPE_CHECKING:
    from av.video.stream import VideoStream

# Transport packets that are read at a time.
BATCH_ROWS = 1 << 15
# From one transport packet to the next, and before the first: alone, after a time, before a code.
LAYOUTS = ((188, 0), (192, 4), (204, 0))
_SYNC = 0x47
# All of a transport packet but the count in it.
_WITHOUT_COUNT = np.full(PACKET_BYTES, 255, np.uint8)
_WITHOUT_COUNT[3] = 0xF0
# More of one packet is not gathered.
MOST_PACKET_BYTES = 64 << 20


def find_samples(path: Path, stream: VideoStream, fewest: int) -> TransportTable:
    """Return the packets of a stream as a table of samples.

    Args:
        path: The file.
        stream: Its stream.
        fewest: Fewest packets that make a table.

    Raises:
        UnusualTable: There are fewer, or they are not simple.
        OSError: The file cannot be read.
    """
    cut = CutPackets(stream)
    with open(path, "rb", buffering=0) as file:
        transport = _Transport(file.fileno())
        _check_count(transport, stream.id, fewest)
        packets = _Packets(transport, stream.id, cut)
    pts = np.concatenate(packets.pts)
    return TransportTable(
        path,
        position=np.concatenate(packets.position),
        size=np.concatenate(cut.size).astype(np.int32),
        pts=unrolled(pts, int(pts[0])),
        key=np.concatenate(cut.key),
        facts=PacketFacts.joined(cut.facts),
        pid=stream.id,
        length=transport.length,
        end=transport.end,
    )


class _Transport:
    """A file of transport packets.

    Attributes:
        length: The bytes from one to the next.
        first: Where the first one begins.
        end: Where the last one ends.
    """

    def __init__(self, file: int) -> None:
        self.file = file
        size = os.fstat(file).st_size
        head = os.pread(file, 8 * LAYOUTS[-1][0], 0)
        for self.length, self.first in LAYOUTS:
            syncs = head[self.first :: self.length]
            if len(syncs) > 1 and set(syncs) == {_SYNC}:
                break
        else:
            raise UnusualTable
        count = (size - self.first + self.length - PACKET_BYTES) // self.length
        self.end = self.first + (count - 1) * self.length + PACKET_BYTES

    def batches(self) -> Iterator[tuple[int, Rows]]:
        """Yield where a batch of packets begins, and the packets, all of which begin as they must.

        Raises:
            UnusualTable: One does not.
        """
        step = BATCH_ROWS * self.length
        for at in range(self.first, self.end, step):
            rows = rows_of(read_at(self.file, at, min(step, self.end - at)), self.length)
            if not bool((rows[:, 0] == _SYNC).all()):
                raise UnusualTable
            yield at, rows


def _check_count(transport: _Transport, pid: int, fewest: int) -> None:
    """Raise UnusualTable if fewer packets than `fewest` start in a stream."""
    count = 0
    for _, rows in transport.batches():
        count += int((rows[:, 1] & 0x40 != 0)[pids_of(rows) == pid].sum())
        if count >= fewest:
            return
    raise UnusualTable


class _Packets:
    """The packets of one stream, read from the first to the last.

    Attributes:
        position: Where the transport packets lie in which they start, batch by batch.
        pts: When they are shown, as the file has it.
    """

    def __init__(self, transport: _Transport, pid: int, cut: CutPackets) -> None:
        self._filled, self._cut_packets = -1, cut
        self._tables: dict[int, Rows] = {}
        # Of the packet whose end is not read yet: its bytes, and how many it says it has, if any.
        self._open, self._told = np.zeros(0, np.uint8), np.zeros(0, np.int64)
        self.position: list[Places] = []
        self.pts: list[Places] = []
        for at, rows in transport.batches():
            self._check_tables(rows)
            self._take(Shares(rows, pid), at, transport.length)
        self._cut(self._open[:0], np.zeros(0, np.int64), self._told[:0], last=True)

    def _check_tables(self, rows: Rows) -> None:
        """Raise UnusualTable if a table of programs is not the one that it was."""
        pids = pids_of(rows)
        if not self._tables:
            tables = rows[pids == 0]
            if not len(tables):
                raise UnusualTable
            self._tables = dict.fromkeys((0, *_tables_of_programs(tables[0])), rows[:0])
        for pid, known in self._tables.items():
            tables = rows[pids == pid] & _WITHOUT_COUNT
            known = known if len(known) else tables[:1]
            if bool((tables != known).any() or (known[:, 1] & 0xC0 != 0x40).any()):
                raise UnusualTable
            self._tables[pid] = known

    def _take(self, shares: Shares, at: int, length: int) -> None:
        """Take in a stream's shares in transport packets that begin at `at` in the file."""
        if not len(shares.count):
            return
        if self._filled < 0:  # what the first share counts, less itself
            self._filled = int(shares.count[0]) - int(shares.filled[0])
        filled = self._filled + np.cumsum(shares.filled)
        if bool((filled & 15 != shares.count).any()):
            raise UnusualTable
        self._filled = int(filled[-1])
        heads = shares.heads.astype(np.int64)
        pts = times(heads[:, PES_BYTES:])
        dts = np.where(heads[:, 7] & 0x40 != 0, times(heads[:, PES_BYTES + TIME_BYTES :]), pts)
        of_video = (heads[:, :3] == (0, 0, 1)).all(1) & (heads[:, 3] & 0xF0 == 0xE0)
        clear = (heads[:, 6] & 0xF0 == 0x80) & (heads[:, 7] & 0x80 != 0)
        dated = shares.header >= PES_BYTES + TIME_BYTES * (1 + (heads[:, 7] >> 6 & 1))
        apart = np.minimum((pts - dts) % ROUND, (dts - pts) % ROUND)
        if not bool((of_video & clear & dated & (apart < FAR)).all()):
            raise UnusualTable
        told = heads[:, 4] << 8 | heads[:, 5]
        left = np.maximum(told + PES_BYTES - 3 - shares.header, 0)
        self.position.append(at + shares.number[shares.starts] * length)
        self.pts.append(pts)
        begins = (np.cumsum(shares.size) - shares.size)[shares.starts]
        self._cut(shares.content, begins, np.where(told > 0, left, -1))

    def _cut(self, content: Bytes, begins: Places, told: Places, *, last: bool = False) -> None:
        """Cut what has been read into packets, and take in those that are complete.

        Args:
            content: More bytes of the stream.
            begins: Where packets begin in them.
            told: How many bytes these say they have; -1 where they do not.
            last: Whether there is no more.
        """
        begins = np.concatenate([np.zeros(len(self._told), np.int64), begins + len(self._open)])
        told = np.concatenate([self._told, told])
        if not len(begins):  # the stream begins in mid-packet
            return
        data = np.concatenate([self._open, content])
        if not last:
            self._open, self._told, told = data[begins[-1] :], told[-1:], told[:-1]
            if len(self._open) > MOST_PACKET_BYTES:
                raise UnusualTable
            begins, ends = begins[:-1], begins[1:]
        else:
            ends = np.append(begins[1:], len(data))
        size = ends - begins
        if bool((size < 1).any() or ((told >= 0) & (told != size)).any()):
            raise UnusualTable
        self._cut_packets.take(PacketBytes(data, begins, ends))


def _tables_of_programs(packet: Bytes) -> list[int]:
    """Return the numbers of the streams with the tables of each program (2.4.4.3)."""
    data = packet[4:].tobytes()
    section = data[1 + data[0] :]
    end = 3 + (int.from_bytes(section[1:3], "big") & 0xFFF) - 4
    if len(section) < 8 or section[0] != 0 or not 8 <= end <= len(section):
        raise UnusualTable
    return [int.from_bytes(section[at + 2 : at + 4], "big") & 0x1FFF for at in range(8, end, 4)]
