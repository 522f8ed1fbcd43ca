"""torchcodec on the CPU and on a GPU."""

import dataclasses
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

from data.errors import HeliographError, InvalidValueError
from data.video import (
    DECODERS,
    CannotAgree,
    DecoderPool,
    Job,
    Sampling,
    decoder_record,
    read,
    read_sampled,
)
from tests.helpers.decoding import sequential

DECODERS_WITH_VERSIONS = {
    name: dataclasses.replace(backend, versions=lambda: {"version": "1"})
    for name, backend in DECODERS.items()
}


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


def test_a_clip_that_no_gpu_can_decode_is_read_by_the_reference(clip_file):
    pytest.importorskip("torchcodec")
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    job = Job(
        path=clip_file("h264_short_gop"), sampling=Sampling(frames=4), decoder="torchcodec:cuda"
    )
    with DecoderPool(workers=1) as pool:
        (outcome,) = pool.map([job])
    assert outcome.info.decoder == "pyav"
    assert outcome.info.notes[-1].endswith("there is no CUDA device for torchcodec to decode on")
    with pytest.raises(HeliographError, match="leave out --decode-device"):
        decoder_record("torchcodec:cuda")


def test_the_device_is_in_the_name_of_a_decoder(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("data.video.backends.DECODERS", DECODERS_WITH_VERSIONS)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert decoder_record("torchcodec")["name"] == "torchcodec"
    assert decoder_record("torchcodec:cuda") == {"name": "torchcodec:cuda", "version": "1"}
    with pytest.raises(InvalidValueError, match="pyav does not decode on cuda; torchcodec does"):
        decoder_record("pyav:cuda")
    with pytest.raises(InvalidValueError, match="no device 'tpu'"):
        decoder_record("torchcodec:tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HeliographError, match="no CUDA device to decode on"):
        decoder_record("torchcodec:cuda")


@pytest.mark.gpu
def test_a_pool_decodes_on_the_gpu_within_grey_levels_of_the_reference(clip_file):
    """In a process of its own, whose address space has no limit: CUDA would not start in one."""
    pytest.importorskip("torchcodec")
    job = Job(path=clip_file("h264_short_gop"), sampling=Sampling(frames=4))
    on_gpu = dataclasses.replace(job, decoder="torchcodec:cuda")
    with DecoderPool(workers=1, gpu=0) as pool:
        expected, outcome = pool.map([job, on_gpu])
    if outcome.info.decoder == "pyav":
        pytest.skip(f"refused, as it may be: {outcome.info.notes[-1]}")
    assert outcome.info.decoder == "torchcodec:cuda"
    assert np.abs(outcome.batch.frames.astype(int) - expected.batch.frames).max() <= 2


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


@pytest.mark.parametrize("name", ["duplicate_times", "h264_raw"])
def test_frames_of_one_time_are_not_asked_of_torchcodec(name, clip_file, tmp_path, monkeypatch):
    """It looks for frames by their times. Whatever is installed: the module is a stand-in."""
    pytest.importorskip("torch")
    modules = {"torchcodec": ModuleType("torchcodec"), "torchcodec.decoders": ModuleType("d")}
    modules["torchcodec.decoders"].VideoDecoder = None
    for module, stands_in in modules.items():
        monkeypatch.setitem(sys.modules, module, stands_in)
    path = clip_file(name)
    words = "torchcodec is not used on frames without a time of their own"
    with pytest.raises(CannotAgree, match=words):
        read(path, [3], decoder="torchcodec")
    batch, info = read_sampled(path, Sampling(frames=40), decoder="torchcodec")
    assert (info.decoder, info.notes[-1]) == ("pyav", f"read by pyav: {words}")
    np.testing.assert_array_equal(batch.frames, np.stack(sequential(path)[0]))
