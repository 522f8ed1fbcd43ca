"""From places to pixels without decoding everything, with PyAV (FFmpeg): the reference.

Each group of pictures that holds a wanted frame is decoded from its own start to the last frame
wanted in it, less what nothing wanted depends on. Where packets are in memory there is no seek that
could land elsewhere. Groups do not depend on each other, so several decoders share them out: that
keeps all cores busy where FFmpeg's own threads, which have to wait for one another inside a group
and stop at its end, keep one and a half.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data.cores import available_cores
from data.video.pyav.container import Container, said
from data.video.pyav.packets import CLOSED, NOWHERE
from data.video.pyav.sequential import Gathered, Look, Places, SizeChange, decoder_options, upright

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

# A thread costs a millisecond to start and a little at each frame: no fewer pixels are worth it.
PIXELS_WORTH_A_THREAD = 2_000_000
# What FFmpeg's second thread, and each beyond it, adds to the speed of the first.
THREAD_GAIN = 0.5

FIELDS = "its fields may be packets of their own"


class Unexpected(Exception):
    """Random access did not give what the index promised; a full decode has to tell."""


def by_index(container: Container, gathered: Gathered) -> Look:
    """Decode the wanted frames, and of the others only what they depend on.

    Raises Unexpected unless each comes out sound, once, in order, with the timestamp asked for.
    """
    from av.video.reformatter import VideoReformatter

    index = container.index
    places = np.array(sorted(gathered.slots), np.int64)
    wanted = index.order[places]
    fed = ~index.droppable
    fed[wanted] = True
    stretches = [
        start + np.flatnonzero(fed[start : last + 1])
        for start, last in runs(index.pts, index.entry, np.sort(wanted))
    ]
    place_of = dict(zip(index.pts[wanted].tolist(), places.tolist(), strict=True))
    plan = planned(container, [len(stretch) for stretch in stretches])
    looks: list[Look | None] = [None] * len(stretches)
    with ExitStack() as opened:
        lanes = [container]
        lanes += [opened.enter_context(container.reopened(quick=True)) for _ in plan.shares[1:]]
        source = opened.enter_context(_Source(container))

        def decode(lane: Container, share: list[int]) -> None:
            _use_threads(lane, plan.threads)
            convert = VideoReformatter()
            for number in share:
                packets = (source.packet(n) for n in stretches[number].tolist())
                looks[number] = _decoded(lane, packets, place_of, gathered, convert)

        if len(lanes) == 1:
            decode(container, plan.shares[0])
        else:
            with ThreadPoolExecutor(len(lanes)) as pool:
                list(pool.map(decode, lanes, plan.shares))
    if len(gathered.filled) != len(places):
        raise Unexpected(f"{len(gathered.filled)} of {len(places)} frames come out")
    first, *others = [look for look in looks if look is not None]
    for look in others:
        first.add(look)
    return first


def _decoded(
    lane: Container,
    packets: Iterable[Packet[VideoStream]],
    place_of: dict[int, int],
    gathered: Gathered,
    convert: VideoReformatter,
) -> Look:
    """Decode one stretch from its start; of its frames those of `place_of` are kept."""
    import av

    context, look = lane.stream.codec_context, Look()
    context.options = decoder_options(lane, strict=True)
    latest: int | None = None
    try:
        for packet in (*packets, None):
            for frame in context.decode(packet):
                if frame.pts is None or (latest is not None and frame.pts <= latest):
                    raise Unexpected("frames come out in another order than their timestamps")
                latest = frame.pts
                if (place := place_of.get(latest)) is None:
                    continue
                if frame.is_corrupt or place in gathered.filled:
                    raise Unexpected("a frame comes out corrupt, or twice")
                if frame.interlaced_frame:
                    raise Unexpected(FIELDS)
                look.at(frame)
                gathered.put(place, upright(frame, lane.path, convert))
        context.flush_buffers()
    except (av.error.FFmpegError, MemoryError) as error:
        raise Unexpected(said(error)) from None
    except SizeChange:
        raise Unexpected("its frames change size") from None
    return look


class _Source:
    """Packets by number, in growing order: from memory, or read again from a large file."""

    def __init__(self, container: Container):
        self.index = container.index
        self.again = container.reopened(quick=True) if self.index.packets is None else None
        self.numbered = enumerate(self.again.packets()) if self.again else iter(())

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.again is not None:
            self.again.input.close()

    def packet(self, number: int) -> Packet[VideoStream]:
        if self.index.packets is not None:
            return self.index.packets[number]
        for n, packet in self.numbered:
            if n == number and packet.pts == self.index.pts[n]:
                return packet
            if n >= number:
                break
        raise Unexpected("the file reads differently the second time")


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
        while out and start <= out[-1][1]:
            start = min(start, out.pop()[0])
        out.append((start, n))
    return out


@dataclass(frozen=True)
class Plan:
    """Which decoder takes which stretches, in growing order; `threads` of FFmpeg's in each."""

    shares: list[list[int]]
    threads: int


def planned(container: Container, lengths: list[int]) -> Plan:
    """How to decode stretches of so many frames soonest.

    One decoder with threads of FFmpeg's own, or several decoders with fewer threads each: the
    longest share decides. Only files that open quickly, and whose packets are in memory, are given
    to several.
    """
    context = container.stream.codec_context
    everything = [list(range(len(lengths)))]
    cores = container.threads or available_cores()
    worth = sum(lengths) * context.width * context.height // PIXELS_WORTH_A_THREAD
    if min(cores, worth) < 2:
        return Plan(everything, 1)
    best = Plan(everything, container.threads)
    soonest = sum(lengths) / (1 + THREAD_GAIN * (cores - 1))
    if container.quick and container.index.packets is not None:
        count = min(cores, worth, len(lengths))
        while count > 1:
            shares, threads = shared_out(lengths, count), cores // count
            longest = max(sum(lengths[n] for n in share) for share in shares)
            if (ends := longest / (1 + THREAD_GAIN * (threads - 1))) < soonest:
                best, soonest = Plan(shares, threads), ends
            count //= 2
    return best


def shared_out(lengths: list[int], count: int) -> list[list[int]]:
    """The numbers of `lengths` in `count` shares of nearly equal sums, each in growing order."""
    shares: list[list[int]] = [[] for _ in range(count)]
    sums = [(0, share) for share in range(count)]
    for number in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        total, least = sums[0]
        shares[least].append(number)
        heapq.heapreplace(sums, (total + lengths[number], least))
    return [sorted(share) for share in shares]


def _use_threads(lane: Container, threads: int) -> None:
    context = lane.stream.codec_context
    if not context.is_open:
        context.thread_count = threads
