"""Decoding where it can be killed: a pool of worker processes that are used again and again.

Native code can spin for ever, crash, or take all memory, on a file made for it and sometimes on an
honest one. Here that costs one clip: its worker is killed and another takes its place.

    with DecoderPool(workers=2) as pool:
        for outcome in pool.map(jobs):
            if outcome.error: ...
            else: outcome.batch, outcome.info

A worker is a fresh interpreter that imports NumPy, PyAV and this package, nothing else. Frames
come back through memory that both processes map, one piece per worker, which is what bounds the
memory: a worker starts its next clip when its frames have been taken over.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from socket import socketpair
from typing import Any

import numpy as np

from data.errors import HeliographError
from data.frames import FrameBatch, Limits, VideoError, VideoInfo
from data.sampling import Sampling

GRACE_SECONDS = 0.2  # how often the pump looks at its clock


@dataclass(frozen=True, kw_only=True)
class Job:
    """One clip to read with `data.video.read_sampled`; `tag` is yours, and comes back."""

    path: Path
    sampling: Sampling
    start: float | None = None
    end: float | None = None
    decoder: str = "pyav"
    accept_damaged: bool = False
    limits: Limits = field(default_factory=Limits)
    tag: Any = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job: `batch` and `info`, or `error`."""

    job: Job
    batch: FrameBatch | None = None
    info: VideoInfo | None = None
    error: HeliographError | None = None


class _Worker:
    """The parent's end of one process."""

    def __init__(self, threads: int):
        ours, theirs = socketpair()
        self.shared = _shared_memory()
        command = [sys.executable, "-P", "-m", "data.sandbox", str(theirs.fileno())]
        command += [str(self.shared), str(threads)]
        root = str(Path(__file__).resolve().parents[1])
        given = os.environ.get("PYTHONPATH")
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([root, *([given] if given else [])])
        }
        with theirs:
            self.process = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(), self.shared),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())
        self.job: Job | None = None
        self.began = 0.0

    def give(self, job: Job) -> None:
        self.job, self.began = job, time.monotonic()
        self.connection.send(job)

    def overdue(self) -> bool:
        assert self.job is not None
        return time.monotonic() - self.began > self.job.limits.wall_seconds

    def take(self) -> Outcome:
        """The outcome of the job; EOFError or OSError where the process is gone."""
        assert self.job is not None
        job, (error, shape, index, pts_seconds, info) = self.job, self.connection.recv()
        self.job = None
        if error is not None:
            return Outcome(job=job, error=error)
        frames = np.empty(shape, np.uint8)
        if frames.nbytes:
            with mmap.mmap(self.shared, frames.nbytes, prot=mmap.PROT_READ) as view:
                frames[...] = np.frombuffer(view, np.uint8).reshape(shape)
        os.ftruncate(self.shared, 0)
        return Outcome(job=job, batch=FrameBatch(frames, index, pts_seconds), info=info)

    def failed(self, reason: str) -> Outcome:
        """Kill the process; the job that it had fails with `reason`."""
        assert self.job is not None
        self.close()
        return Outcome(job=self.job, error=VideoError(self.job.path, reason))

    def death(self) -> str:
        """How the process ended, in words."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "the decoder closed its connection"
        if code < 0:
            name = signal.Signals(-code).name
            return f"the decoder crashed (signal {-code}, {name})"
        return f"the decoder ended (exit code {code})"

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()
        with contextlib.suppress(OSError):
            os.close(self.shared)


def _shared_memory() -> int:
    """A file descriptor of memory that a child process can map too."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("heliograph-frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class DecoderPool:
    """`workers` processes that decode, each with `threads` threads of FFmpeg's.

    Workers start when first needed. Leave by `with` or `close`, which ends them at once.
    """

    def __init__(self, *, workers: int, threads: int = 1):
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self.size, self.threads = workers, threads
        self.workers: list[_Worker] = []

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        while self.workers:
            self.workers.pop().close()

    def map(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """The outcome of each job, as they are done; decoding goes on while you use one.

        At most `workers` outcomes wait to be taken, beside those being decoded.
        """
        done: queue.Queue[Outcome | BaseException | None] = queue.Queue(maxsize=self.size)
        stop = threading.Event()
        pump = threading.Thread(target=self._pump, args=(iter(jobs), done, stop), daemon=True)
        pump.start()
        try:
            while (outcome := done.get()) is not None:
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
        finally:
            stop.set()
            while pump.is_alive():
                with contextlib.suppress(queue.Empty):
                    done.get(timeout=GRACE_SECONDS)
            if any(worker.job is not None for worker in self.workers):
                self.close()  # left early: what is under way has no taker

    def _pump(
        self,
        jobs: Iterator[Job],
        done: queue.Queue[Outcome | BaseException | None],
        stop: threading.Event,
    ) -> None:
        """Keep the workers busy, and the clock on them."""
        try:
            more = True
            while not stop.is_set():
                while more and (worker := self._idle()) is not None:
                    if (job := next(jobs, None)) is None:
                        more = False
                    else:
                        self._start(worker, job)
                busy = [worker for worker in self.workers if worker.job is not None]
                if not busy:
                    break
                ready = wait([worker.connection for worker in busy], timeout=GRACE_SECONDS)
                for worker in busy:
                    if worker.connection in ready:
                        done.put(self._outcome(worker))
                    elif worker.overdue():
                        self.workers.remove(worker)
                        done.put(worker.failed("timeout"))
            done.put(None)
        except BaseException as error:  # raised again where the outcomes are taken
            done.put(error)

    def _idle(self) -> _Worker | None:
        for worker in self.workers:
            if worker.job is None:
                return worker
        if len(self.workers) < self.size:
            self.workers.append(_Worker(self.threads))
            return self.workers[-1]
        return None

    def _start(self, worker: _Worker, job: Job) -> None:
        try:
            worker.give(job)
        except OSError:  # it died while it had nothing to do: another takes its place
            self.workers.remove(worker)
            worker.close()
            self.workers.append(_Worker(self.threads))
            self.workers[-1].give(job)

    def _outcome(self, worker: _Worker) -> Outcome:
        try:
            return worker.take()
        except (EOFError, OSError):
            self.workers.remove(worker)
            return worker.failed(worker.death())


def _work(connection: Connection, shared: int, threads: int) -> None:
    """The worker's side: one job after the other until the connection closes."""
    from data.video import read_sampled

    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        _bound_memory(job.limits)
        try:
            batch, info = read_sampled(
                job.path,
                job.sampling,
                start=job.start,
                end=job.end,
                decoder=job.decoder,
                accept_damaged=job.accept_damaged,
                limits=job.limits,
                threads=threads,
            )
            _publish(batch.frames, shared)
        except HeliographError as error:
            connection.send((error, None, None, None, None))
        except MemoryError:
            refused = VideoError(job.path, "reading it takes more memory than is allowed")
            connection.send((refused, None, None, None, None))
        else:
            connection.send((None, batch.frames.shape, batch.index, batch.pts_seconds, info))


def _publish(frames: np.ndarray, shared: int) -> None:
    if not frames.nbytes:
        return
    os.ftruncate(shared, frames.nbytes)
    with mmap.mmap(shared, frames.nbytes) as view:
        target = np.frombuffer(view, np.uint8)
        target[:] = frames.reshape(-1)
        del target  # a mapping that is looked at cannot be closed


def _bound_memory(limits: Limits) -> None:
    try:
        import resource
    except ImportError:  # not on this system
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = limits.memory_bytes if hard < 0 else min(limits.memory_bytes, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses any bound
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))


if __name__ == "__main__":
    _work(Connection(int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]))
