"""Opening a video file without trusting it, and the index of its packets.

Only regular files, only FFmpeg's `file` protocol, only formats that hold their media themselves (a
playlist that points elsewhere is refused before FFmpeg sees it).
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data.bitstream import INTRA_ONLY, Unit, reader_for
from data.frames import Limits, VideoError

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# FFmpeg's demuxers for self-contained media. Left out on purpose: hls, dash, concat, sdp, image
# sequences and everything else that opens other files, and tty, which makes a film of any text.
FORMATS = (
    "mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "ogg", "gif", "apng",
    "ivf", "obu", "av1", "h264", "hevc", "vvc", "m4v", "mjpeg", "yuv4mpegpipe", "nut", "mxf",
    "rm", "dv", "gxf", "wtv", "vc1", "h263", "h261", "swf", "bink", "nsv",
)  # fmt: skip

# Compressed video is kept in memory up to this size, so that going to a frame needs no seek.
KEEP_BYTES = 256 << 20

# First bytes of what people hand over in place of a video, and what it is.
_SIGNATURES = (
    (b"version https://git-lfs", "a git-lfs pointer, not a video (run `git lfs pull`)"),
    (b"#EXTM3U", "a playlist that points at other files, not a video"),
    (b"ffconcat version", "a playlist that points at other files, not a video"),
    (b"[playlist]", "a playlist that points at other files, not a video"),
    (b"v=0\r\n", "a session description that points elsewhere, not a video"),
    (b"v=0\n", "a session description that points elsewhere, not a video"),
    (b"\x89PNG\r\n\x1a\n", "a still image (PNG), not a video"),
    (b"\xff\xd8\xff", "a still image (JPEG), not a video"),
    (b"BM", "a still image (BMP), not a video"),
    (b"II*\x00", "a still image (TIFF), not a video"),
    (b"MM\x00*", "a still image (TIFF), not a video"),
    (b"PK\x03\x04", "a zip archive, not a video"),
    (b"\x1f\x8b", "a gzip archive, not a video"),
    (b"%PDF", "a PDF document, not a video"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, not a video"),
)
_STILL_BRANDS = {b"avif": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}


def checked(path: Path | str) -> tuple[Path, int]:
    """The path as a regular file and its size in bytes; anything else raises VideoError.

    The file is looked at, never opened, until it is known to be regular: opening a FIFO hangs.
    """
    path = Path(path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        reason = "a link to nothing" if path.is_symlink() else "no such file"
        raise VideoError(path, reason) from None
    except OSError as error:
        reason = "a link that loops" if error.errno == errno.ELOOP else str(error.strerror)
        raise VideoError(path, reason) from None
    except ValueError as error:  # a NUL byte in the name
        raise VideoError(path, str(error)) from None
    kinds = {
        stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    }  # fmt: skip
    if not stat.S_ISREG(status.st_mode):
        kind = kinds.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise VideoError(path, f"{kind}, not a video file")
    if not status.st_size:
        raise VideoError(path, "the file is empty (0 bytes)")
    return path, status.st_size


def _first_bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(512)
    except OSError as error:
        raise VideoError(path, str(error.strerror)) from None


def _what_it_is(head: bytes) -> str | None:
    """What a file is instead of a video, by its first bytes; None where they do not tell."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    # A PNG with an animation chunk is a video like a GIF.
    if head.startswith(b"\x89PNG") and b"acTL" in head:
        return None
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        return f"a still image ({_STILL_BRANDS[head[8:12]]}), not a video"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a still image (WebP), not a video"
    for signature, kind in _SIGNATURES:
        if text.startswith(signature) or head.startswith(signature):
            # MJPEG files are JPEGs end to end: FFmpeg tells them apart.
            return None if signature == b"\xff\xd8\xff" else kind
    lowered = text.lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, not a video"
    if lowered.startswith((b"<?xml", b"<mpd", b"<smil", b"<svg")):
        return "an XML document, not a video"
    return None


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode("utf-8")
    return all(letter.isprintable() or letter.isspace() for letter in text)


@dataclass
class Container:
    """An open video file: its best video stream and, once asked for, the index of its packets."""

    path: Path
    bytes: int
    input: InputContainer
    stream: VideoStream
    limits: Limits
    options: dict[str, str]

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.input.close()

    @cached_property
    def index(self) -> Index:
        """The packets of the stream, read once."""
        return _index(self)

    def reopened(self) -> Container:
        """The same file, from its beginning."""
        return open_video(self.path, limits=self.limits)


@dataclass(frozen=True)
class Index:
    """The packets of one video stream in the order of the file, that is of decoding.

    All arrays have shape (n,). `pts` is in ticks of the stream's clock. `hidden` packets are
    decoded and not shown (edit lists, frames made to be referred to only). `entry` is where
    decoding may start: 2 for all packets that follow, 1 for those that are not shown before it,
    0 nowhere. `droppable` packets are those that no other depends on. `counted_in_order` is
    whether each shown packet is one frame, known by a timestamp of its own.
    """

    pts: npt.NDArray[np.int64]
    key: npt.NDArray[np.bool_]
    hidden: npt.NDArray[np.bool_]
    entry: npt.NDArray[np.int8]
    droppable: npt.NDArray[np.bool_]
    packets: list[Packet[VideoStream]] | None
    distinct: bool
    damage: tuple[str, ...]

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """Packet numbers of the shown frames in the order of presentation."""
        shown = np.flatnonzero(~self.hidden)
        return shown[np.argsort(self.pts[shown], kind="stable")]


