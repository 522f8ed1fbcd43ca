"""Files written whole or not at all, opened without being led astray, hashed and found.

A file is written under a temporary name in its own folder, forced to disk, and renamed over the
target; then the folder is forced to disk. A reader, and a machine that loses power, see the old
file or the new one. What is appended to or changed in place is opened with `open_regular`, so that
nothing planted under its name (a link, a FIFO, a device) is written through.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PosixPath
from typing import BinaryIO, Literal

from data.errors import HeliographError, InvalidValueError
from data.wording import counted

ABANDONED_SECONDS = 7 * 24 * 3600  # after which nobody still writes to a temporary file
HOLLOW_BYTES = 1 << 30  # below which a file is read, written or not
LONGEST_NAME = 200  # bytes of a target's name that go into the name of its temporary files

_TEMPORARY = re.compile(
    r"^\.(?P<target>.+)\.(?P<host>[0-9a-f]{8})-(?P<process>[0-9]+)-(?P<started>[0-9]+)"
    r"-[0-9a-f]{16}\.tmp$",
    re.DOTALL,
)
_PROCESS = re.compile(r"(?P<host>[0-9a-f]{8})-(?P<process>[0-9]+)-(?P<started>[0-9]+)-[0-9a-f]{16}")
_OLD_TEMPORARY = re.compile(r"^\.(?P<target>.+)\.(?P<process>[0-9]+)-[0-9a-f]{8}\.tmp$", re.DOTALL)
# What a file system answers that cannot force a folder to disk: CIFS and FUSE, among others.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES)
# What a file system answers that has no hard links: exFAT and some FUSE.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
_REASONS = {
    errno.ENOSPC: "the disk is full (No space left on device); make room and start again",
    errno.EDQUOT: "the disk quota is used up (Disk quota exceeded); make room and start again",
    errno.EIO: "the disk failed (Input/output error); look at the system's log, or choose "
    "another disk",
    errno.ESTALE: "the network file system lost it (Stale file handle); start again",
    errno.EROFS: "its file system is read-only (Read-only file system)",
}
_IN_THE_WAY = {
    errno.EEXIST: "something else is in its place (File exists); move it away",
    errno.EISDIR: "a folder is in its place (Is a directory); move it away",
    errno.ENOTDIR: "something that is not a folder is in the way (Not a directory); move it away",
    errno.ENOTEMPTY: "a folder with files is in its place (Directory not empty); move it away",
}
_URL = re.compile(r"(?i)(https?|ftp|rtsp|rtmp|s3|gs|hf|file):/")
_ADDRESS = re.compile(r"(?P<scheme>https?|s3|gs|hf):/+(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_SNAPSHOT = re.compile(
    r"/(?P<kind>models|datasets)--(?P<repository>[^/]+)/snapshots/(?P<commit>[0-9a-f]+)"
    r"(?:/(?P<file>.+))?$"
)
_FLAGS = {
    "rb": os.O_RDONLY,
    "r+b": os.O_RDWR,
    "ab": os.O_WRONLY | os.O_APPEND,
    "a+b": os.O_RDWR | os.O_APPEND,
}
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)
_swept: set[tuple[int, Path]] = set()  # process and folder, for `replacing`


class WriteError(HeliographError):
    """A file could not be written; an older one in its place is not lost."""


class UnsafeFileError(HeliographError):
    """Something else than a file of its own is where a file is read or written."""


def write_error(path: Path, error: OSError) -> WriteError:
    """Return the sentence about a failed write: the file, the reason, and what to do.

    Where something inside or above `path` is in the way, the sentence names that.
    """
    code = error.errno or 0
    named = error.filename2 or error.filename
    if code in _IN_THE_WAY and isinstance(named, str):
        other = Path(named)
        path = other if path in other.parents or other in path.parents else path
    reason = _REASONS.get(code) or _IN_THE_WAY.get(code) or error.strerror or error
    return WriteError(f"{path} cannot be written: {reason}")


def open_regular(
    path: Path,
    mode: Literal["rb", "r+b", "ab", "a+b"] = "rb",
    *,
    follow_links: bool = False,
) -> BinaryIO:
    """Open a regular file, unbuffered if it is written to, and never wait for its other end.

    `ab` and `a+b` create it. A file that is written to has one name only: a second hard link may
    be a file of somebody else.

    Args:
        path: The file.
        mode: As for `open`.
        follow_links: Whether the path may be a link: right for what a user names as input.

    Raises:
        UnsafeFileError: A link, FIFO, socket, device or folder is there, or, to be written to, a
            file with several hard links.
        OSError: It cannot be opened.
    """
    writes = mode != "rb"
    flags = _FLAGS[mode] | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    verb = "written" if writes else "read"
    _refuse_unsafe(path, verb, follow_links=follow_links)
    descriptor = _open_or_create(path, flags) if mode[0] == "a" else os.open(path, flags)
    try:
        _refuse_unsafe(path, verb, os.fstat(descriptor))
        return open(descriptor, mode, buffering=0 if writes else -1)
    except BaseException:
        os.close(descriptor)
        raise


def _open_or_create(path: Path, flags: int) -> int:
    """Open a file for appending; two steps, as systems protect others' files from `O_CREAT`."""
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, flags)
        with suppress(FileExistsError):
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)


