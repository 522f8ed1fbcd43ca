"""The full decode."""

import pytest

from data.video import (
    Limits,
)
from data.video.pyav import open_video
from data.video.pyav.sequential import decode_fully
from tests.helpers import clips


@pytest.mark.parametrize("name", ["h264_long_gop", "hevc"])
def test_damage_is_the_same_whatever_the_threads(name, clip_file, tmp_path):
    """With frames in several threads FFmpeg counts otherwise, or hangs."""

    def spoil(n, packet):
        if n in (5, 6, 21):
            packet.update(bytes(packet)[:9] + b"\xff" * (packet.size - 9))
        return True

    path = clips.remuxed(clip_file(name), tmp_path / "bad.mp4", change=spoil)
    passes = []
    for threads in (1, 2, 4):
        with open_video(path, limits=Limits(), threads=threads, quick=True) as container:
            made = decode_fully(container, strict=True)
            passes.append((made.pts, made.failures))
    assert passes[0][1]
    assert passes[1] == passes[2] == passes[0]
