"""What the header of a file claims, against what is in the file."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data.video.pyav.sniffing import file_url

if TYPE_CHECKING:
    from av.video.stream import VideoStream

_BOXES = {b"ftyp", b"moov", b"mdat", b"moof", b"wide", b"free", b"skip", b"uuid", b"sidx", b"mfra"}
_MOV = "mov,mp4,m4a,3gp,3g2,mj2"
# What is written where a length is not known yet, and stays there in what a pipe takes.
_PLACEHOLDERS = (0, 0xFFFFFFFF)


@dataclass(frozen=True)
class Claims:
    """What the header of a file claims and is not so.

    Attributes:
        damage: One sentence for each claim of what is missing.
        notes: One for each that means nothing.
    """

    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check_claims(
    path: Path, size: int, form: str, stream: VideoStream, pts: npt.NDArray[np.int64]
) -> Claims:
    """Return which claims of the header the file does not meet.

    Args:
        path: The file.
        size: Its bytes.
        form: FFmpeg's name of its format.
        stream: The video stream.
        pts: int64 (n,), the times of the packets that hold data.
    """
    demuxed, claimed = len(pts), stream.frames
    if form == _MOV:
        # What is left of the header's table after edit lists, if the table was complete.
        complete = stream.frames <= demuxed or _samples_in_tables(path, stream) >= stream.frames
        claimed = len(stream.index_entries) if complete else stream.frames
    damage, notes = [], []
    if claimed > demuxed:
        if form == "avi" and (chunks := _avi_chunks(path, stream.index)) is not None:
            of_data = int((chunks > 0).sum())
            whole, empty = of_data <= demuxed, len(chunks) - of_data
            others = f"{empty:,} chunks are empty" if empty else "the count is wrong"
        else:
            whole, others = form == "ivf" and _is_no_count(claimed, pts), "the count is wrong"
        sentence = f"header claims {claimed:,} frames, {demuxed:,} are in the file"
        if whole:
            notes.append(f"{sentence}: {others}")
        else:
            damage.append(sentence)
    told = told_bytes(path, size)
    if told is not None and told > size:
        damage.append(f"the file ends {told - size:,} bytes before its header says")
    return Claims(tuple(damage), tuple(notes))


def _samples_in_tables(path: Path, stream: VideoStream) -> int:
    """Return the number of frames that an MP4 locates in the file, without edit lists."""
    import av

    options = {
        "protocol_whitelist": "file", "codec_whitelist": "none", "ignore_editlist": "1",
        "format_whitelist": "mov",
    }  # fmt: skip
    with av.open(file_url(path), options=options, metadata_errors="replace") as opened:
        return len(opened.streams[stream.index].index_entries)


def _is_no_count(claimed: int, pts: npt.NDArray[np.int64]) -> bool:
    """Return whether the frame count of an IVF is none.

    FFmpeg wrote the duration in ticks there for years, and writes a placeholder into a pipe.
    """
    steps = np.diff(pts)
    span = int(np.ptp(pts)) + int(np.median(steps)) if len(steps) else 0
    return claimed in _PLACEHOLDERS or abs(claimed - span) <= int(steps.max(initial=0))


def _avi_chunks(path: Path, number: int) -> npt.NDArray[np.int64] | None:
    """Return the bytes of each chunk of a stream of an AVI file, empty ones too.

    A dropped frame is an empty chunk. None where the chunks do not reach to the end of the file.
    """
    lengths: list[int] = []
    names = {b"%02dd%c" % (number, kind) for kind in b"cb"}
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at, end = 0, len(data)
        while at + 8 <= end:
            name, length = struct.unpack_from("<4sI", data, at)
            if name in (b"RIFF", b"LIST"):
                kind = data[at + 8 : at + 12]
                at += 12 if kind in (b"AVI ", b"AVIX", b"movi", b"rec ") else 8 + length
                continue
            if name in names:
                lengths.append(length)
            elif not name.strip(b"\0 ").isalnum():
                break
            at += 8 + length + (length & 1)
    return np.array(lengths, np.int64) if end <= at <= end + 1 else None


def told_bytes(path: Path, size: int) -> int | None:
    """Return how long a file is by the outermost boxes of an MP4, Matroska or AVI file.

    Args:
        path: The file.
        size: Its bytes.

    Returns:
        The bytes; None where the file does not tell, as other formats and live recordings do not.
    """
    with open(path, "rb") as file:
        head = file.read(64)
        if head[4:8] in _BOXES:
            at = 0
            while at + 8 <= size:
                file.seek(at)
                box = file.read(16)
                length = int.from_bytes(box[:4], "big")
                if length == 1 and len(box) == 16:
                    length = int.from_bytes(box[8:], "big")
                if length < 8 or box[4:8] not in _BOXES:  # 0 is "to the end"
                    return size
                at += length
            return max(at, size)
        if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"AVI ":
            length = int.from_bytes(head[4:8], "little")
            return size if length in _PLACEHOLDERS else 8 + length
        if head[:4] == b"\x1a\x45\xdf\xa3":
            header, at = _ebml_size(head, 4)
            file.seek(at + (header or 0))
            segment = file.read(12)
            if header is not None and segment[:4] == b"\x18\x53\x80\x67":
                inside, used = _ebml_size(segment, 4)
                if inside is not None:
                    return at + header + used + inside
    return None


def _ebml_size(data: bytes, at: int) -> tuple[int | None, int]:
    """Return the size coded at `at` (None: unknown) and where it ends (RFC 8794, section 6)."""
    width = 9 - data[at].bit_length() if at < len(data) else 9
    if width > 8 or at + width > len(data):
        return None, at
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), at + width


def joined_segments(path: Path, pid: int) -> int | None:
    """Return how often the packet count of a transport stream breaks at the start of a segment.

    A segment begins with its table of programs and a whole picture; what is lost in between breaks
    the count elsewhere.

    Args:
        path: The file.
        pid: The stream's number in it.

    Returns:
        The number of breaks; None where one is elsewhere, or the packets cannot be told apart.
    """
    data = np.memmap(path, np.uint8, "r")
    for length, offset in ((188, 0), (192, 4), (204, 0)):
        count = (len(data) - offset) // length
        heads = data[offset : offset + count * length].reshape(count, length)[:, :4]
        if count > 1 and bool((heads[:, 0] == 0x47).all()):
            break
    else:
        return None
    heads = np.array(heads, np.int64)
    pids = (heads[:, 1] & 0x1F) << 8 | heads[:, 2]
    starts = heads[:, 1] & 0x40 != 0
    tables = np.flatnonzero((pids == 0) & starts)
    of_stream = np.flatnonzero((pids == pid) & (heads[:, 3] & 0x10 != 0))
    counts = heads[of_stream, 3] & 15
    breaks = np.flatnonzero(np.diff(counts) & 15 != 1)
    before, after = of_stream[breaks], of_stream[breaks + 1]
    between = np.searchsorted(tables, after) > np.searchsorted(tables, before)
    return len(breaks) if bool((starts[after] & between).all()) else None
