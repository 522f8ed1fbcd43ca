"""What a decoder returns (`FrameBatch`), its `Limits`, and the error of an unreadable clip."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.errors import HeliographError
from data.files import path_of

Frames = npt.NDArray[np.uint8]  # (T, H, W, 3) or one frame (H, W, 3), RGB
FrameIndices = npt.NDArray[np.int64]  # (T,), indices of shown frames, counted from 0


class VideoError(HeliographError):
    """A clip that cannot be read; `reason` says why without naming the file."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path_of(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str]]:
        return type(self), (str(self.path), self.reason)


class LimitExceeded(VideoError):
    """A clip above one of the `Limits`; the reason names the option of commands that lifts it."""

    def __init__(self, path: Path | str, reason: str, option: str = "") -> None:
        super().__init__(path, f"{reason} ({option} lifts it)" if option else reason)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on reading one clip; the defaults are above what any ordinary clip needs.

    Attributes:
        bytes: Most bytes of the file.
        pixels: Most pixels of a frame (the default is 8192 x 8192).
        aspect: Most that the longer side of a frame is of the shorter: whatever makes the shorter
            side so many pixels long makes the longer one this many times as long.
        frames: Most frames of a clip.
        seconds: Longest duration of a clip.
        batch_bytes: Most bytes of the frames that one call returns.
        wall_seconds: Longest time for reading a clip; kept where decoding runs in a process that
            can be killed (`DecoderPool`).
        memory_bytes: Most memory of such a process.
    """

    bytes: int = 256 << 30
    pixels: int = 8192 * 8192
    aspect: float = 32.0
    frames: int = 4_000_000
    seconds: float = 86_400.0
    batch_bytes: int = 8 << 30
    wall_seconds: float = 600.0
    memory_bytes: int = 16 << 30

    def __post_init__(self) -> None:
        for limit in dataclasses.fields(self):
            if not getattr(self, limit.name) > 0:
                raise ValueError(f"limit {limit.name} must be positive")

    @classmethod
    def set_to(
        cls,
        *,
        duration: float | None = None,
        pixels: int | None = None,
        memory: float | None = None,
        timeout: float | None = None,
    ) -> Limits:
        """Return the default limits with those changed that are given.

        Args:
            duration: Longest clip, in seconds; a longer one may have more frames and bytes, too.
            pixels: Most pixels of a frame.
            memory: Most memory of a process that decodes, in GiB; its frames may take half.
            timeout: Longest time for reading a clip, in seconds.

        Raises:
            ValueError: One is not positive.
        """
        limits = cls()
        if duration is not None:
            limits = replace(limits, seconds=duration)
            longer = min(max(duration / cls.seconds, 1), 1e6)
            frames, size = int(longer * cls.frames), int(longer * cls.bytes)
            limits = replace(limits, frames=frames, bytes=size)
        if pixels is not None:
            limits = replace(limits, pixels=pixels)
        if memory is not None:
            allowed = int(min(memory, 2**30) * 2**30)
            limits = replace(limits, memory_bytes=allowed, batch_bytes=max(allowed // 2, 1))
        return limits if timeout is None else replace(limits, wall_seconds=timeout)

    @staticmethod
    def in_force() -> Limits:
        """Return the limits that hold where none are given: the defaults, or those of `use`."""
        return _in_force[-1]

    @contextmanager
    def use(self) -> Iterator[None]:
        """Let these limits hold in this process, in all its threads, where none are given."""
        _in_force.append(self)
        try:
            yield
        finally:
            _in_force.pop()

    def check_frame_size(self, path: Path, width: int, height: int) -> None:
        """Raise `VideoError` for frames of this size if they exceed a limit."""
        size = f"its frames of {width}x{height}"
        if width * height > self.pixels:
            reason = f"{size} are {width * height:,} pixels, the limit is {self.pixels:,}"
            raise LimitExceeded(path, reason, "--max-pixels")
        long, short = max(width, height), min(width, height)
        if long > self.aspect * short:
            raise VideoError(
                path,
                f"{size} are {long / short:,.5g} times as long as wide, the limit is "
                f"{self.aspect:g}",
            )


_in_force = [Limits()]


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Frames of one clip, in the order of the request.

    Attributes:
        frames: uint8 (T, H, W, 3), RGB, rotated for display.
        index: int64 (T,), the index of each frame among the clip's shown frames.
        pts_seconds: float64 (T,), presentation times in seconds after the first shown frame.
    """

    frames: Frames
    index: FrameIndices
    pts_seconds: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
            raise ValueError(f"frames must be uint8 (T, H, W, 3), not {self.frames.dtype} {shape}")
        for name, dtype in (("index", np.int64), ("pts_seconds", np.float64)):
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape[:1]:
                raise ValueError(
                    f"{name} must be {dtype.__name__} of shape {shape[:1]} to match frames "
                    f"{shape}, not {array.dtype} {array.shape}"
                )

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        return f"FrameBatch(frames=uint8{self.frames.shape}, index={self.index.tolist()})"
