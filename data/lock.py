"""One writer at a time."""

import errno
import fcntl
import itertools
import os
import re
import socket
import stat
import time
import weakref
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from data.errors import HeliographError
from data.files import WriteError, is_dead, make_folder, open_regular, write_error

PAUSE = 0.005  # seconds before a lock whose holder is dead is tried again
MOST_ATTEMPTS = 1000  # some file systems, /proc among them, let nothing be made and say "not found"
# What a file system answers that has no locks, such as Lustre without the option.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


class BusyError(HeliographError):
    """Another process is writing the same thing."""


class Lock:
    """The right to write `what`, held through the file `path`, whose text names the holder.

    It ends with `release`, or with the process, however that ends. On a file system without locks
    every process gets it.

    Args:
        path: The file; its folder is made.
        what: What is written, for the message.
        keep_folder: Whether `release` leaves the file's folder where nothing else is in it.

    Raises:
        BusyError: Another process holds the lock; the message names it.
        UnsafeFileError: Something else than a file is at `path`, or a file with several names.
        WriteError: The file cannot be made.
    """

    def __init__(self, path: Path, what: Path, *, keep_folder: bool = False) -> None:
        self.held = False
        folders = path.parent, *itertools.takewhile(_is_missing, path.parent.parents)
        self._path, self._folders = path, () if keep_folder else folders
        try:
            self._file = self._acquire(what)
            self.held = True
            _locks.add(self)
            self._write_holder()
        except OSError as error:
            self.release()
            raise write_error(path.parent, error) from error

    def _acquire(self, what: Path) -> BinaryIO:
        for attempts_left in reversed(range(MOST_ATTEMPTS)):
            try:
                make_folder(self._path.parent)
                file = _open_lock(self._path)
            except (WriteError, FileNotFoundError) as error:
                # Perhaps the holder has just released the lock, and removed its folder.
                raced = isinstance(error.__cause__ or error, FileExistsError | FileNotFoundError)
                if not raced or not attempts_left or _is_no_folder(self._path.parent):
                    raise
                continue
            try:
                if _take(file) and _is_at(file, self._path):
                    return file
                # The text is missing while a holder writes it, and the file once it was released.
                holder = os.pread(file.fileno(), 200, 0).decode(errors="replace").strip()
                here = _is_at(file, self._path)
            except BaseException:
                file.close()
                raise
            file.close()
            waits = not holder or _is_dead(holder)  # for a forked child that is to let go of it
            if here and (not waits or not attempts_left):
                raise BusyError(f"{what} is being written by {holder or 'another process'}")
            if here:
                time.sleep(PAUSE)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _write_holder(self) -> None:
        if self._file.writable():
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._file.truncate(0)
            holder = f"process {os.getpid()} on {socket.gethostname()} since {now}"
            self._file.write(holder.encode())

    def release(self) -> None:
        """Release the lock; remove its file, and usually folders made for it alone."""
        if self.held:
            self.held = False
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty, or removed already
                for folder in self._folders:
                    folder.rmdir()
            self._file.close()


_locks: "weakref.WeakSet[Lock]" = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a forked child: the locks are its parent's, and end with it."""
    for lock in list(_locks):
        if lock.held:
            lock.held = False
            lock._file.close()


os.register_at_fork(after_in_child=_leave_to_parent)


def _open_lock(path: Path) -> BinaryIO:
    """Open the file of a lock; only to read where it is another user's."""
    try:
        return open_regular(path, "a+b")
    except PermissionError:
        return open_regular(path, "rb")


def _take(file: BinaryIO) -> bool:
    """Return whether the lock on an open file is ours now; always, where there are no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return True
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Return whether an open file is still the one at `path`."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), os.lstat(path))
    return False


def _is_dead(holder: str) -> bool:
    """Return whether `holder` names a process of this machine that has ended."""
    match = re.match(r"process ([0-9]+) on (.+) since ", holder)
    return bool(match and match[2] == socket.gethostname() and is_dead(int(match[1])))


def _is_missing(path: Path) -> bool:
    return not os.path.lexists(path)


def _is_no_folder(path: Path) -> bool:
    """Return whether something other than a folder is at `path`; False where nothing is."""
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
