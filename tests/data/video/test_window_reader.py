"""Windows of a video: the frames of each, from one pass over the file."""

import os
import signal
import tracemalloc
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from data.video import DecoderPool, Limits, Sampling, VideoError, WindowsJob, read_sampled
from data.video.pyav import seek
from data.video.window_reader import read_windows
from data.windows import Windows
from tests.helpers import clips

SAMPLING = Sampling(frames=4)
OVERLAPPING = Windows(every=0.25, span=0.75)


def everything(windows):
    return windows


def assert_as_read_alone(path: Path, found, sampling: Sampling = SAMPLING) -> None:
    for read in found:
        alone, _ = read_sampled(path, sampling, start=read.window.start, end=read.window.end)
        np.testing.assert_array_equal(read.batch.frames, alone.frames)
        assert read.batch.index.tolist() == alone.index.tolist()
        assert read.batch.pts_seconds.tolist() == alone.pts_seconds.tolist()


@pytest.fixture
def decoded(monkeypatch) -> Counter[int]:
    """How often each time was decoded, and for how many frames pixels were made."""
    counts: Counter[int] = Counter()

    def counted(container, packets, *arguments, **options):
        def passing():
            for packet in packets:
                counts[packet.pts] += 1
                yield packet

        return decode(container, passing(), *arguments, **options)

    decode = seek._segment_frames
    monkeypatch.setattr(seek, "_segment_frames", counted)
    return counts


@pytest.mark.parametrize(
    "name", ["h264_short_gop", "hevc_open_gop", "vp9", "h264_interlaced", "h264_raw", "gif"]
)
def test_windows_have_the_frames_that_each_has_alone(name, clip_file):
    path = clip_file(name)
    found = list(read_windows(path, SAMPLING, OVERLAPPING, everything))
    assert len(found) >= 3
    assert_as_read_alone(path, found)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(name="fps", fps=8, frames=5),
        Sampling(name="window", frames=3, stride=2),
        Sampling(name="uniform-time", frames=6),
        Sampling(name="middle", frames=1),
    ],
)
def test_every_sampler_is_the_same_in_a_window_as_alone(sampling, clip_file):
    path = clip_file("h264_short_gop")
    assert_as_read_alone(path, read_windows(path, sampling, OVERLAPPING, everything), sampling)


def test_no_packet_is_decoded_twice_whatever_the_overlap(tmp_path, decoded):
    path = clips.encode(tmp_path / "a.mp4", frames=240, options={"g": "24"})
    found = list(read_windows(path, SAMPLING, Windows(every=0.125, span=2), everything))
    assert len(found) == 65
    assert max(decoded.values()) == 1
    assert len(decoded) <= 240


def test_what_is_not_chosen_is_not_decoded(tmp_path, decoded):
    path = clips.encode(tmp_path / "a.mp4", frames=240, options={"g": "24", "keyint_min": "24"})
    chosen = read_windows(path, SAMPLING, Windows(every=1, span=1), lambda found: found[6:7])
    (read,) = chosen
    assert read.window == (6.0, 7.0)
    assert len(decoded) <= 25
    decoded.clear()
    assert list(read_windows(path, SAMPLING, Windows(every=1, span=1), lambda found: [])) == []
    assert not decoded


def test_a_stretch_is_cut_inside_it_and_a_partial_window_is_left_out(clip_file):
    path = clip_file("h264_short_gop")  # 40 frames, 24 a second
    windows = Windows(every=0.5, span=0.75)

    def times(**stretch):
        found = read_windows(path, SAMPLING, windows, everything, **stretch)
        return [read.window for read in found]

    assert times() == [(0, 0.75), (0.5, 1.25), (1, 1.75), (1.5, 2.25)]
    assert times(start=1.5) == [(1.5, 2.25)]
    assert times(start=0.25, end=1.2) == [(0.25, 1)]
    assert times(end=99.0) == times()
    with pytest.raises(VideoError, match="a window takes 3 s: try a smaller --span"):
        list(read_windows(path, SAMPLING, Windows(every=2, span=3), everything))
    with pytest.raises(VideoError, match=r"there are 0\.400 s, and a window takes 0\.75 s"):
        list(read_windows(path, SAMPLING, windows, everything, start=1.0, end=1.4))


def test_a_window_without_enough_frames_is_its_own_error(tmp_path):
    ticks = [*range(24), *range(72, 96)]  # nothing is shown for two seconds
    path = clips.encode(tmp_path / "gap.mkv", frames=48, pts=ticks, options={"bf": "0"})
    found = list(read_windows(path, SAMPLING, Windows(every=1, span=1), everything))
    assert [read.error is None for read in found] == [True, False, False, True]
    assert found[1].error.reason == "the clip has 0 frames, 4 are asked for"


def test_where_random_access_fails_the_rest_comes_from_the_start(clip_file, monkeypatch):
    path = clip_file("h264_short_gop")
    stream = seek.stream_by_seeking

    def failing(container, indices, facts):
        for number, item in enumerate(stream(container, indices, facts)):
            if number == 7:
                raise seek.SeekMismatch("for a test")
            yield item

    monkeypatch.setattr("data.video.pyav.session.stream_by_seeking", failing)
    found = list(read_windows(path, SAMPLING, OVERLAPPING, everything))
    notes = [note for read in found if read.info is not None for note in read.info.notes]
    assert "decoded whole, without random access: for a test" in notes
    monkeypatch.setattr("data.video.pyav.session.stream_by_seeking", stream)
    assert_as_read_alone(path, found)


