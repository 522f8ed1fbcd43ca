"""An open video file: its best video stream, and the index of that stream's packets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data.video.frames import Limits, VideoError
from data.video.pyav.packets import NOWHERE, Unit, reader_for
from data.video.pyav.sniffing import FORMATS, checked, cut_short, first_bytes, what_it_is, why_not

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# Compressed video is kept in memory up to this size, so that going to a frame needs no seek.
KEEP_BYTES = 256 << 20

# Measured with FFmpeg 8: with frames in several threads it shows other pixels in B-frames of
# interlaced MPEG-4, and at damage in HEVC the threads often wait for one another for ever.
NO_FRAME_THREADS = ("mpeg4", "hevc")

# Formats that store each frame's time: FFmpeg need not decode a few to guess it.
TIMED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")


@dataclass
class Container:
    """An open file. `quick` ones were opened without FFmpeg's look at the first frames."""

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
    def index(self) -> Index:
        """The packets of the stream, read once."""
        return _index(self)

    def reopened(self, *, quick: bool) -> Container:
        """The same file, from its beginning."""
        return open_video(self.path, limits=self.limits, threads=self.threads, quick=quick)

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """The packets that hold data, in the order of the file; FFmpeg's errors pass through."""
        try:
            for packet in self.input.demux(self.stream):
                if packet.size:
                    yield packet
        except IndexError:  # PyAV's, of a stream that was not there when it opened the file
            raise VideoError(self.path, "a stream begins in mid-file, as damage makes it") from None


@dataclass(frozen=True)
class Index:
    """The packets of one video stream in the order of the file, which is that of decoding.

    All arrays have shape (n,). `pts` is in ticks of the stream's clock; `hidden` packets are
    decoded but not shown (edit lists, frames made only to be referred to); `entry` says where
    decoding may start (`data.bitstream`); no other packet depends on those that are `droppable`.

    `trusted` is whether each shown packet is known to be one frame, placed by a time of its own.
    Where it is false the shown frames are only known by decoding everything; `doubt` says why.
    `counted` is whether fewer frames than packets to be shown are a loss.
    """

    pts: npt.NDArray[np.int64]
    key: npt.NDArray[np.bool_]
    hidden: npt.NDArray[np.bool_]
    entry: npt.NDArray[np.int8]
    droppable: npt.NDArray[np.bool_]
    packets: list[Packet[VideoStream]] | None
    doubt: str | None
    counted: bool
    damage: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        return self.doubt is None

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """Packet numbers of the shown frames in the order of presentation."""
        shown = np.flatnonzero(~self.hidden)
        return shown[np.argsort(self.pts[shown], kind="stable")]


def open_video(path: Path | str, *, limits: Limits, threads: int = 0, quick: bool) -> Container:
    """Open a file for reading; VideoError says in a sentence what it is if it is no video.

    quick: do without FFmpeg's decoding of the first frames (which fills in what the header does
    not say, and takes longer than reading a clip's packets) where the format does not need it.
    """
    import av
    from av.stream import Discard

    path, size = checked(path)
    head = first_bytes(path)
    if kind := what_it_is(head):
        raise VideoError(path, kind)
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
    options["max_pixels"] = str(limits.pixels)
    if quick:
        options["codec_whitelist"] = "none"  # for FFmpeg's look at the first frames alone
    try:
        # The prefix keeps names like `-x.mp4` and `concat:a` names.
        opened = av.open(f"file:{os.path.abspath(path)}", options=options)
    except UnicodeEncodeError:
        raise VideoError(path, "its name is not valid text in this system's encoding") from None
    except (av.error.FFmpegError, MemoryError, ValueError) as error:
        raise VideoError(path, why_not(head, error)) from None
    try:
        stream = _best(path, opened)
        context = stream.codec_context
        unsure = opened.format.name not in TIMED_FORMATS or not context.width or not context.height
        if quick and unsure:
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


def videos_of(opened: InputContainer) -> list[VideoStream]:
    """The video streams that are no cover image."""
    from av.stream import Disposition

    return [s for s in opened.streams.video if not s.disposition & Disposition.attached_pic]


def _best(path: Path, opened: InputContainer) -> VideoStream:
    """The video stream that FFmpeg calls best, or the first where that is a cover image."""
    videos, stream = videos_of(opened), opened.streams.best("video")
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
            path, f"its frames have no size, or one beyond the limit of {limits.pixels:,} pixels"
        )
    if width * height > limits.pixels:
        raise VideoError(
            path,
            f"its frames of {width}x{height} are {width * height:,} pixels, the limit is "
            f"{limits.pixels:,}",
        )


