"""A worker: its shared memory, its imports, its end."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.video import Job, Limits, Sampling
from data.video.decoder_worker import SharedFrames, _limit_memory
from tests.helpers.decoding import ENDLESS_OPEN

ROOT = Path(__file__).resolve().parents[3]


def test_a_decoder_that_hangs_ends_with_a_parent_that_is_killed(clip_file, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(ENDLESS_OPEN)
    loops = tmp_path / "loops.mp4"
    loops.write_bytes(clip_file("h264_short_gop").read_bytes())
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
time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(loops)], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
    )  # fmt: skip
    worker = int(parent.stdout.readline())
    wait_until((tmp_path / "looping").exists)
    parent.kill()
    parent.communicate()
    wait_until(lambda: has_ended(worker))


def has_ended(process: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_frames_above_a_file_size_limit_cost_one_clip():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    shared = os.memfd_create("frames")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(MemoryError, match="too large"):
            SharedFrames(shared).write(np.zeros((1, 20, 20, 3), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        os.close(shared)


def test_whatever_a_file_provokes_costs_its_clip_and_prints_nothing(clip_file, tmp_path):
    """A fault of a library that nobody foresaw; the worker goes on with the next clip."""
    (tmp_path / "sitecustomize.py").write_text(
        """
import os
import av

opened = av.open


def fail(file, *arguments, **options):
    if "odd" in file:
        os.write(2, b"from a library: \\x1b[2J")
        raise ZeroDivisionError("of nothing\\nmore")
    return opened(file, *arguments, **options)


av.open = fail
"""
    )
    odd = tmp_path / "odd.mp4"
    odd.write_bytes(clip_file("h264_short_gop").read_bytes())
    code = """
import sys
from pathlib import Path
from data.video import DecoderPool, Job, Sampling
with DecoderPool(workers=1) as pool:
    for path in sys.argv[1:]:
        (outcome,) = pool.map([Job(path=Path(path), sampling=Sampling(frames=3))])
        process = pool.workers[0].process.pid
        print(outcome.error and outcome.error.reason, process)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, str(odd), str(clip_file("h264_short_gop"))],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    first, second = ended.stdout.splitlines()
    assert first.rpartition(" ")[0] == "the decoder failed (ZeroDivisionError: of nothing)"
    assert second.rpartition(" ")[0] == "None"
    assert first.rpartition(" ")[2] == second.rpartition(" ")[2]
    assert ended.stderr == ""


def test_a_worker_imports_little():
    code = (
        "import sys, data.video.decoder_worker;"
        "heavy = {'torch', 'decord', 'torchcodec', 'h5py', 'pydantic'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_only_a_job_for_a_gpu_has_all_addresses():
    """CUDA reserves more of them than any machine has memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    job = {"path": Path("a.mp4"), "sampling": Sampling(), "limits": Limits(memory_bytes=1 << 40)}
    try:
        _limit_memory(Job(**job))
        bounded = resource.getrlimit(resource.RLIMIT_AS)
        _limit_memory(Job(**job, decoder="torchcodec:cuda"))
        lifted = resource.getrlimit(resource.RLIMIT_AS)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert bounded == (1 << 40, before[1])
    assert lifted == (before[1], before[1])
