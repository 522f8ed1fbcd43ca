"""An open video file: its best video stream, and the index of that stream's packets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.video.frames import Limits, VideoError
from data.video.pyav.claims import check_claims, joined_segments, told_bytes
from data.video.pyav.clock import WRAPPED_FORMATS
from data.video.pyav.frame_buffer import FullDecode
from data.video.pyav.kept_index import KeptIndex, entry_for, read_entry, write_entry
from data.video.pyav.packet_index import (
    PacketIndex,
    check_limits,
    index_samples,
    read_packet_index,
)
from data.video.pyav.packets import OPEN_ENTRY
from data.video.pyav.sample_tables import find_samples
from data.video.pyav.sniffing import (
    FORMATS,
    check_regular_file,
    demuxer_of,
    file_url,
    identify_non_video,
    open_error_reason,
    read_head,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# Measured with FFmpeg 8: with frames in several threads it shows other pixels in B-frames of
# interlaced MPEG-4, and at damage in HEVC the threads often wait for one another for ever.
NO_FRAME_THREADS = ("mpeg4", "hevc")

# What FFmpeg can be told of them: its option is an int, and a larger number refuses every frame.
MOST_PIXELS = 2**31 - 1

FileKey = tuple[str, int, int, int, int, int]

# Formats that store each frame's time, so that FFmpeg need not decode a few frames to guess it.
TIMED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")

# The index by tables of the file that was opened last: the next clip is often one more of it.
_LAST_INDEX: dict[tuple[FileKey, int, Limits], PacketIndex] = {}


@dataclass
class Container:
    """An open file.

    Attributes:
        path: The file.
        bytes: Its size.
        input: PyAV's container.
        stream: The video stream that is read.
        limits: Limits on reading it.
        threads: Threads of a decoder; 0 for one per core.
        quick: Whether FFmpeg opened it without decoding the first frames.
        most_packets: How many packets are read at most; None for all.
        entry: Where its index is kept, if it can be.
        decodes: Decodes of all of these packets, strict or not.
        runs_in: Whether decoding begins before an open start (`seek.find_segments`).
    """

    path: Path
    bytes: int
    input: InputContainer
    stream: VideoStream
    limits: Limits
    threads: int
    quick: bool
    most_packets: int | None = None
    entry: Path | None = None
    decodes: dict[bool, FullDecode] = field(default_factory=dict)
    runs_in: bool = False
    _kept_decodes: set[bool] | None = None  # None where nothing is kept

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *exception: object) -> None:
        self.input.close()

    @cached_property
    def packet_index(self) -> PacketIndex:
        """The packets of the stream, read once.

        Raises:
            VideoError: There are no packets, they are encrypted, or they exceed the limits.
        """
        if (kept := self._kept()) is not None:
            check_limits(self.path, kept.pts, kept.joints, self.stream, self.limits)
            return kept
        form, read = self.input.format.name, self._indexed_samples()
        if read is None:
            read = read_packet_index(
                self.path, self.stream, self.packets(), self.limits, leaps=self.leaps
            )
        claims = check_claims(self.path, self.bytes, form, self.stream, read.pts)
        damage, notes, doubt = [*read.damage, *claims.damage], [*claims.notes], read.doubt
        count, corrupt = len(read.pts), len(read.corrupt)
        of_last = set(range(read.last_frame, count))
        cut_off = self.may_be_cut and len(of_last) < count and bool(corrupt)
        cut_off = cut_off and set(read.corrupt.tolist()) <= of_last
        if corrupt and not cut_off:
            breaks = joined_segments(self.path, self.stream.id) if form == "mpegts" else None
            if breaks is not None and corrupt <= breaks:
                notes.append(f"{breaks + 1:,} transport streams are joined")
                doubt = doubt or "transport streams are joined"
            else:
                damage.append(f"{corrupt:,} of {count:,} packets are marked corrupt")
        judged = replace(read, damage=tuple(damage), notes=tuple(notes), doubt=doubt)
        if cut_off:
            self.most_packets = read.last_frame
            judged = judged.without_last()
        self.keep(judged)
        return judged

    def _kept(self) -> PacketIndex | None:
        """Return the index that an earlier opening of the same file has kept."""
        self.entry = entry_for(self.path, self.stream.index, self.limits)
        kept = self.entry and read_entry(self.entry, self.path)
        if not kept:
            return None
        self.most_packets, self.decodes = kept.most_packets, kept.decodes
        self._kept_decodes = set(kept.decodes)
        return kept.index

    def keep(self, index: PacketIndex) -> None:
        """Keep the index, and the decodes of the whole file, for its next opening."""
        kept = KeptIndex(index, self.most_packets, self.decodes)
        is_new = self._kept_decodes != set(self.decodes)
        if self.entry is not None and is_new and kept.worth_keeping:
            write_entry(self.entry, kept)
            self._kept_decodes = set(self.decodes)

    def run_in(self) -> bool:
        """Begin before open starts from now on; return whether that is new, and of any use.

        H.264 may name pictures before such a start, to forget them; FFmpeg calls their lack a
        fault, which no frame has.
        """
        index, new = self.packet_index, not self.runs_in
        h264 = self.stream.codec_context.codec.canonical_name == "h264"
        self.runs_in = h264 and bool((index.entry[1:] == OPEN_ENTRY).any())
        return self.runs_in and new

    @property
    def leaps(self) -> bool:
        """Whether a leap ahead by half of a 33-bit clock is one back."""
        return self.input.format.name in WRAPPED_FORMATS

    @cached_property
    def may_be_cut(self) -> bool:
        """Whether the file may end anywhere: it does not tell how long it is."""
        return told_bytes(self.path, self.bytes) is None

    def leave_out_last(self) -> None:
        """Leave out the last packet of the stream from now on."""
        self.packet_index = self.packet_index.without_last()
        self.decodes, self._kept_decodes = {}, None
        self.most_packets = len(self.packet_index.pts)

    def _indexed_samples(self) -> PacketIndex | None:
        """Return the index by the file's own table of its packets; None where it has to be read."""
        with suppress(OSError):
            key = _file_key(self.path), self.stream.index, self.limits
            if key in _LAST_INDEX:
                return _LAST_INDEX[key]
            samples = find_samples(self.path, self.input.format.name, self.stream)
            if samples is None:
                return None
            index = None
            if samples.is_confirmed(self.input, self.stream):
                index = index_samples(samples, self.stream, self.limits, leaps=self.leaps)
            if index is not None:
                _LAST_INDEX.clear()
                _LAST_INDEX[key] = index
                return index
        fresh = self.reopened(quick=self.quick)  # at the first packet again
        self.input.close()
        self.input, self.stream = fresh.input, fresh.stream
        return None

    def reopened(self, *, quick: bool) -> Container:
        """Open the same file again, at its beginning, without packets that are left out."""
        fresh = open_video(self.path, limits=self.limits, threads=self.threads, quick=quick)
        fresh.most_packets = self.most_packets
        return fresh

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the packets that hold data, in file order; FFmpeg's errors pass through.

        Raises:
            VideoError: A stream begins in the middle of the file.
        """
        try:
            of_data = (packet for packet in self.input.demux(self.stream) if packet.size)
            yield from islice(of_data, self.most_packets)
        except IndexError:  # PyAV's, of a stream that was not there when it opened the file
            raise VideoError(self.path, "a stream begins in mid-file, a sign of damage") from None


def open_video(
    path: Path | str, *, limits: Limits | None, threads: int = 0, quick: bool
) -> Container:
    """Open a file for reading.

    Args:
        path: The video file.
        limits: Limits on reading it; None for those in force.
        threads: Threads of the decoder; 0 for one per core.
        quick: Leave out FFmpeg's decoding of the first frames where the format does not need it.
            It fills in what the header does not say, and takes longer than reading the packets.

    Raises:
        VideoError: It is no video, cannot be opened, or exceeds `limits`.
    """
    import av
    from av.stream import Discard

    limits = limits or Limits.in_force()
    path, size = check_regular_file(path, limits)
    head = read_head(path)
    if kind := identify_non_video(head):
        raise VideoError(path, kind)
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
    options["max_pixels"] = str(min(limits.pixels, MOST_PIXELS))
    if quick:
        options["codec_whitelist"] = "none"  # holds only while FFmpeg analyses the first frames
    try:
        opened = av.open(
            file_url(path),
            format=demuxer_of(path, head),
            options=options,
            metadata_errors="replace",  # tags need not be UTF-8, and none is used
        )
    except UnicodeEncodeError:
        raise VideoError(path, "its name is not valid text in this system's encoding") from None
    except (av.error.FFmpegError, MemoryError, ValueError) as error:
        raise VideoError(path, open_error_reason(head, error)) from None
    try:
        stream = _best_stream(path, opened)
        context = stream.codec_context
        incomplete = not context.width or not context.height
        if quick and (incomplete or opened.format.name not in TIMED_FORMATS):
            opened.close()
            return open_video(path, limits=limits, threads=threads, quick=False)
        _check_size(path, stream, limits)
    except VideoError:
        opened.close()
        raise
    for other in opened.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    context.thread_type = "SLICE" if context.codec.canonical_name in NO_FRAME_THREADS else "AUTO"
    context.thread_count = slice_threads(context, threads)
    return Container(path, size, opened, stream, limits, threads, quick)


def _file_key(path: Path) -> FileKey:
    """Return what changes when a file is another, or is written to."""
    status = os.stat(path)
    times = status.st_mtime_ns, status.st_ctime_ns
    return str(path.absolute()), status.st_dev, status.st_ino, status.st_size, *times


def video_streams(opened: InputContainer) -> list[VideoStream]:
    """Return the video streams that are not cover images."""
    from av.stream import Disposition

    return [s for s in opened.streams.video if not s.disposition & Disposition.attached_pic]


def _best_stream(path: Path, opened: InputContainer) -> VideoStream:
    """Return the video stream that FFmpeg ranks best, or the first where that is a cover image."""
    videos, stream = video_streams(opened), opened.streams.best("video")
    if stream not in videos:
        stream = next(iter(videos), None)
    if stream is None:
        kinds: list[str] = sorted({other.type for other in opened.streams if other.type != "video"})
        kinds += ["a cover image"] if opened.streams.video else []
        raise VideoError(path, f"no video stream (it holds {', '.join(kinds) or 'nothing'})")
    if stream.codec_context is None:
        raise VideoError(path, "its video stream is in a codec that is not read here")
    return stream


def _check_size(path: Path, stream: VideoStream, limits: Limits) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if not width or not height:
        raise VideoError(
            path,
            f"its frames have no size, or one above the limit of {limits.pixels:,} pixels "
            "(--max-pixels)",
        )
    limits.check_frame_size(path, width, height)


def slice_threads(context: Any, threads: int) -> int:
    """Return how many threads of its own a decoder gets, of those that it may have; 0 is all cores.

    Measured with FFmpeg 8: one thread alone does not notice where a slice of HEVC is cut off.
    """
    return 2 if threads == 1 and context.codec.canonical_name == "hevc" else threads


def decoder_options(
    container: Container, packet_index: PacketIndex, *, strict: bool
) -> dict[str, str]:
    """Return options of the decoder; none of them changes a pixel of an intact stream.

    Args:
        container: The open file.
        packet_index: Its packets.
        strict: Stop at errors that FFmpeg would conceal, and give H.264 that does not say how far
            its frames are reordered all the room that its level allows.
    """
    options = {"max_pixels": str(min(container.limits.pixels, MOST_PIXELS))}
    if strict:
        codec = container.stream.codec_context.codec.canonical_name
        options |= {} if codec == "mjpeg" else {"err_detect": "explode"}
        if codec == "mpeg2video" and packet_index.fields:
            options |= {"ec": "0"}  # counts the field that is still to come as an error
        options |= {"strict": "1"} if codec == "h264" else {}
    return options
