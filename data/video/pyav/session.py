"""What an open file shows: its frames counted and placed in time, by index or by a full decode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from data.video.frames import VideoError, VideoInfo
from data.video.pyav.container import Container, videos_of
from data.video.pyav.seek import FIELDS, Unexpected, by_index
from data.video.pyav.sequential import Frames, Gathered, Look, Pass, Places, one_pass


class Recounted(Exception):
    """A full decode, made while frames were read, shows other frames than the index promised."""


@dataclass
class Reading:
    """An open file and what is known of the frames that it shows.

    `full` is a decode of everything, where there has been one; without it the index is believed
    (`believe`: even where there is reason not to).
    """

    container: Container
    accept_damaged: bool
    believe: bool = False
    full: Pass | None = None
    look: Look = field(default_factory=Look)
    damage: tuple[str, ...] = ()
    unexpected: str = ""

    def __post_init__(self) -> None:
        index = self.container.index
        self.damage = index.damage
        doubtful = self.accept_damaged or index.damage or not index.trusted
        if doubtful and not self.believe:
            self.decode_all()

    def decode_all(self) -> None:
        """Learn from a full decode what the file shows; VideoError where it is damaged."""
        container, index = self.container, self.container.index
        strict = one_pass(container, strict=True)
        full = strict if strict.clean else one_pass(container)
        presented = int((~index.hidden).sum())
        damage = list(index.damage)
        lost = presented - len(full.pts)
        if full.failed:
            damage.append(f"{full.failed:,} packets cannot be decoded")
        elif lost > 0 and index.counted and not full.look.interlaced:
            damage.append(f"{lost:,} frames do not decode")
        if full.corrupt:
            damage.append(f"{full.corrupt:,} frames are corrupt")
        if strict.failed > full.failed:
            damage.append(f"errors in {strict.failed - full.failed:,} packets are concealed")
        claimed = container.stream.frames
        claims = f"header claims {claimed:,} frames, " if claimed else ""
        if not full.pts:
            raise VideoError(container.path, f"{claims}{presented:,} are presented, none decodes")
        if damage and not self.accept_damaged:
            raise VideoError(
                container.path,
                f"damaged: {claims}{presented:,} are presented, {len(full.pts):,} decode "
                f"({'; '.join(damage)})",
            )
        self.full, self.look, self.damage = full, full.look, tuple(damage)
        if index.trusted and not self.unexpected:
            if full.look.interlaced:
                self.unexpected = FIELDS
            elif full.pts != index.pts[index.order].tolist():
                self.unexpected = "it shows other frames than its packets say"

    @property
    def shown(self) -> int:
        return len(self.container.index.order) if self.full is None else len(self.full.pts)

    @property
    def placed_by_index(self) -> bool:
        """Whether the index tells which packet is the frame at a place."""
        return self.container.index.trusted and not self.damage and not self.unexpected

    @property
    def claimed(self) -> int:
        """The header's count of frames; without one its length times its rate, as OpenCV counts."""
        container, stream = self.container, self.container.stream
        length = container.input.duration or 0
        return stream.frames or int(length / 1e6 * float(stream.average_rate or 0) + 0.5)

    def pts(self) -> list[int | None]:
        """Ticks of each shown frame; None for one without."""
        if self.full is not None:
            return self.full.pts
        index = self.container.index
        return list(index.pts[index.order].tolist())

    def times(self) -> tuple[npt.NDArray[np.float64], str]:
        """Seconds of each shown frame after the first, and what they rest on."""
        stream, pts = self.container.stream, self.pts()
        if None not in pts:
            ticks = np.array(pts, np.int64)
            if bool((np.diff(ticks) >= 0).all()):
                since_first = (ticks - ticks[:1]).astype(np.float64)
                return since_first * float(stream.time_base or 0), "timestamps"
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        if not rate:
            raise VideoError(self.container.path, "neither timestamps nor a frame rate to go by")
        seconds = np.array([place / rate for place in range(len(pts))], np.float64)
        return seconds, f"counted at {float(rate):.6g} per second"

    def frames(self, places: Places) -> Frames:
        """uint8 (T, H, W, 3) at `places`, by PyAV."""
        container = self.container
        self.check(places)
        if not len(places):
            context = container.stream.codec_context
            return np.zeros((0, context.height, context.width, 3), np.uint8)
        gathered = Gathered(container.path, places, batch_bytes=container.limits.batch_bytes)
        if self.placed_by_index:
            try:
                self.look = by_index(container, gathered)
            except Unexpected as unexpected:
                self.unexpected, before = str(unexpected), self.pts()
                self.decode_all()
                if self.pts() != before:
                    raise Recounted from None
                gathered = Gathered(
                    container.path, places, batch_bytes=container.limits.batch_bytes
                )
        if len(gathered.filled) < len(gathered.slots):
            one_pass(container, gathered, strict=not self.damage)
        if gathered.frames is None or len(gathered.filled) < len(gathered.slots):
            raise VideoError(container.path, "decodes differently each time")
        return gathered.frames

    def check(self, places: Places) -> None:
        if len(places) and not (places.min() >= 0 and places.max() < self.shown):
            wrong = places[(places < 0) | (places >= self.shown)][0]
            raise VideoError(
                self.container.path, f"no frame {wrong}: it shows {self.shown:,}, counted from 0"
            )

    def info(self, *, decoder: str = "pyav", notes: tuple[str, ...] = ()) -> VideoInfo:
        container, index = self.container, self.container.index
        stream, context = container.stream, container.stream.codec_context
        times, times_from = self.times()
        presented = int((~index.hidden).sum())
        notes = (*notes, *self._notes(presented))
        starts = np.union1d([0], np.flatnonzero(index.entry))
        gaps = np.diff(np.append(starts, len(index.pts)))
        return VideoInfo(
            path=container.path,
            bytes=container.bytes,
            format=container.input.format.name,
            codec=context.codec.canonical_name,
            pixel_format=self.look.pixel_format,
            stream=stream.index,
            streams=tuple(_name_of(other) for other in container.input.streams),
            width=context.width,
            height=context.height,
            rotation=self.look.rotation,
            pixel_aspect=str(context.sample_aspect_ratio or 1),
            interlaced=self.look.interlaced,
            frames_per_second=float(stream.average_rate) if stream.average_rate else None,
            claimed_frames=stream.frames or None,
            presented_frames=presented,
            decodable_frames=None if self.full is None else len(self.full.pts),
            shown_frames=self.shown,
            pts_seconds=times,
            times_from=times_from,
            keyframes=int(index.key.sum()),
            longest_gop=int(gaps.max(initial=0)),
            random_access=self.placed_by_index,
            damage=self.damage,
            notes=notes,
            decoder=decoder,
        )

    def _notes(self, presented: int) -> list[str]:
        stream, index = self.container.stream, self.container.index
        notes = []
        if (count := len(videos_of(self.container.input))) > 1:
            notes.append(f"of {count} video streams FFmpeg's best, {stream.index}, is read")
        if stream.frames and stream.frames > presented and not self.damage:
            notes.append(f"header counts {stream.frames:,} frames, {presented:,} are shown")
        if self.unexpected:
            notes.append(f"decoded whole to find a frame: {self.unexpected}")
        if index.doubt:
            notes.append(f"decoded whole to find a frame: {index.doubt}")
        return notes


def _name_of(stream: Any) -> str:
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    return f"{stream.index}: {stream.type} {codec}".rstrip()