def _index(container: Container) -> Index:
    """Read every packet of the stream once."""
    import av

    path, stream, limits = container.path, container.stream, container.limits
    codec = stream.codec_context.codec.canonical_name
    extradata = stream.codec_context.extradata or b""
    reader, length_size = reader_for(codec, extradata)
    packets: list[Packet[VideoStream]] | None = []
    rows: list[tuple[int | None, bool, bool]] = []
    units: list[Unit] = []
    kept_bytes = corrupt = 0
    changes = False
    damage: list[str] = []
    try:
        for packet in container.packets():
            if len(rows) == limits.frames:
                raise VideoError(path, f"more than {limits.frames:,} frames, the limit")
            beside = {data.data_type for data in packet.iter_sidedata()}
            if "encryption_info" in beside:
                raise VideoError(path, "its video stream is encrypted")
            rows.append((packet.pts, packet.is_keyframe, packet.is_discard))
            units.append(reader(memoryview(packet), length_size))
            corrupt += packet.is_corrupt
            changes |= not beside.isdisjoint(("new_extradata", "palette"))
            kept_bytes += packet.size
            if packets is not None:
                packets.append(packet)
                if kept_bytes > KEEP_BYTES:
                    packets = None
    except (av.error.FFmpegError, MemoryError) as error:
        damage.append(f"reading stopped after {len(rows):,} frames ({said(error)})")
    if not rows:
        raise VideoError(path, "its video stream holds no frames")
    pts = np.array([-1 if row[0] is None else row[0] for row in rows], np.int64)
    hidden = np.array([row[2] or not unit.shown for row, unit in zip(rows, units, strict=True)])
    missing = any(row[0] is None for row in rows)
    if not missing:
        seconds = float(np.ptp(pts)) * float(stream.time_base or 0)
        if seconds > limits.seconds:
            raise VideoError(path, f"lasts {seconds:,.0f} s, the limit is {limits.seconds:,.0f} s")
    if corrupt:
        damage.append(f"{corrupt:,} of {len(rows):,} packets are marked corrupt")
    damage += _claims_unmet(container, len(rows))
    top_layer = max(unit.layer for unit in units)
    return Index(
        pts=pts,
        key=np.array([row[1] for row in rows]),
        hidden=hidden,
        entry=np.array([unit.entry for unit in units], np.int8),
        droppable=np.array([unit.droppable and unit.layer == top_layer for unit in units]),
        packets=packets,
        doubt=_doubt(pts, units, extradata, missing=missing, changes=changes),
        counted=not any(unit.unclear for unit in units),
        damage=tuple(damage),
    )


def _doubt(
    pts: npt.NDArray[np.int64],
    units: list[Unit],
    extradata: bytes,
    *,
    missing: bool,
    changes: bool,
) -> str | None:
    """Why the packets do not say which frames are shown in what order; None where they do."""
    if any(unit.unclear for unit in units):
        return "packets that may not be one frame each"
    if missing:
        return "packets without a timestamp"
    if len(np.unique(pts)) < len(pts):
        return "several packets with one timestamp"
    if any(unit.bidirectional for unit in units) and bool((np.diff(pts) > 0).all()):
        return "timestamps in the order of decoding in a stream that is shown in another"
    if units[0].entry == NOWHERE and any(unit.entry != NOWHERE for unit in units):
        return "it starts in the middle of a group of pictures"
    # Parameters must be the same wherever decoding starts, and change nowhere else.
    at_entries = {_unlike(unit, extradata) for unit in units if unit.entry != NOWHERE}
    elsewhere = {_unlike(unit, extradata) for unit in units if unit.entry == NOWHERE} - {()}
    if changes or len(at_entries) > 1 or elsewhere - at_entries:
        return "the decoder's parameters change in mid-stream"
    return None


def _unlike(unit: Unit, extradata: bytes) -> tuple[bytes, ...]:
    """A packet's parameter sets, where they are not those that the container begins with."""
    return () if all(each in extradata for each in unit.parameters) else unit.parameters


def _claims_unmet(container: Container, demuxed: int) -> list[str]:
    """Where the file promises more than it holds."""
    stream, claimed = container.stream, container.stream.frames
    if container.input.format.name == TIMED_FORMATS[0]:
        # What remains of the header's table once edit lists are applied, if it was all there.
        whole = stream.frames <= demuxed or _samples_in_tables(container) >= stream.frames
        claimed = len(stream.index_entries) if whole else stream.frames
    unmet = []
    if claimed > demuxed:
        unmet.append(f"header claims {claimed:,} frames, {demuxed:,} are in the file")
    if lost := cut_short(container.path, container.bytes):
        unmet.append(f"the file ends {lost:,} bytes before its header says")
    return unmet


def _samples_in_tables(container: Container) -> int:
    """How many frames an MP4 locates in the file, edit lists left aside."""
    import av

    name = f"file:{os.path.abspath(container.path)}"
    options = {
        "protocol_whitelist": "file", "codec_whitelist": "none", "ignore_editlist": "1",
        "format_whitelist": "mov",
    }  # fmt: skip
    with av.open(name, options=options) as opened:
        return len(opened.streams[container.stream.index].index_entries)


def said(error: BaseException) -> str:
    """The words of an FFmpeg error without its number and its repetition of the file's name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
