"""A pool of decoders: outcomes, timeouts, crashes and damage cost one clip each."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.errors import HeliographError
from data.files import sha256_file
from data.video import (
    DecoderPool,
    Job,
    Limits,
    Sampling,
    read_sampled,
)
from tests.helpers import clips
from tests.helpers.decoding import ENDLESS_OPEN, DecoderClock
from tests.helpers.planting import plant

SAMPLING = Sampling(frames=3, pad=True)


@pytest.fixture(scope="module")
def pool():
    with DecoderPool(workers=2) as shared_pool:
        yield shared_pool


@pytest.fixture
def jobs(clip_file) -> list[Job]:
    names = ("h264_short_gop", "hevc_open_gop", "vp9", "rotated_90")
    return [Job(path=clip_file(name), sampling=SAMPLING, tag=name) for name in names * 3]


def expected(path: Path) -> np.ndarray:
    return read_sampled(path, SAMPLING)[0].frames


def test_transform_sees_the_frames_that_a_copy_holds(jobs):
    threads = set()

    def transform(batch):
        threads.add(threading.current_thread())
        return batch.frames.copy(), batch.index.tolist()

    with DecoderPool(workers=2) as pool:
        outcomes = list(pool.map(jobs, transform=transform))
    assert len(outcomes) == len(jobs)
    assert threading.main_thread() not in threads
    for outcome in outcomes:
        frames, index = outcome.result
        assert outcome.batch is None
        np.testing.assert_array_equal(frames, expected(outcome.job.path))
        assert index == sorted(index)
        assert outcome.seconds > 0


def test_a_copy_stays_when_the_memory_is_used_again(jobs):
    with DecoderPool(workers=1) as pool:
        outcomes = list(pool.map(jobs))
    for outcome in outcomes:
        np.testing.assert_array_equal(outcome.batch.frames, expected(outcome.job.path))


def test_an_error_of_transform_is_raised_and_the_pool_can_be_used_again(jobs):
    def transform(batch):
        raise ZeroDivisionError("in a callback")

    with DecoderPool(workers=2) as pool:
        with pytest.raises(ZeroDivisionError, match="in a callback"):
            list(pool.map(jobs, transform=transform))
        assert len(list(pool.map(jobs))) == len(jobs)


def test_an_error_of_the_jobs_is_raised(jobs):
    def one_job():
        yield jobs[0]
        raise ZeroDivisionError("in a callback")

    with DecoderPool(workers=2) as pool, pytest.raises(ZeroDivisionError, match="in a callback"):
        list(pool.map(one_job()))


def test_a_slow_receiver_blocks_the_decoders_and_they_count_it(jobs, monkeypatch):
    clock = DecoderClock(monkeypatch)
    with DecoderPool(workers=1) as pool:
        outcomes = pool.map(jobs[:5])
        next(outcomes)
        clock.wait_for_puts(3)  # one was received, one has the room, one waits
        clock.now += 2
        assert len(list(outcomes)) == 4
        assert pool.blocked_seconds == 2


def test_no_jobs_start_no_workers():
    with DecoderPool(workers=2) as pool:
        assert list(pool.map([])) == []
        assert pool.workers == []


def test_the_pool_reads_what_read_reads(pool, clip_file):
    names = ("h264_short_gop", "hevc_open_gop", "rotated_90", "vp9")
    jobs = [Job(path=clip_file(name), sampling=SAMPLING, tag=name) for name in names]
    outcomes = {outcome.job.tag: outcome for outcome in pool.map(jobs)}
    assert set(outcomes) == set(names)
    for name in names:
        batch, info = read_sampled(clip_file(name), SAMPLING)
        np.testing.assert_array_equal(outcomes[name].batch.frames, batch.frames)
        np.testing.assert_array_equal(outcomes[name].batch.pts_seconds, batch.pts_seconds)
        assert outcomes[name].info.to_json() == info.to_json()


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("kind", ["gone", "folder", "FIFO", "dangling link"])
def test_a_file_that_cannot_be_hashed_costs_one_clip(clip_file, tmp_path, kind):
    bad, good, hashed = tmp_path / "bad.mp4", clip_file("h264_short_gop"), []
    if kind != "gone":
        plant(bad, kind, tmp_path / "victim")

    def wanted(source):
        hashed.append(source.sha256)
        return True

    given = [good, bad, good, bad, bad, good]
    jobs = [
        Job(path=path, sampling=SAMPLING, wanted=wanted, tag=number)
        for number, path in enumerate(given)
    ]
    with DecoderPool(workers=1) as pool:
        outcomes = list(pool.map(jobs, transform=lambda batch: batch.frames.copy()))
    assert sorted(outcome.job.tag for outcome in outcomes) == list(range(len(given)))
    for outcome in outcomes:
        if given[outcome.job.tag] == bad:
            assert isinstance(outcome.error, HeliographError)
            assert "bad.mp4" in str(outcome.error)
        else:
            np.testing.assert_array_equal(outcome.result, expected(good))
    assert hashed == [sha256_file(good)] * 3


def test_a_file_that_is_not_wanted_is_hashed_and_not_decoded(jobs):
    first = jobs[0].path
    asked = [
        replace(job, wanted=lambda source: source.sha256 != sha256_file(first)) for job in jobs
    ]
    with DecoderPool(workers=1) as pool:
        outcomes = list(pool.map(asked, transform=lambda batch: batch.frames.copy()))
    wanted = [job.path for job in jobs if job.path != first]
    assert sorted(outcome.job.path for outcome in outcomes) == sorted(wanted)
    for outcome in outcomes:
        np.testing.assert_array_equal(outcome.result, expected(outcome.job.path))


def test_a_hang_ends_as_one_failed_clip(clip_file, tmp_path, monkeypatch):
    """Native code that never returns, where no signal handler and no thread can run."""
    (tmp_path / "sitecustomize.py").write_text(ENDLESS_OPEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    loops = tmp_path / "loops.mp4"
    loops.write_bytes(clip_file("h264_short_gop").read_bytes())
    good = ("vp9", "h264_no_b", "h264_short_gop", "rotated_90", "mjpeg")
    jobs = [Job(path=clip_file(name), sampling=SAMPLING, tag=name) for name in good]
    jobs.insert(2, Job(path=loops, sampling=SAMPLING, limits=Limits(wall_seconds=1.5), tag="loops"))
    with DecoderPool(workers=2) as pool:
        while len(pool.workers) < 2:  # one worker may be quick enough for all of them
            list(pool.map(jobs[:2]))
        before = {worker.process.pid for worker in pool.workers}
        outcomes = {outcome.job.tag: outcome for outcome in pool.map(jobs)}
        while len(pool.workers) < 2:
            list(pool.map(jobs[:2]))
        after = {worker.process.pid for worker in pool.workers}
    assert len(before & after) == 1  # only the worker that looped was replaced
    assert all(gone(process) for process in before - after)
    assert str(outcomes.pop("loops").error) == (
        f"{loops}: timeout: it takes more than 1.5 s (--timeout)"
    )
    assert set(outcomes) == set(good)
    for name, outcome in outcomes.items():
        expected = read_sampled(clip_file(name), SAMPLING)[0].frames
        np.testing.assert_array_equal(outcome.batch.frames, expected)


def test_decoding_that_takes_too_long_times_out(clip_file, tmp_path, monkeypatch):
    """FFmpeg at work in one call, on a file within all limits but that of time."""
    monkeypatch.setattr("data.video.decoder_pool.POLL_SECONDS", 0.01)
    slow = clips.png_video(tmp_path / "slow.mov", clips.grey_png(8192), claimed=8192)
    with DecoderPool(workers=1) as pool:
        list(pool.map([Job(path=clip_file("vp9"), sampling=SAMPLING)]))
        limits = Limits(wall_seconds=0.01)
        jobs = [Job(path=slow, sampling=Sampling(frames=2), limits=limits, tag=True)]
        first, second = pool.map([*jobs, Job(path=clip_file("vp9"), sampling=SAMPLING)])
    assert first.error.reason == "timeout: it takes more than 0.01 s (--timeout)"
    assert second.batch.frames.shape == (3, 64, 96, 3)


def test_a_stopped_worker_times_out_and_the_others_go_on(clip_file):
    with DecoderPool(workers=1) as pool:
        list(pool.map([Job(path=clip_file("vp9"), sampling=SAMPLING)]))
        os.kill(pool.workers[0].process.pid, signal.SIGSTOP)  # as native code that loops for ever
        jobs = [
            Job(path=clip_file("vp9"), sampling=SAMPLING, limits=Limits(wall_seconds=0.5)),
            Job(path=clip_file("h264_no_b"), sampling=SAMPLING),
        ]
        first, second = pool.map(jobs)
        assert first.error.reason == "timeout: it takes more than 0.5 s (--timeout)"
        assert second.batch.frames.shape == (3, 64, 96, 3)


def test_a_crash_ends_as_one_failed_clip(clip_file):
    with DecoderPool(workers=1) as pool:
        list(pool.map([Job(path=clip_file("vp9"), sampling=SAMPLING)]))
        worker = pool.workers[0]
        os.kill(worker.process.pid, signal.SIGSTOP)
        worker.submit(Job(path=clip_file("vp9"), sampling=SAMPLING))
        os.kill(worker.process.pid, signal.SIGSEGV)
        os.kill(worker.process.pid, signal.SIGCONT)
        outcome = pool._receive(worker)
        assert outcome.error.reason == "the decoder crashed (signal 11, SIGSEGV)"
        (after,) = pool.map([Job(path=clip_file("vp9"), sampling=SAMPLING)])
        assert after.batch is not None


def test_a_worker_that_died_idle_is_replaced(pool, clip_file):
    list(pool.map([Job(path=clip_file("vp9"), sampling=SAMPLING)]))
    for worker in pool.workers:
        worker.process.kill()
        worker.process.wait()
    (outcome,) = pool.map([Job(path=clip_file("vp9"), sampling=SAMPLING)])
    assert outcome.batch is not None


def test_leaving_early_leaves_the_pool_usable(pool, clip_file):
    jobs = [Job(path=clip_file("vp9"), sampling=SAMPLING) for _ in range(6)]
    outcomes = pool.map(iter(jobs))
    next(outcomes)
    outcomes.close()
    assert len(list(pool.map(jobs))) == 6


def read_mutations(
    pool, sources: list[Path], folder: Path, count: int, seed: int
) -> dict[str, int]:
    """Read `count` mutations of `sources` in `pool`; return how many were read and refused."""
    rng = np.random.default_rng(seed)
    jobs = []
    for n in range(count):
        source = sources[n % len(sources)]
        data = bytearray(source.read_bytes())
        kind = n % 4
        if kind == 0:
            del data[int(rng.integers(1, len(data))) :]
        elif kind == 1:
            for at in rng.integers(0, len(data), int(rng.integers(1, 30))):
                data[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            at = int(rng.integers(len(data)))
            data[at : at + 64] = rng.bytes(64)
        else:
            at = int(rng.integers(min(len(data), 4096)))
            data[at] = int(rng.integers(256))
        path = folder / f"{n}{source.suffix}"
        path.write_bytes(data)
        limits = Limits(wall_seconds=20, memory_bytes=4 << 30)
        jobs.append(
            Job(path=path, sampling=SAMPLING, limits=limits, accept_damaged=bool(n % 2), tag=n)
        )
    counts = {"read": 0, "refused": 0}
    finished = set()
    for outcome in pool.map(jobs):
        finished.add(outcome.job.tag)
        if outcome.error is not None:
            assert outcome.error.reason
            assert str(outcome.job.path) in str(outcome.error)
            counts["refused"] += 1
        else:
            assert outcome.batch.frames.shape[0] == 3
            counts["read"] += 1
    assert finished == set(range(count))
    return counts


FAST_CLIPS = (
    "h264_short_gop",
    "hevc_open_gop",
    "vp9",
    "av1",
    "mpeg4_avi",
    "mjpeg",
    "h264_transport",
)


def test_forty_mutations_are_accounted_for(pool, clip_file, tmp_path):
    counts = read_mutations(pool, [clip_file(name) for name in FAST_CLIPS], tmp_path, 40, seed=0)
    assert sum(counts.values()) == 40
    assert counts["refused"] > 5


@pytest.mark.soak
def test_five_hundred_mutations_of_made_clips_are_accounted_for(pool, clip_file, tmp_path):
    counts = read_mutations(pool, [clip_file(name) for name in FAST_CLIPS], tmp_path, 500, seed=2)
    assert sum(counts.values()) == 500
    assert counts["refused"] > 60


@pytest.mark.soak
def test_five_hundred_mutations_of_real_clips_are_accounted_for(pool, shared, tmp_path):
    sources = sorted(
        (p for p in (shared / "videos").iterdir() if p.suffix != ".md"),
        key=lambda p: p.stat().st_size,
    )[:10]
    counts = read_mutations(pool, sources, tmp_path, 500, seed=1)
    assert sum(counts.values()) == 500


@pytest.mark.parametrize(("visible", "gpu", "name"), [(None, 2, "2"), ("4, 5", 1, "5")])
def test_decoders_see_the_gpu_that_this_process_calls_by_a_number(visible, gpu, name, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert DecoderPool(workers=1, gpu=gpu).environment == {"CUDA_VISIBLE_DEVICES": name}
    assert DecoderPool(workers=1).environment == {}
