"""The right frames of a video file, fast: `read`, `read_sampled` and `probe`.

An index counts the *shown* frames in the order of presentation: the packets that the container
presents (edit lists honoured), which the decoder can show. Times are of timestamps, in seconds
after the first shown frame; where a frame has none, or one that lies before that of the frame shown
before it, the clip's times are counted at its average rate, and `VideoInfo.times_from` says so.

Nothing here can end native code that spins for ever: run over files of unknown origin through
`data.sandbox.DecoderPool`, which does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data.video.backends import (
    DEVICES,
    GREY_LEVELS,
    CannotAgree,
    decord_frames,
    largest_difference,
    torchcodec_frames,
)
from data.video.frames import FrameBatch, Limits, VideoError, VideoInfo
from data.video.pyav import Frames, Places, Reading, Recounted, open_video
from data.video.sampling import Sampling, TooShort

__all__ = [
    "DECODERS", "CannotAgree", "FrameBatch", "Limits", "VideoError", "VideoInfo", "describe",
    "probe", "read", "read_sampled",
]  # fmt: skip

# Each returns uint8 (T, H, W, 3), or raises CannotAgree where it would show other frames.
Decoder = Callable[[Reading, Places], Frames]
DECODERS: dict[str, Decoder] = {
    "pyav": Reading.frames,
    "decord": decord_frames,
    "torchcodec": torchcodec_frames,
}

DEFAULT_LIMITS = Limits()


def read(
    path: Path | str,
    indices: Sequence[int] | Places,
    *,
    decoder: str = "pyav",
    device: str = "auto",
    accept_damaged: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    threads: int = 0,
) -> FrameBatch:
    """The frames at `indices`, in that order, repeats included.

    indices: places among the shown frames, counted from 0; `threads`: that decode, 0 for one a
    core; `device`: where torchcodec decodes, `cuda`, `cpu`, or `auto`: on the GPU if there is one
    that decodes the file as the CPU does.
    Raises VideoError where the file cannot be read, is damaged (unless `accept_damaged`, which
    counts what does decode) or is beyond `limits`, and CannotAgree, a VideoError, where `decoder`
    would return other frames than the reference, PyAV.
    """
    take, places = _decoder(decoder, device), np.asarray(indices).reshape(-1)
    if places.size and places.dtype.kind not in "iu":
        raise ValueError(f"indices must be whole numbers, not {places.dtype}")
    places = places.astype(np.int64)
    with open_video(path, limits=limits, threads=threads, quick=True) as container:
        reading = Reading(container, accept_damaged=accept_damaged)
        try:
            frames = take(reading, places)
        except Recounted:
            frames = take(reading, places)
        return FrameBatch(frames, places, reading.times()[0][places])


def read_sampled(
    path: Path | str,
    sampling: Sampling,
    *,
    start: float | None = None,
    end: float | None = None,
    decoder: str = "pyav",
    accept_damaged: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    threads: int = 0,
) -> tuple[FrameBatch, VideoInfo]:
    """The frames that `sampling` picks from `start` up to `end` (seconds), and what is known.

    Where `decoder` would return other frames than the reference, the reference reads them;
    `VideoInfo.decoder` and `.notes` say so. Raises as `read` does, and for a clip too short.
    """
    take = _decoder(decoder)
    with open_video(path, limits=limits, threads=threads, quick=True) as container:
        reading = Reading(container, accept_damaged=accept_damaged)
        try:
            places = _places(reading, sampling, start, end)
            frames = take(reading, places)
        except Recounted:
            places = _places(reading, sampling, start, end)
            frames = take(reading, places)
        except CannotAgree as error:
            batch, info = read_sampled(
                path, sampling, start=start, end=end, accept_damaged=accept_damaged,
                limits=limits, threads=threads,
            )  # fmt: skip
            return batch, replace(info, notes=(*info.notes, f"read by pyav: {error.reason}"))
        batch = FrameBatch(frames, places, reading.times()[0][places])
        return batch, reading.info(decoder=decoder)


def probe(
    path: Path | str,
    *,
    decode: bool = True,
    decoders: Sequence[str] = ("torchcodec", "decord"),
    limits: Limits = DEFAULT_LIMITS,
) -> VideoInfo:
    """What is known of a file, damaged or not.

    decode: decode it whole, which tells what really can be shown; `decoders`: see at a few places
    which of these return the reference's frames. Raises VideoError where it is no video at all.
    """
    for name in decoders:
        _decoder(name)
    with open_video(path, limits=limits, quick=False) as container:
        reading = Reading(container, accept_damaged=True, believe=not decode)
        info = reading.info()
        if not decode:
            return info
        places = np.unique(np.linspace(0, reading.shown - 1, 8).astype(np.int64))
        return replace(info, agreement={name: _agrees(reading, places, name) for name in decoders})


def _agrees(reading: Reading, places: Places, name: str) -> str:
    try:
        frames = DECODERS[name](reading, places)
    except CannotAgree as error:
        return error.reason
    apart = largest_difference(frames, reading.frames(places))
    return "agrees" if apart <= GREY_LEVELS else f"its pixels are up to {apart} grey levels off"


def describe(info: VideoInfo) -> str:
    """A table of what `probe` found, for people."""
    rate = "unknown" if info.frames_per_second is None else f"{info.frames_per_second:.6g}"
    claimed = "nothing" if info.claimed_frames is None else f"{info.claimed_frames:,}"
    decodable = "not tried" if info.decodable_frames is None else f"{info.decodable_frames:,}"
    turned = f", turned by {info.rotation} degrees" if info.rotation else ""
    odd = f", pixels {info.pixel_aspect}" if info.pixel_aspect != "1" else ""
    fields = ", interlaced" if info.interlaced else ""
    starts = "possible" if info.random_access else "not possible"
    times = "from timestamps" if info.times_from == "timestamps" else info.times_from
    rows = [
        ("file", f"{info.path} ({info.bytes:,} bytes)"),
        ("format", info.format),
        ("streams", "; ".join(info.streams)),
        ("read", f"stream {info.stream}: {info.codec}, {info.pixel_format}"),
        ("picture", f"{info.width}x{info.height}{turned}{odd}{fields}"),
        ("frames", f"{info.shown_frames:,} shown; header claims {claimed}, decodable {decodable}"),
        ("times", f"{info.duration_seconds:.3f} s first to last, {rate} per second, {times}"),
        ("structure", f"{info.keyframes:,} keyframes, longest group {info.longest_gop:,} frames, "
         f"random access {starts}"),
        ("damage", "; ".join(info.damage) or "none found"),
    ]  # fmt: skip
    rows += [(name, outcome) for name, outcome in info.agreement.items()]
    rows += [("note", note) for note in info.notes]
    return "\n".join(f"{name:<10} {value}" for name, value in rows)


def _decoder(name: str, device: str = "auto") -> Decoder:
    if name not in DECODERS:
        raise ValueError(f"no decoder {name!r}; there are {', '.join(DECODERS)}")
    if device not in DEVICES:
        raise ValueError(f"no device {device!r}; there are {', '.join(DEVICES)}")
    if name == "torchcodec":
        return partial(torchcodec_frames, device=device)
    if device == "cuda":
        raise ValueError(f"{name} decodes on the CPU; torchcodec does on a GPU")
    return DECODERS[name]


def _places(reading: Reading, sampling: Sampling, start: float | None, end: float | None) -> Places:
    """The places that are sampled among the frames shown at `start` <= time < `end`."""
    times = reading.times()[0]
    tick = 1e-6  # clocks of containers run no finer
    first = 0 if start is None else int(np.searchsorted(times, start - tick))
    last = len(times) if end is None else int(np.searchsorted(times, end - tick))
    claimed = reading.claimed if start is None and end is None else None
    try:
        return sampling.indices(times[first:last], claimed=claimed) + first
    except TooShort as error:
        raise VideoError(reading.container.path, str(error)) from None
