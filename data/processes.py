"""Child processes that end with their parent, and leave nothing behind when they crash."""

import contextlib
import fcntl
import os
import resource
import select


def end_with_parent(lifeline: int) -> None:
    """Let the kernel end this process when the parent has ended, and write no core files.

    Native code that never returns lets no Python run, and would outlive a parent that is killed.

    Args:
        lifeline: The end to read from of a pipe whose other end only the parent has.
    """
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    with contextlib.suppress(OSError):  # not on this system
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)  # SIGIO, which nothing handles
    if select.select([lifeline], [], [], 0)[0]:  # the parent ended before this
        os._exit(1)
