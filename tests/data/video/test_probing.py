"""Files are looked at in a process that can be killed."""

from collections.abc import Callable, Iterator
from typing import Self

import pytest

from data.video import Limits, Outcome, VideoError, VideoInfo, probe, probe_files
from data.video.decoder_pool import TIMEOUT, DecoderEnded, ProbeJob


def test_it_says_what_probe_says(clip_file, tmp_path):
    (tmp_path / "text.mp4").write_text("Dear diary,\n" * 50)
    names = ("h264_short_gop", "rotated_90", "gif")
    found = list(probe_files([*map(clip_file, names), tmp_path / "text.mp4"]))
    for name, info in zip(names, found, strict=False):
        assert isinstance(info, VideoInfo)
        assert info.to_json() == probe(clip_file(name)).to_json()
    assert isinstance(found[-1], VideoError)
    assert found[-1].reason == "a text file, not a video"


class SlowPool:
    """Stands for a pool: what `times_out` picks times out, and the rest is described."""

    def __init__(self, times_out: Callable[[ProbeJob], bool]) -> None:
        self.times_out = times_out

    def __call__(self, **arguments: object) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def map(self, jobs: list[ProbeJob]) -> Iterator[Outcome]:
        for job in jobs:
            if self.times_out(job):
                yield Outcome(job=job, error=DecoderEnded(job.path, TIMEOUT))
            else:
                yield Outcome(job=job, info=job.read(1)[1])


def test_a_file_that_decodes_for_too_long_is_described_without(clip_file, monkeypatch):
    monkeypatch.setattr("data.video.probing.DecoderPool", SlowPool(lambda job: job.decode))
    (info,) = probe_files([clip_file("h264_short_gop")], limits=Limits(wall_seconds=6))
    assert isinstance(info, VideoInfo)
    assert (info.shown_frames, info.decodable_frames, info.agreement) == (60, None, {})
    assert info.notes == ("not decoded, which takes more than 6 s",)


def test_a_file_that_hangs_even_so_is_one_failed_file(clip_file, monkeypatch):
    hangs = clip_file("h264_short_gop")
    monkeypatch.setattr("data.video.probing.DecoderPool", SlowPool(lambda job: job.path == hangs))
    hung, good = probe_files([hangs, clip_file("gif")])
    assert isinstance(hung, VideoError)
    assert hung.reason == "timeout"
    assert isinstance(good, VideoInfo)


def test_a_decoder_that_crashes_is_named_among_the_others(clip_file, tmp_path, monkeypatch):
    pytest.importorskip("decord")
    (tmp_path / "decord.py").write_text(
        "import os\n"
        "class DECORDError(Exception): pass\n"
        "def VideoReader(*arguments, **options): os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (info,) = probe_files([clip_file("h264_short_gop")])
    assert isinstance(info, VideoInfo)
    assert info.agreement["decord"] == "the decoder crashed (signal 6, SIGABRT)"
    assert "crashed" not in info.agreement["torchcodec"]
    assert info.decodable_frames == info.shown_frames


def test_limits_hold(clip_file):
    (refused,) = probe_files([clip_file("h264_long_gop")], limits=Limits(pixels=1000))
    assert isinstance(refused, VideoError)
    assert refused.reason == (
        "its frames of 96x64 are 6,144 pixels, the limit is 1,000 (--max-pixels lifts it)"
    )
