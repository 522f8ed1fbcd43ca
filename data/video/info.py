"""What is known about a video file: `VideoInfo`, as JSON and as a table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.video.colour import HDR, UNTAGGED
from data.video.sampling import varies

VARIES = (
    "its frame rate varies by more than a tenth: the sampler uniform takes frames at equal "
    "numbers, uniform-time at equal times"
)


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What is known about a video file; counts are of the stream that is read.

    Attributes:
        claimed_frames: Frames that the header claims; None where it gives no count.
        presented_frames: Packets that the container presents after edit lists.
        decodable_frames: Frames of a full decode; None where none was made.
        shown_frames: The number of frames that indices count.
        pts_seconds: float64 (shown_frames,), presentation times after the first shown frame.
        times_from: What these times come from: `timestamps`, or the frame rate.
        longest_gop: Packets of the longest group of pictures.
        random_access: Whether a frame can be found without decoding the whole stream.
        damage: One sentence per damage; empty for an intact file.
        notes: What is worth knowing and is not damage.
        decoder: The decoder that read the frames.
        bit_depth: Bits of a channel; None where no frame was decoded.
        colour: The tags `matrix`, `primaries`, `transfer` and `range`, as FFmpeg reads them.
        agreement: For each decoder that `probe` compared with the reference, `agrees` or why not.
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
    bit_depth: int | None = None
    colour: dict[str, str] = field(default_factory=dict)

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """What the recording is like that a network may see, or that its times depend on."""
        found = []
        if self.interlaced:
            found.append("interlaced: frames are taken as they are, two fields in each")
        if self.rotation:
            found.append("turned by the rotation that the file has for players")
        if self.pixel_aspect != "1":
            found.append("pixels are not square: frames are not stretched")
        if self.colour.get("matrix") == UNTAGGED and self.pixel_format.startswith(("yuv", "nv")):
            found.append("colour is not tagged: read as BT.601")
        if (transfer := self.colour.get("transfer", "")) in HDR:
            found.append(f"high dynamic range ({HDR[transfer]}): shown without tone mapping")
        if self.times_from.startswith("counted"):
            found.append("timestamps are no use: times are counted by the frame rate")
        elif _has_gaps(self.pts_seconds):
            found.append("there are gaps in the times, as of dropped frames")
        if varies(self.pts_seconds):
            found.append(VARIES)
        return tuple(found)

    @property
    def duration_seconds(self) -> float:
        """The time from the first shown frame to the last."""
        return float(self.pts_seconds[-1]) if len(self.pts_seconds) else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return every field but `pts_seconds`, as plain JSON values."""
        record = {
            attribute.name: getattr(self, attribute.name)
            for attribute in dataclasses.fields(self)
            if attribute.name != "pts_seconds"
        }
        record["path"] = str(self.path)
        for name in ("streams", "damage", "notes"):
            record[name] = list(record[name])
        record["duration_seconds"] = self.duration_seconds
        record["conditions"] = list(self.conditions)
        return record


def _has_gaps(seconds: npt.NDArray[np.float64]) -> bool:
    """Return whether some steps are twice as long as the others, which are nearly all alike."""
    steps = np.diff(seconds)
    usual = float(np.median(steps)) if len(steps) else 0.0
    alike = np.abs(steps - usual) <= 0.1 * usual
    return usual > 0 and float(alike.mean()) >= 0.7 and bool((steps > 1.75 * usual).any())


def describe(info: VideoInfo) -> str:
    """Return a table of `info` for people, one property per line."""
    rate = "unknown" if info.frames_per_second is None else f"{info.frames_per_second:.6g}"
    claimed = "none" if info.claimed_frames is None else f"{info.claimed_frames:,}"
    decodable = "not counted" if info.decodable_frames is None else f"{info.decodable_frames:,}"
    rotated = f", rotated by {info.rotation} degrees" if info.rotation else ""
    aspect = f", pixel aspect ratio {info.pixel_aspect}" if info.pixel_aspect != "1" else ""
    interlaced = ", interlaced" if info.interlaced else ""
    random_access = "possible" if info.random_access else "not possible"
    source = "from timestamps" if info.times_from == "timestamps" else info.times_from
    bits = "" if info.bit_depth is None else f", {info.bit_depth} bits"
    colour = ", ".join(f"{name} {value}" for name, value in info.colour.items())
    rows = [
        ("file", f"{info.path} ({info.bytes:,} bytes)"),
        ("format", info.format),
        ("streams", "; ".join(info.streams)),
        ("video", f"stream {info.stream}: {info.codec}, {info.pixel_format}{bits}"),
        ("colour", colour or "unknown"),
        ("size", f"{info.width}x{info.height}{rotated}{aspect}{interlaced}"),
        ("frames", f"{info.shown_frames:,} shown; claimed by the header: {claimed}; "
         f"decodable: {decodable}"),
        ("times", f"{info.duration_seconds:.3f} s from first to last frame, {rate} frames per "
         f"second, {source}"),
        ("structure", f"{info.keyframes:,} keyframes, longest group of pictures "
         f"{info.longest_gop:,} frames, random access {random_access}"),
        ("damage", "; ".join(info.damage) or "none found"),
    ]  # fmt: skip
    rows += list(info.agreement.items())
    rows += [("note", note) for note in (*info.notes, *info.conditions)]
    return "\n".join(f"{name:<10} {value}".replace("\n", r"\n") for name, value in rows)
