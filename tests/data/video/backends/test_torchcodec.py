"""torchcodec on the CPU and on a GPU."""

import subprocess
import sys

import numpy as np
import pytest

from data.video import (
    CannotAgree,
    read,
)


def test_torchcodec_is_not_loaded_after_decord_to_read_av1(clip_file):
    """It would end the process: both carry an AV1 decoder, of different versions."""
    pytest.importorskip("decord")
    code = (
        "import sys; from data.video import probe, read;"
        "import decord; path = sys.argv[1];"
        "print(probe(path, decoders=['torchcodec']).agreement['torchcodec'])"
    )
    command = [sys.executable, "-c", code, str(clip_file("av1"))]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == "torchcodec cannot read AV1 once decord is loaded\n"


def test_without_a_cuda_device_none_is_used(clip_file):
    pytest.importorskip("torchcodec")
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(CannotAgree, match="there is no CUDA device for torchcodec to decode on"):
        read(clip_file("h264_short_gop"), [0], decoder="torchcodec", device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["h264_short_gop", "h264_open_gop", "hevc", "vp9", "av1"])
def test_the_gpu_shows_what_the_reference_shows_or_refuses(name, clip_file):
    pytest.importorskip("torchcodec")
    indices = [31, 2, 17, 2]
    expected = read(clip_file(name), indices)
    try:
        batch = read(clip_file(name), indices, decoder="torchcodec", device="cuda")
    except CannotAgree as refusal:
        pytest.skip(f"refused, as it may be: {refusal.reason}")
    assert np.abs(batch.frames.astype(int) - expected.frames).max() <= 2
    np.testing.assert_array_equal(batch.pts_seconds, expected.pts_seconds)
