"""Files from elsewhere, read once in a process that can be killed, before this one opens them.

Native code can crash, loop for ever or take all memory on a hostile file. So a file that this
account has not recorded as its own is first read in a fresh process with limits, by the same code
that will read it here; what that process refuses, or what ends it, is refused here in a sentence.

    require_screened(path, identity, "data.cache.hdf5_reader:check")    # returns, or raises

The record is in the user's cache folder, `heliograph/checked`: one line for each file that was
written or found sound, with the hash of what it holds. Where it cannot be written, files are read
twice again.

A checker is a function `module:function` that gets the path of a file, reads it as it will be read
later, and returns the identity of what it has read (`kind:hash`). What its module imports does not
count against the limit of memory.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

from data.errors import HeliographError
from data.files import make_folder, open_regular, version_of
from data.processes import Child, parent

SECONDS = 60.0
"""How long a file may take, unless the caller knows better."""

MEMORY_BYTES = 4 << 30
"""How much memory a file may take, unless the caller knows better."""

_START_SECONDS = 300.0  # for the imports, on a slow and busy disk
_GENERATION_BYTES = 4 << 20  # about 50,000 files; then the record starts anew, and keeps the last
_ANSWER_BYTES = 1 << 16

_recorded_here: set[str] = set()
_read: dict[Path, tuple[tuple[int, ...], frozenset[str]]] = {}


def own_record() -> Path | None:
    """Return the path of this account's record; None where there is no home folder.

    It is `${XDG_CACHE_HOME:-~/.cache}/heliograph/checked`, and older lines are in `checked.old`.
    """
    folder = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(folder):  # the rule of the standard for such a value
        folder = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(folder, "heliograph", "checked") if os.path.isabs(folder) else None


def is_recorded(identity: str) -> bool:
    """Return whether this account has written a file of this identity, or found it sound."""
    if identity in _recorded_here:
        return True
    path = own_record()
    return path is not None and any(identity in _lines(part) for part in (path, _older(path)))


def record(*identities: str) -> None:
    """Add identities to this account's record; where it cannot be written, nothing happens."""
    new = [identity for identity in identities if identity not in _recorded_here]
    _recorded_here.update(new)
    path = own_record()
    if path is None or not new:
        return
    lines = "".join(f"{identity}\n" for identity in new)
    with contextlib.suppress(OSError, HeliographError):
        make_folder(path.parent)
        with open_regular(path, "ab") as file:
            if not _is_ours(file):
                return
            os.fchmod(file.fileno(), 0o600)
            file.write(lines.encode())
            size = file.tell()
        if size > _GENERATION_BYTES:
            os.replace(path, _older(path))


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".old")


def _is_ours(file: BinaryIO) -> bool:
    return os.fstat(file.fileno()).st_uid == os.geteuid()


def _lines(path: Path) -> frozenset[str]:
    """Return the lines of a file that only this account can write; none where there is none."""
    version = version_of(path)
    if version is None:
        return frozenset()
    known = _read.get(path)
    if known is None or known[0] != version:
        lines: frozenset[str] = frozenset()
        with contextlib.suppress(OSError, HeliographError), open_regular(path) as file:
            others = os.fstat(file.fileno()).st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if _is_ours(file) and not others:
                content = file.read(4 * _GENERATION_BYTES)
                lines = frozenset(content.decode("ascii", "replace").split("\n")[:-1])
        known = _read[path] = (version, lines)
    return known[1]


def require_screened(
    path: Path,
    identity: str,
    checker: str,
    *,
    seconds: float = SECONDS,
    memory_bytes: int = MEMORY_BYTES,
    error: type[HeliographError] = HeliographError,
) -> None:
    """Return if a file is this account's own, or is sound when it is read in another process.

    Args:
        path: The file.
        identity: `kind:hash` of what is in it, as the checker returns it.
        checker: `module:function`.
        seconds: How long reading it may take.
        memory_bytes: How much memory reading it may take.
        error: What is raised.

    Raises:
        HeliographError: The file was refused, or it ended the process; the message names it.
    """
    if is_recorded(identity):
        return
    reasons = screen([path], checker, seconds=seconds, memory_bytes=memory_bytes)
    if path in reasons:
        raise error(reasons[path])
    if identity not in _recorded_here:
        raise error(f"{path} was changed while it was read; try again")


