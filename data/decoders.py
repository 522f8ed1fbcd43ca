"""From places among the shown frames to pixels, with PyAV (FFmpeg): the reference.

`by_index` decodes what the wanted frames depend on and little else; `one_pass` decodes everything
in order, as FFmpeg does. Each group of pictures starts afresh from packets held in memory, so there
is no seek that could land elsewhere, and skipping ahead is never dearer than decoding through.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data.bitstream import CLOSED, NOWHERE
from data.container import Container, said
from data.frames import VideoError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.packet import Packet
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

Frames = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]


class Unexpected(Exception):
    """Random access did not give what the index promised; a full decode has to tell."""


@dataclass
class Look:
    """What decoded frames say of the stream, beside their pixels."""

    pixel_format: str = "unknown"
    rotation: int = 0
    interlaced: bool = False
    sizes: set[tuple[int, int]] = field(default_factory=set)

    def at(self, frame: VideoFrame) -> None:
        if not self.sizes:
            self.pixel_format, self.rotation = frame.format.name, frame.rotation
        self.interlaced |= frame.interlaced_frame
        self.sizes.add((frame.width, frame.height))


@dataclass
class Pass:
    """A decode of the whole stream: a time per frame shown (None: it has none), in order."""

    pts: list[int | None] = field(default_factory=list)
    failed: int = 0
    corrupt: int = 0
    look: Look = field(default_factory=Look)

    @property
    def clean(self) -> bool:
        return not self.failed and not self.corrupt


class Gathered:
    """Room for the frames at `places`; each is written where it belongs as it is decoded."""

    def __init__(self, path: Path, places: Places, *, batch_bytes: int):
        self.path, self.batch_bytes = path, batch_bytes
        self.slots: dict[int, list[int]] = {}
        for slot, place in enumerate(places.tolist()):
            self.slots.setdefault(place, []).append(slot)
        self.count = len(places)
        self.frames: Frames | None = None
        self.filled: set[int] = set()

    def put(self, place: int, rgb: Frames) -> None:
        if self.frames is None:
            size = self.count * rgb.nbytes
            if size > self.batch_bytes:
                raise VideoError(
                    self.path,
                    f"{self.count:,} frames of {rgb.shape[1]}x{rgb.shape[0]} take {size:,} bytes, "
                    f"the limit is {self.batch_bytes:,}",
                )
            self.frames = np.empty((self.count, *rgb.shape), np.uint8)
        if rgb.shape != self.frames.shape[1:]:
            (was_high, was_wide), (high, wide) = self.frames.shape[1:3], rgb.shape[:2]
            raise VideoError(
                self.path,
                f"its frames change size from {was_wide}x{was_high} to {wide}x{high} in mid-stream",
            )
        for slot in self.slots[place]:
            self.frames[slot] = rgb
        self.filled.add(place)


def upright(frame: VideoFrame, path: Path, convert: VideoReformatter) -> Frames:
    """RGB of one frame, turned by its display matrix: uint8 (H, W, 3).

    `convert` is one for all frames of a clip: `frame.to_ndarray(format="rgb24")` gives the same
    pixels, and sets up a conversion for each frame, which takes longer than a small frame itself.
    """
    rgb: Frames = convert.reformat(frame, format="rgb24").to_ndarray().view(np.uint8)
    matrix = _display_matrix(frame)
    if matrix is None:
        return rgb
    a, b, c, d = matrix
    if (a, d) == (0, 0) and b and c:
        return rgb.transpose(1, 0, 2)[::b, ::c]
    if (b, c) == (0, 0) and a and d:
        return rgb[::d, ::a]
    raise VideoError(path, "its display matrix turns by an angle that is no multiple of 90 degrees")


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """Signs (a, b, c, d): a stored point (x, y) is displayed at (a x + c y, b x + d y).

    ISO/IEC 14496-12 6.2.2; entries below a hundredth of the largest count as zero.
    """
    all_data: Any = frame.side_data  # typed as a mapping, is a sequence too
    for data in all_data:
        if data.type.name == "DISPLAYMATRIX":
            matrix = np.frombuffer(data, np.int32).astype(np.float64)[[0, 1, 3, 4]]
            small = np.abs(matrix) < 0.01 * np.abs(matrix).max()
            return tuple(np.where(small, 0, np.sign(matrix)).astype(int).tolist())
    return None


def by_index(container: Container, gathered: Gathered) -> Look:
    """Decode the wanted frames, and of the others only what they depend on.

    Raises Unexpected unless each comes out sound, once, in order, with the timestamp asked for.
    """
    import av
    from av.video.reformatter import VideoReformatter

    index, context = container.index, container.stream.codec_context
    places = np.array(sorted(gathered.slots), np.int64)
    wanted = index.order[places]
    place_of = dict(zip(index.pts[wanted].tolist(), places.tolist(), strict=True))
    needed, look, source = set(wanted.tolist()), Look(), _Source(container)
    convert = VideoReformatter()
    context.options = _options(container, strict=True)
    try:
        for start, last in runs(index.pts, index.entry, np.sort(wanted)):
            latest: int | None = None
            numbers = [n for n in range(start, last + 1) if n in needed or not index.droppable[n]]
            for n in (*numbers, None):
                for frame in context.decode(None if n is None else source.packet(n)):
                    if frame.pts is None or (latest is not None and frame.pts <= latest):
                        raise Unexpected("frames come out in another order than their timestamps")
                    latest = frame.pts
                    if (place := place_of.get(latest)) is None:
                        continue
                    if frame.is_corrupt or place in gathered.filled:
                        raise Unexpected("a frame comes out corrupt, or twice")
                    if frame.interlaced_frame:
                        raise Unexpected("its fields may be packets of their own")
                    look.at(frame)
                    gathered.put(place, upright(frame, container.path, convert))
            context.flush_buffers()
    except (av.error.FFmpegError, MemoryError) as error:
        raise Unexpected(said(error)) from None
    finally:
        source.close()
    if len(gathered.filled) != len(places):
        raise Unexpected(f"{len(gathered.filled)} of {len(places)} frames come out")
    return look


class _Source:
    """Packets by number, in growing order: from memory, or read again from a large file."""

    def __init__(self, container: Container):
        self.index = container.index
        self.again = container.reopened(quick=True) if self.index.packets is None else None
        self.numbered = enumerate(self.again.packets()) if self.again else iter(())

    def packet(self, number: int) -> Packet[VideoStream]:
        if self.index.packets is not None:
            return self.index.packets[number]
        for n, packet in self.numbered:
            if n == number and packet.pts == self.index.pts[n]:
                return packet
            if n >= number:
                break
        raise Unexpected("the file reads differently the second time")

    def close(self) -> None:
        if self.again is not None:
            self.again.input.close()


def runs(pts: Places, entry: npt.NDArray[np.int8], wanted: Places) -> list[tuple[int, int]]:
    """(first, last) packet of each stretch to decode for the packets `wanted` (sorted)."""
    entries = np.flatnonzero(entry != NOWHERE)
    out: list[tuple[int, int]] = []
    for n in wanted.tolist():
        start = 0
        for candidate in entries[: np.searchsorted(entries, n, side="right")][::-1].tolist():
            if entry[candidate] == CLOSED or pts[n] >= pts[candidate]:
                start = candidate
                break
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], n)
        else:
            out.append((start, n))
    return out


def _options(container: Container, *, strict: bool) -> dict[str, str]:
    """Options of the decoder. None changes a pixel of a sound stream.

    strict: errors that FFmpeg would patch over end the decode, and H.264 that does not say how far
    its frames are reordered is given all the room that its level allows.
    """
    options = {"max_pixels": str(container.limits.pixels)}
    if strict:
        codec = container.stream.codec_context.codec.canonical_name
        options |= {} if codec == "mjpeg" else {"err_detect": "explode"}
        options |= {"strict": "1"} if codec == "h264" else {}
    return options


def one_pass(
    container: Container, gathered: Gathered | None = None, *, strict: bool = False
) -> Pass:
    """Decode everything in order; places count the frames in the order that FFmpeg shows them.

    strict: count as failures what FFmpeg would conceal. Without it this is PyAV's own decode to
    the letter, threads included, since what is concealed depends on them.
    """
    import av
    from av.video.reformatter import VideoReformatter

    result, wanted = Pass(), set() if gathered is None else set(gathered.slots)
    convert = VideoReformatter()
    with container.reopened(quick=False) as fresh:
        context, packets = fresh.stream.codec_context, fresh.packets()
        context.options = _options(fresh, strict=strict)
        context.thread_type = "AUTO" if strict else "SLICE"
        finished = False
        while not finished:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, MemoryError):
                packet, result.failed = None, result.failed + 1
            finished = packet is None
            try:
                frames = context.decode(packet)
            except (av.error.FFmpegError, MemoryError):
                result.failed += 1
                continue
            for frame in frames:
                place = len(result.pts)
                if place == container.limits.frames:
                    raise VideoError(container.path, f"more than {place:,} frames, the limit")
                result.pts.append(frame.pts)
                result.corrupt += frame.is_corrupt
                result.look.at(frame)
                if gathered is not None and place in wanted:
                    gathered.put(place, upright(frame, container.path, convert))
    return result
