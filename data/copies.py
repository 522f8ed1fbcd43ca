"""Copies of files and folders at addresses (`data.remote`), for what is read again and again.

They are in `${XDG_CACHE_HOME:-~/.cache}/heliograph/remote`, a folder for each address, and in it
one for each state of it. Together they have `MOST_BYTES` at most, and beside them there may be one
that has more alone: those that were not used for the longest time are removed for new ones, but
none that a running process has read.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data.errors import HeliographError
from data.files import (
    Address,
    WriteError,
    atomic_write,
    hub_address,
    make_folder,
    open_regular,
    sweep_temporaries,
    temporary_path,
)
from data.remote import (
    FolderError,
    MissingError,
    RemoteError,
    RemoteFile,
    fetch,
    look_up,
    look_up_all,
    look_up_if_there,
)
from data.screening import own_record

MOST_BYTES = 20 << 30  # of all copies
MOST_FILES = 10_000  # of a folder
AT_ONCE = 8  # files of a folder that are fetched
_ATTEMPTS = 3  # to copy a folder that changes meanwhile
_ADDRESS, _USED = "address", ".used"
_UNSENT = "unsent"  # how folders begin of what no address gets

_held: dict[Path, BinaryIO] = {}
_named: dict[str, str] = {}  # paths of copies that others have made -> their addresses


def copy_of(path: Path, *, with_files: Sequence[Address] = ()) -> Path:
    """Return a copy of a file or folder at an address; a path on this machine as it is.

    A copy of the same state is not fetched again, and stays while this process runs.

    Args:
        path: The address.
        with_files: Others that are copied next to the file, where they are there.

    Raises:
        RemoteError: It cannot be had.
        WriteError: The disk is full, or has no room for it.
    """
    if not isinstance(path, Address):
        return path
    try:
        remote = look_up(path)
    except FolderError:
        return _copy_of_folder(path, with_files)
    target = _held_folder(path, f"{remote.tag} {remote.size}") / path.name
    _fetch_others(with_files, target)
    if remote.version is None or not target.is_file():
        make_room(remote.size or 0)
        _fetch_whole(remote, target)
    return target


def _fetch_others(addresses: Sequence[Address], target: Path) -> None:
    """Fetch files next to a copy, where they are there, and not here as they are there."""
    for other in filter(None, map(look_up_if_there, addresses)):
        place = target.with_name(other.address.name)
        note, state = place.with_name(f".{place.name}.state"), f"{other.tag} {other.size}"
        known = note.read_text() if note.is_file() and place.is_file() else ""
        if other.version is None or known != state:
            make_room(other.size or 0)
            _fetch_whole(other, place)
            atomic_write(note, state)


def _copy_of_folder(
    path: Address, with_files: Sequence[Address], attempts: int = _ATTEMPTS
) -> Path:
    files = _files_of_folder(path)
    state = " ".join(f"{file.address} {file.tag} {file.size}" for file in files)
    target = _held_folder(path, state) / path.name
    _fetch_others(with_files, target)
    if not target.is_dir():
        make_room(sum(file.size or 0 for file in files))
        try:
            _fetch_folder(path, files, target)
        except MissingError:  # what was listed was replaced meanwhile
            if attempts == 1:
                raise
            return _copy_of_folder(path, with_files, attempts - 1)
    return target


def _fetch_whole(remote: RemoteFile, path: Path) -> None:
    temporary = temporary_path(path)
    fetch(remote, temporary)
    os.replace(temporary, path)


def is_copy(path: Path) -> bool:
    """Return whether a file or a folder is a copy of what is at an address."""
    return path.is_relative_to(root())


def address_of(path: Path) -> str:
    """Return the address of what a path is a copy of, here or in the Hugging Face Hub's cache.

    "" for any other path.
    """
    path = path.absolute()
    if not is_copy(path):
        return hub_address(path)
    named = as_named(str(path))
    return "" if named == str(path) else named


def name_copy(path: Path, address: str) -> None:
    """Have `as_named` give an address to what another program has copied to a path."""
    _named[str(path)] = address


def as_named(text: str) -> str:
    """Return text in which the paths of copies are the addresses of what they are copies of."""
    for path, address in _named.items():
        text = text.replace(path, address)
    here = f"{root()}/"
    if here not in text:
        return text

    def named(found: re.Match[str]) -> str:
        with suppress(OSError):
            address = (root() / found[1] / _ADDRESS).read_text()
            name = address.rpartition("/")[2]
            rest = text[found.end() :]
            if rest.startswith(name):
                return address[: -len(name)]
        return found[0]

    return re.sub(rf"{re.escape(here)}([0-9a-f]{{16}})/(?!{_UNSENT})[^/]+/", named, text)


@contextmanager
def naming_addresses() -> Iterator[None]:
    """Let errors of a block name addresses where they name copies."""
    try:
        yield
    except HeliographError as error:
        error.args = (as_named(str(error)), *error.args[1:])
        raise


def root() -> Path:
    """Return the folder of all copies."""
    record = own_record()
    return (record or Path(tempfile.gettempdir(), "heliograph", "checked")).with_name("remote")


def folder_of(address: Address) -> Path:
    """Return the folder of what is copied of an address."""
    return root() / _hash(str(address))


def size_of(folder: Path) -> int:
    """Return the bytes of the files below a folder."""
    return sum(
        (Path(parent) / name).lstat().st_size
        for parent, _, names in os.walk(folder)
        for name in names
        if os.path.lexists(Path(parent) / name)
    )


def _files_of_folder(folder: Address) -> list[RemoteFile]:
    """Return the files of a folder at an address.

    Raises:
        RemoteError: It cannot be listed, or has too many, or one that would lie elsewhere.
    """
    files = look_up_all(folder)
    if len(files) > MOST_FILES:
        raise RemoteError(
            f"{folder} has {len(files):,} files, more than the {MOST_FILES:,} that are copied: "
            "name a folder or a file in it"
        )
    for file in files:
        if ".." in file.address.parts:
            raise RemoteError(f"{folder} is not copied: {file.address} would lie elsewhere")
    return files


def _fetch_folder(address: Address, files: Sequence[RemoteFile], target: Path) -> None:
    """Fetch the files of a folder, which is there once all of them are."""
    temporary = temporary_path(target)

    def fetch_one(file: RemoteFile) -> None:
        place = temporary.joinpath(*file.address.parts[len(address.parts) :])
        make_folder(place.parent)
        fetch(file, place)

    try:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(fetch_one, files))
        with suppress(OSError):  # another process was faster
            os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _held_folder(address: Address, state: str) -> Path:
    """Return the folder of a state of what is at an address; it stays while this process runs."""
    above = folder_of(address)
    folder = above / _hash(state)
    while folder not in _held:
        make_folder(folder)
        file = open_regular(folder / _USED, "ab")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        if _is_at(file, folder / _USED):
            _held[folder] = file
        else:  # it was just removed
            file.close()
    with suppress(OSError):
        os.utime(folder / _USED)
    note_address(address)
    sweep_temporaries(folder)
    return folder


def note_address(address: Address) -> None:
    """Note of what the copies in the folder of an address are, for messages."""
    note = folder_of(address) / _ADDRESS
    if not note.is_file():
        make_folder(note.parent)
        atomic_write(note, str(address))


def unsent_folder(address: Address) -> Path:
    """Return a new folder for what was made for an address, and does not go there."""
    numbers = (folder_of(address) / f"{_UNSENT}-{number}" for number in itertools.count(1))
    folder = next(folder for folder in numbers if not os.path.lexists(folder))
    make_folder(folder)
    return folder


def make_room(size: int) -> None:
    """Remove copies that were not used for the longest time, until so many bytes fit in.

    Raises:
        WriteError: The disk has no room for them.
    """
    copies = sorted(_copies())
    sizes = [size, *(each for _, each, _ in copies)]
    largest = max(sizes)
    excess = sum(sizes) - MOST_BYTES - (largest if largest > MOST_BYTES else 0)
    for _, each, folder in copies:
        if excess > 0 and _remove(folder):
            excess -= each
    place = next(folder for folder in (root(), *root().parents) if folder.is_dir())
    if size > (free := shutil.disk_usage(place).free):
        raise WriteError(
            f"{root()}: what is copied there has {size:,} bytes, and {free:,} are free: make room, "
            "or let XDG_CACHE_HOME name a folder on a larger disk"
        )


@dataclass(frozen=True)
class Contents:
    """What is in the folder of all copies.

    Attributes:
        copies: How many, each of a file or folder at an address.
        copied_bytes: Of them.
        other_bytes: Of outputs that are not sent to their addresses yet.
    """

    copies: int
    copied_bytes: int
    other_bytes: int


def contents() -> Contents:
    """Return what is in the folder of all copies.

    Raises:
        OSError: It cannot be read.
    """
    found = [size for _, size, _ in _copies()]
    copied = sum(found)
    return Contents(len(found), copied, max(0, size_of(root()) - copied - _size_of_notes()))


def _size_of_notes() -> int:
    return sum(note.lstat().st_size for note in root().glob(f"*/{_ADDRESS}"))


def free(folder: Path) -> None:
    """Let a folder below that of an address be removed for new copies, from now on."""
    with suppress(OSError):
        (folder / _USED).touch()


def keep(folder: Path) -> None:
    """See that a folder that was `free` is not removed, unless it is gone already."""
    with suppress(OSError), open_regular(folder / _USED, "r+b") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if _is_at(file, folder / _USED):
            (folder / _USED).unlink()


def _copies() -> Iterator[tuple[float, int, Path]]:
    """Yield when each copy was last used, its bytes, and its folder."""
    for used in root().glob(f"*/*/{_USED}"):
        with suppress(OSError):
            yield used.stat().st_mtime, size_of(used.parent), used.parent


def _remove(folder: Path) -> bool:
    """Remove a copy unless a running process uses it; return whether it is gone."""
    if folder in _held:  # some network file systems let a process lock a file twice
        return False
    try:
        with open_regular(folder / _USED, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(file, folder / _USED):  # it was kept meanwhile
                return False
            away = temporary_path(folder)
            os.rename(folder, away)
            shutil.rmtree(away, ignore_errors=True)
    except (OSError, HeliographError):
        return False
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(file.fileno()), os.lstat(path))
    return False


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
