"""Records of decoders: found by their files, checked, and used by read, probe and the pool."""

import sys

import numpy as np
import pytest

from data.errors import HeliographError, InvalidValueError
from data.video import (
    DECODERS,
    DecoderPool,
    Job,
    Sampling,
    backends,
    decoder_record,
    probe,
    read,
    read_sampled,
)

# It returns the frames of the reference upside down.
UPSIDE_DOWN = """
from data.video.backends.base import Backend


def read_frames(session, indices, device):
    return session.frames(indices)[:, ::-1]


def versions():
    return {"version": "1.2"}


BACKEND = Backend(name="upside_down", read=read_frames, versions=versions, packages=("numpy",))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose modules count as files of `backends/`."""
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path)])
    return tmp_path


def test_the_reference_is_first_and_decord_is_last():
    names = list(DECODERS)
    assert (names[0], names[-1]) == ("pyav", "decord")
    assert {"pyav", "decord", "torchcodec"} <= set(names)


def test_a_file_adds_a_decoder(folder, clip_file, monkeypatch):
    (folder / "upside_down.py").write_text(UPSIDE_DOWN)
    found = backends.discover(backends.__path__)
    assert list(found) == ["pyav", "torchcodec", "upside_down", "decord"]
    monkeypatch.setitem(DECODERS, "upside_down", found["upside_down"])
    path = clip_file("h264_no_b")
    expected = read(path, [3, 1]).frames[:, ::-1]
    np.testing.assert_array_equal(read(path, [3, 1], decoder="upside_down").frames, expected)
    assert "grey levels" in probe(path).agreement["upside_down"]
    assert decoder_record("upside_down") == {"name": "upside_down", "version": "1.2"}


def test_a_worker_finds_the_decoder_too(folder, clip_file, monkeypatch):
    """A worker is a process of its own, which gets nothing but the decoder's name."""
    (folder / "upside_down.py").write_text(UPSIDE_DOWN)
    (folder / "sitecustomize.py").write_text(
        "from data.video import backends\n"
        f"backends.__path__.append({str(folder)!r})\n"
        "backends.DECODERS.update(backends.discover(backends.__path__))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    path, sampling = clip_file("h264_no_b"), Sampling(frames=3)
    with DecoderPool(workers=1) as pool:
        (outcome,) = pool.map([Job(path=path, sampling=sampling, decoder="upside_down")])
    expected = read_sampled(path, sampling)[0].frames[:, ::-1]
    np.testing.assert_array_equal(outcome.batch.frames, expected)
    assert outcome.info.decoder == "upside_down"


def test_a_record_has_the_name_of_its_file(folder):
    (folder / "renamed.py").write_text(UPSIDE_DOWN)
    with pytest.raises(ValueError, match=r"the decoder of renamed\.py is named 'upside_down'"):
        backends.discover(backends.__path__)


def test_the_record_in_a_cache_names_versions():
    record = decoder_record("pyav")
    assert record["name"] == "pyav"
    assert set(record["ffmpeg"]) == {"libavcodec", "libavformat", "libswscale"}
    with pytest.raises(InvalidValueError, match="no decoder 'ffmpeg': choose one of pyav, "):
        decoder_record("ffmpeg")


def test_a_decoder_that_is_not_installed_has_no_record(monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(HeliographError, match="the decoder decord cannot be used here: import of"):
        decoder_record("decord")