def _refuse_unsafe(
    path: Path, verb: str, status: os.stat_result | None = None, *, follow_links: bool = False
) -> None:
    """Raise for what is no file of its own at `path`; `verb` is what was to be done with it."""
    if verb == "written":
        _refuse_address(path)
    if status is None:
        try:
            status = os.stat(path, follow_symlinks=follow_links)
        except OSError:
            return  # opening it says why
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            way_out = "; remove it, or choose another name" if verb == "written" else ""
            raise UnsafeFileError(f"{path} is not {verb}: it is {kind}, not a file{way_out}")
    if verb == "written" and status.st_nlink > 1:
        names = counted(status.st_nlink - 1, "more name")
        raise UnsafeFileError(
            f"{path} is not written: it has {names} (hard links); "
            "remove it, or replace it by a copy"
        )


def _refuse_address(path: Path) -> None:
    """Raise for an address: this machine would make folders of its words in the current one."""
    if _URL.match(str(path)):
        raise UnsafeFileError(
            f"{as_written(path)} is not written: it is an address, and this is written on this "
            "machine; write to a folder, and copy what is there"
        )


def require_own_file(path: Path) -> None:
    """Check that nothing, or a file of its own, is where a file is to be written.

    Raises:
        UnsafeFileError: A link, FIFO, socket, device or folder is there, or a file with several
            hard links.
    """
    _refuse_unsafe(path, "written")


def remove_own_file(path: Path) -> None:
    """Remove a file that is made anew, or is needed no more; there may be none.

    Raises:
        UnsafeFileError: Something else than a file is there, or a file with several names.
        WriteError: It cannot be removed.
    """
    require_own_file(path)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def is_hollow(path: Path) -> bool:
    """Return whether a file is large, and hardly any of it was ever written.

    Such a file takes nothing on disk, and hours to read. Sizes on disk alone do not tell: some
    file systems give none.
    """
    try:
        status = os.stat(path)
        if status.st_size < HOLLOW_BYTES or status.st_blocks * 512 > status.st_size / 10:
            return False
        with open_regular(path, follow_links=True) as file:
            return os.lseek(file.fileno(), 0, os.SEEK_HOLE) < status.st_size
    except (OSError, UnsafeFileError):
        return False


class Address(PosixPath):
    """The address of a file or a folder elsewhere (`data.remote`), which is taken apart as a path.

    On this machine there is nothing of this name.

    >>> str(path_of("S3://bucket/clips/table.csv").parent / "a.mp4")
    's3://bucket/clips/a.mp4'
    """

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    @property
    def scheme(self) -> str:
        """`s3`, `gs`, `hf`, `http` or `https`."""
        return str(self).partition(":")[0]

    @property
    def name(self) -> str:
        """The last part, without the query of a web address."""
        return super().name.partition("?" if self.scheme in ("http", "https") else "\0")[0]


