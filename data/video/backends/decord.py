"""decord, the fast path for the files on which it returns the reference's frames.

Which frames a file shows, and when, is what the reference's index says. decord is not used on a
file where it counts other frames or gives them other times, and one frame of each batch is compared
with the reference's, pixel by pixel.

Measured with decord 0.6.0 and decord2 3.4.0 against a full decode by PyAV 18.1: on H.264 and HEVC
of 8 bits with closed groups of pictures in MP4 and Matroska its pixels are the reference's. It
silently returns *other* frames, some of them far away, where groups are open (x264 `open-gop`, and
what x265 makes by default), on intra refresh, MPEG-4 with B-frames, MPEG-2 and transport streams;
it shows frames that edit lists hide; and its pixels of 10-bit, interlaced and tiny frames are
wrong. `unsupported_reason` leaves only what was right. On a CPU with AVX-512 it fails on frames
whose width is not a multiple of 64, because the rows of its frames are padded there.

decord and decord2 have one import name and nearly the same behaviour, wrong frames included.
decord2 reads AV1 (decord 0.6.0 does not), has wheels for Linux on ARM, where decord 0.6.0 (2021)
has none, is maintained, and is a little faster; of the files that decord got right it got one
wrong, an AVI, a format that is not used here. Either works; depend on decord2, and never install
both.

Both can loop for ever inside native code (dmlc/decord issues 373 and 375): read files of unknown
origin through a `DecoderPool`.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from data.video.backends.base import Backend
from data.video.backends.crosscheck import CannotAgree, check_one_frame, check_times
from data.video.frames import FrameIndices, Frames
from data.video.pyav import NO_ENTRY, OPEN_ENTRY, TIMED_FORMATS, DecodeSession, file_url


def read_frames(session: DecodeSession, indices: FrameIndices, device: str) -> Frames:
    """Return the frames at `indices`, uint8 (T, H, W, 3), decoded on the CPU.

    Raises:
        CannotAgree: The file is of a kind that decord does not decode right, or decord fails.
    """
    path = session.container.path
    session.check_indices(indices)
    if reason := unsupported_reason(session):
        raise CannotAgree(path, f"decord is not used on {reason}")
    try:
        from decord import DECORDError, VideoReader
    except ImportError as error:
        raise CannotAgree(path, f"decord is not installed ({error})") from None
    try:
        video = VideoReader(file_url(path), num_threads=session.container.threads)
        times = video.get_frame_timestamp(range(len(video)))[:, 0].astype(np.float64)
        check_times(session, "decord", times - times[:1])
        if not len(indices):
            return session.frames(indices)
        # In growing order: of indices in another one, decord returns other frames than are asked.
        wanted, position = np.unique(indices, return_inverse=True)
        frames = video.get_batch(wanted).asnumpy()[position]
    except (DECORDError, RuntimeError, ValueError, IndexError) as error:
        # Without the time of day and the source line that the message begins with.
        message = re.sub(r"^\[[\d:]+\] \S+: ", "", str(error).strip())
        raise CannotAgree(
            path, f"decord fails: {(message.splitlines() or [type(error).__name__])[0][:200]}"
        ) from None
    checked = check_one_frame(session, indices, frames, "decord")
    if session.facts.interlaced:
        raise CannotAgree(path, "decord is not used on interlaced frames")
    return checked


def unsupported_reason(session: DecodeSession) -> str | None:
    """Return why decord is not used on this file; None where it is."""
    container, packet_index = session.container, session.container.packet_index
    if container.input.format.name not in TIMED_FORMATS:
        return f"the format {container.input.format.name}"
    if not session.random_access:
        reason = packet_index.doubt or session.mismatch or "damage"
        return f"a stream that has to be decoded whole ({reason})"
    if packet_index.rank is not None:
        return "frames whose times do not tell their order"
    if bool(packet_index.hidden.any()):
        return "a stream with hidden frames"
    if bool((packet_index.entry == OPEN_ENTRY).any()):
        return "open groups of pictures"
    if bool((packet_index.key & (packet_index.entry == NO_ENTRY)).any()):
        return "keyframes that decoding cannot start from"
    return None


def versions() -> dict[str, Any]:
    """Return the version of decord, or of decord2."""
    import decord

    return {"version": decord.__version__}


BACKEND = Backend(
    name="decord",
    read=read_frames,
    versions=versions,
    packages=("decord2", "decord"),
    load_last=True,  # torchcodec would take its AV1 decoder, of another version, and crash
)
