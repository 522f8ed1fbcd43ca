"""Every call of a process that changes the disk: listed, and one of them made to fail.

`watch` wraps the functions through which Python changes files below some folders. Each call gets a
number and a line in a log, and at a chosen number the process is killed, killed in the middle of a
write, or the call fails with an errno. It is for processes that end soon: nothing is put back.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KILL, TEAR = "kill", "tear"
ROOT = str(Path(__file__).resolve().parents[2])
HOUSE = tuple(f"{ROOT}/{package}/" for package in ("backbones", "data", "pipeline"))
FREES_SPACE = ("unlink", "rmdir", "rename", "truncate", "flock")


@dataclass(frozen=True)
class Fault:
    """What happens at a call.

    Attributes:
        number: Of the call, from 0.
        what: `kill`, `tear` (half of a write, then the kill) or the name of an errno.
        lasting: The calls after it fail too: all of them, and of a full disk those that take
            space, and of what the file system cannot do those of the same kind.
    """

    number: int
    what: str
    lasting: bool = False

    def strikes(self, number: int, kind: str, first_kind: str) -> bool:
        """Return whether a call of this number and kind fails."""
        if number <= self.number or not self.lasting:
            return number == self.number
        if self.what == "ENOSPC":
            return kind not in FREES_SPACE
        return self.what not in ("ENOSYS", "EINVAL") or kind == first_kind


@dataclass(frozen=True)
class Call:
    """A call that changed the disk, or was about to.

    Attributes:
        kind: `create`, `write`, `sync`, `sync folder`, `rename`, `unlink`, `mkdir`, `rmdir`,
            `truncate`, `link`, `lock`.
        path: What it changes, absolute; of a rename the new name.
        place: The lines of our own code that lead to it, the innermost last.
    """

    kind: str
    path: str
    place: str


class _Watch:
    def __init__(self, folders: Sequence[str], log: int, fault: Fault | None) -> None:
        self.folders = tuple(os.path.realpath(folder) + "/" for folder in folders)
        self.log, self.fault = log, fault
        self.count = 0
        self.first_kind = ""
        self.lock = threading.Lock()
        self.write_log = os.write

    def covers(self, path: str) -> bool:
        return path.startswith(self.folders) or path + "/" in self.folders

    def call(self, kind: str, path: str, half: Callable[[], object] | None = None) -> None:
        """Note a call; kill the process or raise OSError where it is to fail."""
        if not self.covers(path):
            return
        with self.lock:
            number = self.count
            self.count += 1
            line = json.dumps(asdict(Call(kind, path, _place()))) + "\n"
            self.write_log(self.log, line.encode())
            fault = self.fault
            if fault is None:
                return
            if number == fault.number:
                self.first_kind = kind
            if not fault.strikes(number, kind, self.first_kind):
                return
            if fault.what in (KILL, TEAR):
                if fault.what == TEAR and half is not None:
                    half()
                os.kill(os.getpid(), signal.SIGKILL)
        code = getattr(errno, fault.what)
        # A write does not know the name of its file.
        names = () if kind in ("write", "sync", "sync folder", "lock") else (path,)
        raise OSError(code, os.strerror(code), *names)


def _place() -> str:
    lines = []
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(HOUSE):
            lines.append(f"{name[len(ROOT) + 1 :]}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return " ".join(reversed(lines))


def _path_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def _full(path: Any, dir_fd: int | None = None) -> str:
    if isinstance(path, int):
        return _path_of(path)
    name = os.fsdecode(path)
    if dir_fd is not None and not os.path.isabs(name):
        name = os.path.join(_path_of(dir_fd), name)
    folder, last = os.path.split(os.path.abspath(name))
    return os.path.join(os.path.realpath(folder), last)


def watch(
    folders: Sequence[str],
    log: int,
    fault: Fault | None = None,
    published: Callable[[str], None] | None = None,
) -> None:
    """From now on, note each call of this process that changes something below `folders`.

    Args:
        folders: Those that are watched, themselves among them.
        log: Descriptor that gets a line of JSON for each `Call`, before the call is made.
        fault: What is to happen at one of them.
        published: Called with each new name after a rename.
    """
    watched = _Watch(folders, log, fault)

    def wrap(name: str, kind: str, argument: int = 0) -> None:
        real = getattr(os, name)

        def changed(*given: Any, **named: Any) -> Any:
            folder = named.get("dst_dir_fd" if argument else "dir_fd")
            if len(given) > argument:
                path = _full(given[argument], folder)
                watched.call(kind, path)
            result = real(*given, **named)
            if kind == "rename" and published is not None and watched.covers(path):
                published(path)
            return result

        setattr(os, name, changed)

    for name in ("unlink", "remove"):
        wrap(name, "unlink")
    for name in ("replace", "rename"):
        wrap(name, "rename", 1)
    for name in ("link", "symlink"):
        wrap(name, "link", 1)
    for name in ("mkdir", "rmdir"):
        wrap(name, name)
    for name in ("truncate", "ftruncate"):
        wrap(name, "truncate")
    os.supports_dir_fd.update({os.unlink, os.mkdir, os.rmdir, os.rename})

    real_open, real_os_open = io.open, os.open
    real_sync, real_write, real_flock = os.fsync, os.write, fcntl.flock

    def os_open(path: Any, flags: int, *given: Any, **named: Any) -> int:
        if flags & (os.O_CREAT | os.O_TRUNC):
            watched.call("create", _full(path, named.get("dir_fd")))
        return real_os_open(path, flags, *given, **named)

    def sync(file: Any) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        watched.call("sync folder" if folder else "sync", _path_of(descriptor))
        real_sync(descriptor)

    def write(descriptor: int, content: Any) -> int:
        view = memoryview(content).cast("B")
        half = view[: len(view) // 2]
        watched.call("write", _path_of(descriptor), lambda: real_write(descriptor, half))
        return real_write(descriptor, content)

    def flock(file: Any, operation: int) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        if operation & (fcntl.LOCK_EX | fcntl.LOCK_SH):
            watched.call("lock", _path_of(descriptor))
        real_flock(file, operation)

    class File(io.FileIO):
        def write(self, content: Any, /) -> int:
            view = memoryview(content).cast("B")
            half, write_half = view[: len(view) // 2], super().write
            watched.call("write", _path_of(self.fileno()), lambda: write_half(half))
            return super().write(content) or 0

        def truncate(self, size: int | None = None, /) -> int:
            watched.call("truncate", _path_of(self.fileno()))
            return super().truncate(size)

    def open_file(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        path = _full(file)
        if not set(mode) & set("wxa+") or not watched.covers(path):
            return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int):
            watched.call("create", path)
        raw = File(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        buffer = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw, size)
        if "b" in mode:
            return buffer
        return io.TextIOWrapper(buffer, encoding, errors, newline, buffering == 1)

    os.open, os.fsync, os.fdatasync, os.write = os_open, sync, sync, write  # type: ignore[assignment]
    fcntl.flock = flock
    io.open = builtins.open = open_file  # type: ignore[assignment]
