"""Long recordings for `benchmarks/decode.py`: seconds that are encoded once, and repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

CUTS_UNSEEN = {"sc_threshold": "1000000000"}  # FFmpeg wants it where groups are closed


def _repeated(
    path: Path, *, codec: str, size: tuple[int, int], rate: int, frames: int, times: int,
    options: dict[str, str], format: str | None = None,
) -> Path:  # fmt: skip
    """Write a recording of `frames` encoded frames that come `times` times."""
    width, height = size
    blocks = np.random.default_rng(0).integers(0, 256, (80, 100)).astype(np.uint8)
    texture = np.tile(blocks.repeat(8, 0).repeat(8, 1), (2, 2))
    with av.open(str(path), "w", format=format) as out:
        stream = out.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        picture = np.full((height * 3 // 2, width), 128, np.uint8)
        encoded = []
        for number in range(frames):
            y, x = number % 640, 2 * number % 800
            picture[:height] = texture[y : y + height, x : x + width]
            encoded += stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p"))
        encoded += stream.encode(None)
        base = encoded[0].time_base
        step = round(frames / rate / base)
        for turn in range(times):
            for packet in encoded:
                copy = av.Packet(bytes(packet))
                copy.stream, copy.time_base = stream, base
                copy.pts, copy.dts = packet.pts + turn * step, packet.dts + turn * step
                copy.is_keyframe = packet.is_keyframe
                out.mux(copy)
    return path


def thirty_minutes(path: Path) -> Path:
    """54,000 frames of 320x240 in MP4."""
    options = {"preset": "ultrafast", "g": "250", "bf": "2", "crf": "30"}
    return _repeated(
        path, codec="libx264", size=(320, 240), rate=30, frames=1_500, times=36, options=options
    )


def a_day(path: Path) -> Path:
    """1,728,000 frames of 64x48 in MP4."""
    options = {"preset": "ultrafast", "g": "250", "bf": "2", "crf": "40"}
    return _repeated(
        path, codec="libx264", size=(64, 48), rate=20, frames=2_000, times=864, options=options
    )


def interlaced(path: Path) -> Path:
    """Two minutes of MPEG-2, 576i, in a program stream."""
    options = {"bf": "2", "g": "12", "flags": "+ildct+ilme+cgop", "b": "4000k"} | CUTS_UNSEEN
    return _repeated(
        path, codec="mpeg2video", size=(720, 576), rate=25, frames=600, times=5, options=options,
        format="vob",
    )  # fmt: skip


def avi_with_b_frames(path: Path) -> Path:
    """Two minutes of MPEG-4 with B-frames, as Xvid writes it, in AVI."""
    options = {"bf": "2", "g": "250", "qscale": "5", "flags": "+cgop"} | CUTS_UNSEEN
    return _repeated(
        path, codec="mpeg4", size=(640, 480), rate=25, frames=600, times=5, options=options
    )


RECORDINGS: dict[str, Callable[[Path], Path]] = {
    "30_minutes.mp4": thirty_minutes,
    "24_hours.mp4": a_day,
    "576i.mpg": interlaced,
    "b_frames.avi": avi_with_b_frames,
}
