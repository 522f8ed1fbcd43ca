"""The blocks of a Matroska file: where its packets are and when they are shown.

Only the heads of the blocks are read. Lacing, encryption, compression, codecs whose packets FFmpeg
completes, elements that do not fit one another and whatever else is unusual are left to FFmpeg.

Source: RFC 8794 (EBML) and RFC 9559 (Matroska), 5.1 (elements) and 10.2 (blocks).
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.video.pyav.sample_tables.table import SampleTable, UnusualTable, read_at

if TYPE_CHECKING:
    from av.video.stream import VideoStream

# What is read at a time: the heads of several small blocks.
WINDOW_BYTES = 1 << 14
# More than the head of a block has: id, size, track, time, flags.
HEAD_BYTES = 24
# The largest element before the clusters that is read.
MAX_HEADER_BYTES = 4 << 20

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_TRACKS, _INFO, _CUES = 0x1654AE6B, 0x1549A966, 0x1C53BB6B
# Elements of a segment that hold no packets: SeekHead, Chapters, Tags, Attachments, Void, CRC-32.
_SKIPPED = {0x114D9B74, 0x1043A770, 0x1254C367, 0x1941A469, 0xEC, 0xBF, _INFO, _TRACKS, _CUES}
_TIMESTAMP, _SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK, _REFERENCE = 0xE7, 0xA3, 0xA0, 0xA1, 0xFB
# Elements of a cluster: Position, PrevSize, Void, CRC-32.
_SKIPPED_IN_CLUSTER = {0xA7, 0xAB, 0xEC, 0xBF}
# Of a group of one block: Block, BlockDuration, ReferenceBlock, ReferencePriority, Void, CRC-32.
_OF_BLOCK_GROUP = {_BLOCK, 0x9B, _REFERENCE, 0xFA, 0xEC, 0xBF}
_LACED_OR_HIDDEN, _KEY = 0x0E, 0x80
# Of a track: TrackNumber, TrackType, CodecID; ContentEncodings, CodecDelay, TrackTimestampScale.
_TRACK, _NUMBER, _TYPE, _CODEC, _VIDEO = 0xAE, 0xD7, 0x83, 0x86, b"\1"
_UNUSUAL_IN_TRACK = {0x6D80, 0x56AA, 0x23314F}
_CODECS = {
    b"V_MPEG4/ISO/AVC", b"V_MPEGH/ISO/HEVC", b"V_VP8", b"V_VP9", b"V_AV1", b"V_MPEG1", b"V_MPEG2",
    b"V_MPEG4/ISO/SP", b"V_MPEG4/ISO/ASP", b"V_MJPEG", b"V_FFV1",
}  # fmt: skip


def find_samples(path: Path, stream: VideoStream, fewest: int) -> SampleTable:
    """Return the blocks of a stream as a table of samples.

    Args:
        path: The file.
        stream: Its stream.
        fewest: Fewest blocks that make a table.

    Raises:
        UnusualTable: There are fewer, or what holds them is not simple.
        OSError: The file cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        try:
            blocks = _Blocks(file.fileno(), stream)
            pts = blocks.pts()
        except (IndexError, OverflowError):
            raise UnusualTable from None
    if len(blocks.position) < fewest:
        raise UnusualTable
    return SampleTable(
        path,
        position=np.frombuffer(blocks.position, np.int64),
        size=np.frombuffer(blocks.size, np.int32),
        pts=pts,
        key=np.frombuffer(blocks.flags, np.uint8) & _KEY != 0,
        seekable=blocks.cues,
    )


