"""From decoded frames to RGB: conversion, rotation, and the array that a call returns."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.video.colour import colour_tags
from data.video.frames import FrameIndices, Frames, LimitExceeded, Limits, VideoError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.reformatter import VideoReformatter


class FrameSizeChanged(VideoError):
    """A clip whose frames are not all of one size."""


@dataclass
class StreamFacts:
    """What decoded frames tell about their stream, apart from pixels."""

    pixel_format: str = "unknown"
    bit_depth: int | None = None
    colour: dict[str, str] = field(default_factory=dict)
    rotation: int = 0
    interlaced: bool = False
    sizes: set[tuple[int, int]] = field(default_factory=set)

    def add_frame(self, frame: VideoFrame) -> None:
        """Add what `frame` tells."""
        if not self.sizes:
            self.pixel_format, self.rotation = frame.format.name, frame.rotation
            self.bit_depth = max((part.bits for part in frame.format.components), default=None)
            tags = (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range)
            self.colour = colour_tags(*map(int, tags))
        self.interlaced |= frame.interlaced_frame
        self.sizes.add((frame.width, frame.height))

    def merge(self, later: StreamFacts) -> None:
        """Add what a later part of the stream tells."""
        self.interlaced |= later.interlaced
        self.sizes |= later.sizes


@dataclass
class FullDecode:
    """A decode of the whole stream.

    Attributes:
        pts: The time of each frame shown, in ticks and in order; None for one without.
        failures: The numbers of the packets that could not be decoded.
        corrupt: The times of the frames that FFmpeg marks as corrupt, or conceals a fault in.
        facts: What the frames tell about the stream.
    """

    pts: list[int | None] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    corrupt: list[int | None] = field(default_factory=list)
    facts: StreamFacts = field(default_factory=StreamFacts)

    @property
    def clean(self) -> bool:
        """Whether nothing failed and nothing is corrupt."""
        return not self.failures and not self.corrupt


class FrameBuffer:
    """The output array for the frames at `indices`, filled in while they are decoded.

    Attributes:
        frames: uint8 (T, H, W, 3); None until the first frame is stored.
        positions: For each frame index, its positions in the output.
        filled: The frame indices stored so far.
    """

    def __init__(self, path: Path, indices: FrameIndices, *, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self.positions: dict[int, list[int]] = {}
        for position, index in enumerate(indices.tolist()):
            self.positions.setdefault(index, []).append(position)
        self.count = len(indices)
        self.frames: Frames | None = None
        self.filled: set[int] = set()
        self.lock = threading.Lock()

    @property
    def complete(self) -> bool:
        """Whether every frame has been stored."""
        return len(self.filled) == len(self.positions)

    def store(self, index: int, rgb: Frames) -> None:
        """Copy a frame, uint8 (H, W, 3), to its positions; threads may store different frames.

        Raises:
            FrameSizeChanged: It is not as large as the frames before it.
            VideoError: They exceed the limits.
        """
        with self.lock:
            if self.frames is None:
                self.frames = self._allocate(rgb.shape)
        if rgb.shape != self.frames.shape[1:]:
            (old_height, old_width), (height, width) = self.frames.shape[1:3], rgb.shape[:2]
            raise FrameSizeChanged(
                self.path,
                f"its frame size changes from {old_width}x{old_height} to {width}x{height} "
                "in mid-stream",
            )
        first, *repeats = self.positions[index]
        _copy(rgb, self.frames[first])
        for position in repeats:
            self.frames[position] = self.frames[first]
        self.filled.add(index)

    def _allocate(self, shape: tuple[int, ...]) -> Frames:
        self.limits.check_frame_size(self.path, shape[1], shape[0])
        size = self.count * math.prod(shape)
        if size > self.limits.batch_bytes:
            raise LimitExceeded(
                self.path,
                f"{self.count:,} frames of {shape[1]}x{shape[0]} take {size:,} bytes, "
                f"the limit is {self.limits.batch_bytes:,}",
                "--max-memory",
            )
        return np.empty((self.count, *shape), np.uint8)


def _copy(rgb: Frames, target: Frames) -> None:
    """Copy a frame; a rotated one channel by channel, which takes NumPy half the time."""
    if rgb.strides[1] == 3:
        target[...] = rgb
    else:
        for channel in range(3):
            target[..., channel] = rgb[..., channel]


def to_rgb(frame: VideoFrame, path: Path, reformatter: VideoReformatter) -> Frames:
    """Return RGB of a frame, rotated by its display matrix: uint8 (H, W, 3).

    Args:
        frame: The decoded frame.
        path: Its file, for the error.
        reformatter: One for all frames of a clip: `frame.to_ndarray(format="rgb24")` gives the same
            pixels, and sets up a conversion for each frame, which takes longer than converting a
            small frame. More threads than one give the same pixels later.

    Raises:
        VideoError: The rotation is not a multiple of 90 degrees.
    """
    converted = reformatter.reformat(frame, format="rgb24", threads=1)
    rgb: Frames = converted.to_ndarray().view(np.uint8)
    matrix = _display_matrix(frame)
    if matrix is None:
        return rgb
    a, b, c, d = matrix
    if (a, d) == (0, 0) and b and c:
        return rgb.transpose(1, 0, 2)[::b, ::c]
    if (b, c) == (0, 0) and a and d:
        return rgb[::d, ::a]
    raise VideoError(
        path, "its display matrix rotates by an angle that is no multiple of 90 degrees"
    )


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """Return signs (a, b, c, d): a stored point (x, y) is displayed at (a x + c y, b x + d y).

    ISO/IEC 14496-12 6.2.2; entries below a hundredth of the largest count as zero.
    """
    for entry in _side_data(frame):
        if entry.type.name == "DISPLAYMATRIX":
            matrix = np.frombuffer(entry, np.int32).astype(np.float64)[[0, 1, 3, 4]]
            small = np.abs(matrix) < 0.01 * np.abs(matrix).max()
            return tuple(np.where(small, 0, np.sign(matrix)).astype(int).tolist())
    return None


def _side_data(frame: VideoFrame) -> Any:
    """Return the side data of a frame, of kinds too that this PyAV has no name for.

    FFmpeg attaches EXIF to frames of JPEG and view ids to those of stereo video, and adds kinds in
    each version; PyAV looks all of them up in an enumeration, and raises ValueError.
    """
    try:
        return frame.side_data
    except ValueError:
        from av.sidedata.sidedata import Type

        def unnamed(kinds: type[Type], number: int) -> Any:
            kind: Any = object.__new__(kinds)
            kind._name_, kind._value_ = f"UNKNOWN_{number}", number
            return kind

        Type._missing_ = classmethod(unnamed)  # type: ignore[method-assign, assignment]
        return frame.side_data