@pytest.fixture
def damaged(tmp_path) -> tuple[Path, Path]:
    """Ten seconds, and the same with a fault in frame 107."""
    whole, broken = tmp_path / "whole.mov", tmp_path / "broken.mov"
    clips.encode(whole, codec="png", pixels="rgb24", frames=240)
    with av.open(str(whole)) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    sound, middle = packets[107], len(packets[107]) // 2
    faulty = sound[:middle] + b"\xff" * 40 + sound[middle + 40 :]
    broken.write_bytes(whole.read_bytes().replace(sound, faulty))
    return whole, broken


def test_damage_costs_the_windows_that_need_it(damaged):
    whole, broken = damaged
    windows = Windows(every=0.5, span=1)
    found = list(read_windows(broken, SAMPLING, windows, everything))
    failed = [read.window.start for read in found if read.error is not None]
    assert failed == [3.5]  # the frames 84, 91, 99 and 107
    assert found[7].error.reason.startswith("damaged: ")
    for read, sound in zip(found, read_windows(whole, SAMPLING, windows, everything), strict=True):
        if read.error is None:
            np.testing.assert_array_equal(read.batch.frames, sound.batch.frames)
            assert read.batch.index.tolist() == sound.batch.index.tolist()
    kept = read_windows(broken, SAMPLING, windows, everything, accept_damaged=True)
    assert [read.error for read in kept] == [None] * 19


def test_windows_that_overlap_in_too_much_memory_are_refused(clip_file):
    limits = Limits(batch_bytes=12 * 96 * 64 * 3)
    path = clip_file("h264_short_gop")
    few = read_windows(path, SAMPLING, Windows(every=0.5, span=0.5), everything, limits=limits)
    assert len(list(few)) == 5
    many = read_windows(
        path, Sampling(frames=8), Windows(every=0.1, span=1), everything, limits=limits
    )
    with pytest.raises(VideoError, match=r"of windows that overlap take .* \(--max-memory lifts"):
        list(many)


def test_more_windows_than_any_day_has_are_refused(clip_file):
    windows = Windows(every=0.001, span=0.001)
    path = clip_file("h264_short_gop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.video.window_reader.MOST_WINDOWS", 1000)
        with pytest.raises(VideoError, match="2,520 windows, the limit is 1,000: try a larger"):
            list(read_windows(path, SAMPLING, windows, everything))


def test_a_pool_gives_windows_in_order_and_what_is_known_once(clip_file):
    path = clip_file("h264_short_gop")
    job = WindowsJob(path=path, sampling=SAMPLING, windows=OVERLAPPING, tag=object())
    with DecoderPool(workers=2) as pool:
        outcomes = list(pool.map([job]))
        assert outcomes[0].job is job
        assert [o.window.start for o in outcomes] == [n / 4 for n in range(8)]
        assert [o.info is not None for o in outcomes] == [True] + [False] * 7
        assert_as_read_alone(path, outcomes)
        chosen = pool.map([WindowsJob(**vars(job) | {"choose": lambda found: found[6:]})])
        assert [o.window.start for o in chosen] == [1.5, 1.75]


def test_a_decoder_that_dies_costs_the_windows_that_have_not_come(tmp_path):
    path = clips.encode(tmp_path / "a.mp4", frames=96)
    job = WindowsJob(path=path, sampling=SAMPLING, windows=Windows(every=1, span=1))
    with DecoderPool(workers=1) as pool:

        def kill(batch):
            if batch.index[0] >= 24:
                os.kill(pool.workers[0].process.pid, signal.SIGKILL)
                pool.workers[0].process.wait()
            return batch.index.tolist()

        outcomes = list(pool.map([job], transform=kill))
        assert [o.window.start for o in outcomes] == [0, 1, 2, 3]
        assert [o.error is None for o in outcomes] == [True, True, False, False]
        assert "killed" in outcomes[-1].error.reason
        assert [o.error for o in pool.map([job])] == [None] * 4


def test_a_video_that_cannot_be_read_is_one_error(tmp_path):
    (tmp_path / "none.mp4").write_text("no film")
    job = WindowsJob(path=tmp_path / "none.mp4", sampling=SAMPLING, windows=OVERLAPPING)
    with DecoderPool(workers=1) as pool:
        (outcome,) = pool.map([job])
    assert (outcome.window, outcome.error.reason) == (None, "a text file, not a video")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    path = clips.encode(
        tmp_path / "hours.mp4", size=(64, 48), frames=7200, rate=1,
        options={"g": "50", "preset": "ultrafast"},
    )  # fmt: skip
    windows = Windows(every=2, span=32)
    tracemalloc.start()
    try:
        peaks = []
        for number, read in enumerate(
            read_windows(path, Sampling(frames=8), windows, everything, threads=1)
        ):
            assert read.error is None
            if number % 500 == 499:
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()
    assert len(peaks) == 7
    frame = 64 * 48 * 3
    assert max(peaks[1:]) - min(peaks[1:]) < 16 * frame, "of 7,200 frames"
