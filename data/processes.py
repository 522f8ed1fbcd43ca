"""Child processes that end with their parent, and leave nothing behind when they crash."""

import contextlib
import fcntl
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair
from types import MappingProxyType


class Child:
    """A fresh interpreter that runs a module of ours, which begins with `parent`.

    It sees no keyboard: what is typed in a terminal (Ctrl-C) is for this process.

    Attributes:
        process: As the system knows it.
        connection: To what `parent` returns there.
    """

    def __init__(
        self,
        module: str,
        *arguments: object,
        descriptors: Sequence[int] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
        is_heard: bool = False,
    ) -> None:
        """Start it.

        Args:
            module: To run.
            arguments: `sys.argv[1:]` there, after `parent` was called.
            descriptors: Of files that it may use, besides.
            environment: What it has besides the variables of this process.
            is_heard: Whether its stderr is that of this process.

        Raises:
            OSError: It cannot be started.
        """
        ours, theirs = socketpair()
        lifeline, self._lifeline = os.pipe()
        words = (theirs.fileno(), lifeline, *arguments)
        root = str(Path(__file__).resolve().parents[1])
        inherited = environment.get("PYTHONPATH", os.environ.get("PYTHONPATH"))
        path = os.pathsep.join([root, *([inherited] if inherited else [])])
        self.connection = Connection(ours.detach())
        try:
            with theirs, open(lifeline, "rb"):
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-m", module, *map(str, words)],
                    pass_fds=(theirs.fileno(), lifeline, *descriptors),
                    env={**os.environ, **environment, "PYTHONPATH": path},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=None if is_heard else subprocess.DEVNULL,
                    start_new_session=True,
                )
        except OSError:
            self.connection.close()
            os.close(self._lifeline)
            raise

    def end_code(self) -> int | None:
        """Return the exit code, or minus a signal's number; None if it has not ended."""
        try:
            return self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return None

    def ending(self) -> str:
        """Return how it has ended, in words that follow its name."""
        code = self.end_code()
        if code is None:
            return "closed its connection"
        if code < 0:
            return f"crashed (signal {-code}, {signal.Signals(-code).name})"
        return f"ended (exit code {code})"

    def kill(self) -> None:
        """Kill it; whoever waits for its answer hears that it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Kill it, and forget it."""
        self.kill()
        self.connection.close()
        with contextlib.suppress(OSError):
            os.close(self._lifeline)


def parent() -> Connection:
    """Return the connection to the parent, in a `Child`, which ends with it from now on."""
    connection, lifeline = (int(sys.argv.pop(1)) for _ in range(2))
    end_with_parent(lifeline)
    return Connection(connection)


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