def path_of(text: Path | str) -> Path:
    """Return a path, which is an `Address` if it looks like one.

    Raises:
        InvalidValueError: It is an address that a path cannot hold.
    """
    found = _ADDRESS.fullmatch(str(text))
    if found is None:
        return Path(text)
    rest = found["rest"]
    if "//" in rest:
        raise InvalidValueError(f"{text}: an address with a name that is empty (//) cannot be read")
    if ".." in rest.split("/"):
        rest = os.path.normpath(rest)
    return Address(f"{found['scheme'].lower()}:/{rest}")


def text_of(path: Path) -> str:
    """Return `str(path)`, which the path then does not keep: of millions of paths that is much."""
    return str(path.joinpath())  # another one


def absolute(path: Path) -> str:
    """Return the absolute name of a path, or an address as it is."""
    text = text_of(path)
    return text if isinstance(path, Address) else os.path.abspath(text)


def as_written(path: Path) -> str:
    """Return a path as the user wrote it, an address with both its slashes.

    >>> as_written(Path("hf://user/name"))
    'hf://user/name'
    """
    text = str(path)
    return re.sub(":/+", "://", text, count=1) if _URL.match(text) else text


def missing(path: Path) -> str:
    """Return the sentence about a path where nothing is."""
    return f"{as_written(path)} does not exist{hint_for_missing(path)}"


def hint_for_missing(path: Path) -> str:
    """Return how a sentence about a path that does not exist may end: with what is meant by it."""
    with suppress(OSError):
        return f": it is a symbolic link to {os.readlink(path)}, where nothing is"
    text = str(path)
    if _URL.match(text):
        hint = ": it looks like an address; download it, and name the file"
        if text.startswith("hf:/"):
            hint += f"; in Python: pipeline.hub.fetch('{as_written(path)}').path"
        return hint
    slashes = text.replace("\\", "/")
    if re.match("[A-Za-z]:/", slashes):
        in_wsl = f"/mnt/{text[0].lower()}{slashes[2:]}"
        return f": it looks like a path of Windows; in WSL it is {in_wsl}"
    return f": write it with slashes, {slashes}" if slashes != text else ""


def hub_address(path: Path) -> str:
    """Return the address of what lies in the Hugging Face Hub's cache, with its commit; else "".

    >>> hub_address(Path("/a/hub/models--user--name/snapshots/0123/clips.h5"))
    'hf://user/name@0123/clips.h5'
    """
    found = _SNAPSHOT.search(path.as_posix())
    if found is None:
        return ""
    kind = "" if found["kind"] == "models" else f"{found['kind']}/"
    rest = f"/{found['file']}" if found["file"] else ""
    return f"hf://{kind}{found['repository'].replace('--', '/')}@{found['commit']}{rest}"


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of the bytes of a file, as 64 hex digits; links are followed.

    Raises:
        UnsafeFileError: It is not a regular file, or hardly any of it was ever written.
        OSError: The file cannot be read.
    """
    if is_hollow(path):
        raise UnsafeFileError(f"{path} is not read: hardly any of its bytes were ever written")
    with open_regular(path, follow_links=True) as file:
        return sha256_open(file)


def sha256_open(file: BinaryIO) -> str:
    """Return the SHA-256 of an open file from where it stands, as 64 hex digits."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


Version = tuple[int, int, int | str]
"""Inode, size and time of a file, which a write or a replacement changes; of a file at an address
0, its size, and the server's tag."""


@dataclass(frozen=True)
class HashedFile:
    """The SHA-256 of a file's bytes, and its version (`version_of`) just before they were read."""

    sha256: str
    version: Version | None


def hash_file(path: Path) -> HashedFile:
    """Return the SHA-256 and the version of a file; raises as `sha256_file` does."""
    version = version_of(path)
    return HashedFile(sha256_file(path), version)


