"""Random access with PyAV (FFmpeg): the frames at some indices without decoding everything.

Each group of pictures that holds a wanted frame is decoded from its start to the last frame wanted
in it, without the packets that no wanted frame depends on. Where packets are in memory there is no
seek that could land on another frame. Groups do not depend on each other, so several decoders share
them: that uses all cores, whereas FFmpeg's own threads, which wait for one another inside a group
and stop at its end, use one and a half.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from data.cores import available_cores
from data.video.frames import FrameIndices, Frames
from data.video.pyav.container import TIMED_FORMATS, Container, decoder_options, slice_threads
from data.video.pyav.frame_buffer import FrameBuffer, FrameSizeChanged, StreamFacts, to_rgb
from data.video.pyav.packet_index import NO_TIME, PacketIndex, unpacked
from data.video.pyav.packets import CLOSED_ENTRY, NO_ENTRY, OPEN_ENTRY
from data.video.pyav.sniffing import ffmpeg_reason

if TYPE_CHECKING:
    from av import VideoFrame
    from av.packet import Packet
    from av.video.stream import VideoStream

# A thread takes a millisecond to start and a little at each frame: it is not used for fewer pixels.
MIN_PIXELS_PER_THREAD = 2_000_000
# What FFmpeg's second thread, and each further one, adds to the speed of the first.
THREAD_GAIN = 0.5

# Fewer packets than this are read and left rather than sought past.
WORTH_A_SEEK = 300

# So many packets hold all pictures that H.264 can refer to: 16 frames, each of two fields.
RUN_IN_PACKETS = 34

_TAKEN = -1  # in place of the index of a frame that has come

FIELDS_REASON = "a field may be a packet of its own"


class SeekMismatch(Exception):
    """Random access did not give what the index promised; a full decode has to decide.

    `lost` are the indices, in a stream, of the frames of its segment that have not come.
    """

    lost: tuple[int, ...] = ()


def decode_by_seeking(container: Container, buffer: FrameBuffer) -> StreamFacts:
    """Decode the frames of `buffer`, and of the others only those they depend on.

    Returns:
        What the decoded frames tell about the stream.

    Raises:
        SeekMismatch: A frame is damaged, missing, repeated, out of order or of another time.
    """
    from av.video.reformatter import VideoReformatter

    packet_index = container.packet_index
    indices = np.array(sorted(buffer.positions), np.int64)
    wanted = packet_index.order[indices]
    in_file = np.sort(wanted)
    segments = find_segments(packet_index, in_file, run_in=container.runs_in)
    needed = [_needed(packet_index, in_file, segment) for segment in segments]
    index_of_pts = dict(zip(packet_index.clock[wanted].tolist(), indices.tolist(), strict=True))
    plan = plan_decoders(container, [len(numbers) for numbers in needed])
    facts: list[StreamFacts | None] = [None] * len(segments)
    with ExitStack() as opened:
        decoders = [container]
        for _ in plan.shares[1:]:
            decoders.append(opened.enter_context(container.reopened(quick=True)))
        source = opened.enter_context(_PacketSource(container))

        def decode(decoder: Container, share: list[int]) -> None:
            _set_threads(decoder, plan.threads, fields=packet_index.fields)
            reformatter = VideoReformatter()
            for number in share:
                packets = (source.packet(n) for n in needed[number].tolist())
                run_in = RunIn.of(packet_index, segments[number], needed[number])
                facts[number] = found = StreamFacts()
                try:
                    for index, frame in _segment_frames(
                        decoder,
                        packets,
                        index_of_pts,
                        found,
                        run_in,
                        packet_index,
                    ):
                        buffer.store(index, to_rgb(frame, decoder.path, reformatter))
                except FrameSizeChanged:
                    raise SeekMismatch("its frame size changes") from None
                except MemoryError as error:
                    raise SeekMismatch(ffmpeg_reason(error)) from None

        if len(decoders) == 1:
            decode(container, plan.shares[0])
        else:
            with ThreadPoolExecutor(len(decoders)) as pool:
                list(pool.map(decode, decoders, plan.shares))
    if not buffer.complete:
        raise SeekMismatch(f"{len(buffer.filled)} of {len(indices)} frames are decoded")
    merged, *later = [segment_facts for segment_facts in facts if segment_facts is not None]
    for segment_facts in later:
        merged.merge(segment_facts)
    return merged


def stream_by_seeking(
    container: Container, indices: FrameIndices, facts: StreamFacts
) -> Iterator[tuple[int, Frames]]:
    """Yield the frames at growing `indices` one after the other, each decoded once.

    Memory holds one frame. What was yielded before an error is right; after it the frames beyond
    those that the error names can be asked for.

    Args:
        container: The open file.
        indices: Indices of shown frames, each larger than the one before it.
        facts: What the decoded frames tell about the stream is added.

    Raises:
        SeekMismatch: As for `decode_by_seeking`.
    """
    from av.video.reformatter import VideoReformatter

    packet_index, reformatter = container.packet_index, VideoReformatter()
    numbers = packet_index.order[indices]
    in_file = np.argsort(numbers)
    wanted = numbers[in_file]
    _set_threads(container, container.threads, fields=packet_index.fields)
    newest = -1
    with _PacketSource(container) as source:
        for segment in find_segments(packet_index, wanted, run_in=container.runs_in):
            begin, end = np.searchsorted(wanted, [segment.first, segment.last + 1])
            numbers = _needed(packet_index, wanted[begin:end], segment)
            run_in = RunIn.of(packet_index, segment, numbers)
            times = packet_index.clock[wanted[begin:end]].tolist()
            index_of_pts = dict(zip(times, indices[in_file[begin:end]].tolist(), strict=True))
            packets = (source.packet(n) for n in numbers.tolist())
            waiting = sorted(index_of_pts.values())
            try:
                for index, frame in _segment_frames(
                    container,
                    packets,
                    index_of_pts,
                    facts,
                    run_in,
                    packet_index,
                ):
                    if index <= newest or index != waiting[0]:
                        raise SeekMismatch("a frame is missing, or in another order")
                    newest = index
                    yield index, to_rgb(frame, container.path, reformatter)
                    del waiting[0]
                if waiting:
                    raise SeekMismatch(f"{len(waiting):,} frames do not come")
            except SeekMismatch as mismatch:
                mismatch.lost = tuple(waiting)
                raise


def _segment_frames(
    decoder: Container,
    packets: Iterable[Packet[VideoStream]],
    index_of_pts: dict[int, int],
    facts: StreamFacts,
    run_in: RunIn,
    packet_index: PacketIndex,
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode one segment from its start; yield those of its frames that are wanted, with indices.

    Each adds to `facts`, and is `_TAKEN` in `index_of_pts` from then on.
    """
    import av

    context = decoder.stream.codec_context
    context.options = decoder_options(decoder, packet_index, strict=True)
    latest: int | None = None
    try:
        for number, packet in enumerate((*packets, None)):
            try:
                frames = context.decode(packet)
            except av.error.FFmpegError:
                if number >= run_in.packets:
                    raise
                continue
            for frame in frames:
                if run_in.packets and (frame.pts is None or frame.pts < run_in.until):
                    continue
                if frame.pts is None or (latest is not None and frame.pts <= latest):
                    raise SeekMismatch("frames are decoded in another order than their timestamps")
                latest = frame.pts
                if (index := index_of_pts.get(latest)) is None:
                    continue
                if frame.is_corrupt or index == _TAKEN:
                    raise SeekMismatch("a frame is corrupt, or decoded twice")
                index_of_pts[latest] = _TAKEN
                if frame.interlaced_frame and not packet_index.whole:
                    raise SeekMismatch(FIELDS_REASON)
                facts.add_frame(frame)
                yield index, frame
    except (av.error.FFmpegError, MemoryError) as error:
        raise SeekMismatch(ffmpeg_reason(error)) from None
    finally:
        context.flush_buffers()


