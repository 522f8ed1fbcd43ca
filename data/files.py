"""Files written whole or not at all, hashes of files, and walks over folders.

A file is written under a temporary name in its own folder, forced to disk, and renamed over the
target; then the folder is forced to disk. A reader, and a machine that loses power, see the old
file or the new one.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from data.errors import HeliographError

_TEMPORARY = re.compile(r"^\..+\.[0-9]+-[0-9a-f]{8}\.tmp$")


class WriteError(HeliographError):
    """A file could not be written; an older one in its place is not lost."""


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of the bytes of a file, as 64 hex digits.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def version_of(path: Path) -> tuple[int, ...] | None:
    """Return inode, size and time of a file, which a write or a replacement changes.

    None if there is no such file.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def sync_folder(folder: Path) -> None:
    """Force a folder's entries (renames, removals) to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write and read; it becomes `path` when the block ends without an error.

    Parents are created. On any error the temporary file is removed and `path` stays as it was.

    Raises:
        WriteError: The write itself failed (disk full, no permission).
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        # Reading some other file inside the block is not a failure of this write.
        ours = (temporary, path, *path.parents)
        if error.filename is not None and Path(error.filename) not in ours:
            raise
        raise WriteError(f"{path} cannot be written: {error.strerror or error}") from error


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file at once, as `replacing` does; text becomes UTF-8.

    Raises:
        WriteError: The disk is full or not writable.
    """
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sweep_temporaries(folder: Path, *, of: str | None = None) -> list[Path]:
    """Remove the temporary files of killed writers in a folder; return their paths.

    With `of`, only those that were to become the file of this name. Call it only while no other
    process writes there.
    """
    stale = [
        path
        for path in sorted(folder.glob(".*.tmp"))
        if _TEMPORARY.match(path.name) and (of is None or path.name.startswith(f".{of}."))
    ]
    for path in stale:
        path.unlink(missing_ok=True)
    return stale


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
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        visible = [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(visible, key=lambda name: (Path(parent, name).is_symlink(), name))
        yield Path(parent), names
