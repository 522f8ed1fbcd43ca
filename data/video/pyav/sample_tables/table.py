"""Where the packets of a stream are in its file, without FFmpeg's reading one after another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from data.video.pyav.nal_units import PacketBytes
from data.video.pyav.packets import PacketFacts

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# Packets at the start of a file that are compared with FFmpeg's.
COMPARED_PACKETS = 3
# What FFmpeg may say beside a packet: nothing that changes it.
USUAL_SIDE_DATA = {"mpegts_stream_id"}


class UnusualTable(Exception):
    """What is left to FFmpeg, packet by packet."""


@dataclass(frozen=True)
class SampleTable:
    """The packets of a stream in decoding order; all arrays have shape (n,).

    Attributes:
        path: The file.
        position: int64, where each packet starts in the file, in growing order.
        size: int32, its bytes.
        pts: int64, when it is shown, in ticks of the stream's clock, as FFmpeg counts them.
        key: Whether the table calls it a keyframe.
        dated: Whether FFmpeg's own table has the decoding time of each packet.
        seekable: Whether FFmpeg can seek in the file without reading it.
        facts: What the bitstream of the packets tells, where finding them took reading it.

    Which of the arrays an index does not have are `ARRAYS`; `LATE` are the packets after a seek of
    which one has to be known: those before may be cut off.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ("position", "size")
    LATE: ClassVar[slice] = slice(0, 1)

    path: Path
    position: npt.NDArray[np.int64]
    size: npt.NDArray[np.int32]
    pts: npt.NDArray[np.int64]
    key: npt.NDArray[np.bool_]
    dated: bool = False
    seekable: bool = True
    facts: PacketFacts | None = None

    def __len__(self) -> int:
        return len(self.position)

    @property
    def values(self) -> dict[str, int]:
        """What is no array in it, for `restored`."""
        return {"dated": self.dated, "seekable": self.seekable}

    @classmethod
    def restored(cls, path: Path, arrays: dict[str, Any], **values: Any) -> SampleTable:
        """Return a table as it was.

        Args:
            path: The file.
            arrays: Its `pts`, `key` and `ARRAYS`.
            **values: Its `values`.
        """
        short = {name: arrays[name].astype(np.int32) for name in cls.ARRAYS if name != "position"}
        return cls(path, **arrays | short, **values)

    def batches(self, packets: int, size: int) -> Iterator[PacketBytes]:
        """Yield all packets with their bytes, at most so many and so many bytes at a time.

        Raises:
            OSError: The file cannot be read, or has become shorter.
        """
        with open(self.path, "rb", buffering=0) as file:
            first = 0
            while first < len(self):
                start = self.position[first : first + packets]
                end = start + self.size[first : first + packets]
                count = max(int(np.searchsorted(end, start[0] + size, side="right")), 1)
                yield self._read(file.fileno(), first, first + count)
                first += count

    def _read(self, file: int, first: int, last: int) -> PacketBytes:
        """Return the packets from `first` to `last`, which is not one of them."""
        start = self.position[first:last] - self.position[first]
        end = start + self.size[first:last]
        data = read_at(file, int(self.position[first]), int(end[-1]))
        return PacketBytes(np.frombuffer(data, np.uint8), start, end)

    def content(self, file: int, number: int) -> bytes:
        """Return the bytes of one packet.

        Args:
            file: The descriptor of the open file.
            number: The number of the packet.

        Raises:
            OSError: The file cannot be read, or has become shorter.
        """
        return read_at(file, int(self.position[number]), int(self.size[number]))

    def packet(self, file: int, number: int, stream: VideoStream) -> Packet[VideoStream]:
        """Return one packet as FFmpeg's demuxer does.

        Args:
            file: The descriptor of the open file.
            number: The number of the packet.
            stream: Its stream.

        Raises:
            OSError: The file cannot be read, or has become shorter.
        """
        from av.packet import Packet

        packet: Any = Packet(self.content(file, number))
        packet.pts = int(self.pts[number])
        packet.dts = stream.index_entries[number].timestamp if self.dated else None
        packet.time_base, packet.stream = stream.time_base, stream
        packet.is_keyframe = bool(self.key[number])
        return cast("Packet[VideoStream]", packet)

    def is_confirmed(self, opened: InputContainer, stream: VideoStream) -> bool:
        """Return whether FFmpeg gives the same first packets, and the same late keyframe.

        Where its own table has only decoding times, `pts` becomes what FFmpeg counts from.

        Args:
            opened: The open file, from which these packets are read.
            stream: Its stream.
        """
        import av

        try:
            file = os.open(self.path, os.O_RDONLY)
        except OSError:
            return False
        try:
            first = list(islice(opened.demux(stream), COMPARED_PACKETS))
            if self.dated and first[0].pts is not None:
                self.pts[:] += first[0].pts - int(self.pts[0])
            if not all(self._is_packet(n, theirs, file) for n, theirs in enumerate(first)):
                return False
            if not self.seekable:
                return True
            keys = np.flatnonzero(self.key)
            opened.seek(int(self.pts[keys[3 * len(keys) // 4]]), stream=stream)
            late = islice(opened.demux(stream), self.LATE.start, self.LATE.stop)
            return any(self._is_known(theirs, file) for theirs in late)
        except (OSError, MemoryError, IndexError, av.error.FFmpegError):
            return False
        finally:
            os.close(file)

    def _is_known(self, theirs: Packet[VideoStream], file: int) -> bool:
        numbers = np.flatnonzero(self.pts == theirs.pts).tolist()
        return len(numbers) == 1 and self._is_packet(numbers[0], theirs, file)

    def _is_packet(self, number: int, theirs: Packet[VideoStream], file: int) -> bool:
        mine = self.packet(file, number, theirs.stream)
        unusual = {data.data_type for data in theirs.iter_sidedata()} - USUAL_SIDE_DATA
        return (
            not (unusual or theirs.is_discard or theirs.is_corrupt)
            and (mine.pts, mine.is_keyframe) == (theirs.pts, theirs.is_keyframe)
            and (not self.dated or mine.dts == theirs.dts)
            and bytes(mine) == bytes(theirs)
        )


def read_at(file: int, position: int, size: int) -> bytes:
    """Return `size` bytes of an open file from `position` on.

    Raises:
        OSError: The file cannot be read, or has become shorter.
    """
    parts, left = [], size
    while left:
        part = os.pread(file, left, position + size - left)
        if not part:
            raise OSError("the file has become shorter")
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
