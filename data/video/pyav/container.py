"""An open video file: its best video stream, and the index of that stream's packets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data.video.frames import Limits, VideoError
from data.video.pyav.packets import NO_ENTRY, PacketFacts, parser_for
from data.video.pyav.sniffing import (
    FORMATS,
    check_regular_file,
    demuxer_of,
    file_url,
    identify_non_video,
    missing_bytes,
    open_error_reason,
    read_head,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# Compressed video is kept in memory up to this size, so that random access needs no seek.
MAX_PACKET_BYTES = 256 << 20

# Measured with FFmpeg 8: with frames in several threads it shows other pixels in B-frames of
# interlaced MPEG-4, and at damage in HEVC the threads often wait for one another for ever.
NO_FRAME_THREADS = ("mpeg4", "hevc")

# Formats that store each frame's time, so that FFmpeg need not decode a few frames to guess it.
TIMED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")


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
    """

    path: Path
    bytes: int
    input: InputContainer
    stream: VideoStream
    limits: Limits
    threads: int
    quick: bool

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *exception: object) -> None:
        self.input.close()

    @cached_property
    def packet_index(self) -> PacketIndex:
        """The packets of the stream, read once."""
        return read_packet_index(self)

    def reopened(self, *, quick: bool) -> Container:
        """Open the same file again, at its beginning."""
        return open_video(self.path, limits=self.limits, threads=self.threads, quick=quick)

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the packets that hold data, in file order; FFmpeg's errors pass through.

        Raises:
            VideoError: A stream begins in the middle of the file.
        """
        try:
            for packet in self.input.demux(self.stream):
                if packet.size:
                    yield packet
        except IndexError:  # PyAV's, of a stream that was not there when it opened the file
            raise VideoError(self.path, "a stream begins in mid-file, a sign of damage") from None


@dataclass(frozen=True)
class PacketIndex:
    """The packets of one video stream in file order, which is decoding order.

    All arrays have shape (n,).

    Attributes:
        pts: int64, in ticks of the stream's clock.
        key: Whether the container marks the packet as a keyframe.
        hidden: Whether the packet is decoded but not shown (edit lists, reference-only frames).
        entry: int8, where decoding may start (`data.video.pyav.packets`).
        droppable: Whether no other packet depends on the packet.
        packets: The packets; None where they are too large to keep.
        doubt: Why the shown frames are known only by decoding everything; None where each shown
            packet is one frame with a time of its own.
        countable: Whether fewer frames than shown packets mean that frames are lost.
        damage: One sentence per damage.
    """

    pts: npt.NDArray[np.int64]
    key: npt.NDArray[np.bool_]
    hidden: npt.NDArray[np.bool_]
    entry: npt.NDArray[np.int8]
    droppable: npt.NDArray[np.bool_]
    packets: list[Packet[VideoStream]] | None
    doubt: str | None
    countable: bool
    damage: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Whether each shown packet is known to be one frame with a time of its own."""
        return self.doubt is None

    @property
    def presented_frames(self) -> int:
        """The number of packets that are shown."""
        return int((~self.hidden).sum())

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """Packet numbers of the shown frames in presentation order, int64."""
        shown = np.flatnonzero(~self.hidden)
        return shown[np.argsort(self.pts[shown], kind="stable")]


def open_video(path: Path | str, *, limits: Limits, threads: int = 0, quick: bool) -> Container:
    """Open a file for reading.

    Args:
        path: The video file.
        limits: Limits on reading it.
        threads: Threads of the decoder; 0 for one per core.
        quick: Leave out FFmpeg's decoding of the first frames where the format does not need it.
            It fills in what the header does not say, and takes longer than reading the packets.

    Raises:
        VideoError: It is no video, cannot be opened, or exceeds `limits`.
    """
    import av
    from av.stream import Discard

    path, size = check_regular_file(path, limits)
    head = read_head(path)
    if kind := identify_non_video(head):
        raise VideoError(path, kind)
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
    options["max_pixels"] = str(limits.pixels)
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
    context.thread_count = threads
    return Container(path, size, opened, stream, limits, threads, quick)


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
            path, f"its frames have no size, or one above the limit of {limits.pixels:,} pixels"
        )
    limits.check_frame_size(path, width, height)


