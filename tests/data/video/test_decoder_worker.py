"""Decoding in processes that can be killed: hangs, crashes and damage cost one clip each."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.video import DecoderPool, Job, Limits, Sampling, read_sampled
from data.video.decoder_worker import _Publisher

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def pool():
    with DecoderPool(workers=2) as shared_pool:
        yield shared_pool


SAMPLING = Sampling(frames=3, pad=True)


def test_the_pool_reads_what_read_reads(pool, honest):
    names = ("h264_short_gop", "hevc_open_gop", "rotated_90", "vp9")
    jobs = [Job(path=honest(name), sampling=SAMPLING, tag=name) for name in names]
    outcomes = {outcome.job.tag: outcome for outcome in pool.map(jobs)}
    assert set(outcomes) == set(names)
    for name in names:
        batch, info = read_sampled(honest(name), SAMPLING)
        np.testing.assert_array_equal(outcomes[name].batch.frames, batch.frames)
        np.testing.assert_array_equal(outcomes[name].batch.pts_seconds, batch.pts_seconds)
        assert outcomes[name].info.to_json() == info.to_json()


SPINS = """
import re
import av

opened = av.open


def spin(file, *arguments, **options):
    if "spins" in file:  # in C, holding the interpreter's lock, for longer than the universe is old
        re.match("(a+)+$", "a" * 80 + "b")
    return opened(file, *arguments, **options)


av.open = spin
"""


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_hang_ends_as_one_failed_clip(honest, tmp_path, monkeypatch):
    """Native code that never returns, where no signal handler and no thread can run."""
    (tmp_path / "sitecustomize.py").write_text(SPINS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    spins = tmp_path / "spins.mp4"
    spins.write_bytes(honest("h264_short_gop").read_bytes())
    good = ("vp9", "h264_no_b", "h264_short_gop", "rotated_90", "mjpeg")
    jobs = [Job(path=honest(name), sampling=SAMPLING, tag=name) for name in good]
    jobs.insert(2, Job(path=spins, sampling=SAMPLING, limits=Limits(wall_seconds=1.5), tag="spins"))
    with DecoderPool(workers=2) as pool:
        list(pool.map(jobs[:2]))
        before = {worker.process.pid for worker in pool.workers}
        began = time.monotonic()
        outcomes = {outcome.job.tag: outcome for outcome in pool.map(jobs)}
        assert time.monotonic() - began < 15
        list(pool.map(jobs[:2]))
        after = {worker.process.pid for worker in pool.workers}
    assert len(before) == len(after) == 2
    assert len(before & after) == 1  # only the worker that span was replaced
    assert all(gone(process) for process in before - after)
    assert str(outcomes.pop("spins").error) == f"{spins}: timeout"
    assert set(outcomes) == set(good)
    for name, outcome in outcomes.items():
        expected = read_sampled(honest(name), SAMPLING)[0].frames
        np.testing.assert_array_equal(outcome.batch.frames, expected)


def test_a_decoder_that_hangs_ends_with_a_parent_that_is_killed(honest, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SPINS)
    spins = tmp_path / "spins.mp4"
    spins.write_bytes(honest("h264_short_gop").read_bytes())
    code = """
import sys, threading
import time
from pathlib import Path
from data.video import DecoderPool, Job, Sampling
pool = DecoderPool(workers=1)
job = Job(path=Path(sys.argv[1]), sampling=Sampling(frames=3))
threading.Thread(target=lambda: list(pool.map([job])), daemon=True).start()
while not any(worker.job for worker in pool.workers):
    time.sleep(0.01)
print(pool.workers[0].process.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(spins)], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
    )  # fmt: skip
    worker = int(parent.stdout.readline())
    wait_until(lambda: cpu_seconds(worker) > 1.5)  # it has been loaded, and spins
    parent.kill()
    parent.communicate()
    wait_until(lambda: cpu_seconds(worker) < 0)


