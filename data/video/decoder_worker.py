"""A worker process of a `DecoderPool`: `python -m data.video.decoder_worker`."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from data.errors import HeliographError
from data.files import HashedFile, hash_file
from data.processes import parent
from data.video.decoder_pool import Job, ProbeJob, WindowsJob
from data.video.frames import FrameBatch, Frames, VideoError
from data.video.info import VideoInfo
from data.windows import Window


def serve_jobs(connection: Connection, shared: int, threads: int) -> None:
    """Run one job after the other until the connection closes.

    Args:
        connection: Where jobs come from and outcomes go to.
        shared: File descriptor of the memory for the frames.
        threads: FFmpeg's threads.
    """
    shared_frames = SharedFrames(shared)
    while True:
        try:
            job: Job | ProbeJob
            job, hashes = connection.recv()
        except EOFError:
            return
        _limit_memory(job)
        if hashes:
            found = _hash_of(job)
            connection.send(found)
            if not isinstance(found, HashedFile):
                continue  # nobody answers
            try:
                if not connection.recv():
                    continue
            except EOFError:
                return
        try:
            if isinstance(job, WindowsJob):
                _serve_windows(job, connection, shared_frames, threads)
                continue
            batch, info = job.read(threads)
            if batch is not None:
                shared_frames.write(batch.frames)
        except _ParentGone:
            return
        except HeliographError as error:
            failure: HeliographError = error
        except MemoryError:
            reason = "reading it takes more memory than is allowed (--max-memory)"
            failure = VideoError(job.path, reason)
        except Exception as error:  # whatever a file provokes costs this clip
            line = str(error).strip().partition("\n")[0][:200]
            reason = f"the decoder failed ({type(error).__name__}{': ' * bool(line)}{line})"
            failure = VideoError(job.path, reason)
        else:
            connection.send(_answer(batch, info))
            continue
        if isinstance(job, WindowsJob):
            connection.send("error")
        connection.send((failure, None, None, None, None))


def _hash_of(job: Job | ProbeJob) -> HashedFile | HeliographError:
    """Return the hash of a job's file, or why it cannot be read."""
    from data.video.pyav import check_regular_file

    try:
        check_regular_file(job.path, job.limits)
        return hash_file(job.path)
    except HeliographError as error:
        return error
    except OSError as error:
        return VideoError(job.path, error.strerror or str(error))


class _ParentGone(Exception):
    """Nobody waits for the windows of a job any more."""


def _serve_windows(
    job: WindowsJob, connection: Connection, shared_frames: SharedFrames, threads: int
) -> None:
    """Read the windows of a video; `_Worker.receive_window` takes what is sent here."""

    def asked(*question: Any) -> Any:
        try:
            for part in question:
                connection.send(part)
            return connection.recv()
        except (EOFError, OSError):
            raise _ParentGone from None

    def choose(windows: Sequence[Window]) -> Sequence[Window]:
        chosen: Sequence[Window] = asked("windows", windows)
        return chosen

    for read in job.read_windows(threads, choose):
        if read.batch is not None:
            shared_frames.write(read.batch.frames)
        answer = _answer(read.batch, read.info)
        asked("window", (read.error, *answer[1:]))
    connection.send("end")


def _answer(batch: FrameBatch | None, info: VideoInfo | None) -> tuple[Any, ...]:
    """Return what `_Worker.receive` takes: the frames are in shared memory already."""
    if batch is None:
        return None, None, None, None, info
    return None, batch.frames.shape, batch.index, batch.pts_seconds, info


class SharedFrames:
    """The memory through which the parent gets frames; once mapped, it is used again."""

    def __init__(self, shared: int) -> None:
        self.shared = shared
        self.view: mmap.mmap | None = None

    def write(self, frames: Frames) -> None:
        """Copy `frames` into the shared memory.

        Raises:
            MemoryError: They exceed the limits of this process.
        """
        size = frames.nbytes
        if not size:
            return
        try:
            if os.fstat(self.shared).st_size < size:
                os.ftruncate(self.shared, size)
            if self.view is None or len(self.view) < size:
                self.view = mmap.mmap(self.shared, size)
        except OSError as error:  # above a limit of this process
            raise MemoryError(str(error)) from None
        np.frombuffer(self.view, np.uint8, size)[:] = frames.reshape(-1)


def _be_silent() -> None:
    """Let libraries print nothing from now on: what they print may come from a clip's file."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _limit_memory(job: Job | ProbeJob) -> None:
    """Bound the address space of this process; CUDA takes more of it than any machine has."""
    try:
        import resource
    except ImportError:  # not on this system
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = job.limits.memory_bytes
    soft = most if hard < 0 else min(most, hard)
    if isinstance(job, Job) and job.is_for_a_gpu:
        soft = hard
    with contextlib.suppress(ValueError, OSError):  # macOS refuses any limit
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


if __name__ == "__main__":
    to_parent = parent()
    _be_silent()
    serve_jobs(to_parent, *map(int, sys.argv[1:]))
