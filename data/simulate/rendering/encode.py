"""Frames to H.264 in MP4, the same bytes for the same frames."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data.files import WriteError
from data.simulate.rendering.picture import Picture

if TYPE_CHECKING:
    from av import VideoFrame

# One thread (the processes of `simulate` are the parallelism, and the output does not depend on
# the number of threads); a key frame every second and two B-frames, as cameras write. No
# look-ahead: with it x264 spends bits on a picture by how it moves later, and the first frame's
# compression would tell what follows. Of the presets, the fastest: at the same quality (48 dB) its
# files are a third larger than those of `veryfast`, and take less than half the time.
X264 = {
    "preset": "ultrafast", "crf": "20", "threads": "1", "bf": "2",
    "x264-params": "mbtree=0:rc-lookahead=0:b-adapt=0:scenecut=0",
}  # fmt: skip


def write(
    frames: Iterable[Picture | NDArray[np.uint8]], path: Path, *, fps: float, size: int
) -> None:
    """Writes frames, `Picture` or uint8 (size, size, 3) RGB, to `path`.

    Nothing is forced to disk. Raises `data.files.WriteError` where the disk does not take it.
    """
    import av

    rate = Fraction(fps).limit_denominator(1001)
    made = io.BytesIO()
    with av.open(made, "w", format="mp4", options={"fflags": "+bitexact"}) as out:
        stream = out.add_stream("libx264", rate=rate, options=X264)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = max(1, round(fps))
        for number, pixels in enumerate(frames):
            frame = _frame(pixels)
            frame.pts, frame.time_base = number, 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    try:
        path.write_bytes(made.getbuffer())
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror or error}") from error


def _frame(pixels: Picture | NDArray[np.uint8]) -> VideoFrame:
    from av import VideoFrame

    if not isinstance(pixels, Picture):
        return VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
    height, width = pixels.luma.shape
    frame = VideoFrame(width, height, "yuv420p")
    for plane, values in zip(frame.planes, (pixels.luma, *pixels.chroma), strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(len(values), -1)
        rows[:, : values.shape[1]] = values
    return frame
