"""A decode session: the frames of an open file counted, given times, and decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from data.video.frames import FrameIndices, Frames, VideoError
from data.video.info import VideoInfo
from data.video.pyav.container import Container, video_streams
from data.video.pyav.frame_buffer import FrameBuffer, StreamFacts
from data.video.pyav.seek import FIELDS_REASON, SeekMismatch, decode_by_seeking
from data.video.pyav.sequential import FullDecode, decode_fully


class FrameCountChanged(Exception):
    """A full decode, made while frames were read, shows other frames than the packet index."""


@dataclass
class DecodeSession:
    """An open file and what is known about the frames that it shows.

    Attributes:
        container: The open file.
        accept_damaged: Whether a damaged file is read too.
        trust_index: Trust the packet index even where there is reason not to.
        full: A decode of everything, where there has been one; otherwise the index is trusted.
        facts: What the decoded frames tell about the stream.
        damage: One sentence per damage.
        mismatch: Why random access is not used although the index is trusted.
    """

    container: Container
    accept_damaged: bool
    trust_index: bool = False
    full: FullDecode | None = None
    facts: StreamFacts = field(default_factory=StreamFacts)
    damage: tuple[str, ...] = ()
    mismatch: str = ""

    def __post_init__(self) -> None:
        packet_index = self.container.packet_index
        self.damage = packet_index.damage
        doubtful = self.accept_damaged or packet_index.damage or not packet_index.trusted
        if doubtful and not self.trust_index:
            self.decode_fully()

    def decode_fully(self) -> None:
        """Find out what the file shows by decoding all of it.

        Raises:
            VideoError: Nothing can be decoded, or the file is damaged and damage is not accepted.
        """
        container, packet_index = self.container, self.container.packet_index
        strict = decode_fully(container, strict=True)
        full = strict if strict.clean else decode_fully(container)
        presented = packet_index.presented_frames
        damage = list(packet_index.damage)
        lost = presented - len(full.pts)
        if full.failed:
            damage.append(f"{full.failed:,} packets cannot be decoded")
        elif lost > 0 and packet_index.countable and not full.facts.interlaced:
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
        self.full, self.facts, self.damage = full, full.facts, tuple(damage)
        if packet_index.trusted and not self.mismatch:
            if full.facts.interlaced and not packet_index.whole:
                self.mismatch = FIELDS_REASON
            elif full.pts != packet_index.pts[packet_index.order].tolist():
                self.mismatch = "it shows other frames than its packets say"

    @property
    def shown_frames(self) -> int:
        """The number of frames that indices count."""
        return len(self.container.packet_index.order) if self.full is None else len(self.full.pts)

    @property
    def random_access(self) -> bool:
        """Whether the packet index tells which packet holds the frame at an index."""
        return self.container.packet_index.trusted and not self.damage and not self.mismatch

    @property
    def claimed_frames(self) -> int:
        """The header's frame count; without one its length times its rate, as OpenCV counts."""
        container, stream = self.container, self.container.stream
        length = container.input.duration or 0
        return stream.frames or int(length / 1e6 * float(stream.average_rate or 0) + 0.5)

    def pts(self) -> list[int | None]:
        """Return the ticks of each shown frame; None for a frame without a timestamp."""
        if self.full is not None:
            return self.full.pts
        packet_index = self.container.packet_index
        return list(packet_index.pts[packet_index.order].tolist())

    def times(self) -> tuple[npt.NDArray[np.float64], str]:
        """Return the times of the shown frames and what they come from.

        Returns:
            float64 (shown_frames,), seconds after the first; and `timestamps` or the rate used.

        Raises:
            VideoError: There are neither usable timestamps nor a frame rate.
        """
        stream, pts = self.container.stream, self.pts()
        if None not in pts:
            ticks = np.array(pts, np.int64)
            if bool((np.diff(ticks) >= 0).all()):
                since_first = (ticks - ticks[:1]).astype(np.float64)
                return since_first * float(stream.time_base or 0), "timestamps"
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        if not rate:
            raise VideoError(self.container.path, "it has neither timestamps nor a frame rate")
        seconds = np.array([index / rate for index in range(len(pts))], np.float64)
        return seconds, f"counted at {float(rate):.6g} per second"

    def frames(self, indices: FrameIndices) -> Frames:
        """Decode the frames at `indices` with PyAV.

        Returns:
            uint8 (T, H, W, 3), RGB, rotated for display.

        Raises:
            VideoError: There is no such frame, or the file is damaged or exceeds a limit.
            FrameCountChanged: A full decode was needed, and changes what indices mean.
        """
        container = self.container
        self.check_indices(indices)
        if not len(indices):
            context = container.stream.codec_context
            return np.zeros((0, context.height, context.width, 3), np.uint8)
        buffer = self._new_buffer(indices)
        if self.random_access:
            try:
                self.facts = decode_by_seeking(container, buffer)
            except SeekMismatch as mismatch:
                self.mismatch, old_pts = str(mismatch), self.pts()
                self.decode_fully()
                if self.pts() != old_pts:
                    raise FrameCountChanged from None
                buffer = self._new_buffer(indices)
        if not buffer.complete:
            decode_fully(container, buffer, strict=not self.damage)
        if buffer.frames is None or not buffer.complete:
            raise VideoError(container.path, "it gives other frames each time it is decoded")
        return buffer.frames

    def _new_buffer(self, indices: FrameIndices) -> FrameBuffer:
        return FrameBuffer(self.container.path, indices, limits=self.container.limits)

    def check_indices(self, indices: FrameIndices) -> None:
        """Raise VideoError for the first index that no shown frame has."""
        if len(indices) and not (indices.min() >= 0 and indices.max() < self.shown_frames):
            wrong = indices[(indices < 0) | (indices >= self.shown_frames)][0]
            raise VideoError(
                self.container.path,
                f"no frame {wrong}: it shows {self.shown_frames:,}, counted from 0",
            )

    def info(self, *, decoder: str = "pyav") -> VideoInfo:
        """Return what is known about the file; `decoder` is the one that read the frames."""
        container, packet_index = self.container, self.container.packet_index
        stream, context = container.stream, container.stream.codec_context
        times, times_from = self.times()
        entries = np.union1d([0], np.flatnonzero(packet_index.entry))
        gop_lengths = np.diff(np.append(entries, len(packet_index.pts)))
        return VideoInfo(
            path=container.path,
            bytes=container.bytes,
            format=container.input.format.name,
            codec=context.codec.canonical_name,
            pixel_format=self.facts.pixel_format,
            stream=stream.index,
            streams=tuple(_describe_stream(other) for other in container.input.streams),
            width=context.width,
            height=context.height,
            rotation=self.facts.rotation,
            pixel_aspect=str(context.sample_aspect_ratio or 1),
            interlaced=self.facts.interlaced,
            frames_per_second=float(stream.average_rate) if stream.average_rate else None,
            claimed_frames=stream.frames or None,
            presented_frames=packet_index.presented_frames,
            decodable_frames=None if self.full is None else len(self.full.pts),
            shown_frames=self.shown_frames,
            pts_seconds=times,
            times_from=times_from,
            keyframes=int(packet_index.key.sum()),
            longest_gop=int(gop_lengths.max(initial=0)),
            random_access=self.random_access,
            damage=self.damage,
            notes=tuple(self._notes()),
            decoder=decoder,
        )

    def _notes(self) -> list[str]:
        stream, packet_index = self.container.stream, self.container.packet_index
        presented = packet_index.presented_frames
        notes = []
        if (count := len(video_streams(self.container.input))) > 1:
            notes.append(f"of {count} video streams FFmpeg's best, {stream.index}, is read")
        if stream.frames and stream.frames > presented and not self.damage:
            notes.append(f"header claims {stream.frames:,} frames, {presented:,} are shown")
        for reason in (self.mismatch, packet_index.doubt):
            if reason:
                notes.append(f"decoded whole, without random access: {reason}")
        return notes


def _describe_stream(stream: Any) -> str:
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    return f"{stream.index}: {stream.type} {codec}".rstrip()
