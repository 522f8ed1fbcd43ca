"""From packet numbers to pixels: the decoders, of which PyAV (FFmpeg) is the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data.bitstream import CLOSED, NOWHERE
from data.container import Container
from data.frames import VideoError

if TYPE_CHECKING:
    from av import VideoFrame

Frames = npt.NDArray[np.uint8]


@dataclass
class Pass:
    """What one sequential decode of the whole stream showed.

    pts: one entry per shown frame, in the decoder's order; None where it has no time.
    """

    pts: list[int | None] = field(default_factory=list)
    failed: int = 0
    corrupt: int = 0
    interlaced: int = 0


def upright(frame: VideoFrame, path: object) -> Frames:
    """RGB of one frame, turned by its display matrix: uint8 (H, W, 3)."""
    rgb = frame.to_ndarray(format="rgb24")
    matrix = display_matrix(frame)
    if matrix is None:
        return rgb
    a, b, c, d = (int(np.sign(x)) if abs(x) > 655 else 0 for x in matrix)
    if (a, d) == (0, 0) and b and c:
        rgb = rgb.transpose(1, 0, 2)
        across, down = c, b
    elif (b, c) == (0, 0) and a and d:
        across, down = a, d
    else:
        raise VideoError(str(path), "its display matrix turns by no right angle")
    return rgb[::down, ::across]


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """(a, b, c, d) of the frame's display matrix, 16.16 fixed point; None where it has none.

    A point (x, y) of the stored picture is displayed at (a x + c y, b x + d y).
    """
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            m = np.frombuffer(bytes(data), np.int32)
            return int(m[0]), int(m[1]), int(m[3]), int(m[4])
    return None


class Unexpected(Exception):
    """A decode by random access that did not give what the index promised."""


def _decoded(container: Container, packet: object) -> Iterator[VideoFrame]:
    yield from container.stream.codec_context.decode(packet)  # type: ignore[arg-type]


def by_index(container: Container, wanted: npt.NDArray[np.int64]) -> dict[int, Frames]:
    """Decode the packets `wanted` (sorted, distinct numbers) and as few others as that takes.

    Raises Unexpected unless every frame comes out sound, once, with the timestamp asked for.
    """
    import av

    index, context = container.index, container.stream.codec_context
    if index.packets is None:
        raise Unexpected("too large to keep in memory")
    number_of = {int(index.pts[n]): int(n) for n in wanted}
    out: dict[int, Frames] = {}

    def keep(frames: list[VideoFrame]) -> None:
        for frame in frames:
            n = None if frame.pts is None else number_of.get(frame.pts)
            if n is None:
                continue
            if frame.is_corrupt or n in out:
                raise Unexpected("a frame came out corrupt or twice")
            out[n] = upright(frame, container.path)

    try:
        for start, chosen in runs(index.pts, index.entry, wanted):
            members = set(chosen)
            for n in range(start, chosen[-1] + 1):
                if n in members or not index.droppable[n]:
                    keep(context.decode(index.packets[n]))
            keep(context.decode(None))
            context.flush_buffers()
    except av.error.FFmpegError as error:
        raise Unexpected(str(error)) from None
    if len(out) != len(wanted):
        raise Unexpected(f"{len(out)} of {len(wanted)} frames came out")
    return out


def runs(
    pts: npt.NDArray[np.int64], entry: npt.NDArray[np.int8], wanted: npt.NDArray[np.int64]
) -> list[tuple[int, list[int]]]:
    """(first packet to decode, wanted packets) of each stretch that one start serves."""
    starts = np.flatnonzero(entry != NOWHERE)
    out: list[tuple[int, list[int]]] = []
    for n in wanted.tolist():
        at = 0
        for start in starts[: np.searchsorted(starts, n, side="right")][::-1].tolist():
            if entry[start] == CLOSED or pts[n] >= pts[start]:
                at = start
                break
        if out and at <= out[-1][1][-1]:
            out[-1][1].append(n)
        else:
            out.append((at, [n]))
    return out


def one_pass(
    container: Container, places: npt.NDArray[np.int64] | None = None
) -> tuple[Pass, dict[int, Frames]]:
    """Decode everything in order, as FFmpeg does; keep the frames at `places`."""
    import av

    fresh = container.reopened()
    keep = set() if places is None else set(places.tolist())
    result, out = Pass(), {}
    with fresh:
        packets = fresh.input.demux(fresh.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (av.error.FFmpegError, MemoryError):
                result.failed += 1
                break
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, MemoryError):
                result.failed += 1
                continue
            for frame in frames:
                if len(result.pts) in keep:
                    out[len(result.pts)] = upright(frame, container.path)
                result.pts.append(frame.pts)
                result.corrupt += frame.is_corrupt
                result.interlaced += frame.interlaced_frame
    return result, out
