"""The sample tables of an MP4: where its packets are and when they are shown, without reading them.

FFmpeg reads these tables too, one entry after the other, and gives packets one after the other;
with NumPy it takes a fiftieth of the time, which decides how long a clip of hours takes to open.
They are used only where they are simple and FFmpeg agrees: whatever is unusual (fragments, edits
that hide frames, several descriptions, encryption, a table that does not fit another or the file)
is left to FFmpeg, packet by packet.

Source: ISO/IEC 14496-12, 8.6 (times, keyframes, edits) and 8.7 (sizes, chunks, offsets).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data.video.pyav.sample_tables.table import SampleTable, UnusualTable, read_at

if TYPE_CHECKING:
    from av.video.stream import VideoStream

# Entries that are compared with FFmpeg's.
COMPARED = 4_000
# The largest `moov` box that is read; a day at 60 frames a second has 100 MB.
MAX_TABLE_BYTES = 512 << 20
# FFmpeg takes larger values for errors, and mends them.
LARGEST_TICKS = 1 << 28

# Boxes inside the table of samples that change what its packets are, or which are keyframes.
_UNUSUAL = {b"stz2", b"stps", b"senc", b"saiz", b"saio"}
_UNUSUAL_GROUPS = (b"rap ", b"sync")
_SAMPLE_ENTRIES = {
    b"avc1", b"hvc1", b"hev1", b"av01", b"vp08", b"vp09", b"mp4v", b"apch", b"apcn", b"apcs",
    b"apco", b"ap4h", b"ap4x",
}  # fmt: skip


def find_samples(path: Path, stream: VideoStream, fewest: int) -> SampleTable:
    """Return the sample table of a stream; no packet is read.

    Args:
        path: The file.
        stream: Its stream.
        fewest: Fewest samples of a table that is read.

    Raises:
        UnusualTable: There are fewer, or the table is not simple, or not FFmpeg's.
        OSError: The file cannot be read.
    """
    if len(stream.index_entries) < fewest:
        raise UnusualTable
    try:
        track = _track(_read_moov(path), stream.id)
        table, dts = _table(path, track, len(stream.index_entries))
        _compare_entries(stream, table, dts)
    except (struct.error, ValueError, IndexError, OverflowError, KeyError):
        raise UnusualTable from None
    return table


def _read_moov(path: Path) -> memoryview:
    """Return the contents of the only `moov` box of a file that has no fragments."""
    moov: bytes | None = None
    with open(path, "rb", buffering=0) as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at + 8 <= size:
            head = os.pread(file.fileno(), 16, at)
            length, kind, header = int.from_bytes(head[:4], "big"), head[4:8], 8
            if length == 1:
                length, header = int.from_bytes(head[8:16], "big"), 16
            if length == 0:
                length = size - at
            if length < header or at + length > size or kind in (b"moof", b"mfra", b"sidx"):
                raise UnusualTable
            if kind == b"moov":
                if moov is not None or length > MAX_TABLE_BYTES:
                    raise UnusualTable
                moov = read_at(file.fileno(), at + header, length - header)
            at += length
    if moov is None:
        raise UnusualTable
    return memoryview(moov)


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the kind and the contents of each box."""
    at = 0
    while at + 8 <= len(data):
        length, header = struct.unpack_from(">I", data, at)[0], 8
        if length == 1:
            length, header = struct.unpack_from(">Q", data, at + 8)[0], 16
        if length < header or at + length > len(data):
            raise UnusualTable
        yield bytes(data[at + 4 : at + 8]), data[at + header : at + length]
        at += length


def _only(data: memoryview, *path: bytes) -> memoryview:
    """Return the contents of the box at a path of kinds, each of which must be there once."""
    for wanted in path:
        found = [content for kind, content in _boxes(data) if kind == wanted]
        if len(found) != 1:
            raise UnusualTable
        data = found[0]
    return data


def _track(moov: memoryview, track_id: int) -> memoryview:
    """Return the contents of the `trak` box of a track."""
    tracks = []
    for kind, content in _boxes(moov):
        if kind == b"mvex":
            raise UnusualTable
        if kind == b"trak":
            header = _only(content, b"tkhd")
            at = 20 if header[0] == 1 else 12
            if struct.unpack_from(">I", header, at)[0] == track_id:
                tracks.append(content)
    if len(tracks) != 1:
        raise UnusualTable
    return tracks[0]


def _table(
    path: Path, track: memoryview, entries: int
) -> tuple[SampleTable, npt.NDArray[np.int64]]:
    """Return a track's samples, with composition times in place of `pts`; and decoding times."""
    boxes: dict[bytes, memoryview] = {}
    for kind, content in _boxes(_only(track, b"mdia", b"minf", b"stbl")):
        grouped = kind == b"sbgp" and bytes(content[4:8]) in _UNUSUAL_GROUPS
        if kind in _UNUSUAL or grouped or (kind in boxes and kind not in (b"sbgp", b"sgpd")):
            raise UnusualTable
        boxes[kind] = content
    descriptions = boxes[b"stsd"]
    if struct.unpack_from(">I", descriptions, 4)[0] != 1:
        raise UnusualTable
    if bytes(descriptions[12:16]) not in _SAMPLE_ENTRIES:
        raise UnusualTable
    size, position = _places(boxes, entries)
    end = position + size
    if bool((position[1:] < end[:-1]).any()) or end[-1] > path.stat().st_size:
        raise UnusualTable
    del end
    duration = _runs(boxes[b"stts"], entries)
    dts = np.cumsum(duration, dtype=np.int64)
    dts -= duration
    del duration
    times = dts + _runs(boxes[b"ctts"], entries) if b"ctts" in boxes else dts.copy()
    _check_edits(track, int(times.min()), int(times.max()))
    key = np.ones(entries, np.bool_)
    if b"stss" in boxes:
        numbers = _array(boxes[b"stss"], ">u4", 8, _count(boxes[b"stss"])).astype(np.int64)
        if not len(numbers) or numbers.min() < 1 or numbers.max() > entries:
            raise UnusualTable
        key[:] = False
        key[numbers - 1] = True
    return SampleTable(path, position, size, times, key, dated=True), dts


