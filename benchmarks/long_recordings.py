"""Long recordings for `benchmarks/decode.py`: seconds that are encoded once, and repeated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
    texture = np.tile(blocks.repeat(8, 0).repeat(8, 1), (2 + height // 640, 2 + width // 800))
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


def interlaced(path: Path, *, times: int = 5) -> Path:
    """Two minutes of MPEG-2, 576i, in a program stream, or `times` 24 seconds."""
    options = {"bf": "2", "g": "12", "flags": "+ildct+ilme+cgop", "b": "4000k"} | CUTS_UNSEEN
    return _repeated(
        path, codec="mpeg2video", size=(720, 576), rate=25, frames=600, times=times,
        options=options, format="vob",
    )  # fmt: skip


def avi_with_b_frames(path: Path) -> Path:
    """Two minutes of MPEG-4 with B-frames, as Xvid writes it, in AVI."""
    options = {"bf": "2", "g": "250", "qscale": "5", "flags": "+cgop"} | CUTS_UNSEEN
    return _repeated(
        path, codec="mpeg4", size=(640, 480), rate=25, frames=600, times=5, options=options
    )


def packed_avi(path: Path) -> Path:
    """The two minutes of MPEG-4 as DivX packs them: a B-picture behind the one before it."""
    start, user = b"\0\0\1\xb6", b"\0\0\1\xb2"
    not_coded = start + bytes([0b01010000, 0b01011111])
    plain = avi_with_b_frames(path.with_name(f"plain_{path.name}"))
    with av.open(str(plain)) as given, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(given.streams.video[0])
        headers = copy.codec_context.extradata
        said = headers[: headers.index(user)] + user + b"DivX503b1393p"
        copy.codec_context.extradata = None
        packets = [packet for packet in given.demux(video=0) if packet.size]
        pictures = [bytes(packet).replace(headers, said) for packet in packets]
        is_b = [picture[picture.index(start) + 4] >> 6 == 2 for picture in pictures]
        for n, packet in enumerate(packets):
            behind = pictures[n + 1] if [*is_b, False][n + 1] else b""
            made = av.Packet((b"" if is_b[n] else pictures[n]) + behind or not_coded)
            made.stream, made.time_base = copy, packet.time_base
            made.pts = made.dts = packet.dts
            made.is_keyframe = packet.is_keyframe
            out.mux(made)
    return path


def _copied(path: Path, source: Path) -> Path:
    """Write the packets of `source`, or of what `thirty_minutes` makes there, into another file."""
    if not source.exists():
        thirty_minutes(source)
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    return path


def in_matroska(path: Path) -> Path:
    """The thirty minutes in Matroska."""
    return _copied(path, path.with_suffix(".mp4"))


def in_transport_stream(path: Path) -> Path:
    """The thirty minutes in a transport stream."""
    return _copied(path, path.with_suffix(".mp4"))


def five_minutes(path: Path) -> Path:
    """9,000 frames of 1080p in MP4."""
    options = {"preset": "veryfast", "g": "250", "bf": "2", "crf": "28"}
    return _repeated(
        path, codec="libx264", size=(1920, 1080), rate=30, frames=250, times=36, options=options
    )


def high_speed(path: Path) -> Path:
    """A minute of 640x480 at 240 frames a second, in MP4."""
    options = {"preset": "veryfast", "g": "240", "bf": "2", "crf": "28"}
    return _repeated(
        path, codec="libx264", size=(640, 480), rate=240, frames=480, times=30, options=options
    )


def avi_of_h264(path: Path) -> Path:
    """Two minutes of H.264 with B-frames in AVI, which has no times of showing."""
    options = {"preset": "veryfast", "g": "250", "bf": "2", "crf": "28"}
    return _repeated(
        path, codec="libx264", size=(640, 480), rate=25, frames=600, times=5, options=options
    )


def raw_hevc(path: Path) -> Path:
    """Two minutes of raw HEVC, which has no times."""
    options = {"preset": "ultrafast"}
    options["x265-params"] = "log-level=none:keyint=250:open-gop=0:bframes=2"
    return _repeated(
        path, codec="libx265", size=(320, 240), rate=25, frames=300, times=10, options=options,
        format="hevc",
    )  # fmt: skip


def open_groups(path: Path) -> Path:
    """Two minutes of H.264 whose groups are open, and name pictures of the group before."""
    options = {"preset": "veryfast", "g": "50", "bf": "3", "b-pyramid": "normal", "refs": "4"}
    options["x264-params"] = "open-gop=1"
    return _repeated(
        path, codec="libx264", size=(320, 240), rate=25, frames=300, times=10, options=options
    )


RECORDINGS: dict[str, Callable[[Path], Path]] = {
    "30_minutes.mp4": thirty_minutes,
    "30_minutes.mkv": in_matroska,
    "30_minutes.ts": in_transport_stream,
    "24_hours.mp4": a_day,
    "5_minutes_1080p.mp4": five_minutes,
    "240_per_second.mp4": high_speed,
    "576i.mpg": interlaced,
    "576i_30_minutes.mpg": partial(interlaced, times=75),
    "b_frames.avi": avi_with_b_frames,
    "packed.avi": packed_avi,
    "h264_b_frames.avi": avi_of_h264,
    "raw.hevc": raw_hevc,
    "open_groups.mp4": open_groups,
}
