"""Frames to H.264 in MP4, the same bytes for the same frames."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.files import replacing

# One thread (the processes of `simulate` are the parallelism, and the output does not depend on
# the number of threads); a key frame every second and two B-frames, as cameras write. No
# look-ahead: with it x264 spends bits on a picture by how it moves later, and the first frame's
# compression would tell what follows.
X264 = {
    "preset": "veryfast", "crf": "20", "threads": "1", "bf": "2",
    "x264-params": "mbtree=0:rc-lookahead=0",
}  # fmt: skip


def write(frames: Iterable[NDArray[np.uint8]], path: Path, *, fps: float, size: int) -> None:
    """Writes frames uint8 (size, size, 3) RGB to `path`, whole or not at all.

    Raises `data.files.WriteError` where the disk does not take it.
    """
    import av
    from av.video.reformatter import VideoReformatter

    rate = Fraction(fps).limit_denominator(1001)
    to_yuv = VideoReformatter()
    with (
        replacing(path) as file,
        av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as out,
    ):
        stream = out.add_stream("libx264", rate=rate, options=X264)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = max(1, round(fps))
        picture = av.VideoFrame(size, size, "rgb24")  # drawn over again: fresh memory is slow
        rows = np.frombuffer(memoryview(picture.planes[0]), np.uint8).reshape(size, -1)
        for number, pixels in enumerate(frames):
            rows[:, : 3 * size] = pixels.reshape(size, 3 * size)
            picture.pts, picture.time_base = number, 1 / rate
            out.mux(stream.encode(to_yuv.reformat(picture, format="yuv420p", threads=1)))
        out.mux(stream.encode())
