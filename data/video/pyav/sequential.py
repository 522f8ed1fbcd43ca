"""The full decode: every frame from the start, with PyAV (FFmpeg)."""

from __future__ import annotations

from contextlib import suppress

from data.video.frames import LimitExceeded
from data.video.pyav.container import Container, decoder_options
from data.video.pyav.frame_buffer import FrameBuffer, FullDecode, StreamFacts, to_rgb


def decode_fully(
    container: Container, buffer: FrameBuffer | None = None, *, strict: bool = False
) -> FullDecode:
    """Decode in order: everything, or up to the last frame that `buffer` wants.

    Indices count the frames in the order that FFmpeg shows them.

    Frames in several threads are not used: what is concealed, and what is counted, would depend on
    how many, and at damage FFmpeg's threads now and then wait for ever.

    Args:
        container: The open file; it is opened again for this.
        buffer: Where frames are stored.
        strict: Count as failures what FFmpeg would conceal. Without it this is exactly PyAV's own
            decode.

    Raises:
        VideoError: There are more frames than the limit, or a frame does not fit the buffer.
    """
    import av
    from av.video.reformatter import VideoReformatter

    result, wanted = FullDecode(), set() if buffer is None else set(buffer.positions)
    reformatter = VideoReformatter()
    with container.reopened(quick=False) as fresh:
        context, packets = fresh.stream.codec_context, fresh.packets()
        context.options = decoder_options(fresh, strict=strict)
        context.thread_type = "SLICE"
        finished, number = False, -1
        while not finished and not (buffer is not None and buffer.complete):
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
                if buffer is not None and index in wanted:
                    buffer.store(index, to_rgb(frame, container.path, reformatter))
    return result


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
