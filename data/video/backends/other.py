"""The decoders beside the reference: decord, and torchcodec where it is installed.

Neither is believed. Which frames a file shows, and when, is what the reference's index says; a
decoder that counts others, or dates them otherwise, is refused for that file, and one frame of each
batch is compared with the reference's, pixel by pixel.

decord, measured here (decord 0.6.0 and decord2 3.4.0, against a full decode by PyAV 18.1): on H.264
and HEVC of 8 bits with closed groups of pictures in MP4 and Matroska its pixels are the
reference's. It silently returns *other* frames, some far away, where groups are open (x264
`open-gop`, and what x265 makes by default), on intra refresh, MPEG-4 with B-frames, MPEG-2 and
transport streams; it shows what edit lists hide; and its pixels of 10 bit, interlaced and tiny
pictures are wrong. `_suits_decord` leaves only what was right.

decord or decord2? They share one import name and nearly all of that behaviour, wrong frames
included. decord2 reads AV1 (decord 0.6.0 does not), has wheels for Linux on ARM, where decord 0.6.0
(2021) has none, is maintained, and is a little faster; of what decord got right it got one file
wrong, an AVI that is refused here anyway. Either works; the one to depend on is decord2. Never
install both.

Both can spin for ever inside native code (dmlc/decord issues 373 and 375): read files of unknown
origin through `data.sandbox.DecoderPool`.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from data.video.frames import VideoError
from data.video.pyav import NOWHERE, OPEN, TIMED_FORMATS, Frames, Places, Reading

DEVICES = ("auto", "cpu", "cuda")  # where torchcodec may decode
GREY_LEVELS = 2  # how far apart the pixels of two decoders may be


class CannotAgree(VideoError):
    """A decoder that cannot, or would not, return the frames that the reference returns."""


def largest_difference(a: Frames, b: Frames) -> int:
    """The largest difference of two pixels; 256 where the shapes differ."""
    if a.shape != b.shape:
        return 256
    return int((np.maximum(a, b) - np.minimum(a, b)).max(initial=0))


def decord_frames(reading: Reading, places: Places) -> Frames:
    """uint8 (T, H, W, 3) by decord; CannotAgree where it is not known to be right."""
    path = reading.container.path
    reading.check(places)
    if why := _suits_decord(reading):
        raise CannotAgree(path, f"decord is not used on {why}")
    try:
        from decord import DECORDError, VideoReader
    except ImportError as error:
        raise CannotAgree(path, f"decord is not installed ({error})") from None
    try:
        video = VideoReader(str(path), num_threads=reading.container.threads)
        times = video.get_frame_timestamp(range(len(video)))[:, 0].astype(np.float64)
        _same_times(reading, "decord", times - times[:1])
        frames = video.get_batch(places).asnumpy() if len(places) else reading.frames(places)
    except DECORDError as error:
        # Without the time of day, and the line of its code.
        words = re.sub(r"^\[[\d:]+\] \S+: ", "", str(error).strip())
        raise CannotAgree(path, f"decord fails: {words.splitlines()[0][:200]}") from None
    return _spot_checked(reading, places, frames, "decord")


def _suits_decord(reading: Reading) -> str | None:
    """What speaks against decord for this file; None where nothing does."""
    container, index = reading.container, reading.container.index
    if container.input.format.name not in TIMED_FORMATS:
        return f"the format {container.input.format.name}"
    if not reading.placed_by_index:
        return f"a stream that is decoded whole ({index.doubt or reading.unexpected or 'damage'})"
    if bool(index.hidden.any()):
        return "a stream with hidden frames"
    if bool((index.entry == OPEN).any()):
        return "open groups of pictures"
    if bool((index.key & (index.entry == NOWHERE)).any()):
        return "keyframes that decoding cannot start from"
    return None


def torchcodec_frames(reading: Reading, places: Places, *, device: str = "auto") -> Frames:
    """uint8 (T, H, W, 3) by torchcodec; CannotAgree where it shows other frames.

    device: one of `DEVICES`; `auto` takes the GPU where it decodes there as the CPU does.
    """
    path, codec = reading.container.path, reading.container.stream.codec_context.codec
    reading.check(places)
    if (
        codec.canonical_name == "av1"
        and "decord" in sys.modules
        and "torchcodec" not in sys.modules
    ):
        # Measured: it takes decord's copy of the AV1 decoder for its own, and crashes.
        raise CannotAgree(path, "torchcodec cannot read AV1 where decord was loaded before it")
    try:
        import torch
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        what = str(error).strip().splitlines()[0][:200]
        raise CannotAgree(path, f"torchcodec cannot be used here: {what}") from None
    if device == "cuda" and not torch.cuda.is_available():
        raise CannotAgree(path, "there is no CUDA device for torchcodec to decode on")
    if device == "auto" and torch.cuda.is_available():
        try:
            return _by_torchcodec(reading, places, VideoDecoder, "cuda")
        except CannotAgree:
            pass  # the GPU does not decode this codec, or not as the CPU does
    return _by_torchcodec(reading, places, VideoDecoder, "cuda" if device == "cuda" else "cpu")


def _by_torchcodec(reading: Reading, places: Places, decoder: Any, device: str) -> Frames:
    path = reading.container.path
    try:
        video = decoder(
            str(path),
            stream_index=reading.container.stream.index,
            dimension_order="NHWC",
            num_ffmpeg_threads=reading.container.threads,
            device=device,
        )
        if len(video) != reading.shown:
            raise CannotAgree(
                path, f"torchcodec shows {len(video):,} frames, not {reading.shown:,}"
            )
        batch = video.get_frames_at(places.tolist())
        first = video.get_frame_at(0).pts_seconds
        times = batch.pts_seconds.cpu().numpy().astype(np.float64) - first
        frames = np.ascontiguousarray(batch.data.cpu().numpy())
    except (RuntimeError, IndexError, ValueError) as error:
        words = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise CannotAgree(path, f"torchcodec fails: {words}") from None
    _same_times(reading, "torchcodec", times, places)
    return _spot_checked(reading, places, frames, f"torchcodec ({device})")


def _same_times(
    reading: Reading, name: str, times: npt.NDArray[np.float64], places: Places | None = None
) -> None:
    expected = reading.times()[0] if places is None else reading.times()[0][places]
    if len(times) != len(expected):
        raise CannotAgree(
            reading.container.path, f"{name} shows {len(times):,} frames, not {len(expected):,}"
        )
    # Half of a thousandth of a second: both round the same ticks to single or double precision.
    if len(times) and float(np.abs(times - expected).max()) > 5e-4 + 1e-6 * float(expected[-1]):
        raise CannotAgree(reading.container.path, f"{name} dates its frames otherwise")


def _spot_checked(reading: Reading, places: Places, frames: Frames, name: str) -> Frames:
    """`frames`, once the one that the reference decodes soonest is seen to be the reference's."""
    if not len(places):
        return frames
    index = reading.container.index
    if reading.placed_by_index:
        packets = index.order[places]
        starts = np.union1d([0], np.flatnonzero(index.entry != NOWHERE))
        slot = int(np.argmin(packets - starts[np.searchsorted(starts, packets, side="right") - 1]))
    else:
        slot = int(np.argmin(places))
    apart = largest_difference(frames[slot], reading.frames(places[slot : slot + 1])[0])
    if apart > GREY_LEVELS:
        raise CannotAgree(
            reading.container.path, f"{name} shows other pixels (up to {apart} grey levels off)"
        )
    return frames
