"""What a decoder pool gives to those who take frames where they lie."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from data.video import DecoderPool, Job, Sampling, read_sampled

SAMPLING = Sampling(frames=3, pad=True)


@pytest.fixture
def jobs(honest) -> list[Job]:
    names = ("h264_short_gop", "hevc_open_gop", "vp9", "rotated_90")
    return [Job(path=honest(name), sampling=SAMPLING, tag=name) for name in names * 3]


def expected(path: Path) -> np.ndarray:
    return read_sampled(path, SAMPLING)[0].frames


def test_take_sees_the_frames_that_a_copy_holds(jobs):
    threads = set()

    def take(batch):
        threads.add(threading.current_thread())
        return batch.frames.copy(), batch.index.tolist()

    with DecoderPool(workers=2) as pool:
        outcomes = list(pool.map(jobs, take=take))
    assert len(outcomes) == len(jobs)
    assert threading.main_thread() not in threads
    for outcome in outcomes:
        frames, index = outcome.taken
        assert outcome.batch is None
        np.testing.assert_array_equal(frames, expected(outcome.job.path))
        assert index == sorted(index)
        assert outcome.seconds > 0


def test_a_copy_stays_when_the_memory_is_used_again(jobs):
    with DecoderPool(workers=1) as pool:
        outcomes = list(pool.map(jobs))
    for outcome in outcomes:
        np.testing.assert_array_equal(outcome.batch.frames, expected(outcome.job.path))


def test_an_error_of_take_is_raised_and_the_pool_can_be_used_again(jobs):
    def take(batch):
        raise ZeroDivisionError("mine")

    with DecoderPool(workers=2) as pool:
        with pytest.raises(ZeroDivisionError, match="mine"):
            list(pool.map(jobs, take=take))
        assert len(list(pool.map(jobs))) == len(jobs)


def test_an_error_of_the_jobs_is_raised(jobs):
    def some():
        yield jobs[0]
        raise ZeroDivisionError("mine")

    with DecoderPool(workers=2) as pool, pytest.raises(ZeroDivisionError, match="mine"):
        list(pool.map(some()))


def test_a_slow_taker_blocks_the_decoders_and_they_say_so(jobs):
    with DecoderPool(workers=1) as pool:
        list(pool.map(jobs[:1]))
        before = pool.blocked_seconds
        for _ in pool.map(jobs[:5]):
            time.sleep(0.2)
        assert pool.blocked_seconds - before > 0.2


def test_no_jobs_start_no_workers():
    with DecoderPool(workers=2) as pool:
        assert list(pool.map([])) == []
        assert pool.workers == []