def screen(
    paths: Sequence[Path],
    checker: str,
    *,
    seconds: float = SECONDS,
    memory_bytes: int = MEMORY_BYTES,
) -> dict[Path, str]:
    """Read files in one process that can be killed, and record the sound ones as checked.

    A file that ends the process costs itself only: the others are read in a new one.

    Args:
        paths: The files.
        checker: `module:function`.
        seconds: How long reading one of them may take.
        memory_bytes: How much memory reading one of them may take.

    Returns:
        The reason of each file that was refused, or that ended the process: one sentence with the
        name of the file.

    Raises:
        HeliographError: No process can be started.
    """
    reasons: dict[Path, str] = {}
    sound: list[str] = []
    remaining = list(paths)
    while remaining:
        with _Reader(checker, seconds, memory_bytes) as reader:
            while remaining and reader.is_alive:
                path = remaining.pop(0)
                answer = reader.read(path)
                if answer.reason:
                    reasons[path] = answer.reason
                else:
                    sound.append(answer.identity)
    record(*sound)
    return reasons


@dataclass(frozen=True)
class _Answer:
    identity: str = ""
    reason: str = ""  # empty for a sound file


class _Reader:
    """A process that reads files with a checker, as this process sees it."""

    def __init__(self, checker: str, seconds: float, memory_bytes: int) -> None:
        self.seconds, self.memory_bytes = seconds, memory_bytes
        self.is_alive = True
        # One thread: the buffers of many would count against the limit of memory.
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
        words = (checker, seconds, memory_bytes)
        try:
            self._child = Child("data.screening", *words, environment=threads)
        except OSError as error:
            raise HeliographError(
                f"the process that reads files from elsewhere cannot be started: {error}"
            ) from error

    def __enter__(self) -> _Reader:
        if self._receive(_START_SECONDS) != "ready":
            how = self._ending()
            self._child.close()
            raise HeliographError(f"the process that reads files from elsewhere {how} at its start")
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.close()

    def read(self, path: Path) -> _Answer:
        """Return what became of a file; afterwards `is_alive` is False if it ended the process."""
        try:
            self._child.connection.send_bytes(os.fsencode(path))
            answer = self._receive(self.seconds)
        except TimeoutError:
            self.is_alive = False
            limit = f"{self.seconds:.0f} seconds"
            return _Answer(reason=f"{path} is refused: reading it takes more than {limit}")
        except OSError:
            answer = None
        if answer is None:
            self.is_alive = False
            return _Answer(reason=f"{path} is refused: the process that read it {self._ending()}")
        return _Answer(**json.loads(answer))

    def _receive(self, seconds: float) -> str | None:
        """Return the next answer of the process; None if it has ended.

        Raises:
            TimeoutError: It takes longer.
        """
        try:
            if not self._child.connection.poll(seconds):
                raise TimeoutError
            return self._child.connection.recv_bytes(_ANSWER_BYTES).decode()
        except EOFError:
            return None

    def _ending(self) -> str:
        """Return how the process has ended, in words."""
        if self._child.end_code() in (-signal.SIGALRM, -signal.SIGXCPU):
            return f"took more than {self.seconds:.0f} seconds"
        return self._child.ending()


def _serve(checker: str, seconds: float, memory_bytes: int, connection: Connection) -> None:
    """Read one file after the other until the connection closes; the body of the process."""
    module, _, name = checker.partition(":")
    check = getattr(importlib.import_module(module), name)
    connection.send_bytes(b"ready")
    while True:
        try:
            path = Path(os.fsdecode(connection.recv_bytes()))
        except EOFError:
            return
        _limit(seconds, memory_bytes)
        connection.send_bytes(json.dumps(_answer(check, path, memory_bytes)).encode())


def _answer(check: Callable[[Path], str], path: Path, memory_bytes: int) -> dict[str, str]:
    try:
        return {"identity": check(path)}
    except HeliographError as error:
        reason = str(error)
    except MemoryError:
        allowed = f"{memory_bytes / 1e9:.1f} GB"
        reason = f"{path} is refused: reading it takes more memory than {allowed}"
    except Exception as error:  # whatever a hostile file provokes
        reason = f"{path} is damaged: {str(error).partition(chr(10))[0] or type(error).__name__}"
    return {"reason": reason[: _ANSWER_BYTES // 16]}


def _limit(seconds: float, memory_bytes: int) -> None:
    """Limit what this process may take from now on, for one file."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    limits = {
        resource.RLIMIT_AS: _address_space() + memory_bytes,
        resource.RLIMIT_CPU: math.ceil(used.ru_utime + used.ru_stime + seconds) + 1,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
    }
    for kind, limit in limits.items():
        _, hard = resource.getrlimit(kind)
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS refuses a limit of memory
            resource.setrlimit(kind, (soft, hard))


def _address_space() -> int:
    """Return the bytes that this process has mapped; 0 where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()[0]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    to_parent = parent()
    _serve(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), to_parent)
