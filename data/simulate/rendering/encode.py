"""Encoding frames as H.264 in MP4."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data.files import atomic_write
from data.simulate.rendering.yuv import YuvFrame

if TYPE_CHECKING:
    from av import VideoFrame

# One thread (the processes of `simulate` are the parallelism, and the output must not depend on
# the number of threads); a key frame every second and two B-frames, as cameras write. No
# look-ahead: with it x264 spends bits on a frame by how it moves later, and the compression of the
# first frame would reveal what follows. Of the presets the fastest: at the same quality (48 dB) its
# files are a third larger than those of `veryfast`, and take less than half the time.
X264 = {
    "preset": "ultrafast", "crf": "20", "threads": "1", "bf": "2",
    "x264-params": "mbtree=0:rc-lookahead=0:b-adapt=0:scenecut=0",
}  # fmt: skip
CPU_FLAGS = Path("/proc/cpuinfo")


def encode_video(
    frames: Iterable[YuvFrame | NDArray[np.uint8]], path: Path, *, fps: float, size: int
) -> None:
    """Write frames, `YuvFrame` or uint8 (size, size, 3) RGB, to `path`, whole or not at all.

    The same frames give the same bytes.

    Raises:
        WriteError: The disk is full or not writable.
    """
    import av

    rate = Fraction(fps).limit_denominator(1001)
    content = io.BytesIO()
    with av.open(content, "w", format="mp4", options={"fflags": "+bitexact"}) as out:
        stream = out.add_stream("libx264", rate=rate, options=_x264_options())
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = max(1, round(fps))
        for number, pixels in enumerate(frames):
            frame = _frame(pixels)
            frame.pts, frame.time_base = number, 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    atomic_write(path, content.getvalue())


@cache
def _x264_options() -> dict[str, str]:
    """Return the options of the encoder, without AVX-512.

    With AVX-512, x264 may encode the same frames differently from run to run.
    """
    try:
        has_avx512 = "avx512" in CPU_FLAGS.read_text()
    except OSError:
        has_avx512 = False
    return X264 | {"x264-params": X264["x264-params"] + ":asm=AVX2"} if has_avx512 else X264


def _frame(pixels: YuvFrame | NDArray[np.uint8]) -> VideoFrame:
    from av import VideoFrame

    if not isinstance(pixels, YuvFrame):
        return VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
    height, width = pixels.luma.shape
    frame = VideoFrame(width, height, "yuv420p")
    for plane, values in zip(frame.planes, (pixels.luma, *pixels.chroma), strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(len(values), -1)
        rows[:, : values.shape[1]] = values
    return frame