def _count(box: memoryview, at: int = 4) -> int:
    return int(struct.unpack_from(">I", box, at)[0])


def _array(box: memoryview, dtype: str, at: int, count: int) -> npt.NDArray[np.unsignedinteger]:
    """Return an array inside a box, which must hold that many values."""
    return np.frombuffer(box, dtype, count, at)


def _runs(box: memoryview, entries: int) -> npt.NDArray[np.int64]:
    """Return the values of a table of (count, value) runs, one for each of `entries` samples."""
    runs = _array(box, ">u4", 8, 2 * _count(box)).reshape(-1, 2).astype(np.int64)
    if runs[:, 0].sum() != entries or runs[:, 1].max(initial=0) >= LARGEST_TICKS:
        raise UnusualTable
    return np.repeat(runs[:, 1], runs[:, 0])


def _places(
    boxes: dict[bytes, memoryview], entries: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the size of each sample and where it is in the file."""
    one_size, count = struct.unpack_from(">II", boxes[b"stsz"], 4)
    if count != entries:
        raise UnusualTable
    if one_size:
        size = np.full(entries, one_size, np.int64)
    else:
        size = _array(boxes[b"stsz"], ">u4", 12, entries).astype(np.int64)
    if size.min() < 1 or size.max() >= 1 << 31:
        raise UnusualTable
    if (b"stco" in boxes) == (b"co64" in boxes):
        raise UnusualTable
    if b"stco" in boxes:
        chunk = _array(boxes[b"stco"], ">u4", 8, _count(boxes[b"stco"])).astype(np.int64)
    else:
        chunk = _array(boxes[b"co64"], ">u8", 8, _count(boxes[b"co64"])).astype(np.int64)
    runs = _array(boxes[b"stsc"], ">u4", 8, 3 * _count(boxes[b"stsc"])).reshape(-1, 3)
    first, samples, description = runs.astype(np.int64).T
    lengths = np.diff(np.append(first, len(chunk) + 1))
    if first[0] != 1 or bool((lengths < 1).any()) or bool((description != 1).any()):
        raise UnusualTable
    per_chunk = np.repeat(samples, lengths)
    if per_chunk.min() < 1 or per_chunk.max() > entries or per_chunk.sum() != entries:
        raise UnusualTable
    before = np.cumsum(size) - size
    first_of_chunk = np.cumsum(per_chunk) - per_chunk
    position = before
    position += np.repeat(chunk - before[first_of_chunk], per_chunk)
    return size.astype(np.int32), position


def _check_edits(track: memoryview, first: int, last: int) -> None:
    """Raise UnusualTable unless the edit list, if there is one, shows every sample once.

    Args:
        track: The contents of the `trak` box.
        first: The earliest composition time, in ticks of the track.
        last: The latest.
    """
    if not any(kind == b"edts" for kind, _ in _boxes(track)):
        return
    box = _only(track, b"edts", b"elst")
    wide = box[0] == 1
    edits = list(struct.iter_unpack(">Qqhh" if wide else ">Iihh", box[8:]))
    if len(edits) != _count(box) or not 1 <= len(edits) <= 2:
        raise UnusualTable
    # An edit of nothing may come first: a start that is not at zero.
    if len(edits) == 2 and edits[0][1] != -1:
        raise UnusualTable
    _, start, rate, fraction = edits[-1]
    if (rate, fraction) != (1, 0) or not 0 <= start <= first:
        raise UnusualTable
    # Where the edit ends is in ticks of the film, which are coarser: FFmpeg's list is compared.


def _compared(entries: int) -> npt.NDArray[np.int64]:
    """Return the numbers of the samples that are compared with FFmpeg's."""
    spread = np.linspace(0, entries - 1, COMPARED - 400).astype(np.int64)
    ends = np.concatenate([np.arange(200), np.arange(entries - 200, entries)])
    return np.unique(np.concatenate([spread, ends.clip(0, entries - 1)]))


def _compare_entries(stream: VideoStream, table: SampleTable, dts: npt.NDArray[np.int64]) -> None:
    """Raise UnusualTable if FFmpeg has other entries, but for a constant time, or hides some."""
    entries = stream.index_entries
    shift = int(entries[0].timestamp) - int(dts[0])
    for number in _compared(len(table)).tolist():
        entry = entries[number]
        theirs = (entry.pos, entry.size, entry.timestamp - shift, bool(entry.flags & 1))
        mine = (table.position[number], table.size[number], dts[number], table.key[number])
        if theirs != mine or entry.is_discard:
            raise UnusualTable
