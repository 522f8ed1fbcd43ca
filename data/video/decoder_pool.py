"""A pool of worker processes that decode, and that can be killed.

Native code can loop for ever, crash, or take all memory, on a malicious file and sometimes on an
ordinary one. Here that costs one clip: its worker is killed and replaced.

    with DecoderPool(workers=2) as pool:
        for outcome in pool.map(jobs):
            if outcome.error: ...
            else: outcome.batch, outcome.info

A worker is a fresh interpreter that imports NumPy, PyAV and this package, nothing else. Frames come
back through shared memory, one piece per worker, which bounds the memory: a worker starts its next
clip once its frames have been received. In this process each worker has a thread that receives its
frames: as a copy, or as the result of `map(jobs, transform=...)` on the frames in shared memory.
That thread also fetches the file of a job whose path is an address (`data.remote`).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import queue
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from data.errors import HeliographError
from data.files import Address, HashedFile, Version
from data.processes import Child
from data.remote import Fetcher, RemoteError, Stopped, look_up
from data.video.frames import FrameBatch, Frames, Limits, VideoError
from data.video.info import VideoInfo
from data.video.sampling import Sampling
from data.windows import Window, Windows

if TYPE_CHECKING:
    from data.video.window_reader import Choose, WindowFrames

POLL_SECONDS = 0.2  # time between checks for a timeout
KILLED = "the decoder was killed (signal 9, SIGKILL), as systems do where memory runs out"
KEPT_BYTES = 256 << 20  # shared memory that a worker keeps for its next clip
TIMEOUT = "timeout"


class DecoderEnded(VideoError):
    """A clip that its worker did not survive, or at which it was killed."""


class NotFetched(VideoError):
    """A clip whose file could not be fetched; the reason names its address."""

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, kw_only=True)
class Job:
    """One clip to read with `data.video.read_sampled`, whose arguments these are.

    `tag` is for the caller, who gets it back with the outcome. `wanted` is called in a thread of
    this process with the hash of the file, which the worker takes just before it decodes; where it
    returns False the file is not decoded, and there is no outcome. Without it nothing is hashed.
    `recorded` is called with the version of a file at an address, before it is fetched: it returns
    the hash that such a file had, if that is known, and `wanted` is asked about that one first.
    """

    path: Path
    sampling: Sampling
    start: float | None = None
    end: float | None = None
    decoder: str = "pyav"
    accept_damaged: bool = False
    limits: Limits = field(default_factory=Limits.in_force)
    tag: Any = None
    wanted: Callable[[HashedFile], bool] | None = None
    recorded: Callable[[Version], HashedFile | None] | None = None

    @property
    def is_for_a_gpu(self) -> bool:
        """Whether the decoder was named with a device that is a GPU."""
        return self.decoder.endswith(":cuda")

    def read(self, threads: int) -> tuple[FrameBatch | None, VideoInfo]:
        """Do the job, in a worker."""
        from data.video.reader import read_sampled

        return read_sampled(
            self.path,
            self.sampling,
            start=self.start,
            end=self.end,
            decoder=self.decoder,
            accept_damaged=self.accept_damaged,
            limits=self.limits,
            threads=threads,
        )


@dataclass(frozen=True, kw_only=True)
class WindowsJob(Job):
    """One video to read with `data.video.window_reader.read_windows`, whose arguments these are.

    Attributes:
        windows: How it is cut.
        choose: As for `read_windows`; called in a thread of this process. None is all windows.
    """

    windows: Windows
    choose: Choose | None = None

    def read_windows(self, threads: int, choose: Choose) -> Iterator[WindowFrames]:
        """Do the job, in a worker."""
        from data.video.window_reader import read_windows

        return read_windows(
            self.path,
            self.sampling,
            self.windows,
            choose,
            start=self.start,
            end=self.end,
            accept_damaged=self.accept_damaged,
            limits=self.limits,
            threads=threads,
        )


@dataclass(frozen=True, kw_only=True)
class ProbeJob:
    """One file to look at with `data.video.probe`, whose arguments these are."""

    wanted: ClassVar[None] = None

    path: Path
    decode: bool = True
    decoders: Sequence[str] | None = None
    limits: Limits = field(default_factory=Limits.in_force)
    tag: Any = None

    def read(self, threads: int) -> tuple[FrameBatch | None, VideoInfo]:
        """Do the job, in a worker."""
        from data.video.reader import probe

        return None, probe(
            self.path, decode=self.decode, decoders=self.decoders, limits=self.limits
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a job: frames and `info`, or `error`. A `ProbeJob` has no frames.

    A `WindowsJob` has an outcome for each window that was chosen, in order; or a single one, with
    an error and no window, where the video cannot be cut.

    Attributes:
        job: The job.
        window: The window that this is of.
        batch: The frames, where `map` has no `transform`.
        result: What `transform` returned.
        info: What is known about the file.
        error: Why there are no frames.
        seconds: How long the worker was busy with the job.
    """

    job: Job | ProbeJob
    window: Window | None = None
    batch: FrameBatch | None = None
    result: Any = None
    info: VideoInfo | None = None
    error: HeliographError | None = None
    seconds: float = 0.0


