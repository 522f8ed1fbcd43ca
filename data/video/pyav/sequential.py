"""The full decode: every frame from the start, with PyAV (FFmpeg)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from data.video.frames import FrameIndices, Frames, LimitExceeded, VideoError
from data.video.pyav.container import Container, decoder_options
from data.video.pyav.frame_buffer import FrameBuffer, FullDecode, StreamFacts, to_rgb

if TYPE_CHECKING:
    from av import VideoFrame


def decode_fully(
    container: Container, buffer: FrameBuffer | None = None, *, strict: bool = False
) -> FullDecode:
    """Decode in order, as `decoded_frames` does: everything, or up to what `buffer` wants last.

    Args:
        container: The open file; it is opened again for this.
        buffer: Where frames are stored.
        strict: As for `decoded_frames`.

    Raises:
        VideoError: There are more frames than the limit, or a frame does not fit the buffer.
    """
    from av.video.reformatter import VideoReformatter

    result, wanted = FullDecode(), set() if buffer is None else set(buffer.positions)
    reformatter = VideoReformatter()
    for index, frame in decoded_frames(container, result, strict=strict):
        if buffer is not None and index in wanted:
            buffer.store(index, to_rgb(frame, container.path, reformatter))
            if buffer.complete:
                break
    return result


def stream_fully(
    container: Container, indices: FrameIndices, facts: StreamFacts, *, strict: bool
) -> Iterator[tuple[int, Frames]]:
    """Yield the frames at growing `indices` of a decode from the start, one after the other.

    Memory holds one frame.

    Args:
        container: The open file; it is opened again for this.
        indices: Indices of shown frames, each larger than the one before it.
        facts: What the decoded frames tell about the stream is added.
        strict: As for `decoded_frames`.

    Raises:
        VideoError: A frame does not come.
    """
    from av.video.reformatter import VideoReformatter

    reformatter, wanted = VideoReformatter(), iter(indices.tolist())
    awaited = next(wanted, None)
    if awaited is None:
        return
    for index, frame in decoded_frames(container, FullDecode(facts=facts), strict=strict):
        if index == awaited:
            yield index, to_rgb(frame, container.path, reformatter)
            awaited = next(wanted, None)
            if awaited is None:
                return
    raise VideoError(container.path, "it gives other frames each time it is decoded")


def decoded_frames(
    container: Container, result: FullDecode, *, strict: bool
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield every frame in the order in which FFmpeg shows them, with its index.

    Frames in several threads are not used: what is concealed, and what is counted, would depend on
    how many, and at damage FFmpeg's threads now and then wait for ever.

    Args:
        container: The open file; it is opened again for this.
        result: What is found; it is up to date at each frame.
        strict: Count as failures what FFmpeg would conceal. Without it this is exactly PyAV's own
            decode.

    Raises:
        VideoError: There are more frames than the limit.
    """
    import av

    with container.reopened(quick=False) as fresh:
        context, packets = fresh.stream.codec_context, fresh.packets()
        context.options = decoder_options(fresh, container.packet_index, strict=strict)
        context.thread_type = "SLICE"
        if container.packet_index.fields:
            context.thread_count = 1  # with more, a field still to come counts as an error
        finished, number = False, -1
        while not finished:
            number += 1
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, MemoryError):
                packet = None
                result.failures.append(number)
            finished = packet is None
            try:
                frames = context.decode(packet)
            except (av.error.FFmpegError, MemoryError):
                result.failures.append(number)
                continue
            for frame in frames:
                index = len(result.pts)
                if index == container.limits.frames:
                    reason = f"more than {index:,} frames, the limit"
                    raise LimitExceeded(container.path, reason, "--max-duration")
                result.pts.append(frame.pts)
                if frame.is_corrupt:
                    result.corrupt.append(frame.pts)
                result.facts.add_frame(frame)
                yield index, frame


def first_facts(container: Container) -> StreamFacts:
    """Return what the first frame tells that can be decoded; nothing where that fails."""
    import av

    facts = StreamFacts()
    with container.reopened(quick=False) as fresh, suppress(av.error.FFmpegError, MemoryError):
        fresh.stream.codec_context.thread_type = "SLICE"
        for packet in fresh.packets():
            for frame in fresh.stream.codec_context.decode(packet):
                facts.add_frame(frame)
                return facts
    return facts