def cpu_seconds(process: int) -> float:
    """What a process has used, by Linux's account of it; -1 where it is gone or dead."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] == "Z" else int(fields[11]) / os.sysconf("SC_CLK_TCK")


def wait_until(happens: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_frames_beyond_the_bound_on_a_file_cost_one_clip():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    shared = os.memfd_create("frames")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(MemoryError, match="too large"):
            _Publisher(shared)(np.zeros((1, 20, 20, 3), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        os.close(shared)


def test_decoding_that_takes_too_long_times_out(honest, clips_made, tmp_path):
    """FFmpeg at work in one call, on a file within all limits but that of time."""
    slow = clips_made.png_film(tmp_path / "slow.mov", clips_made.grey_png(8192), claimed=8192)
    with DecoderPool(workers=1) as pool:
        list(pool.map([Job(path=honest("vp9"), sampling=SAMPLING)]))
        limits = Limits(wall_seconds=0.05)
        jobs = [Job(path=slow, sampling=Sampling(frames=2), limits=limits, tag=True)]
        first, second = pool.map([*jobs, Job(path=honest("vp9"), sampling=SAMPLING)])
    assert first.error.reason == "timeout"
    assert second.batch.frames.shape == (3, 64, 96, 3)


def test_a_stopped_worker_times_out_and_the_others_go_on(honest):
    import signal

    with DecoderPool(workers=1) as pool:
        list(pool.map([Job(path=honest("vp9"), sampling=SAMPLING)]))
        os.kill(pool.workers[0].process.pid, signal.SIGSTOP)  # as native code that spins for ever
        jobs = [
            Job(path=honest("vp9"), sampling=SAMPLING, limits=Limits(wall_seconds=0.5)),
            Job(path=honest("h264_no_b"), sampling=SAMPLING),
        ]
        first, second = pool.map(jobs)
        assert first.error.reason == "timeout"
        assert second.batch.frames.shape == (3, 64, 96, 3)


def test_a_crash_ends_as_one_failed_clip(honest):
    import signal

    with DecoderPool(workers=1) as pool:
        list(pool.map([Job(path=honest("vp9"), sampling=SAMPLING)]))
        worker = pool.workers[0]
        os.kill(worker.process.pid, signal.SIGSTOP)
        worker.give(Job(path=honest("vp9"), sampling=SAMPLING))
        os.kill(worker.process.pid, signal.SIGSEGV)
        os.kill(worker.process.pid, signal.SIGCONT)
        outcome = pool._outcome(worker)
        assert outcome.error.reason == "the decoder crashed (signal 11, SIGSEGV)"
        (after,) = pool.map([Job(path=honest("vp9"), sampling=SAMPLING)])
        assert after.batch is not None


def test_a_worker_that_died_idle_is_replaced(pool, honest):
    list(pool.map([Job(path=honest("vp9"), sampling=SAMPLING)]))
    for worker in pool.workers:
        worker.process.kill()
        worker.process.wait()
    (outcome,) = pool.map([Job(path=honest("vp9"), sampling=SAMPLING)])
    assert outcome.batch is not None


def test_leaving_early_leaves_the_pool_usable(pool, honest):
    jobs = [Job(path=honest("vp9"), sampling=SAMPLING) for _ in range(6)]
    outcomes = pool.map(iter(jobs))
    next(outcomes)
    outcomes.close()
    assert len(list(pool.map(jobs))) == 6


def test_workers_import_little():
    code = (
        "import sys, data.video;"
        "print([name for name in ('torch', 'decord') if name in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


def mutated(pool, sources: list[Path], folder: Path, count: int, seed: int) -> dict[str, int]:
    """Read `count` mutations of `sources` in `pool`; how each ended."""
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
    ended = {"read": 0, "refused": 0}
    seen = set()
    for outcome in pool.map(jobs):
        seen.add(outcome.job.tag)
        if outcome.error is not None:
            assert outcome.error.reason
            assert str(outcome.job.path) in str(outcome.error)
            ended["refused"] += 1
        else:
            assert outcome.batch.frames.shape[0] == 3
            ended["read"] += 1
    assert seen == set(range(count))
    return ended


QUICK = ("h264_short_gop", "hevc_open_gop", "vp9", "av1", "mpeg4_avi", "mjpeg", "h264_transport")


def test_forty_mutations_are_accounted_for(pool, honest, tmp_path):
    ended = mutated(pool, [honest(name) for name in QUICK], tmp_path, 40, seed=0)
    assert sum(ended.values()) == 40
    assert ended["refused"] > 5


@pytest.mark.slow
def test_five_hundred_mutations_are_accounted_for(pool, shared, tmp_path):
    sources = sorted(
        (p for p in (shared / "videos").iterdir() if p.suffix != ".md"),
        key=lambda p: p.stat().st_size,
    )[:10]
    ended = mutated(pool, sources, tmp_path, 500, seed=1)
    assert sum(ended.values()) == 500