class _PacketSource:
    """Packets by number, in growing order: from memory, from their places, or read again."""

    def __init__(self, container: Container) -> None:
        self.container, self.packet_index = container, container.packet_index
        self.reopened: Container | None = None
        self.file: int | None = None
        if self.packet_index.samples is not None:
            self.file = os.open(container.path, os.O_RDONLY)
        elif self.packet_index.packets is None:
            self.reopened = container.reopened(quick=True)
        self.numbered = self._all_packets()
        self.read = -1  # the number of the packet that was read last
        # Matroska stores the time of each packet, so that it is the same after a seek.
        matroska = container.input.format.name == TIMED_FORMATS[1]
        self.may_seek = matroska and not self.packet_index.packed

    def __enter__(self) -> _PacketSource:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.reopened is not None:
            self.reopened.input.close()
        if self.file is not None:
            os.close(self.file)

    def packet(self, number: int) -> Packet[VideoStream]:
        """Return a packet, its time the index's clock."""
        packet = self._packet(number)
        if self.packet_index.rank is not None:
            packet.pts = int(self.packet_index.rank[number])
        return packet

    def _packet(self, number: int) -> Packet[VideoStream]:
        if self.packet_index.packets is not None:
            return self.packet_index.packets[number]
        if self.packet_index.samples is not None and self.file is not None:
            try:
                stream = self.container.stream
                return self.packet_index.samples.packet(self.file, number, stream)
            except OSError as error:
                raise SeekMismatch(f"a packet cannot be read ({error})") from None
        if number > self.read + WORTH_A_SEEK and self.may_seek:
            self._seek(number)
        for n, packet in self.numbered:
            self.read = n
            if n == number and self._has_time(packet, n):
                return packet
            if n >= number:
                break
        raise SeekMismatch("reading the file again gives other packets")

    def _has_time(self, packet: Packet[VideoStream], number: int) -> bool:
        if self.packet_index.second[number]:  # which has the time of the first field here
            return True
        time = NO_TIME if packet.pts is None else packet.pts
        return time == int(self.packet_index.pts[number])

    def _seek(self, number: int) -> None:
        """Go on at a packet near `number` and not after it, which is known by its time."""
        import av

        pts, reopened = self.packet_index.pts, self.reopened
        assert reopened is not None
        with suppress(av.error.FFmpegError):
            reopened.input.seek(int(pts[number]), stream=reopened.stream)
            packets = reopened.packets()
            first = next(packets, None)
            if first is not None:
                found = np.flatnonzero(pts == first.pts).tolist()
                if len(found) == 1 and self.read < found[0] <= number:
                    self.numbered = chain([(found[0], first)], enumerate(packets, found[0] + 1))
                    return
        self.may_seek = False
        reopened.input.close()
        self.reopened = self.container.reopened(quick=True)
        self.numbered = self._all_packets()

    def _all_packets(self) -> Iterator[tuple[int, Packet[VideoStream]]]:
        """Return the packets that are read again, from the first on, with their numbers."""
        if self.reopened is None:
            return iter(())
        packets = self.reopened.packets()
        if self.packet_index.packed:
            packets = unpacked(packets, self.reopened.stream)
        return enumerate(packets)


