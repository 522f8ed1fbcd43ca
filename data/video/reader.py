"""Reading the right frames of a video file: `read`, `read_sampled` and `probe`.

An index counts the *shown* frames in the order in which a decode from the start shows them: the
packets that the container presents (edit lists honoured) and that the decoder can show. Times come
from timestamps, in seconds after the first shown frame. Where the clock of a file goes back they go
on by one usual step (`data.video.pyav.clock`). Where a frame has no timestamp, or times go back all
the time, they are counted at the average frame rate; `VideoInfo.times_from` says so.

Nothing here can stop native code that loops for ever: read files of unknown origin through a
`DecoderPool`, which can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.video.backends import (
    DECODERS,
    REFERENCE,
    CannotAgree,
    agreement,
    find_decoder,
    find_named,
)
from data.video.frames import FrameBatch, FrameIndices, Limits, VideoError
from data.video.info import VideoInfo
from data.video.pyav import DecodeSession, FrameCountChanged, open_video
from data.video.sampling import ClipTooShort, Sampling

UNCHECKED = (
    "not decoded: damage inside frames, and whether other decoders agree, are unknown (--full)"
)


def read(
    path: Path | str,
    indices: Sequence[int] | FrameIndices | None = None,
    *,
    decoder: str = REFERENCE,
    device: str = "auto",
    accept_damaged: bool = False,
    limits: Limits | None = None,
    threads: int = 0,
) -> FrameBatch:
    """Read the frames at `indices`, in that order, repeats included, or every frame.

    Args:
        path: The video file.
        indices: Indices of shown frames, counted from 0; None for all of them.
        decoder: A key of `DECODERS`.
        device: Where the decoder decodes: `cpu`, `cuda`, or `auto`, which uses a GPU if the
            decoder can and decodes there as the CPU does.
        accept_damaged: Read damaged files too; indices then count the frames that can be decoded.
        limits: Limits on reading the clip; None for those in force.
        threads: Threads of the decoder; 0 for one per core.

    Returns:
        The frames, uint8 (T, H, W, 3), with their indices and times.

    Raises:
        VideoError: The file cannot be read, is damaged, exceeds `limits`, or has no such frame.
        CannotAgree: A `VideoError`: `decoder` would return other frames than the reference, PyAV.
        ValueError: There is no such decoder or device, or an index is not a whole number.
    """
    backend, given = find_decoder(decoder, device), np.asarray(() if indices is None else indices)
    if given.size and given.dtype.kind not in "iu":
        raise ValueError(f"indices must be whole numbers, not {given.dtype}")

    def requested() -> FrameIndices:
        shown = np.arange(len(session.times()[0])) if indices is None else given.reshape(-1)
        return shown.astype(np.int64)

    with open_video(path, limits=limits, threads=threads, quick=True) as container:
        session = DecodeSession(container, accept_damaged=accept_damaged)
        try:
            frames = backend.read(session, requested(), device)
        except FrameCountChanged:
            frames = backend.read(session, requested(), device)
        return FrameBatch(frames, requested(), session.times()[0][requested()])


def read_sampled(
    path: Path | str,
    sampling: Sampling,
    *,
    start: float | None = None,
    end: float | None = None,
    decoder: str = REFERENCE,
    accept_damaged: bool = False,
    limits: Limits | None = None,
    threads: int = 0,
) -> tuple[FrameBatch, VideoInfo]:
    """Read the frames that `sampling` picks from `start` up to `end` (seconds).

    Where `decoder` would return other frames than the reference, the reference reads them;
    `VideoInfo.decoder` and `VideoInfo.notes` say so. It decodes on the CPU, unless it is asked for
    by the name that it has on a GPU, `torchcodec:cuda`. The other arguments are those of `read`.

    Returns:
        The frames, and what is known about the file.

    Raises:
        VideoError: As `read` does, and for a clip that is too short for `sampling`.
        ValueError: There is no such decoder, or it does not decode there.
    """
    backend, device = find_named(decoder)
    with open_video(path, limits=limits, threads=threads, quick=True) as container:
        session = DecodeSession(container, accept_damaged=accept_damaged)
        try:
            indices = sampled_indices(session, sampling, start, end)
            frames = backend.read(session, indices, device)
        except FrameCountChanged:
            indices = sampled_indices(session, sampling, start, end)
            frames = backend.read(session, indices, device)
        except CannotAgree as error:
            batch, info = read_sampled(
                path, sampling, start=start, end=end, accept_damaged=accept_damaged,
                limits=limits, threads=threads,
            )  # fmt: skip
            note = f"read by {REFERENCE}: {error.reason}"
            return batch, replace(info, notes=(*info.notes, note))
        batch = FrameBatch(frames, indices, session.times()[0][indices])
        return batch, session.info(decoder=decoder)


def probe(
    path: Path | str,
    *,
    decode: bool = True,
    decoders: Sequence[str] | None = None,
    limits: Limits | None = None,
) -> VideoInfo:
    """Return what is known about a file, damaged or not.

    Args:
        path: The video file.
        decode: Decode the whole file, which shows how many frames can be decoded.
        decoders: Compare a few frames of these decoders with the reference's; None for every
            decoder there is.
        limits: Limits on reading the clip; None for those in force.

    Raises:
        VideoError: The file is no video.
        ValueError: There is no such decoder.
    """
    if decoders is None:
        decoders = [name for name in DECODERS if name != REFERENCE]
    backends = [find_decoder(name) for name in decoders]
    with open_video(path, limits=limits, quick=False) as container:
        session = DecodeSession(container, accept_damaged=True, trust_index=not decode)
        info = session.info()
        if not decode:
            unchecked = [UNCHECKED]
            if not container.packet_index.trusted:
                unchecked.append("how many frames it shows is known after decoding it (--full)")
            return replace(info, notes=(*info.notes, *unchecked))
        indices = np.unique(np.linspace(0, session.shown_frames - 1, 8).astype(np.int64))
        agreements = {
            backend.name: agreement(session, indices, backend.read) for backend in backends
        }
        return replace(info, agreement=agreements)


def sampled_indices(
    session: DecodeSession, sampling: Sampling, start: float | None, end: float | None
) -> FrameIndices:
    """Return the indices that are sampled among the frames shown at `start` <= time < `end`."""
    times = session.times()[0]
    tolerance = 1e-6  # seconds; container clocks have no finer ticks
    first = 0 if start is None else int(np.searchsorted(times, start - tolerance))
    last = len(times) if end is None else int(np.searchsorted(times, end - tolerance))
    claimed = session.claimed_frames if start is None and end is None else None
    try:
        return sampling.indices(times[first:last], claimed=claimed) + first
    except ClipTooShort as error:
        raise VideoError(session.container.path, str(error)) from None
