"""A worker process of a `DecoderPool`: `python -m data.video.decoder_worker`."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from multiprocessing.connection import Connection

import numpy as np

from data.errors import HeliographError
from data.processes import end_with_parent
from data.video.decoder_pool import Job, ProbeJob
from data.video.frames import Frames, Limits, VideoError


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
            job: Job | ProbeJob = connection.recv()
        except EOFError:
            return
        _limit_memory(job.limits)
        try:
            batch, info = job.read(threads)
            if batch is not None:
                shared_frames.write(batch.frames)
        except HeliographError as error:
            connection.send((error, None, None, None, None))
        except MemoryError:
            reason = "reading it takes more memory than is allowed (--max-memory)"
            too_large = VideoError(job.path, reason)
            connection.send((too_large, None, None, None, None))
        except Exception as error:  # whatever a file provokes costs this clip
            line = str(error).strip().partition("\n")[0][:200]
            reason = f"the decoder failed ({type(error).__name__}{': ' * bool(line)}{line})"
            connection.send((VideoError(job.path, reason), None, None, None, None))
        else:
            if batch is None:
                connection.send((None, None, None, None, info))
                continue
            connection.send((None, batch.frames.shape, batch.index, batch.pts_seconds, info))


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


def _limit_memory(limits: Limits) -> None:
    try:
        import resource
    except ImportError:  # not on this system
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = limits.memory_bytes if hard < 0 else min(limits.memory_bytes, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses any limit
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


if __name__ == "__main__":
    connection_fd, memory_fd, lifeline_fd, thread_count = map(int, sys.argv[1:])
    end_with_parent(lifeline_fd)
    _be_silent()
    serve_jobs(Connection(connection_fd), memory_fd, thread_count)