def open_video(path: Path | str, *, limits: Limits) -> Container:
    """Open a file for reading; VideoError says in a sentence what it is if it is no video."""
    import av
    from av.stream import Discard

    path, size = checked(path)
    head = _first_bytes(path)
    if kind := _what_it_is(head):
        raise VideoError(path, kind)
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(FORMATS),
        "max_pixels": str(limits.pixels),
    }
    try:
        # The prefix keeps names like `-x.mp4` and `concat:a` names.
        container = av.open(f"file:{os.path.abspath(path)}", options=options)
    except UnicodeEncodeError:
        raise VideoError(path, "the name is not valid in this system's encoding") from None
    except (av.error.FFmpegError, MemoryError, ValueError, OSError) as error:
        raise VideoError(path, _why_not(head, error)) from None
    try:
        stream = _best(path, container)
        _check_size(path, stream, limits)
    except VideoError:
        container.close()
        raise
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return Container(path, size, container, stream, limits, options)


def _why_not(head: bytes, error: Exception) -> str:
    import av

    if head.startswith(b"\xff\xd8\xff"):
        return "a still image (JPEG), not a video"
    if _is_text(head):
        return "a text file, not a video"
    if isinstance(error, MemoryError):
        return "opening it takes more memory than allowed"
    if isinstance(error, av.error.InvalidDataError):
        return "not a video, or too damaged to open"
    if isinstance(error, av.error.ArgumentError):
        return "not in a video format that is read here"
    return f"cannot be opened ({getattr(error, 'strerror', None) or error})"


def _best(path: Path, container: InputContainer) -> VideoStream:
    from av.stream import Disposition

    try:
        stream: Any = container.streams.best("video")
    except ValueError:
        stream = None
    if stream is None or stream.disposition & Disposition.attached_pic:
        kinds = sorted({s.type for s in container.streams if s.type != "video"})
        kinds += ["a cover image"] if stream is not None else []
        raise VideoError(path, f"no video stream (it holds {', '.join(kinds) or 'nothing'})")
    if stream.codec_context is None:
        raise VideoError(path, "no decoder for its video stream")
    return stream


def _check_size(path: Path, stream: VideoStream, limits: Limits) -> None:
    context = stream.codec_context
    if not context.width or not context.height:
        raise VideoError(path, "the size of its frames is unknown: too damaged to read")
    if context.width * context.height > limits.pixels:
        raise VideoError(
            path,
            f"frames of {context.width}x{context.height} are {context.width * context.height:,} "
            f"pixels, the limit is {limits.pixels:,}",
        )
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
        # A header may claim anything: this one only counts with a stream that is as long.
        if seconds > limits.seconds and not stream.frames:
            raise VideoError(path, f"claims {seconds:,.0f} s, the limit is {limits.seconds:,.0f} s")


def _index(container: Container) -> Index:
    """Read every packet of the stream once."""
    import av

    path, stream, limits = container.path, container.stream, container.limits
    codec = stream.codec_context.codec.canonical_name
    reader, length_size = reader_for(codec, stream.codec_context.extradata)
    packets: list[Packet[VideoStream]] | None = []
    pts: list[int | None] = []
    keys: list[bool] = []
    discarded: list[bool] = []
    units: list[Unit] = []
    kept_bytes = corrupt = 0
    damage: list[str] = []
    demuxed = container.input.demux(stream)
    while True:
        try:
            packet = next(demuxed)
        except StopIteration:
            break
        except (av.error.FFmpegError, MemoryError) as error:
            damage.append(f"reading stopped after {len(pts):,} packets ({_said(error)})")
            break
        if not packet.size:
            continue
        if len(pts) == limits.frames:
            raise VideoError(path, f"more than {limits.frames:,} frames, the limit")
        if packet.has_sidedata("encryption_info"):
            raise VideoError(path, "its video stream is encrypted")
        pts.append(packet.pts)
        keys.append(packet.is_keyframe)
        discarded.append(packet.is_discard)
        corrupt += packet.is_corrupt
        units.append(reader(memoryview(packet), length_size) if reader else Unit())
        kept_bytes += packet.size
        if packets is not None:
            packets.append(packet)
            if kept_bytes > KEEP_BYTES:
                packets = None
    if corrupt:
        damage.append(f"{corrupt:,} of {len(pts):,} packets are marked corrupt")
    damage += _claims_unmet(container, len(pts))
    hidden = np.array(discarded, bool) | ~np.array([u.shown for u in units], bool)
    times = np.array([-1 if p is None else p for p in pts], np.int64)
    top_layer = max((unit.layer for unit in units), default=0)
    complete = None not in pts and len(np.unique(times)) == len(times)
    shown_times = times[~hidden] * float(stream.time_base or 0)
    if complete and len(shown_times) and np.ptp(shown_times) > limits.seconds:
        raise VideoError(
            path, f"lasts {np.ptp(shown_times):,.0f} s, the limit is {limits.seconds:,.0f} s"
        )
    return Index(
        pts=times,
        key=np.array(keys, bool),
        hidden=hidden,
        entry=np.array([u.entry for u in units], np.int8),
        droppable=np.array([u.droppable and u.layer == top_layer for u in units], bool),
        packets=packets,
        distinct=complete,
        damage=tuple(damage),
    )


def _said(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _claims_unmet(container: Container, demuxed: int) -> list[str]:
    """Where the header promises packets that are not in the file."""
    stream, claimed = container.stream, container.stream.frames
    if "mp4" in container.input.format.name.split(","):
        # What remains of the header's table once edit lists are applied.
        claimed = len(stream.index_entries)
    if claimed > demuxed:
        return [f"header claims {claimed:,} frames, {demuxed:,} are in the file"]
    return []
