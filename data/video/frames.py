"""The value objects of decoding: what was read, what is known of the file, and how far we go."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.errors import HeliographError


class VideoError(HeliographError):
    """A clip that cannot be read; `reason` says why without naming the file."""

    def __init__(self, path: Path | str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str]]:
        return type(self), (str(self.path), self.reason)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far reading one clip may go; the defaults are beyond what any honest clip needs.

    `pixels` is per frame (the default is 8192 x 8192), `batch_bytes` bounds the frames that one
    call returns, and `wall_seconds` and `memory_bytes` hold where decoding runs in a process that
    can be killed (`data.sandbox`).
    """

    pixels: int = 8192 * 8192
    frames: int = 4_000_000
    seconds: float = 86_400.0
    batch_bytes: int = 8 << 30
    wall_seconds: float = 600.0
    memory_bytes: int = 16 << 30

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if not getattr(self, item.name) > 0:
                raise ValueError(f"limit {item.name} must be positive")


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Frames of one clip, in the order asked for.

    frames: uint8 (T, H, W, 3), RGB, turned the way they are displayed.
    index: int64 (T,), the place of each among the clip's shown frames.
    pts_seconds: float64 (T,), its time after the first shown frame.
    """

    frames: npt.NDArray[np.uint8]
    index: npt.NDArray[np.int64]
    pts_seconds: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
            raise ValueError(f"frames must be uint8 (T, H, W, 3), not {self.frames.dtype} {shape}")
        for name, dtype in (("index", np.int64), ("pts_seconds", np.float64)):
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape[:1]:
                raise ValueError(
                    f"{name} must be {dtype.__name__} of shape {shape[:1]} to go with frames "
                    f"{shape}, not {array.dtype} {array.shape}"
                )

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        return f"FrameBatch(frames=uint8{self.frames.shape}, index={self.index.tolist()})"


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What is known of a video file. Counts are of the stream that is read.

    `claimed_frames` is what the header says (None where it says nothing), `presented_frames` the
    packets that the container presents after edit lists, `decodable_frames` what a full decode
    shows (None where none was made), `shown_frames` what indices count. `damage` is empty for a
    sound file; `notes` says what a careful reader wants to know and is no damage.
    """

    path: Path
    bytes: int
    format: str
    codec: str
    pixel_format: str
    stream: int
    streams: tuple[str, ...]
    width: int
    height: int
    rotation: int
    pixel_aspect: str
    interlaced: bool
    frames_per_second: float | None
    claimed_frames: int | None
    presented_frames: int
    decodable_frames: int | None
    shown_frames: int
    pts_seconds: npt.NDArray[np.float64] = field(repr=False, compare=False)
    times_from: str
    keyframes: int
    longest_gop: int
    random_access: bool
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    decoder: str = "pyav"
    agreement: dict[str, str] = field(default_factory=dict)

    @property
    def duration_seconds(self) -> float:
        """From the first shown frame to the last, in seconds."""
        return float(self.pts_seconds[-1]) if len(self.pts_seconds) else 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything but the list of times, as plain JSON values."""
        record = {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.name != "pts_seconds"
        }
        record["path"] = str(self.path)
        for name in ("streams", "damage", "notes"):
            record[name] = list(record[name])
        record["duration_seconds"] = self.duration_seconds
        return record
