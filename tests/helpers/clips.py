"""Makers of unusual valid clips, and of broken ones, with the encoders that PyAV carries.

With AVX-512, x264 encodes the same frames of 96 x 64 differently, by what is in memory that nobody
wrote, so it does without. A test never compares two encodings all the same: clips to compare are
remuxed from one encoding.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def picture(number: int, width: int, height: int, channels: int = 3) -> np.ndarray:
    """Return an image that differs for each number: a moving gradient, a bar, and its bits."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.empty((height, width, channels), np.uint8)
    image[..., 0] = (x * 3 + number * 7) % 256
    image[..., 1] = (y * 5 + number * 11) % 256
    image[..., 2] = ((x + y) * 2 + number * 13) % 256
    if channels == 4:
        image[..., 3] = (x * 2 + number) % 256
    image[:, (number * 5) % width] = 255
    side = max(min(width // 10, height // 4), 1)
    for bit in range(8):
        image[:side, bit * side : (bit + 1) * side, :3] = 255 * (number >> bit & 1)
    return image


@contextmanager
def scheduling_kept() -> Iterator[None]:
    """Undo what SVT-AV1 does where it may: it gives the thread that calls it real-time priority.

    The thread would then run before every decoder that it waits for, until the tests end.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def _without_avx512(options: dict[str, str]) -> dict[str, str]:
    with suppress(OSError):
        if "avx512" in Path("/proc/cpuinfo").read_text():
            own = options.get("x264-params", "")
            return options | {"x264-params": f"{own}:asm=AVX2".lstrip(":")}
    return options


@scheduling_kept()
def encode(
    path: Path,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (96, 64),
    frames: int = 40,
    rate: int | Fraction = 24,
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    format: str | None = None,
    container_options: dict[str, str] | None = None,
    setup: Callable[[Any], None] | None = None,
    frame: Callable[[Any], None] | None = None,
    source: str = "rgb24",
) -> Path:
    """Encode `frames` images; `pts` are their times in ticks of `time_base` (1/rate)."""
    base = time_base or 1 / Fraction(rate)
    with av.open(str(path), "w", format=format, options=container_options or {}) as out:
        stream: Any = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.options = options or {}
        stream.codec_context.time_base = base
        if codec == "libx264":
            stream.codec_context.thread_count = 1
            stream.options = _without_avx512(stream.options)
        if setup:
            setup(stream)
        for number in range(frames):
            channels = 4 if source == "rgba" else 3
            image = av.VideoFrame.from_ndarray(picture(number, *size, channels), format=source)
            image.pts, image.time_base = (pts[number] if pts else number), base
            if frame:
                frame(image)
            out.mux(stream.encode(image))
        out.mux(stream.encode(None))
    return path


def remuxed(
    source: Path,
    path: Path,
    *,
    change: Callable[[int, Any], bool] | None = None,
    format: str | None = None,
    options: dict[str, str] | None = None,
    setup: Callable[[Any], None] | None = None,
) -> Path:
    """Copy the packets of `source`; `change(n, packet)` may edit one and drops it if false."""
    writer = av.open(str(path), "w", format=format, options=options or {})
    with av.open(str(source)) as given, writer as out:
        stream = given.streams.video[0]
        copy: Any = out.add_stream_from_template(stream)
        if setup:
            setup(copy)
        for n, packet in enumerate(p for p in given.demux(stream) if p.size):
            if change is None or change(n, packet):
                packet.stream = copy
                out.mux(packet)
    return path


X264 = {"g": "250", "bf": "3", "sc_threshold": "0"}


def _two_streams(path: Path) -> Path:
    """Two video streams of different sizes and lengths."""
    with av.open(str(path), "w") as out:
        streams: list[Any] = []
        for size in ((64, 48), (128, 96)):
            stream: Any = out.add_stream("libx264", rate=24)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            streams.append(stream)
        for number in range(30):
            for stream in streams:
                if stream is streams[0] and number >= 20:
                    continue
                image = picture(number, stream.width, stream.height)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = number
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


def patched(source: Path, path: Path, edit: Callable[[bytearray], None]) -> Path:
    """Copy `source` with its bytes changed by `edit`."""
    data = bytearray(source.read_bytes())
    edit(data)
    path.write_bytes(data)
    return path


def with_edit_list(source: Path, path: Path, *, first: int, frames: int, rate: int) -> Path:
    """An MP4 whose edit list shows `frames` frames from the `first` on.

    The edit list replaces the one of the only track, in front of its `mdia`. `source` must end with
    its `moov`, as files do that FFmpeg writes without faststart, so that no offset moves.
    """
    data = source.read_bytes()
    moov = data.index(b"moov") - 4
    assert data.index(b"mdat") < moov
    body = bytearray(data[moov:])
    movie_scale, media_scale = _number(body, b"mvhd", 16), _number(body, b"mdhd", 16)
    start = _number(body, b"elst", 16)  # media time of the first frame
    edts = body.index(b"edts") - 4
    old = struct.unpack(">I", body[edts : edts + 4])[0]
    tick = media_scale // rate
    entry = struct.pack(
        ">IiI", round(frames * tick * movie_scale / media_scale), start + first * tick, 0x00010000
    )
    elst = struct.pack(">I4sII", 16 + len(entry), b"elst", 0, 1) + entry
    new = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
    body[edts : edts + old] = new
    for box in (b"trak", b"moov"):
        at = body.index(box) - 4
        size = struct.unpack(">I", body[at : at + 4])[0]
        body[at : at + 4] = struct.pack(">I", size + len(new) - old)
    path.write_bytes(data[:moov] + body)
    return path


def _number(body: bytes | bytearray, box: bytes, offset: int) -> int:
    """The 32-bit number `offset` bytes after the name of a box."""
    at = body.index(box) + offset
    return int(struct.unpack(">I", body[at : at + 4])[0])


def grey_png(side: int) -> bytes:
    """Return a black PNG of `side` x `side` pixels, a thousandth of its size when decompressed."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    packer, rows = zlib.compressobj(), bytes(32 * (1 + side))
    assert side % 32 == 0
    pixels = b"".join(packer.compress(rows) for _ in range(side // 32)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    whole = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + whole


def png_video(path: Path, still: bytes, *, claimed: int, frames: int = 2) -> Path:
    """Make a QuickTime video of one repeated PNG whose header claims sides of `claimed` pixels."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("png", rate=25)
        stream.width = stream.height = 16
        stream.pix_fmt = "gray"
        for n in range(frames):
            packet = av.Packet(still)
            packet.stream, packet.is_keyframe, packet.duration = stream, True, 1
            packet.pts = packet.dts = n
            packet.time_base = Fraction(1, 25)
            out.mux(packet)

    def edit(data: bytearray) -> None:
        at = data.index(b"png ", data.index(b"stsd")) + 28
        assert struct.unpack_from(">HH", data, at) == (16, 16)
        struct.pack_into(">HH", data, at, claimed, claimed)

    return patched(path, path, edit)


def mux_silence(out: Any, stream: Any, *, samples: int) -> None:
    """Write one frame of silence and end the audio stream."""
    silence = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.float32), "fltp", "mono")
    silence.sample_rate = 16000
    out.mux(stream.encode(silence))
    out.mux(stream.encode(None))


def with_cover(path: Path, *, frames: int, first: bool = False) -> Path:
    """Make an MP4 of audio, a cover image as in music files, and `frames` frames of video."""
    from av.stream import Disposition

    with av.open(str(path), "w") as out:
        streams: dict[str, Any] = {}
        for name in ("cover", "video") if first else ("video", "cover"):
            if name == "cover" or frames:
                size = (300, 300) if name == "cover" else (96, 64)
                stream: Any = out.add_stream("mjpeg" if name == "cover" else "libx264", rate=24)
                stream.width, stream.height = size
                stream.pix_fmt = "yuvj420p" if name == "cover" else "yuv420p"
                streams[name] = stream
        streams["cover"].disposition = Disposition.attached_pic
        sound: Any = out.add_stream("aac", rate=16000)
        for name, count in (("cover", 1), ("video", frames)):
            for n in range(count):
                stream = streams[name]
                image = picture(n, stream.width, stream.height)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = n
                out.mux(stream.encode(frame))
            if name in streams:
                out.mux(streams[name].encode(None))
        mux_silence(out, sound, samples=1024)
    return path


def bits_of(*codes: tuple[str, int]) -> str:
    """Bits of H.264 syntax elements: `u3` is a number of 3 bits, `ue` and `se` are Exp-Golomb."""
    text = ""
    for kind, value in codes:
        if kind[0] == "u" and kind != "ue":
            text += f"{value:0{kind[1:]}b}"
        else:
            code = value + 1 if kind == "ue" else 2 * value if value > 0 else 1 - 2 * value
            text += "0" * (code.bit_length() - 1) + f"{code:b}"
    return text


def bytes_of(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _h264_fields(path: Path, *, frames: int = 24) -> Path:
    """Raw H.264 of 32x32 whose fields are pictures of their own (PAFF), which x264 does not make.

    Written by hand after ITU-T H.264 7.3.2.1, 7.3.2.2, 7.3.3 and 7.3.5: intra slices of one row of
    two macroblocks, each uncompressed (I_PCM) and of one grey.
    """
    flag = ("u1", 0)
    sequence = [
        ("u8", 77), ("u8", 0), ("u8", 30), ("ue", 0),  # Main profile, level 3
        ("ue", 0), ("ue", 2), ("ue", 1), flag,  # frame_num of 4 bits, shown as decoded
        ("ue", 1), ("ue", 0), ("u1", 0), flag,  # 2 x 1 macroblocks a field
        ("u1", 1), flag, flag, ("u1", 1),
    ]  # fmt: skip
    picture_set = [
        ("ue", 0), ("ue", 0), flag, flag, ("ue", 0), ("ue", 0), ("ue", 0), flag, ("u2", 0),
        ("se", 0), ("se", 0), ("se", 0), ("u1", 1), flag, flag, ("u1", 1),
    ]  # fmt: skip
    units = [b"\x67" + bytes_of(bits_of(*sequence)), b"\x68" + bytes_of(bits_of(*picture_set))]
    for number in range(frames):
        for bottom in (0, 1):
            idr = number == 0 and not bottom
            slice_header = [("ue", 0), ("ue", 7), ("ue", 0), ("u4", number % 16), ("u1", 1)]
            slice_header += [("u1", bottom), *([("ue", 0), ("u2", 0)] if idr else [flag])]
            bits = bits_of(*slice_header, ("se", 0), ("ue", 1))
            unit = b"\x65" if idr else b"\x61"
            for block in (0, 1):
                grey = 40 + 5 * number + 20 * (bottom ^ block)
                unit += (
                    bytes_of(bits + bits_of(("ue", 25))) + bytes([grey]) * 256 + bytes([128]) * 128
                )
                bits = ""
            units.append(unit + b"\x80")
    assert not any(b"\0\0" in unit for unit in units), "would need emulation prevention"
    path.write_bytes(b"".join(b"\0\0\0\1" + unit for unit in units))
    return path


def _h264_fields_in_transport(path: Path) -> Path:
    def stamp(n: int, packet: Any) -> bool:
        packet.time_base, packet.pts, packet.dts = Fraction(1, 90000), 1800 * n, 1800 * n
        return True

    raw = _h264_fields(path.with_suffix(".h264"))
    return remuxed(raw, path, change=stamp)


def vfr_ticks(n: int) -> list[int]:
    steps = np.random.default_rng(0).integers(1, 9, n)
    return [0, *np.cumsum(steps)[:-1].tolist()]


def without_change(path: Path) -> Path:
    """Return where the clip lies that `path` was remuxed from."""
    return path.with_name(f"{path.stem}_source.mp4")


def _edit_list(path: Path) -> Path:
    source = encode(without_change(path), frames=120, options=X264)
    return with_edit_list(source, path, first=30, frames=50, rate=24)


def _rotated(path: Path, angle: int) -> Path:
    source = encode(without_change(path), options=X264)
    return remuxed(source, path, setup=lambda stream: stream.set_display_rotation(angle))


# Valid clips by name: the file name extension, and the function that makes it.
CLIPS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "h264_long_gop": ("mp4", lambda p: encode(p, frames=120, options=X264)),
    "h264_short_gop": ("mp4", lambda p: encode(p, frames=60, options=X264 | {"g": "12"})),
    # Rows of this width need no padding on any CPU (decord cannot return padded rows).
    "h264_128_wide": ("mp4", lambda p: encode(p, size=(128, 64), options=X264 | {"g": "12"})),
    "h264_open_gop": (
        "mp4",
        lambda p: encode(p, frames=90, options=X264 | {"g": "12", "x264-params": "open-gop=1"}),
    ),
    "h264_open_gop_mkv": (
        "mkv",
        lambda p: encode(p, frames=90, options=X264 | {"g": "12", "x264-params": "open-gop=1"}),
    ),
    "h264_intra_refresh": (
        "mp4",
        lambda p: encode(p, frames=60, options={"g": "15", "x264-params": "intra-refresh=1"}),
    ),
    "h264_no_b": ("mp4", lambda p: encode(p, options={"g": "12", "bf": "0"})),
    "h264_transport": ("ts", lambda p: encode(p, options=X264 | {"g": "12"})),
    "h264_fragmented": (
        "mp4",
        lambda p: encode(
            p,
            options=X264 | {"g": "12"},
            container_options={"movflags": "frag_keyframe+empty_moov"},
        ),
    ),
    "h264_raw": ("h264", lambda p: encode(p, options=X264)),
    "h264_avi": ("avi", lambda p: encode(p, options=X264)),
    "h264_flv": ("flv", lambda p: encode(p, options=X264)),
    "h264_444": ("mp4", lambda p: encode(p, pixels="yuv444p", options=X264)),
    "h264_10bit": ("mp4", lambda p: encode(p, pixels="yuv420p10le", options=X264)),
    "h264_full_range": ("mp4", lambda p: encode(p, pixels="yuvj420p", options=X264)),
    "h264_240fps": ("mp4", lambda p: encode(p, rate=240, options=X264)),
    "h264_interlaced": ("mp4", lambda p: encode(p, options=X264 | {"flags": "+ildct+ilme"})),
    "h264_mbaff_transport": (
        "ts",
        lambda p: encode(p, options=X264 | {"g": "12", "flags": "+ildct+ilme"}),
    ),
    "h264_paff": ("h264", _h264_fields),
    "h264_paff_transport": ("ts", _h264_fields_in_transport),
    "mpeg4_interlaced": (
        "mp4",
        lambda p: encode(p, codec="mpeg4", options={"g": "9", "bf": "2", "flags": "+ildct+ilme"}),
    ),
    "mpeg2_interlaced": (
        "ts",
        lambda p: encode(
            p, codec="mpeg2video", rate=25, options={"g": "12", "flags": "+ildct+ilme"}
        ),
    ),
    "h264_vfr": (
        "mp4",
        lambda p: encode(p, pts=vfr_ticks(40), time_base=Fraction(1, 90), options=X264),
    ),
    "h264_negative_times": (
        "mkv",
        lambda p: encode(p, pts=list(range(-10, 30)), options=X264),
    ),
    "h264_odd_size": ("mp4", lambda p: encode(p, size=(66, 50), options=X264)),
    "h264_2x2": ("mp4", lambda p: encode(p, size=(2, 2), options=X264)),
    "h264_one_frame": ("mp4", lambda p: encode(p, frames=1, options=X264)),
    "h264_no_count": ("mkv", lambda p: encode(p, options=X264)),
    "hevc": (
        "mp4",
        lambda p: encode(p, codec="libx265", options={"x265-params": "log-level=none"}),
    ),
    "hevc_open_gop": (
        "mkv",
        lambda p: encode(
            p,
            codec="libx265",
            frames=60,
            options={"x265-params": "log-level=none:keyint=12:min-keyint=12:open-gop=1"},
        ),
    ),
    "hevc_10bit": (
        "mp4",
        lambda p: encode(
            p,
            codec="libx265",
            pixels="yuv420p10le",
            frames=60,
            options={"x265-params": "log-level=none:keyint=20:open-gop=1"},
        ),
    ),
    "av1": ("mp4", lambda p: encode(p, codec="libsvtav1", options={"g": "16", "preset": "12"})),
    "av1_mkv": ("mkv", lambda p: encode(p, codec="libsvtav1", options={"preset": "12"})),
    "vp9": ("webm", lambda p: encode(p, codec="libvpx-vp9", options={"g": "16", "cpu-used": "8"})),
    "vp9_alpha": (
        "webm",
        lambda p: encode(p, codec="libvpx-vp9", pixels="yuva420p", source="rgba"),
    ),
    "vp8_hidden_frames": (
        "webm",
        lambda p: encode(
            p, codec="libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16", "g": "30"}
        ),
    ),
    "mpeg4": ("mp4", lambda p: encode(p, codec="mpeg4", options={"g": "12", "bf": "2"})),
    "mpeg4_avi": ("avi", lambda p: encode(p, codec="mpeg4", options={"g": "12", "bf": "2"})),
    "mpeg2": (
        "mpg",
        lambda p: encode(p, codec="mpeg2video", rate=25, options={"g": "12"}),
    ),
    "mjpeg": ("avi", lambda p: encode(p, codec="mjpeg", pixels="yuvj420p")),
    "mjpeg_mov": ("mov", lambda p: encode(p, codec="mjpeg", pixels="yuvj422p")),
    "ffv1": ("mkv", lambda p: encode(p, codec="ffv1", options={"g": "8"})),
    "prores": ("mov", lambda p: encode(p, codec="prores_ks", pixels="yuv422p10le")),
    "qtrle_alpha": ("mov", lambda p: encode(p, codec="qtrle", pixels="argb", source="rgba")),
    "gif": ("gif", lambda p: encode(p, codec="gif", pixels="rgb8", rate=25)),
    "apng_alpha": (
        "apng",
        lambda p: encode(p, codec="apng", pixels="rgba", source="rgba", rate=25),
    ),
    "rotated_90": ("mp4", lambda p: _rotated(p, 90)),
    "rotated_180": ("mp4", lambda p: _rotated(p, 180)),
    "rotated_270": ("mov", lambda p: _rotated(p, -90)),
    "two_streams": ("mp4", _two_streams),
    "edit_list": ("mp4", _edit_list),
    "uneven_pixels": (
        "mp4",
        lambda p: encode(
            p,
            options=X264,
            setup=lambda s: setattr(s.codec_context, "sample_aspect_ratio", Fraction(4, 3)),
        ),
    ),
}
