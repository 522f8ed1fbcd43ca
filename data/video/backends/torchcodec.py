"""torchcodec, where it is installed: on the CPU, or on a GPU that decodes as the CPU does.

It is not used on a file where it counts other frames than the reference's index or gives them other
times, and one frame of each batch is compared with the reference's, pixel by pixel.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from data.video.backends.base import Backend
from data.video.backends.crosscheck import CannotAgree, check_one_frame, check_times
from data.video.frames import FrameIndices, Frames
from data.video.pyav import DecodeSession, file_url


def read_frames(session: DecodeSession, indices: FrameIndices, device: str) -> Frames:
    """Return the frames at `indices`, uint8 (T, H, W, 3), decoded on `device`.

    Args:
        session: The open file.
        indices: int64 (T,).
        device: `cpu`, `cuda`, or `auto`: the GPU if there is one that decodes as the CPU does.

    Raises:
        CannotAgree: It shows other frames than the reference, or cannot be used here.
    """
    path, codec = session.container.path, session.container.stream.codec_context.codec
    session.check_indices(indices)
    decord_first = "decord" in sys.modules and "torchcodec" not in sys.modules
    ticks = session.pts()
    if None in ticks or bool((np.diff(np.array(ticks, np.int64)) <= 0).any()):
        # It finds frames by their times: of two with one time it takes either.
        raise CannotAgree(path, "torchcodec is not used on frames without a time of their own")
    if codec.canonical_name == "av1" and decord_first:
        # Measured: it takes decord's copy of the AV1 decoder for its own, and crashes.
        raise CannotAgree(path, "torchcodec cannot read AV1 once decord is loaded")
    try:
        from torchcodec.decoders import VideoDecoder  # first: torch takes long, and it is rare
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise CannotAgree(path, f"torchcodec cannot be used here: {reason}") from None
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise CannotAgree(path, "there is no CUDA device for torchcodec to decode on")
    if device == "auto" and torch.cuda.is_available():
        try:
            return _decode(session, indices, VideoDecoder, "cuda")
        except CannotAgree:
            pass  # the GPU does not decode this codec, or not as the CPU does
    return _decode(session, indices, VideoDecoder, "cuda" if device == "cuda" else "cpu")


def _decode(
    session: DecodeSession, indices: FrameIndices, decoder_class: Any, device: str
) -> Frames:
    path = session.container.path
    try:
        video = decoder_class(
            file_url(path),
            stream_index=session.container.stream.index,
            dimension_order="NHWC",
            num_ffmpeg_threads=session.container.threads,
            device=device,
        )
        if len(video) != session.shown_frames:
            raise CannotAgree(
                path, f"torchcodec shows {len(video):,} frames, not {session.shown_frames:,}"
            )
        batch = video.get_frames_at(indices.tolist())
        first = video.get_frame_at(0).pts_seconds
        times = batch.pts_seconds.cpu().numpy().astype(np.float64) - first
        frames = np.ascontiguousarray(batch.data.cpu().numpy())
    except (RuntimeError, IndexError, ValueError) as error:
        message = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise CannotAgree(path, f"torchcodec fails: {message}") from None
    check_times(session, "torchcodec", times, indices)
    return check_one_frame(session, indices, frames, f"torchcodec ({device})")


def versions() -> dict[str, Any]:
    """Return the version of torchcodec."""
    import torchcodec

    return {"version": torchcodec.__version__}


BACKEND = Backend(
    name="torchcodec",
    read=read_frames,
    versions=versions,
    packages=("torchcodec",),
    devices=("cpu", "cuda"),
)