def read_packet_index(container: Container) -> PacketIndex:
    """Read every packet of the stream once.

    Raises:
        VideoError: There are no packets, they are encrypted, or they exceed the limits.
    """
    import av

    path, stream, limits = container.path, container.stream, container.limits
    codec = stream.codec_context.codec.canonical_name
    extradata = stream.codec_context.extradata or b""
    parser, length_size = parser_for(codec, extradata)
    packets: list[Packet[VideoStream]] | None = []
    rows: list[tuple[int | None, bool, bool]] = []
    packet_facts: list[PacketFacts] = []
    kept_bytes = corrupt = 0
    parameters_change = False
    damage: list[str] = []
    try:
        for packet in container.packets():
            if len(rows) == limits.frames:
                raise VideoError(path, f"more than {limits.frames:,} frames, the limit")
            side_data = {data.data_type for data in packet.iter_sidedata()}
            if "encryption_info" in side_data:
                raise VideoError(path, "its video stream is encrypted")
            rows.append((packet.pts, packet.is_keyframe, packet.is_discard))
            packet_facts.append(parser(memoryview(packet), length_size))
            corrupt += packet.is_corrupt
            parameters_change |= not side_data.isdisjoint(("new_extradata", "palette"))
            kept_bytes += packet.size
            if packets is not None:
                packets.append(packet)
                if kept_bytes > MAX_PACKET_BYTES:
                    packets = None
    except (av.error.FFmpegError, MemoryError) as error:
        damage.append(f"reading stopped after {len(rows):,} frames ({ffmpeg_reason(error)})")
    if not rows:
        raise VideoError(path, "its video stream holds no frames")
    pts = np.array([-1 if row[0] is None else row[0] for row in rows], np.int64)
    shown = [facts.shown for facts in packet_facts]
    hidden = np.array([row[2] or not visible for row, visible in zip(rows, shown, strict=True)])
    pts_missing = any(row[0] is None for row in rows)
    if not pts_missing:
        seconds = float(np.ptp(pts)) * float(stream.time_base or 0)
        if seconds > limits.seconds:
            raise VideoError(path, f"lasts {seconds:,.0f} s, the limit is {limits.seconds:,.0f} s")
    if corrupt:
        damage.append(f"{corrupt:,} of {len(rows):,} packets are marked corrupt")
    damage += _unmet_claims(container, len(rows))
    top_layer = max(facts.layer for facts in packet_facts)
    return PacketIndex(
        pts=pts,
        key=np.array([row[1] for row in rows]),
        hidden=hidden,
        entry=np.array([facts.entry for facts in packet_facts], np.int8),
        droppable=np.array([f.droppable and f.layer == top_layer for f in packet_facts]),
        packets=packets,
        doubt=_reason_to_doubt(
            pts,
            packet_facts,
            extradata,
            pts_missing=pts_missing,
            parameters_change=parameters_change,
        ),
        countable=not any(facts.ambiguous for facts in packet_facts),
        damage=tuple(damage),
    )


def _reason_to_doubt(
    pts: npt.NDArray[np.int64],
    packet_facts: list[PacketFacts],
    extradata: bytes,
    *,
    pts_missing: bool,
    parameters_change: bool,
) -> str | None:
    """Return why the packets do not tell which frames are shown in what order; None if they do."""
    if any(facts.ambiguous for facts in packet_facts):
        return "packets that may not be one frame each"
    if pts_missing:
        return "packets without a timestamp"
    if len(np.unique(pts)) < len(pts):
        return "several packets with the same timestamp"
    if any(facts.bidirectional for facts in packet_facts) and bool((np.diff(pts) > 0).all()):
        return "timestamps in decoding order in a stream that is shown in another order"
    has_entry = [facts.entry != NO_ENTRY for facts in packet_facts]
    if not has_entry[0] and any(has_entry):
        return "it starts in the middle of a group of pictures"
    # Parameters must be the same wherever decoding starts, and change nowhere else.
    changed = [_changed_parameters(facts, extradata) for facts in packet_facts]
    at_entries = {sets for sets, entry in zip(changed, has_entry, strict=True) if entry}
    elsewhere = {sets for sets, entry in zip(changed, has_entry, strict=True) if not entry} - {()}
    if parameters_change or len(at_entries) > 1 or elsewhere - at_entries:
        return "the decoder's parameters change in mid-stream"
    return None


def _changed_parameters(facts: PacketFacts, extradata: bytes) -> tuple[bytes, ...]:
    """Return a packet's parameter sets, or nothing where they are those of the container."""
    return () if all(item in extradata for item in facts.parameters) else facts.parameters


def _unmet_claims(container: Container, demuxed: int) -> list[str]:
    """Return one sentence per claim of the header that the file does not meet."""
    stream, claimed = container.stream, container.stream.frames
    if container.input.format.name == TIMED_FORMATS[0]:
        # What is left of the header's table after edit lists, if the table was complete.
        complete = stream.frames <= demuxed or _samples_in_tables(container) >= stream.frames
        claimed = len(stream.index_entries) if complete else stream.frames
    unmet = []
    if claimed > demuxed:
        unmet.append(f"header claims {claimed:,} frames, {demuxed:,} are in the file")
    if lost := missing_bytes(container.path, container.bytes):
        unmet.append(f"the file ends {lost:,} bytes before its header says")
    return unmet


def _samples_in_tables(container: Container) -> int:
    """Return the number of frames that an MP4 locates in the file, without edit lists."""
    import av

    options = {
        "protocol_whitelist": "file", "codec_whitelist": "none", "ignore_editlist": "1",
        "format_whitelist": "mov",
    }  # fmt: skip
    url = file_url(container.path)
    with av.open(url, options=options, metadata_errors="replace") as opened:
        return len(opened.streams[container.stream.index].index_entries)


def decoder_options(container: Container, *, strict: bool) -> dict[str, str]:
    """Return options of the decoder; none of them changes a pixel of an intact stream.

    Args:
        container: The open file.
        strict: Stop at errors that FFmpeg would conceal, and give H.264 that does not say how far
            its frames are reordered all the room that its level allows.
    """
    options = {"max_pixels": str(container.limits.pixels)}
    if strict:
        codec = container.stream.codec_context.codec.canonical_name
        options |= {} if codec == "mjpeg" else {"err_detect": "explode"}
        options |= {"strict": "1"} if codec == "h264" else {}
    return options


def ffmpeg_reason(error: BaseException) -> str:
    """Return the message of an FFmpeg error without its number and the file's name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
