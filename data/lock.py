"""One writer at a time."""

import errno
import fcntl
import os
import socket
import stat
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from data.errors import HeliographError
from data.files import WriteError

MOST_ATTEMPTS = 1000  # some file systems, /proc among them, let nothing be made and say "not found"


class BusyError(HeliographError):
    """Another process is writing the same thing."""


class Lock:
    """The right to write `what`, held through the file `path`, which says who has it.

    It ends with `release`, or with the process, however that ends. Raises `BusyError`, naming the
    holder, while another process has it. On a file system without locks everybody gets it.
    """

    def __init__(self, path: Path, what: Path) -> None:
        self._path = path
        try:
            self._descriptor: int | None = self._acquire(what)
        except OSError as error:
            raise WriteError(
                f"{path.parent} cannot be written: {error.strerror or error}"
            ) from error

    def _acquire(self, what: Path) -> int:
        for attempt in count(1):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            except (FileExistsError, FileNotFoundError):
                if attempt == MOST_ATTEMPTS or _is_no_folder(self._path.parent):
                    raise
                continue  # the folder went meanwhile, with whoever held the lock
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                os.close(descriptor)
                holder = holder or "another process"
                raise BusyError(f"{what} is being written by {holder}") from error
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                    os.close(descriptor)
                    raise
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(self._path), os.fstat(descriptor)):
                    break
            os.close(descriptor)  # whoever held it has removed it meanwhile
        now = datetime.now(UTC).isoformat(timespec="seconds")
        holder = f"process {os.getpid()} on {socket.gethostname()} since {now}"
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
        return descriptor

    @property
    def held(self) -> bool:
        """Whether it has not been released yet."""
        return self._descriptor is not None

    def release(self) -> None:
        """Let go, and take the file away, and its folder where nothing else is in it."""
        if self._descriptor is not None:
            self._path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty, or gone already
                self._path.parent.rmdir()
            os.close(self._descriptor)
            self._descriptor = None


def _is_no_folder(path: Path) -> bool:
    """Whether something else than a folder is in its place; False where nothing is."""
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