def version_of(path: Path) -> tuple[int, int, int] | None:
    """Return the version of a file on this machine; None if there is no such file."""
    try:
        status = os.stat(text_of(path))
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def sync_folder(folder: Path) -> None:
    """Force a folder's entries (renames, removals) to disk, where its file system can do that.

    Raises:
        OSError: The disk failed.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, each forced to disk in the folder that it is in.

    Raises:
        WriteError: It cannot be made; the cause is the `OSError`.
        UnsafeFileError: It is an address.
    """
    _refuse_address(folder)
    try:
        _make_folder(Path(folder))
    except OSError as error:
        raise write_error(folder, error) from error


def _make_folder(folder: Path) -> None:
    try:
        try:
            os.mkdir(folder)
        except FileNotFoundError:
            if folder.parent == folder:
                raise
            _make_folder(folder.parent)
            os.mkdir(folder)
    except OSError:
        if not folder.is_dir():
            raise
    else:
        sync_folder(folder.parent)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write and read; it becomes `path` when the block ends without an error.

    Parents are created. On any error the temporary file is removed and `path` stays as it was.
    What killed writers left in the folder is removed when this process first writes there.

    Raises:
        WriteError: The write itself failed (disk full, no permission).
        UnsafeFileError: Something else than a file is at `path`, or a file with several names.
    """
    path = Path(path)
    _refuse_address(path)
    temporary = temporary_path(path)
    try:
        _make_folder(path.parent)
        if path.is_dir() and not path.is_symlink():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        _refuse_unsafe(path, "written")
        _sweep_once(path.parent)
        try:
            with open(temporary, "x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        # Reading some other file inside the block is not a failure of this write.
        ours = (temporary, path, *path.parents)
        if error.filename is not None and Path(error.filename) not in ours:
            raise
        raise write_error(path, error) from error


def atomic_write(path: Path, content: bytes | memoryview | str) -> None:
    """Write a file at once, as `replacing` does; text becomes UTF-8.

    Raises:
        WriteError: The disk is full or not writable.
        UnsafeFileError: Something else than a file is at `path`, or a file with several names.
    """
    with replacing(path) as file:
        file.write(content if isinstance(content, memoryview) else as_bytes(content))


def write_once(path: Path, content: bytes | str | Iterable[str]) -> bool:
    """Write a file, whole or not at all, where there is none; return whether there was none.

    Its content may be given in pieces.

    Of several processes, on any hosts, one is told so.

    Raises:
        WriteError: The disk is full or not writable.
        UnsafeFileError: It is an address.
    """
    _refuse_address(path)
    temporary = temporary_path(path)
    try:
        _make_folder(path.parent)
        _sweep_once(path.parent)
        try:
            with open(temporary, "xb") as file:
                pieces = [content] if isinstance(content, bytes | str) else content
                file.writelines(map(as_bytes, pieces))
            return _link_once(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def _link_once(temporary: Path, path: Path) -> bool:
    """Give a file one more name that nothing has; return whether nothing had it."""
    with suppress(FileExistsError):
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with open(temporary, "rb") as source, open(path, "xb") as file:
                shutil.copyfileobj(source, file)
        return True
    return False


def as_bytes(content: bytes | str) -> bytes:
    r"""Return content as it is written: text as UTF-8, bytes of a file's name in it as escapes.

    In JSON such an escape is that character again, and anywhere else it can be seen.

    >>> as_bytes("a\udcff.mp4")
    b'a\\udcff.mp4'
    """
    return content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content


def temporary_path(path: Path) -> Path:
    """Return a name beside `path` for a file or folder that is to become it.

    The name tells who made it, so that `sweep_temporaries` removes what a dead process left.
    """
    target = path.name if len(os.fsencode(path.name)) <= LONGEST_NAME else path.name[:40]
    return path.parent / f".{target}.{process_name()}.tmp"


def process_name() -> str:
    """Return a name that nothing else has, with this host, this process, and when it started."""
    process = os.getpid()
    return f"{_host()}-{process}-{_start_of(process) or 0}-{secrets.token_hex(8)}"


def is_abandoned(name: str, file: Path, seconds: float = ABANDONED_SECONDS) -> bool:
    """Return whether the process of a `process_name` has ended, or is not known to live.

    Args:
        name: Of the process.
        file: What it touches while it lives: all that can be known of a process of another host.
        seconds: After how long without that a process of another host counts as ended.
    """
    owner = _PROCESS.fullmatch(name)
    if owner is not None and owner["host"] == _host():
        return is_dead(int(owner["process"]), started=int(owner["started"]) or None)
    try:
        return time.time() - os.lstat(file).st_mtime > seconds
    except OSError:
        return False


def sweep_temporaries(folder: Path, *, of: str | None = None) -> list[Path]:
    """Remove the temporary files and folders of dead writers in a folder; return their paths.

    With `of`, only those that were to become the file of this name. What a living process of this
    machine or any process of another one writes stays, so no lock is needed. (What was not touched
    for a week is nobody's.)
    """
    stale = [path for path in sorted(folder.glob(".*.tmp")) if _is_stale(path, of)]
    return [path for path in stale if _remove(path)]


def _is_stale(path: Path, of: str | None) -> bool:
    """Return whether `path` is a temporary file, for the target `of`, whose writer is dead."""
    match = _TEMPORARY.match(path.name) or _OLD_TEMPORARY.match(path.name)
    if match is None or (of is not None and match["target"] not in (of, of[:40])):
        return False
    owner = match.groupdict()
    if owner.get("host", _host()) == _host():
        started = int(owner.get("started") or 0)
        return is_dead(int(owner["process"]), started=started or None)
    try:
        return time.time() - os.lstat(path).st_mtime > ABANDONED_SECONDS
    except OSError:
        return False


def _remove(path: Path) -> bool:
    """Remove a file or folder; return whether it is gone (it may belong to somebody else)."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _sweep_once(folder: Path) -> None:
    """Sweep a folder when this process first writes to it."""
    key = os.getpid(), Path(os.path.abspath(folder))
    if key not in _swept:
        _swept.add(key)
        sweep_temporaries(folder)


def is_dead(process: int, *, started: int | None = None) -> bool:
    """Return whether a process of this machine has ended.

    Args:
        process: Its number.
        started: When it started, in ticks of this system's clock; another process may have got its
            number since.
    """
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    start_now = _start_of(process)
    return start_now == 0 or (None not in (started, start_now) and started != start_now)


def _start_of(process: int) -> int | None:
    """Return when a process started, in ticks since boot; 0 if it has ended, None if unknown."""
    try:
        status = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return None
    fields = status[status.rindex(b")") + 2 :].split()  # its name may hold spaces and brackets
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


@cache
def _host() -> str:
    """Return 8 hex digits for this machine, and for this container where it counts processes."""
    try:
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:
        processes = ""
    return hashlib.sha256(f"{socket.gethostname()} {processes}".encode()).hexdigest()[:8]


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder below `folder`, itself first, and the names of the files in it.

    Hidden folders are left out. Links are followed, but no folder is visited twice: a link may lead
    to a folder that it is in, and clips with two names could be in training and test.

    Raises:
        HeliographError: A folder cannot be read (`os.walk` would skip it).
    """

    def refuse(error: OSError) -> None:
        raise HeliographError(f"{error.filename} cannot be read: {error.strerror}") from error

    visited: set[str] = set()
    try:
        for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
            real = os.path.realpath(parent)
            if real in visited:
                folders.clear()
                continue
            visited.add(real)
            visible = [name for name in folders if not name.startswith(".")]
            folders[:] = sorted(visible, key=lambda name: (Path(parent, name).is_symlink(), name))
            yield Path(parent), names
    except RecursionError as error:
        raise HeliographError(f"{folder} holds folders in folders too deep to read") from error