class Segment(NamedTuple):
    """Packets that are decoded one after the other.

    Attributes:
        begin: The number of the first one.
        first: The number of the start from which on frames may be wanted; those before it only
            leave the decoder as a decode from the start does.
        last: The number of the last one.
    """

    begin: int
    first: int
    last: int


class RunIn(NamedTuple):
    """How much of a segment comes before its first frame.

    Attributes:
        packets: How many of its packets, in which faults are no damage.
        until: The time of the first frame.
    """

    packets: int
    until: int

    @classmethod
    def of(
        cls, packet_index: PacketIndex, segment: Segment, needed: npt.NDArray[np.int64]
    ) -> RunIn:
        """Return that of a segment of which the packets `needed` are decoded."""
        packets = int(np.searchsorted(needed, segment.first))
        return cls(packets, int(packet_index.clock[segment.first]))


def _needed(
    packet_index: PacketIndex, wanted: npt.NDArray[np.int64], segment: Segment
) -> npt.NDArray[np.int64]:
    """Return the packets of a segment, int64, without those that no packet `wanted` depends on.

    Args:
        packet_index: The packets.
        wanted: int64, packet numbers in growing order, also of other segments.
        segment: The segment.
    """
    begin, end = segment.begin, segment.last + 1
    needed = ~packet_index.droppable[begin:end]
    inside = np.searchsorted(wanted, [begin, end])
    needed[wanted[inside[0] : inside[1]] - begin] = True
    second = np.flatnonzero(packet_index.second[begin:end])
    needed[second] = needed[second - 1]
    return begin + np.flatnonzero(needed)