class _Blocks:
    """The blocks of one track, read from the first to the last.

    Attributes:
        position: Where the data of each block starts.
        size: Its bytes.
        time: When it is shown, after its cluster's time.
        flags: Its flags.
        cues: Whether the file has an index for seeks.
        others: The bytes that stand for the other tracks.
    """

    def __init__(self, file: int, stream: VideoStream) -> None:
        self.file, self.stream = file, stream
        self.position, self.size = array("q"), array("i")
        self.time, self.flags = array("H"), bytearray()
        self.cues, self.others = False, set[int]()
        self._clusters: list[tuple[int, int]] = []  # number of the first block, time
        self._read()

    def pts(self) -> np.ndarray:
        """Return the time of each block, int64, in the file's ticks."""
        first, times = np.array(self._clusters, np.int64).reshape(-1, 2).T
        counts = np.diff(first, append=len(self.position))
        pts = np.repeat(times, counts) + np.frombuffer(self.time, np.int16)
        if len(pts) and pts.min() < 0:
            raise UnusualTable
        return pts

    def _read(self) -> None:
        end = os.fstat(self.file).st_size
        ident, at, size = self._head(0)
        if ident != _EBML or size is None:
            raise UnusualTable
        ident, at, size = self._head(at + size)
        if ident != _SEGMENT or (size is not None and at + size != end):
            raise UnusualTable
        track, info = b"", b""
        while at < end:
            ident, inside, size = self._head(at)
            if ident == _CLUSTER:
                number = self._track_number(track)
                self._check_clock(info)
                at = self._read_cluster(inside, end if size is None else inside + size, number)
                if size is not None and at != inside + size:
                    raise UnusualTable
                continue
            if ident not in _SKIPPED or size is None or inside + size > end:
                raise UnusualTable
            if ident in (_TRACKS, _INFO):
                if (
                    size > MAX_HEADER_BYTES
                    or self.position
                    or (track if ident == _TRACKS else info)
                ):
                    raise UnusualTable
                content = read_at(self.file, inside, size)
                track, info = (content, info) if ident == _TRACKS else (track, content)
            self.cues |= ident == _CUES
            at = inside + size
        if at != end:
            raise UnusualTable

    def _head(self, at: int) -> tuple[int, int, int | None]:
        """Return the id of an element, where its contents begin, and their size if it is known."""
        return _element(os.pread(self.file, HEAD_BYTES, at), 0, at)

    def _track_number(self, tracks: bytes) -> int:
        """Return the byte that stands for the only track of video in its blocks."""
        found = []
        for ident, entry in _elements(tracks):
            if ident != _TRACK:
                continue
            values = dict(_elements(entry))
            number = int.from_bytes(values.get(_NUMBER, b""), "big")
            if not 0 < number < 127:  # blocks have it in one byte
                raise UnusualTable
            if values.get(_TYPE) != _VIDEO:
                self.others.add(0x80 | number)
                continue
            codec = values.get(_CODEC, b"").rstrip(b"\0")
            if codec not in _CODECS or not _UNUSUAL_IN_TRACK.isdisjoint(values):
                raise UnusualTable
            found.append(0x80 | number)
        if len(found) != 1 or found[0] in self.others:
            raise UnusualTable
        return found[0]

    def _check_clock(self, info: bytes) -> None:
        scale = dict(_elements(info)).get(0x2AD7B1, b"\x0f\x42\x40")
        if Fraction(int.from_bytes(scale, "big"), 10**9) != self.stream.time_base:
            raise UnusualTable

    def _read_cluster(self, at: int, end: int, track: int) -> int:
        """Read the blocks of a cluster that ends at `end`, or before the next one.

        Args:
            at: Where its contents begin.
            end: Where they, or at least the file, end.
            track: The byte that stands for the track.

        Returns:
            Where the next element of the segment begins.
        """
        position, sizes, times, flags = self.position, self.size, self.time, self.flags
        window, base, last, timed = b"", 0, -1, False
        while at < end:
            place = at - base
            if place > last:
                window, base, place = os.pread(self.file, WINDOW_BYTES, at), at, 0
                last = len(window) - HEAD_BYTES
                if last < 0:
                    window += bytes(HEAD_BYTES)
                    last = 0
            kind = window[place]
            if kind in (_SIMPLE_BLOCK, _BLOCK_GROUP):
                size = window[place + 1]
                if size >= 0x80:
                    size, head = size & 0x7F, place + 2
                elif size >= 0x40:
                    size, head = (size & 0x3F) << 8 | window[place + 2], place + 3
                elif size >= 0x20:
                    size = (size & 0x1F) << 16 | window[place + 2] << 8 | window[place + 3]
                    head = place + 4
                else:
                    _, head, size = _sized(window, place, 0)
                at = base + head + size
                if kind == _BLOCK_GROUP:
                    if not timed:
                        raise UnusualTable
                    self._read_group(base + head, at, track)
                elif window[head] == track:
                    flag = window[head + 3]
                    if flag & _LACED_OR_HIDDEN or size < 5 or not timed:
                        raise UnusualTable
                    position.append(base + head + 4)
                    sizes.append(size - 4)
                    times.append(window[head + 1] << 8 | window[head + 2])
                    flags.append(flag)
                elif window[head] not in self.others:
                    raise UnusualTable
                continue
            if kind & 0xF0 == 0x10:  # an element of the segment: the cluster was of unknown size
                return at
            ident, head, size = _sized(window, place, base)
            if ident == _TIMESTAMP and not timed and size <= 8:
                time = int.from_bytes(read_at(self.file, head, size), "big")
                self._clusters.append((len(position), time))
                timed = True
            elif ident not in _SKIPPED_IN_CLUSTER:
                raise UnusualTable
            at = head + size
        return at

    def _read_group(self, at: int, end: int, track: int) -> None:
        """Read a group of one block, whose contents lie from `at` to `end`."""
        blocks, kinds = [], set()
        while at < end:
            ident, inside, size = self._head(at)
            if size is None or inside + size > end:
                raise UnusualTable
            if ident == _BLOCK:
                blocks.append((inside, size))
            kinds.add(ident)
            at = inside + size
        if len(blocks) != 1 or blocks[0][1] < 5:
            raise UnusualTable
        position, size = blocks[0]
        head = read_at(self.file, position, 4)
        if head[0] in self.others:
            return
        if head[0] != track or head[3] & _LACED_OR_HIDDEN or not kinds <= _OF_BLOCK_GROUP:
            raise UnusualTable
        self.position.append(position + 4)
        self.size.append(size - 4)
        self.time.append(head[1] << 8 | head[2])
        self.flags.append(_KEY * (_REFERENCE not in kinds))


def _element(data: bytes, at: int, base: int) -> tuple[int, int, int | None]:
    """Return the id of the element at `at`, where its contents begin (plus `base`), and their size.

    The size is None where it is unknown.
    """
    width = 9 - data[at].bit_length()
    if width > 4:
        raise UnusualTable
    ident = int.from_bytes(data[at : at + width], "big")
    at += width
    width = 9 - data[at].bit_length()
    if width > 8 or at + width > len(data):
        raise UnusualTable
    size = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1
    return ident, base + at + width, None if size == (1 << 7 * width) - 1 else size


def _sized(data: bytes, at: int, base: int) -> tuple[int, int, int]:
    ident, inside, size = _element(data, at, base)
    if size is None:
        raise UnusualTable
    return ident, inside, size


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the id and the contents of each element."""
    at = 0
    while at < len(data):
        ident, inside, size = _sized(data, at, 0)
        if inside + size > len(data):
            raise UnusualTable
        yield ident, data[inside : inside + size]
        at = inside + size
