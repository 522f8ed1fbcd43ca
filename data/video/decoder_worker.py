"""The process of a `DecoderPool` that decodes: `python -m data.video.decoder_worker`."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sys
from multiprocessing.connection import Connection

import numpy as np

from data.errors import HeliographError
from data.video.decoder_pool import Job
from data.video.frames import Limits, VideoError


def _work(connection: Connection, shared: int, threads: int) -> None:
    """The worker's side: one job after the other until the connection closes."""
    from data.video.reader import read_sampled

    publish = _Publisher(shared)
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
            publish(batch.frames)
        except HeliographError as error:
            connection.send((error, None, None, None, None))
        except MemoryError:
            refused = VideoError(job.path, "reading it takes more memory than is allowed")
            connection.send((refused, None, None, None, None))
        else:
            connection.send((None, batch.frames.shape, batch.index, batch.pts_seconds, info))


class _Publisher:
    """Writes frames where the parent finds them; memory once mapped is used again."""

    def __init__(self, shared: int):
        self.shared = shared
        self.view: mmap.mmap | None = None

    def __call__(self, frames: np.ndarray) -> None:
        size = frames.nbytes
        if not size:
            return
        try:
            if os.fstat(self.shared).st_size < size:
                os.ftruncate(self.shared, size)
            if self.view is None or len(self.view) < size:
                self.view = mmap.mmap(self.shared, size)
        except OSError as error:  # beyond the bounds on this process
            raise MemoryError(str(error)) from None
        np.frombuffer(self.view, np.uint8, size)[:] = frames.reshape(-1)


def _end_with(lifeline: int) -> None:
    """Have the kernel end this process once the parent, which alone has the other end, is gone.

    Native code that never returns lets no Python run, and so would outlive a parent that is killed.
    """
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    with contextlib.suppress(OSError):  # not on this system
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)  # SIGIO, which nothing handles


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
    _end_with(int(sys.argv[4]))
    _work(Connection(int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]))