def find_segments(
    packet_index: PacketIndex, wanted: npt.NDArray[np.int64], *, run_in: bool = False
) -> list[Segment]:
    """Return the segments to decode for the packets `wanted`.

    Args:
        packet_index: The packets.
        wanted: int64, packet numbers in growing order, none of a second field.
        run_in: Begin before an open start, so early that no picture before it is missed.
    """
    pts, entry, second = packet_index.clock, packet_index.entry, packet_index.second
    entries = np.flatnonzero(entry != NO_ENTRY)
    segments: list[Segment] = []
    for number in wanted.tolist():
        first = 0
        # Nearly always the nearest entry is the one.
        for position in range(int(np.searchsorted(entries, number, side="right")) - 1, -1, -1):
            candidate = int(entries[position])
            if entry[candidate] == CLOSED_ENTRY or pts[number] >= pts[candidate]:
                first = candidate
                break
        begin = first
        if run_in and entry[first] == OPEN_ENTRY:
            before = entries[entries < first]
            enough = (before <= first - RUN_IN_PACKETS) | (entry[before] == CLOSED_ENTRY)
            begin = int(before[enough][-1]) if enough.any() else 0
        while segments and begin <= segments[-1].last:
            begin, first = min((begin, first), segments.pop()[:2])
        last = number + int(number + 1 < len(second) and second[number + 1])
        segments.append(Segment(begin, first, last))
    return segments


@dataclass(frozen=True)
class DecodePlan:
    """How segments are decoded.

    Attributes:
        shares: For each decoder, the numbers of its segments in growing order.
        threads: FFmpeg's threads in each decoder.
    """

    shares: list[list[int]]
    threads: int


def plan_decoders(container: Container, lengths: list[int]) -> DecodePlan:
    """Return the fastest way to decode segments of `lengths` frames.

    Either one decoder with FFmpeg's own threads, or several decoders with fewer threads each; the
    longest share decides. Several decoders are used only for files that open quickly and whose
    packets are in memory.
    """
    context = container.stream.codec_context
    all_segments = [list(range(len(lengths)))]
    cores = container.threads or available_cores()
    pixels = sum(lengths) * context.width * context.height
    useful_threads = pixels // MIN_PIXELS_PER_THREAD
    if min(cores, useful_threads) < 2:
        return DecodePlan(all_segments, 1)
    best = DecodePlan(all_segments, container.threads)
    shortest = sum(lengths) / (1 + THREAD_GAIN * (cores - 1))
    if container.quick and container.packet_index.at_hand:
        count = min(cores, useful_threads, len(lengths))
        while count > 1:
            shares, threads = balance(lengths, count), cores // count
            longest = max(sum(lengths[n] for n in share) for share in shares)
            if (duration := longest / (1 + THREAD_GAIN * (threads - 1))) < shortest:
                best, shortest = DecodePlan(shares, threads), duration
            count //= 2
    return best


def balance(lengths: list[int], count: int) -> list[list[int]]:
    """Divide the positions of `lengths` into `count` sorted shares of nearly equal sums."""
    shares: list[list[int]] = [[] for _ in range(count)]
    sums = [(0, share) for share in range(count)]
    for number in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        total, smallest = sums[0]
        shares[smallest].append(number)
        heapq.heapreplace(sums, (total + lengths[number], smallest))
    return [sorted(share) for share in shares]


def _set_threads(decoder: Container, threads: int, *, fields: bool) -> None:
    context = decoder.stream.codec_context
    if not context.is_open:
        # In several threads a field alone would count as a frame, or as an error.
        context.thread_count = 1 if fields else slice_threads(context, threads)
