"""A decode session: the frames of an open file counted, given times, and decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from data.video.frames import FrameIndices, Frames, VideoError
from data.video.info import VideoInfo
from data.video.pyav.clock import steady
from data.video.pyav.container import Container, video_streams
from data.video.pyav.frame_buffer import FrameBuffer, FullDecode, StreamFacts
from data.video.pyav.packet_index import (
    LEADING_NOTE,
    first_group,
    leading_packets,
    packets_before_start,
)
from data.video.pyav.packets import OPEN_ENTRY
from data.video.pyav.seek import (
    FIELDS_REASON,
    SeekMismatch,
    decode_by_seeking,
    stream_by_seeking,
)
from data.video.pyav.sequential import decode_fully, first_facts, stream_fully


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
        notes: What the decode of everything showed and is not damage.
        strict: Whether frames are decoded as `decode_fully` does with `strict`.
    """

    container: Container
    accept_damaged: bool
    trust_index: bool = False
    full: FullDecode | None = None
    facts: StreamFacts = field(default_factory=StreamFacts)
    damage: tuple[str, ...] = ()
    mismatch: str = ""
    notes: tuple[str, ...] = ()
    strict: bool = True
    _times: tuple[FullDecode | None, npt.NDArray[np.float64], str] | None = None

    def __post_init__(self) -> None:
        packet_index = self.container.packet_index
        self.damage = packet_index.damage
        doubtful = self.accept_damaged or packet_index.damage or not packet_index.trusted
        if self.trust_index:
            self.facts = first_facts(self.container)
            return
        if doubtful or not self._ends_whole():
            self.decode_fully()

    def _ends_whole(self) -> bool:
        """Return whether the last packet of a file that may be cut off is a whole frame."""
        packet_index = self.container.packet_index
        last_frame = packet_index.last_frame
        if not self.container.may_be_cut or packet_index.hidden[last_frame]:
            return True
        last = np.flatnonzero(packet_index.order == last_frame)
        try:
            self._decode_by_seeking(self._new_buffer(last))
        except SeekMismatch:
            return False
        return True

    def _decode_by_seeking(self, buffer: FrameBuffer) -> StreamFacts:
        """Decode by seeking; where that fails at open starts, once more from before them."""
        try:
            return decode_by_seeking(self.container, buffer)
        except SeekMismatch:
            if not self.container.run_in():
                raise
            return decode_by_seeking(self.container, buffer)

    def decode_fully(self) -> None:
        """Find out what the file shows by decoding all of it.

        Raises:
            VideoError: Nothing can be decoded, or the file is damaged and damage is not accepted.
        """
        container = self.container
        strict, full = self._decoded()
        if self._is_cut_off(strict, full):
            container.leave_out_last()
            strict, full = self._decoded()
        packet_index = container.packet_index
        presented = packet_index.presented_frames
        damage, notes = list(packet_index.damage), []
        lost = presented - len(full.pts)
        concealed = len(strict.failures) - len(full.failures)
        if self._starts_late(strict, full):
            concealed = 0
            notes.append(LEADING_NOTE.format(lost))
        elif full.failures:
            damage.append(f"{len(full.failures):,} packets cannot be decoded")
        elif lost > 0 and packet_index.countable and not full.facts.interlaced:
            if self._are_leading(full):
                notes.append(LEADING_NOTE.format(lost))
            else:
                damage.append(f"{lost:,} frames do not decode")
        if full.corrupt:
            damage.append(f"{len(full.corrupt):,} frames are corrupt")
        if concealed > 0 and not self._is_open_start(strict, full):
            damage.append(f"errors in {concealed:,} packets are concealed")
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
        self.notes, self.strict = tuple(notes), full is strict
        if packet_index.trusted and not self.mismatch:
            if full.facts.interlaced and not packet_index.whole:
                self.mismatch = FIELDS_REASON
            elif full.pts != self._indexed_pts():
                self.mismatch = "it shows other frames than its packets say"
        if not self.random_access and not damage:
            container.keep(replace(packet_index, doubt=packet_index.doubt or self.mismatch))

    def _decoded(self) -> tuple[FullDecode, FullDecode]:
        """Return the strict decode, and the one that shows what is shown; kept ones if any."""
        decodes = self.container.decodes
        for strict in (True, False):
            if strict or not decodes[True].clean:
                kept = decodes.get(strict)
                if kept is None or len(kept.pts) > self.container.limits.frames:
                    decodes[strict] = decode_fully(self.container, strict=strict)
        return decodes[True], decodes.get(False, decodes[True])

    def _is_cut_off(self, strict: FullDecode, full: FullDecode) -> bool:
        """Return whether the file ends in mid-frame: its last packet, and no other, is faulty."""
        pts, last = self.container.packet_index.pts, self.container.packet_index.last_frame
        if not self.container.may_be_cut or last < 1 or strict.clean:
            return False
        failures, corrupt = [*strict.failures, *full.failures], {*strict.corrupt, *full.corrupt}
        without_time = {None} if strict.failures else set()
        return min(failures, default=last) >= last and corrupt <= {int(pts[-1]), *without_time}

    def _starts_late(self, strict: FullDecode, full: FullDecode) -> bool:
        """Return whether a broadcast was recorded from mid-group on, and is whole from then on.

        Other containers are written from a keyframe on, so that a lack of one is damage.
        """
        packet_index = self.container.packet_index
        late = packets_before_start(packet_index.pts, packet_index.entry)
        if not self.container.leaps or not len(late):
            return False
        return (
            self._are_among(full, late)
            and not full.corrupt
            and {*strict.failures, *full.failures} <= set(late.tolist())
        )

    def _are_among(self, full: FullDecode, packets: npt.NDArray[np.int64]) -> bool:
        """Return whether all frames that do not decode, each known by its time, are of `packets`.

        Where parts of a file have the same times, it is not known which frames these are.
        """
        packet_index = self.container.packet_index
        missing = set(packet_index.pts[packet_index.order].tolist()) - set(full.pts)
        lost = packet_index.presented_frames - len(full.pts)
        return len(missing) == lost and missing <= set(packet_index.pts[packets].tolist())

    def _are_leading(self, full: FullDecode) -> bool:
        """Return whether every frame that does not decode is shown before the start it follows."""
        packet_index = self.container.packet_index
        leading = leading_packets(packet_index.pts, packet_index.entry)
        return self._are_among(full, leading)

    def _is_open_start(self, strict: FullDecode, full: FullDecode) -> bool:
        """Return whether what FFmpeg finds wrong is only that pictures before the start are gone.

        H.264 that was cut at an open group names pictures to forget that are not there. What is
        shown is whole all the same: nothing is lost, and no fault is concealed in a frame.
        """
        packet_index = self.container.packet_index
        codec = self.container.stream.codec_context.codec.canonical_name
        opens = codec == "h264" and packet_index.entry[0] == OPEN_ENTRY
        return (
            opens
            and full.clean
            and self._are_leading(full)
            and max(strict.failures) < first_group(packet_index.entry)
        )

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
        return self._indexed_pts()

    def _indexed_pts(self) -> list[int | None]:
        packet_index = self.container.packet_index
        if packet_index.timeless:
            return [None] * len(packet_index.order)
        return list(packet_index.pts[packet_index.order].tolist())

    def times(self) -> tuple[npt.NDArray[np.float64], str]:
        """Return the times of the shown frames and what they come from.

        Returns:
            float64 (shown_frames,), seconds after the first; and `timestamps` or the rate used.

        Raises:
            VideoError: There are neither usable timestamps nor a frame rate.
        """
        if self._times is None or self._times[0] is not self.full:
            self._times = self.full, *self._find_times()
        return self._times[1:]

    def _find_times(self) -> tuple[npt.NDArray[np.float64], str]:
        stream = self.container.stream
        if (steadied := self._steadied()) is not None:
            ticks, joints = steadied
            parts = f" of {len(joints) + 1:,} parts" if joints else ""
            return ticks.astype(np.float64) * float(stream.time_base or 0), f"timestamps{parts}"
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        if not rate:
            raise VideoError(self.container.path, "it has neither timestamps nor a frame rate")
        # Rounded once, as the fraction itself would be.
        seconds = np.arange(self.shown_frames) * rate.denominator / rate.numerator
        return seconds, f"counted at {float(rate):.6g} per second"

    def _steadied(self) -> tuple[npt.NDArray[np.int64], list[int]] | None:
        """Return the times that `clock.steady` makes of the timestamps, if they are of any use."""
        packet_index = self.container.packet_index
        if self.full is None:
            if packet_index.timeless:
                return None
            ticks = packet_index.pts[packet_index.order]
        elif None in self.full.pts:
            return None
        else:
            ticks = np.array(self.full.pts, np.int64)
        return steady(ticks, leaps=self.container.leaps)

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
                self.facts = self._decode_by_seeking(buffer)
            except SeekMismatch as mismatch:
                self.mismatch, old_pts = str(mismatch), self.pts()
                self.decode_fully()
                if self.pts() != old_pts:
                    raise FrameCountChanged from None
                buffer = self._new_buffer(indices)
        if not buffer.complete:
            decode_fully(container, buffer, strict=self.strict)
        if buffer.frames is None or not buffer.complete:
            raise VideoError(container.path, "it gives other frames each time it is decoded")
        return buffer.frames

    def stream(self, indices: FrameIndices) -> Iterator[tuple[int, Frames | VideoError]]:
        """Yield the frames at growing `indices`, each uint8 (H, W, 3), as `frames` decodes them.

        One pass over the file, in which a packet is decoded once at most, and memory holds one
        frame. Where random access turns out not to be exact, the file is decoded whole once more.
        Damage that shows only now costs the wanted frames of its group of pictures: each of these
        is the error that says so, and the groups after it are read as if they were alone.

        Args:
            indices: Indices of shown frames, each larger than the one before it.

        Raises:
            VideoError: As for `frames`, but for such damage.
            FrameCountChanged: As for `frames`; what was yielded before is right.
        """
        self.check_indices(indices)
        done = 0
        damaged: VideoError | None = None
        while self.random_access:
            try:
                for numbered in stream_by_seeking(self.container, indices[done:], self.facts):
                    yield numbered
                    done += 1
                return
            except SeekMismatch as mismatch:
                if self.container.run_in():
                    continue
                if damaged is None:
                    damaged = self._damage_behind(mismatch)
                if damaged is not None:
                    yield from ((index, damaged) for index in mismatch.lost)
                    done += len(mismatch.lost)
        yield from stream_fully(self.container, indices[done:], StreamFacts(), strict=self.strict)

    def _damage_behind(self, mismatch: SeekMismatch) -> VideoError | None:
        """Decode everything, since random access failed; return the damage if that is why.

        Raises:
            FrameCountChanged: It is not, and the file shows other frames than its packets say.
            VideoError: There is damage, and the packets are not those that they were.
        """
        old_pts, packets = self.pts(), len(self.container.packet_index.pts)
        self.mismatch = str(mismatch)
        try:
            self.decode_fully()
        except VideoError as error:
            if not mismatch.lost or len(self.container.packet_index.pts) != packets:
                raise
            self.mismatch = ""
            return error
        if self.pts() != old_pts:
            raise FrameCountChanged
        return None

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
        gop_lengths = np.add.reduceat((~packet_index.second).astype(np.int64), entries)
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
            bit_depth=self.facts.bit_depth,
            colour=self.facts.colour,
        )

    def _notes(self) -> list[str]:
        stream, packet_index = self.container.stream, self.container.packet_index
        presented = packet_index.presented_frames
        notes = [*packet_index.notes, *self.notes]
        if (count := len(video_streams(self.container.input))) > 1:
            notes.append(f"of {count} video streams FFmpeg's best, {stream.index}, is read")
        _, joints = self._steadied() or (None, [])
        if joints:
            frames = ", ".join(f"{index:,}" for index in joints[:4])
            more = ", ..." if len(joints) > 4 else ""
            notes.append(f"its clock goes back at frame {frames}{more}: from there times go on")
        explained = self.damage or packet_index.notes
        if stream.frames and stream.frames > presented and not explained:
            notes.append(f"header claims {stream.frames:,} frames, {presented:,} are shown")
        if packet_index.rank is not None:
            notes.append("its timestamps do not tell in which order frames are shown: pictures do")
        for reason in (self.mismatch, packet_index.doubt):
            if reason:
                notes.append(f"decoded whole, without random access: {reason}")
        return notes


def _describe_stream(stream: Any) -> str:
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    return f"{stream.index}: {stream.type} {codec}".rstrip()
