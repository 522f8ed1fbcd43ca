"""Small films for extractions."""

from pathlib import Path

import av
import numpy as np


def make_film(path: Path, number: int, *, frames: int = 9, title: str = "") -> Path:
    """Write a film of 64 x 48 pixels that differs from those of other numbers."""
    noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    texture = noise.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as out:
        out.metadata["title"] = title
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in range(frames):
            picture = np.roll(texture, 3 * frame, 1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path
