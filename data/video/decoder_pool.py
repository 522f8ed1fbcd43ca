"""Decoding where it can be killed: a pool of worker processes that are used again and again.

Native code can spin for ever, crash, or take all memory, on a file made for it and sometimes on an
honest one. Here that costs one clip: its worker is killed and another takes its place.

    with DecoderPool(workers=2) as pool:
        for outcome in pool.map(jobs):
            if outcome.error: ...
            else: outcome.batch, outcome.info

A worker is a fresh interpreter that imports NumPy, PyAV and this package, nothing else. Frames
come back through memory that both processes map, one piece per worker, which is what bounds the
memory: a worker starts its next clip when its frames have been taken over. Here each worker has a
thread, which takes its frames over: as a copy, or as whatever small thing `map(jobs, take=...)`
makes of them where they lie.
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
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair
from typing import Any

import numpy as np

from data.errors import HeliographError
from data.video.frames import FrameBatch, Limits, VideoError, VideoInfo
from data.video.sampling import Sampling

GRACE_SECONDS = 0.2  # how often the clock is looked at
KEPT_BYTES = 256 << 20  # shared memory that a worker keeps for its next clip


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
    """What became of a job: `batch` (or what `take` made of it) and `info`, or `error`.

    `seconds` is how long its worker was busy with it.
    """

    job: Job
    batch: FrameBatch | None = None
    taken: Any = None
    info: VideoInfo | None = None
    error: HeliographError | None = None
    seconds: float = 0.0


Take = Callable[[FrameBatch], Any]


class _Worker:
    """The parent's end of one process."""

    def __init__(self, threads: int):
        ours, theirs = socketpair()
        self.shared = _shared_memory()
        ends, self.lifeline = os.pipe()
        command = [sys.executable, "-P", "-m", "data.video.decoder_worker", str(theirs.fileno())]
        command += [str(self.shared), str(threads), str(ends)]
        root = str(Path(__file__).resolve().parents[2])
        given = os.environ.get("PYTHONPATH")
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([root, *([given] if given else [])])
        }
        with theirs, open(ends, "rb"):
            self.process = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(), self.shared, ends),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())
        self.view: mmap.mmap | None = None
        self.job: Job | None = None
        self.began = 0.0

    def give(self, job: Job) -> None:
        self.job, self.began = job, time.monotonic()
        self.connection.send(job)

    def overdue(self) -> bool:
        assert self.job is not None
        return time.monotonic() - self.began > self.job.limits.wall_seconds

    def take(self, take: Take | None = None) -> Outcome:
        """The outcome of the job; EOFError or OSError where the process is gone."""
        assert self.job is not None
        job, (error, shape, index, pts_seconds, info) = self.job, self.connection.recv()
        seconds = time.monotonic() - self.began
        if error is not None:
            return Outcome(job=job, error=error, seconds=seconds)
        frames = self._frames(shape)
        if take is None:
            batch = FrameBatch(frames.copy(), index, pts_seconds)
            outcome = Outcome(job=job, batch=batch, info=info, seconds=seconds)
        else:
            taken = take(FrameBatch(frames, index, pts_seconds))
            outcome = Outcome(job=job, taken=taken, info=info, seconds=seconds)
        if frames.nbytes > KEPT_BYTES:
            self.view = None
            os.ftruncate(self.shared, 0)
        return outcome

    def _frames(self, shape: tuple[int, ...]) -> np.ndarray:
        """The shared memory as frames, until the worker has its next job."""
        size = int(np.prod(shape))
        if not size:
            return np.empty(shape, np.uint8)
        if self.view is None or len(self.view) < size:
            self.view = mmap.mmap(self.shared, size)
        return np.frombuffer(self.view, np.uint8, size).reshape(shape)

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
        for descriptor in (self.shared, self.lifeline):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _shared_memory() -> int:
    """A file descriptor of memory that a child process can map too."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("heliograph-frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class DecoderPool:
    """`workers` processes that decode, each with `threads` threads of FFmpeg's.

    Workers start when first needed. Leave by `with` or `close`, which ends them at once.
    `blocked_seconds` is how long workers have had to wait, all together, for you to take outcomes.
    """

    def __init__(self, *, workers: int, threads: int = 1):
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self.size, self.threads = workers, threads
        self.workers: list[_Worker] = []
        self.blocked_seconds = 0.0
        self._turn = threading.Lock()

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        while self.workers:
            self.workers.pop().close()

    def map(
        self, jobs: Iterable[Job], *, take: Take | None = None
    ) -> Generator[Outcome, None, None]:
        """The outcome of each job, as they are done; decoding goes on while you use one.

        take: called with each batch in a thread of this process, several at a time; what it
            returns is `Outcome.taken`. The frames are the worker's and change after the call.

        At most `workers` outcomes wait to be taken, beside those being decoded.
        """
        done: queue.Queue[Outcome | BaseException | None] = queue.Queue(maxsize=self.size)
        source, stop = iter(jobs), threading.Event()
        threads = [
            threading.Thread(target=self._serve, args=(source, take, done, stop), daemon=True)
            for _ in range(self.size)
        ]
        for thread in threads:
            thread.start()
        try:
            ended = 0
            while ended < len(threads):
                outcome = done.get()
                if outcome is None:
                    ended += 1
                elif isinstance(outcome, BaseException):
                    raise outcome
                else:
                    yield outcome
        finally:
            stop.set()
            while any(thread.is_alive() for thread in threads):
                with contextlib.suppress(queue.Empty):
                    done.get(timeout=GRACE_SECONDS / 10)
            if any(worker.job is not None for worker in self.workers):
                self.close()  # a job that was not finished has no taker

    def _serve(
        self,
        jobs: Iterator[Job],
        take: Take | None,
        done: queue.Queue[Outcome | BaseException | None],
        stop: threading.Event,
    ) -> None:
        """One thread: a job after the other through a worker, until there are no more."""
        try:
            while not stop.is_set():
                with self._turn:
                    job = next(jobs, None)
                if job is None:
                    break
                outcome = self._run(job, take, stop)
                if outcome is not None:
                    began = time.monotonic()
                    done.put(outcome)
                    with self._turn:
                        self.blocked_seconds += time.monotonic() - began
        except BaseException as error:  # raised again where the outcomes are taken
            done.put(error)
        finally:
            done.put(None)

    def _run(self, job: Job, take: Take | None, stop: threading.Event) -> Outcome | None:
        """What becomes of a job; None where nobody waits for it any more."""
        worker = self._given(job)
        while not worker.connection.poll(GRACE_SECONDS):
            if stop.is_set():
                self._drop(worker)
                return None
            if worker.overdue():
                return self._drop(worker, "timeout")
        outcome = self._outcome(worker, take)
        worker.job = None
        return outcome

    def _given(self, job: Job) -> _Worker:
        """A worker that has the job: an idle one, or a new one."""
        with self._turn:
            worker = next((worker for worker in self.workers if worker.job is None), None)
            if worker is None:
                worker = self._new_worker()
            worker.job = job
        try:
            worker.give(job)
        except OSError:  # it died while it had nothing to do: another takes its place
            self._drop(worker)
            with self._turn:
                worker = self._new_worker()
                worker.job = job
            worker.give(job)
        return worker

    def _new_worker(self) -> _Worker:
        worker = _Worker(self.threads)
        self.workers.append(worker)
        return worker

    def _drop(self, worker: _Worker, reason: str = "") -> Outcome:
        with self._turn:
            self.workers.remove(worker)
        return worker.failed(reason)

    def _outcome(self, worker: _Worker, take: Take | None = None) -> Outcome:
        try:
            return worker.take(take)
        except (EOFError, OSError):
            return self._drop(worker, worker.death())