Transform = Callable[[FrameBatch], Any]


class _Worker:
    """A worker process, as this process sees it."""

    def __init__(self, threads: int, environment: Mapping[str, str]):
        self.shared = _shared_memory()
        self.child = Child(
            "data.video.decoder_worker",
            self.shared,
            threads,
            descriptors=[self.shared],
            environment=environment,
            is_heard=True,
        )
        self.process, self.connection = self.child.process, self.child.connection
        self.view: mmap.mmap | None = None
        self.job: Job | ProbeJob | None = None
        self.started = 0.0
        self.hashes = False  # whether it is at the hash of the job's file

    def submit(self, job: Job | ProbeJob) -> None:
        self.job, self.started, self.hashes = job, time.monotonic(), job.wanted is not None
        # What the caller keeps with a job need not be what another process can be sent.
        bare: Job | ProbeJob = replace(job, tag=None)
        if isinstance(bare, Job):
            bare = replace(bare, wanted=None, recorded=None)
        if isinstance(bare, WindowsJob):
            bare = replace(bare, choose=None)
        self.connection.send((bare, self.hashes))

    def timed_out(self) -> bool:
        assert self.job is not None
        late = time.monotonic() - self.started > self.job.limits.wall_seconds
        return late and not self.hashes  # which takes as long as the disk does

    def receive_hash(self) -> bool | Outcome:
        """Return whether the job goes on, or why it cannot; EOFError or OSError if it has ended."""
        assert self.job is not None
        assert self.job.wanted is not None
        found = self.connection.recv()
        self.hashes = False
        if not isinstance(found, HashedFile):
            return Outcome(job=self.job, error=found)
        wanted = self.job.wanted(found)
        self.connection.send(wanted)
        self.started = time.monotonic()
        return wanted

    def receive(self, transform: Transform | None = None) -> Outcome:
        """Return the outcome of the job; EOFError or OSError if the process has ended."""
        assert self.job is not None
        job, (error, shape, index, pts_seconds, info) = self.job, self.connection.recv()
        seconds = time.monotonic() - self.started
        if error is not None:
            return Outcome(job=job, error=error, info=info, seconds=seconds)
        if shape is None:
            return Outcome(job=job, info=info, seconds=seconds)
        frames = self._frames(shape)
        if transform is None:
            batch = FrameBatch(frames.copy(), index, pts_seconds)
            outcome = Outcome(job=job, batch=batch, info=info, seconds=seconds)
        else:
            result = transform(FrameBatch(frames, index, pts_seconds))
            outcome = Outcome(job=job, result=result, info=info, seconds=seconds)
        if frames.nbytes > KEPT_BYTES:
            self.view = None
            os.ftruncate(self.shared, 0)
        return outcome

    def receive_window(
        self, waiting: deque[Window] | None, transform: Transform | None
    ) -> deque[Window] | Outcome | None:
        """Return the next answer to a `WindowsJob`; EOFError or OSError if the process has ended.

        First the windows that were chosen, of those that there are; then an outcome for each, in
        order; at last None. An error without a window ends the job at any time.

        Args:
            waiting: The chosen windows that have not come; None before they are chosen.
            transform: As for `receive`.
        """
        assert isinstance(self.job, WindowsJob)
        kind = self.connection.recv()
        if kind == "windows":
            windows = self.connection.recv()
            chosen = windows if self.job.choose is None else list(self.job.choose(windows))
            self.connection.send(chosen)
            return deque(chosen)
        if kind == "end":
            return None
        outcome = self.receive(transform)
        if kind == "window":
            assert waiting is not None
            with contextlib.suppress(OSError):  # that it has ended is noticed at the next window
                self.connection.send(True)  # the memory may be written to again
            outcome = replace(outcome, window=waiting.popleft())
        self.started = time.monotonic()
        return outcome

    def _frames(self, shape: tuple[int, ...]) -> Frames:
        """Return the shared memory as frames, valid until the worker gets its next job."""
        size = int(np.prod(shape))
        if not size:
            return np.empty(shape, np.uint8)
        if self.view is None or len(self.view) < size:
            self.view = mmap.mmap(self.shared, size)
        return np.frombuffer(self.view, np.uint8, size).reshape(shape)

    def fail(self, reason: str) -> Outcome:
        """Kill the process; its job fails with `reason`."""
        assert self.job is not None
        self.close()
        return Outcome(job=self.job, error=DecoderEnded(self.job.path, reason))

    def exit_reason(self) -> str:
        """Return how the process ended, in words."""
        if self.child.end_code() == -signal.SIGKILL:
            return KILLED
        return f"the decoder {self.child.ending()}"

    def close(self) -> None:
        """Kill the process and release its memory."""
        self.child.close()
        with contextlib.suppress(OSError):
            os.close(self.shared)


