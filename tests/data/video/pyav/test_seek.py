"""Random access: only what is needed is decoded, by one decoder or several."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from data.video import (
    Limits,
    Sampling,
    VideoError,
    probe,
    read,
    read_sampled,
)
from data.video.pyav import DecodeSession, open_video, seek, session
from tests.helpers import clips
from tests.helpers.clips import CLIPS, encode
from tests.helpers.decoding import sequential

# By random access: those are fast, and a silent fall back to decoding everything would not be.
SLOW_BUT_RIGHT = {"apng_alpha"}


@pytest.mark.parametrize("name", CLIPS)
def test_random_access_is_used_where_it_can_be(name, clip_file, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("decoded everything")

    path = clip_file(name)
    assert probe(path, decoders=()).random_access == (name not in SLOW_BUT_RIGHT)
    if name not in SLOW_BUT_RIGHT:
        monkeypatch.setattr("data.video.pyav.session.decode_fully", refuse)
        read(path, [0])
    else:
        assert "decoded whole" in " ".join(read_sampled(path, Sampling(frames=2))[1].notes)


@pytest.mark.parametrize("name", ["hevc_open_gop", "mpeg4", "mpeg2"])
def test_frames_shown_before_the_start_that_they_follow_are_random_access_too(
    name, clip_file, monkeypatch
):
    """A start and the frames before it in time, after it in the file, need the group before."""
    path = clip_file(name)
    n = probe(path, decoders=()).shown_frames
    whole = read(path, range(n)).frames

    def refuse(*_, **__):
        raise AssertionError("decoded everything")

    monkeypatch.setattr("data.video.pyav.session.decode_fully", refuse)
    for first in range(n - 2):
        indices = range(first, first + 3)
        np.testing.assert_array_equal(read(path, indices).frames, whole[first : first + 3])


def test_a_segment_takes_over_those_that_lie_in_it():
    #               I0 P  P  I  b  P  I  b  P   (b: shown before the start it follows)
    pts = np.array([0, 1, 2, 4, 3, 5, 7, 6, 8])
    entry = np.array([2, 0, 0, 1, 0, 0, 1, 0, 0], np.int8)

    second = np.zeros(len(pts), bool)
    packets = SimpleNamespace(clock=pts, entry=entry, second=second)

    def segments(*wanted: int) -> list[tuple[int, int]]:
        found = seek.find_segments(packets, np.array(wanted))
        assert all(segment.begin == segment.first for segment in found)
        return [(segment.first, segment.last) for segment in found]

    assert segments(3) == [(3, 3)]
    assert segments(3, 4) == [(0, 4)]
    assert segments(6, 8) == [(6, 8)]
    assert segments(1, 3, 6, 7) == [(0, 1), (3, 7)]
    assert segments(1, 3, 4, 8) == [(0, 4), (6, 8)]


def test_a_run_in_begins_before_an_open_start():
    # Groups of 20; the second begins open, the third closed, the rest open.
    entry = np.zeros(120, np.int8)
    entry[[0, 20, 60, 80, 100]] = [2, 1, 2, 1, 1]
    entry[40] = 1
    packets = SimpleNamespace(clock=np.arange(120), entry=entry, second=np.zeros(120, bool))

    def segments(*wanted: int) -> list[tuple[int, int, int]]:
        return [tuple(s) for s in seek.find_segments(packets, np.array(wanted), run_in=True)]

    assert segments(65) == [(60, 60, 65)]
    assert segments(90) == [(60, 80, 90)]  # nothing before a closed start is needed
    assert segments(65, 90) == [(60, 60, 90)]
    assert segments(115) == [(60, 100, 115)]
    assert segments(50) == [(0, 40, 50)]
    assert segments(5, 25) == [(0, 0, 25)]
    assert segments(30) == [(0, 20, 30)]
    assert segments(65, 110) == [(60, 60, 110)]


@pytest.mark.parametrize("name", ["h264_open_gop", "h264_open_gop_mkv"])
def test_open_groups_are_read_from_before_them_where_they_cannot_be_read_alone(
    name, clip_file, monkeypatch
):
    """H.264 may name pictures before the start, to forget them, which FFmpeg calls a fault."""
    whole, _, _ = sequential(clip_file(name))
    once, stream_once = seek.decode_by_seeking, seek.stream_by_seeking

    def decode(container, buffer):
        if not container.runs_in:
            raise seek.SeekMismatch("for a test")
        return once(container, buffer)

    def stream(container, indices, facts):
        for number, item in enumerate(stream_once(container, indices, facts)):
            if number == 3 and not container.runs_in:
                raise seek.SeekMismatch("for a test")
            yield item

    monkeypatch.setattr("data.video.pyav.session.decode_by_seeking", decode)
    monkeypatch.setattr("data.video.pyav.session.stream_by_seeking", stream)
    monkeypatch.setattr(
        "data.video.pyav.session.decode_fully", lambda *given, **named: pytest.fail("whole")
    )
    for index in range(0, 90, 7):
        np.testing.assert_array_equal(read(clip_file(name), [index]).frames[0], whole[index])
    with open_video(clip_file(name), limits=Limits(), threads=1, quick=True) as container:
        session = DecodeSession(container, accept_damaged=False)
        numbers, frames = zip(*session.stream(np.arange(4, 90, 5)), strict=True)
        assert container.runs_in
        assert list(numbers) == list(range(4, 90, 5))
        np.testing.assert_array_equal(np.stack(frames), np.stack([whole[n] for n in numbers]))


def test_long_references_over_open_groups_are_read_at_random(tmp_path, monkeypatch):
    """Where the first picture after an open start names one before it."""
    options = {
        "g": "20",
        "bf": "5",
        "b-pyramid": "normal",
        "refs": "6",
        "x264-params": "open-gop=1",
    }
    path = clips.encode(tmp_path / "a.mp4", frames=90, size=(160, 120), options=options)
    whole, _, _ = sequential(path)
    monkeypatch.setattr(
        "data.video.pyav.session.decode_fully", lambda *given, **named: pytest.fail("whole")
    )
    for index in range(0, 90, 4):
        np.testing.assert_array_equal(read(path, [index]).frames[0], whole[index])


def test_only_what_is_needed_is_decoded(clip_file, monkeypatch):
    fed = []
    whole = seek._PacketSource.packet

    def count(self, number):
        fed.append(number)
        return whole(self, number)

    monkeypatch.setattr(seek._PacketSource, "packet", count)
    read(clip_file("h264_short_gop"), [0, 30, 59])
    assert len(fed) <= 3 * 12
    fed.clear()
    read(clip_file("h264_long_gop"), [119])
    assert len(fed) < 90  # of 120: frames that nothing depends on are left out


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads, clip_file):
    for name in ("h264_open_gop", "hevc_open_gop", "av1", "mpeg4"):
        expected = read(clip_file(name), [5, 33, 21]).frames
        np.testing.assert_array_equal(
            read(clip_file(name), [5, 33, 21], threads=threads).frames, expected
        )


@pytest.mark.parametrize("name", CLIPS)
def test_several_decoders_give_what_one_gives(name, clip_file, monkeypatch):
    path = clip_file(name)
    n = probe(path, decoders=()).shown_frames
    indices = np.random.default_rng(5).integers(0, n, 9)
    expected = read(path, indices, threads=1).frames
    plans = []
    plan = seek.plan_decoders

    def spread(container, lengths):
        plans.append(plan(container, lengths))
        return plans[-1]

    monkeypatch.setattr(seek, "MIN_PIXELS_PER_THREAD", 1)
    monkeypatch.setattr(seek, "THREAD_GAIN", 0.0)
    monkeypatch.setattr(seek, "plan_decoders", spread)
    np.testing.assert_array_equal(read(path, indices, threads=3).frames, expected)
    if name in ("h264_short_gop", "h264_open_gop", "hevc_open_gop", "mjpeg_mov"):
        assert len(plans[0].shares) > 1


INTRA = {
    "asv1.avi": {"codec": "asv1"},
    "asv2.avi": {"codec": "asv2"},
    "dnxhd.mov": {"codec": "dnxhd", "pixels": "yuv422p", "size": (320, 240),
                  "options": {"profile": "dnxhr_sq"}},
    "dv.avi": {"codec": "dvvideo", "size": (720, 576), "rate": 25},
    "dv.dv": {"codec": "dvvideo", "size": (720, 480), "rate": Fraction(30000, 1001),
              "pixels": "yuv411p"},
    "dv.mxf": {"codec": "dvvideo", "size": (720, 576), "rate": 25},
    "dv50.mov": {"codec": "dvvideo", "size": (720, 576), "rate": 25, "pixels": "yuv422p"},
    "huffyuv.avi": {"codec": "huffyuv", "pixels": "yuv422p", "size": (320, 480)},
    "jpeg2000.mxf": {"codec": "jpeg2000", "rate": 25},
    "jpegls.avi": {"codec": "jpegls", "pixels": "rgb24"},
    "magicyuv.avi": {"codec": "magicyuv", "pixels": "gbrp"},
    "prores.mov": {"codec": "prores_ks", "pixels": "yuv422p10le",
                   "options": {"flags": "+ildct+ilme"}},
    "r10k.mov": {"codec": "r10k", "pixels": "gbrp10le"},
    "r210.mov": {"codec": "r210", "pixels": "gbrp10le"},
    "speedhq.avi": {"codec": "speedhq"},
    "v210.mov": {"codec": "v210", "pixels": "yuv422p10le"},
    "y41p.avi": {"codec": "y41p", "pixels": "yuv411p"},
}  # fmt: skip


@pytest.mark.parametrize("name", INTRA)
def test_codecs_of_keyframes_alone_are_read_at_random(name, tmp_path, monkeypatch):
    """Interlaced ones too: both fields are in one packet."""
    path = encode(tmp_path / name, frames=8, **INTRA[name])
    whole, pts, _ = sequential(path)
    monkeypatch.setattr(session, "decode_fully", lambda *given, **named: pytest.fail("whole"))
    with open_video(path, limits=Limits(), threads=1, quick=True) as opened:
        read_by = DecodeSession(opened, accept_damaged=False)
        assert read_by.pts() == pts
        for index in (5, 1, 7, 0):
            np.testing.assert_array_equal(read_by.frames(np.array([index]))[0], whole[index])
        assert read_by.facts.interlaced == name.startswith(("dv", "prores"))


def test_segments_are_shared_out_evenly(clip_file):
    assert seek.balance([5, 1, 4, 2], 2) == [[0, 1], [2, 3]]
    assert seek.balance([7], 1) == [[0]]
    lengths = np.random.default_rng(6).integers(1, 50, 40).tolist()
    shares = seek.balance(lengths, 5)
    sums = [sum(lengths[n] for n in share) for share in shares]
    assert sorted(n for share in shares for n in share) == list(range(40))
    assert max(sums) - min(sums) <= 5
    assert all(share == sorted(share) for share in shares)


def test_a_plan_follows_the_work(clip_file):
    path = clip_file("h264_short_gop")  # of 96x64
    lanes = {1: 1, 2: 2, 4: 4}
    for threads, expected in lanes.items():
        with open_video(path, limits=Limits(), threads=threads, quick=True) as container:
            even = seek.plan_decoders(container, [400] * 8)
            assert (len(even.shares), even.threads) == (expected, 1)
            uneven = seek.plan_decoders(container, [3000, 10])
            assert (uneven.shares, uneven.threads) == ([[0, 1]], threads)
            little = seek.plan_decoders(container, [3] * 8)
            assert (little.shares, little.threads) == ([list(range(8))], 1)


def test_one_bad_group_among_several_decoders_is_noticed(clip_file, tmp_path, monkeypatch):
    """What one decoder meets reaches the reader, whichever of them it is."""

    def spoil(n, packet):
        if n in (26, 27, 28):
            packet.update(bytes(packet)[:5] + b"\xff" * (packet.size - 5))
        return True

    path = clips.remuxed(clip_file("h264_short_gop"), tmp_path / "bad.mp4", change=spoil)
    monkeypatch.setattr(seek, "MIN_PIXELS_PER_THREAD", 1)
    monkeypatch.setattr(seek, "THREAD_GAIN", 0.0)
    good = read(path, [0, 1, 50], threads=3).frames
    np.testing.assert_array_equal(good, read(clip_file("h264_short_gop"), [0, 1, 50]).frames)
    with pytest.raises(VideoError, match="damaged: header claims 60 frames, 60 are presented"):
        read(path, [0, 27, 50], threads=3)
