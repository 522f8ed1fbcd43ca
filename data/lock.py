"""One writer at a time."""

import errno
import os
import re
import socket
import stat
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from data.errors import HeliographError
from data.files import WriteError

PAUSE = 0.005  # seconds before a lock whose holder is dead is tried again
MOST_ATTEMPTS = 1000  # some file systems, /proc among them, let nothing be made and say "not found"


class BusyError(HeliographError):
    """Another process is writing the same thing."""


class Lock:
    """The right to write `what`, held through the file `path`, whose text names the holder.

    It ends with `release`, or with the process, however that ends. On a file system without locks
    every process gets it.

    Raises:
        BusyError: Another process holds the lock; the message names it.
        WriteError: The file cannot be made.
    """

    def __init__(self, path: Path, what: Path) -> None:
        self.held = False
        self._path = path
        self._lock = FileLock(path, blocking=False, mode=0o644, fallback_to_soft=False)
        try:
            self._acquire(what)
        except OSError as error:
            self.release()
            raise WriteError(
                f"{path.parent} cannot be written: {error.strerror or error}"
            ) from error

    def _acquire(self, what: Path) -> None:
        for attempts_left in reversed(range(MOST_ATTEMPTS)):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._lock.acquire()
                break
            except Timeout as error:
                # The text is missing while a holder writes it, and the file once it was released.
                holder = self._holder()
                if _is_dead(holder) and attempts_left:
                    time.sleep(PAUSE)  # a child that was just forked is about to let go of it
                elif holder or (not attempts_left and self._path.exists()):
                    holder = holder or "another process"
                    raise BusyError(f"{what} is being written by {holder}") from error
                elif not attempts_left:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
            except (FileExistsError, FileNotFoundError):
                if not attempts_left or _is_no_folder(self._path.parent):
                    raise
                # Otherwise the holder has just released the lock, and removed its folder.
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    raise
                break
        self.held = True
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._path.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}")

    def _holder(self) -> str:
        try:
            return self._path.read_text(errors="replace")[:200].strip()
        except FileNotFoundError:
            return ""

    def release(self) -> None:
        """Release the lock; remove its file, and the file's folder if nothing else is in it."""
        if self.held:
            self._path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty, or removed already
                self._path.parent.rmdir()
            self._lock.release()
            self.held = False


def _is_dead(holder: str) -> bool:
    """Return whether `holder` names a process of this machine that has ended."""
    match = re.match(r"process ([0-9]+) on (.+) since ", holder)
    if not match or match[2] != socket.gethostname():
        return False
    try:
        os.kill(int(match[1]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False


def _is_no_folder(path: Path) -> bool:
    """Return whether something other than a folder is at `path`; False where nothing is."""
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