def _renamed(outcome: Outcome, job: Job | ProbeJob) -> Outcome:
    """Return the outcome of a job whose file was fetched as one of its address."""
    error, info = outcome.error, outcome.info
    if isinstance(error, VideoError):
        error = type(error)(job.path, error.reason)
    if info is not None:
        info = replace(info, path=job.path)
    return replace(outcome, job=job, error=error, info=info)


def _shared_memory() -> int:
    """Return a file descriptor of memory that a child process can map too."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("heliograph-frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _visible_name(gpu: int) -> str:
    """Return what a child's `CUDA_VISIBLE_DEVICES` calls a GPU of this process."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return str(gpu) if visible is None else visible.split(",")[gpu].strip()


class DecoderPool:
    """Processes that decode; they start when first needed and end with `with` or `close`.

    Args:
        workers: The number of processes.
        threads: FFmpeg's threads in each.
        gpu: The number of the GPU that they decode on where a job asks for one; None: the first.

    Attributes:
        blocked_seconds: How long all workers together have waited for outcomes to be received.
    """

    def __init__(self, *, workers: int, threads: int = 1, gpu: int | None = None):
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self.environment = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": _visible_name(gpu)}
        self.size, self.threads = workers, threads
        self.workers: list[_Worker] = []
        self.blocked_seconds = 0.0
        self._lock = threading.Lock()
        self._fetcher = Fetcher()

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers at once."""
        while self.workers:
            self.workers.pop().close()
        self._fetcher.close()

    def map(
        self, jobs: Iterable[Job | ProbeJob], *, transform: Transform | None = None
    ) -> Generator[Outcome, None, None]:
        """Yield the outcome of each job when it is finished, while others are decoded.

        At most `workers` finished outcomes wait, in addition to the clips being decoded.

        Args:
            jobs: The clips; read in threads of this process, one job at a time.
            transform: Called with each batch in a thread of this process, several at a time; what
                it returns is `Outcome.result`. The frames are in shared memory that changes after
                the call.

        Raises:
            Exception: Whatever `jobs` or `transform` raises.
        """
        outcomes: queue.Queue[Outcome | BaseException | None] = queue.Queue(maxsize=self.size)
        source, stop = iter(jobs), threading.Event()
        threads = [
            threading.Thread(
                target=self._serve, args=(source, transform, outcomes, stop), daemon=True
            )
            for _ in range(self.size)
        ]
        for thread in threads:
            thread.start()
        try:
            finished = 0
            while finished < len(threads):
                outcome = outcomes.get()
                if outcome is None:
                    finished += 1
                elif isinstance(outcome, BaseException):
                    raise outcome
                else:
                    yield outcome
        finally:
            stop.set()
            while any(thread.is_alive() for thread in threads):
                with contextlib.suppress(queue.Empty):
                    outcomes.get(timeout=POLL_SECONDS / 10)
            if any(worker.job is not None for worker in self.workers):
                self.close()  # nobody receives the job that a worker has not finished

    def _serve(
        self,
        jobs: Iterator[Job | ProbeJob],
        transform: Transform | None,
        outcomes: queue.Queue[Outcome | BaseException | None],
        stop: threading.Event,
    ) -> None:
        """Run one job after the other, until there are no more; the body of a thread."""
        try:
            while not stop.is_set():
                with self._lock:
                    job = next(jobs, None)
                if job is None:
                    break
                run = self._run_fetched if isinstance(job.path, Address) else self._run
                for outcome in run(job, transform, stop):
                    started = time.monotonic()
                    outcomes.put(outcome)
                    with self._lock:
                        self.blocked_seconds += time.monotonic() - started
        except BaseException as error:  # raised again by `map`
            outcomes.put(error)
        finally:
            outcomes.put(None)

    def _run_fetched(
        self, job: Job | ProbeJob, transform: Transform | None, stop: threading.Event
    ) -> Iterator[Outcome]:
        """Fetch the file of a job, unless it is not wanted, and yield the outcomes."""
        assert isinstance(job.path, Address)
        wanted, asked = job.wanted, None
        try:
            remote = look_up(job.path)
            if isinstance(job, Job) and job.recorded and remote.version:
                asked = job.recorded(remote.version)
            if asked and wanted and not wanted(asked):
                return
            with self._fetcher.file(
                remote, most_bytes=job.limits.bytes, is_wanted=lambda: not stop.is_set()
            ) as (path, source):
                if wanted and source != asked and not wanted(source):
                    return
                here: Job | ProbeJob = replace(job, path=path)
                if isinstance(here, Job):
                    here = replace(here, wanted=None)
                for outcome in self._run(here, transform, stop):
                    yield _renamed(outcome, job)
        except Stopped:
            pass
        except RemoteError as error:
            yield Outcome(job=job, error=NotFetched(job.path, str(error)))

    def _run(
        self, job: Job | ProbeJob, transform: Transform | None, stop: threading.Event
    ) -> Iterator[Outcome]:
        """Yield the outcomes of a job; none any more once nobody waits for them."""
        worker = self._assign(job)
        waiting: deque[Window] | None = None  # windows that have been chosen and have not come
        while True:
            outcome: deque[Window] | Outcome | bool | None
            if worker.connection.poll(POLL_SECONDS):
                outcome = self._receive(worker, waiting, transform)
            elif stop.is_set():
                self._discard(worker)
                return
            elif worker.timed_out():
                longest = f"{job.limits.wall_seconds:g} s"
                reason = f"{TIMEOUT}: it takes more than {longest} (--timeout)"
                outcome = self._discard(worker, reason)
            else:
                continue
            if outcome is True:  # its file is hashed, and is decoded now
                continue
            if isinstance(outcome, deque):
                waiting = outcome
            elif isinstance(outcome, Outcome) and outcome.window is not None:
                yield outcome
            else:
                worker.job = None
                if isinstance(outcome, Outcome):
                    for window in [None] if waiting is None else waiting:
                        yield replace(outcome, window=window)
                return

    def _assign(self, job: Job | ProbeJob) -> _Worker:
        """Give the job to an idle worker or a new one, and return it."""
        with self._lock:
            worker = next((worker for worker in self.workers if worker.job is None), None)
            if worker is None:
                worker = self._new_worker()
            worker.job = job
        try:
            worker.submit(job)
        except OSError:  # it ended while it was idle: replace it
            self._discard(worker)
            with self._lock:
                worker = self._new_worker()
                worker.job = job
            worker.submit(job)
        return worker

    def _new_worker(self) -> _Worker:
        worker = _Worker(self.threads, self.environment)
        self.workers.append(worker)
        return worker

    def _discard(self, worker: _Worker, reason: str = "") -> Outcome:
        with self._lock:
            self.workers.remove(worker)
        return worker.fail(reason)

    def _receive(
        self,
        worker: _Worker,
        waiting: deque[Window] | None = None,
        transform: Transform | None = None,
    ) -> deque[Window] | Outcome | bool | None:
        try:
            if worker.hashes:
                return worker.receive_hash()
            if isinstance(worker.job, WindowsJob):
                return worker.receive_window(waiting, transform)
            return worker.receive(transform)
        except (EOFError, OSError):
            return self._discard(worker, worker.exit_reason())
