"""From decoded frames to RGB where it belongs, and the decode of everything, with PyAV (FFmpeg)."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data.video.frames import VideoError
from data.video.pyav.container import Container

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.reformatter import VideoReformatter

Frames = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]


class SizeChange(VideoError):
    """Frames of one clip that are not of one size."""


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

    def add(self, later: Look) -> None:
        self.interlaced |= later.interlaced
        self.sizes |= later.sizes


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
        self.lock = threading.Lock()

    def put(self, place: int, rgb: Frames) -> None:
        """Write a frame where it belongs; several threads may, each its own places."""
        with self.lock:
            if self.frames is None:
                self.frames = self._room(rgb.shape)
        if rgb.shape != self.frames.shape[1:]:
            (was_high, was_wide), (high, wide) = self.frames.shape[1:3], rgb.shape[:2]
            raise SizeChange(
                self.path,
                f"its frames change size from {was_wide}x{was_high} to {wide}x{high} in mid-stream",
            )
        first, *again = self.slots[place]
        _copy(rgb, self.frames[first])
        for slot in again:
            self.frames[slot] = self.frames[first]
        self.filled.add(place)

    def _room(self, shape: tuple[int, ...]) -> Frames:
        size = self.count * math.prod(shape)
        if size > self.batch_bytes:
            raise VideoError(
                self.path,
                f"{self.count:,} frames of {shape[1]}x{shape[0]} take {size:,} bytes, "
                f"the limit is {self.batch_bytes:,}",
            )
        return np.empty((self.count, *shape), np.uint8)


def _copy(rgb: Frames, room: Frames) -> None:
    """Copy a frame; one that is turned goes channel by channel, which NumPy does twice as fast."""
    if rgb.strides[1] == 3:
        room[...] = rgb
    else:
        for channel in range(3):
            room[..., channel] = rgb[..., channel]


def upright(frame: VideoFrame, path: Path, convert: VideoReformatter) -> Frames:
    """RGB of one frame, turned by its display matrix: uint8 (H, W, 3).

    `convert` is one for all frames of a clip: `frame.to_ndarray(format="rgb24")` gives the same
    pixels, and sets up a conversion for each frame, which takes longer than a small frame itself.
    More threads than one give the same pixels later.
    """
    rgb: Frames = convert.reformat(frame, format="rgb24", threads=1).to_ndarray().view(np.uint8)
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


def decoder_options(container: Container, *, strict: bool) -> dict[str, str]:
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
    the letter. Frames in several threads are not used: what is concealed, and what is counted,
    would depend on how many, and at damage FFmpeg's threads now and then wait for ever.
    """
    import av
    from av.video.reformatter import VideoReformatter

    result, wanted = Pass(), set() if gathered is None else set(gathered.slots)
    convert = VideoReformatter()
    with container.reopened(quick=False) as fresh:
        context, packets = fresh.stream.codec_context, fresh.packets()
        context.options = decoder_options(fresh, strict=strict)
        context.thread_type = "SLICE"
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
