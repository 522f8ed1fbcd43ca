"""Caches at addresses (`data.remote`): copies to read, and one that is written and published.

They are where `data.copies` are.
"""

import json
import os
import shlex
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data import copies
from data.cache.errors import INDEX, CacheError, DamagedCacheError
from data.cache.ledger import ledger_path
from data.cache.parts import Part, files_of_index, is_own_name, read_index
from data.cache.seal import USER_BLOCK, Seal
from data.errors import InvalidValueError
from data.files import (
    ABANDONED_SECONDS,
    Address,
    atomic_write,
    make_folder,
    open_regular,
    temporary_path,
    version_of,
    write_error,
)
from data.lock import Lock
from data.remote import (
    PIECE_BYTES,
    FolderError,
    MissingError,
    RemoteFile,
    fetch,
    look_up,
    look_up_all,
    look_up_if_there,
    put,
    read,
    read_range,
    remove,
)

_MOST_BYTES = 1 << 26  # of an index


def copy_of(path: Path) -> Path:
    """Return a copy as `data.copies.copy_of` does; with that of a cache comes its ledger."""
    is_cache = path.suffix.lower() in (".h5", ".hdf5")
    ledgers = [Address(ledger_path(path))] if is_cache and isinstance(path, Address) else []
    return copies.copy_of(path, with_files=ledgers)


@contextmanager
def staged(address: Address, *, damaged: bool = False) -> Iterator[Path]:
    """Give the path of a cache on this machine that is published at an address after the block.

    It begins as what is at the address. If the block ends with an error nothing is published, and
    the next one on this machine goes on with what is here; what is published may be removed here as
    other copies are. The ledger is sent first, then the cache in one piece, or its parts and
    the index last; and only where nobody else has written it meanwhile.

    Args:
        address: Of the cache.
        damaged: Take also a folder that lacks a part, or whose index is damaged, to mend it.

    Raises:
        BusyError: Another process of this machine writes it.
        CacheError: Another machine has written it, or no cache is there.
        RemoteError: It cannot be had, or not be written.
        WriteError: The disk is full.
    """
    if address.scheme in ("http", "https"):
        raise InvalidValueError(f"{address}: nothing can be written to a web server")
    with copies.naming_addresses(), _staged(address, damaged=damaged) as path:
        yield path


@contextmanager
def _staged(address: Address, *, damaged: bool) -> Iterator[Path]:
    path = copies.folder_of(address) / "staged" / address.name
    note = path.with_name("published.json")
    copies.note_address(address)
    copies.keep(path.parent)
    lock = Lock(path.parent / "lock", address, keep_folder=True)
    try:
        copies.make_room(0)
        there, published = look_up_cache(address), _read(note)
        was_cut_short = published.get("fetching", False)  # by a kill, or as something was missing
        is_ours = was_cut_short or published.get("here") == _state(path)
        is_known = published.get("there") == _tag(there) and path.exists()
        lone = lone_parts(address) if there is None else []
        known = _tags_of_parts(published) if is_ours else {}
        if there is not None and (not is_known or (damaged and is_ours)):
            if path.exists() and not is_ours:
                raise _conflict(address, path)
            atomic_write(note, json.dumps({"fetching": True}))
            fetch_cache(there, address, path, known=known, damaged=damaged)
            _write(note, path, there)
        elif lone and (is_ours or not path.is_dir()):  # else an index of them was made here
            if not damaged:
                raise without_index(address)
            _fetch_lone(lone, address, path)
            _write(note, path, None)
        elif there is None and is_ours:  # it was removed there
            remove_cache(path)
        before = _sent_parts(note, path, {*there.parts} if there else {*map(_name, lone)})
        ledger = version_of(ledger_path(path))
        yield path
        is_same = there is not None and _read(note).get("here") == _state(path)
        is_mended = damaged and ledger != version_of(ledger_path(path))
        if not path.exists() or (is_same and not is_mended):
            return
        if _tag(look_up_cache(address)) != _tag(there):
            raise _conflict(address, path)
        if ledger_path(path).exists():
            put(ledger_path(path), Address(ledger_path(address)))
        if is_same:
            return
        if path.is_dir():
            for part in parts_of_folder(path):
                if before.get(part.path) != version_of(part.path):
                    put(part.path, Address(address / part.path.name))
            put(path / INDEX, Address(address / INDEX))
            remove_older(address, there, path)
        else:
            put(path, address)
        _write(note, path, look_up_cache(address))
    finally:
        if _read(note).get("here") == _state(path):
            copies.free(path.parent)
        lock.release()


@dataclass(frozen=True)
class CacheThere:
    """What a server says of a cache at an address.

    Attributes:
        file: The cache, or the index of a folder of parts.
        parts: Those that the index names, by name; one may be missing.
    """

    file: RemoteFile
    parts: Mapping[str, RemoteFile] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of parts."""
        return self.file.address.name == INDEX


def look_up_cache(address: Address) -> CacheThere | None:
    """Return what the server says of a cache, now.

    None where nothing is, or only parts that no index names.

    Raises:
        CacheError: A folder is there that is no cache.
        RemoteError: The server cannot be asked.
    """
    try:
        file = look_up_if_there(address)
        return CacheThere(file) if file else None
    except FolderError as error:
        files = {_name(file): file for file in files_of(address)}
        if INDEX not in files:
            if all(map(is_own_name, files)):
                return None
            raise CacheError(f"{address} is no cache: it is a folder without {INDEX}") from error
    names = set()
    with suppress(ValueError, TypeError, KeyError):  # it is damaged, as who fetches it finds
        names = {
            str(part["name"])
            for part in json.loads(read(files[INDEX].address, _MOST_BYTES))["parts"]
        }
    return CacheThere(files[INDEX], {name: files[name] for name in names & files.keys()})


def lone_parts(address: Address) -> list[RemoteFile]:
    """Return what the server says of the parts at an address whose index is gone; raises as above.

    Parts that a process has put there before their index are such, too.
    """
    if address.scheme in ("http", "https"):
        return []
    files = files_of(address)
    names = {*map(_name, files)}
    return files if INDEX not in names and all(map(is_own_name, names)) else []


def without_index(address: Address) -> DamagedCacheError:
    """Return the sentence about parts at an address whose index is gone."""
    return DamagedCacheError(
        address / INDEX,
        f"{address} has parts of a cache, and no {INDEX}, which names them (unless a process is "
        "about to write it)",
    )


def _fetch_lone(files: Sequence[RemoteFile], address: Address, path: Path) -> None:
    """Fetch parts whose index is gone, and their ledger; an index of just these stays."""
    if path.is_file():
        path.unlink()
    make_folder(path)
    named: set[str] = set()
    with suppress(CacheError):
        named = {_name(part) for part in files_of_index(path)}
    if named != {*map(_name, files)}:
        (path / INDEX).unlink(missing_ok=True)
    for one in path.glob("*.h5"):
        one.unlink()
    if ledger := look_up_if_there(Address(ledger_path(address))):
        fetch_whole(ledger, ledger_path(path))
    for file in files:
        fetch_whole(file, path / _name(file))


def _name(file: RemoteFile | Path) -> str:
    return file.address.name if isinstance(file, RemoteFile) else file.name


def _sent_parts(note: Path, path: Path, there: Collection[str]) -> dict[Path, object]:
    """Return the parts here that are as they were when they were sent or fetched."""
    here = _read(note).get("here") or []
    versions = {part: version_of(part) for part in path.glob("*.h5") if part.name in there}
    return {part: version for part, version in versions.items() if [*(version or ())] in here}


def fetch_cache(
    there: CacheThere,
    address: Address,
    path: Path,
    *,
    known: Mapping[str, Any],
    hollow: bool = False,
    damaged: bool = False,
) -> None:
    """Fetch a cache that was looked up, and its ledger.

    Args:
        there: What `look_up_cache` has found.
        address: Of the cache.
        path: Where it goes.
        known: The tags of parts that are here, as `tag_of` gives them; they are not fetched.
        hollow: Leave out features and thumbnails of the parts of a folder (`fetch_hollow`).
        damaged: Leave out parts that are not there, and fetch those that the index does not name.

    Raises:
        CacheError: The index of a folder is damaged.
        RemoteError: Something of it cannot be had.
        WriteError: The disk is full.
    """
    make_folder(path.parent)
    if ledger := look_up_if_there(Address(ledger_path(address))):
        fetch_whole(ledger, ledger_path(path))
    if not there.is_folder:
        if path.is_dir():
            shutil.rmtree(path)
        fetch_whole(there.file, path)
        return
    if path.is_file():
        path.unlink()
    make_folder(path)
    fetch_whole(there.file, path / INDEX)
    parts: set[Part] = set()
    try:
        parts = parts_of_folder(path)
    except DamagedCacheError:
        if not damaged:
            raise
    names = {part.path.name for part in parts}
    others = [file for file in (files_of(address) if damaged else ()) if _may_be_part(file, names)]
    for one in set(path.glob("*.h5")) - {part.path for part in parts}:
        one.unlink()
    for file in others:
        fetch_whole(file, path / _name(file))

    def fetch_part(part: Part) -> None:
        name = part.path.name
        try:
            remote = there.parts.get(name) or look_up(Address(address / name))
        except (MissingError, FolderError) as error:
            part.path.unlink(missing_ok=True)
            if damaged:
                return
            raise DamagedCacheError(part.path, f"{error}, and {INDEX} names it") from error
        if not (known.get(name) == tag_of(remote) and part.is_there()):
            (fetch_hollow if hollow else fetch_whole)(remote, part.path)

    with ThreadPoolExecutor(copies.AT_ONCE) as threads:
        list(threads.map(fetch_part, parts))


def _may_be_part(file: RemoteFile, named: Collection[str]) -> bool:
    return is_own_name(_name(file)) and _name(file) not in named


def parts_of_folder(path: Path) -> set[Part]:
    """Return the parts that a cache on this machine has by its index; none if it is no folder.

    Raises:
        CacheError: The index is damaged.
    """
    return set(read_index(path).parts) if path.is_dir() else set()


def files_of(folder: Address) -> list[RemoteFile]:
    """Return what the server says of the files below a folder, which may not be there."""
    with suppress(MissingError):
        return look_up_all(folder)
    return []


def remove_cache(path: Path) -> None:
    """Remove a cache on this machine and its ledger, where they are there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    ledger_path(path).unlink(missing_ok=True)


def remove_older(address: Address, older: CacheThere | None, path: Path) -> None:
    """Remove what a folder at an address has replaced: a file of that name, or older parts.

    Parts that no index named may be those that another process is about to publish: they are
    removed where they are `ABANDONED_SECONDS` older than the index.

    Args:
        address: Of the folder.
        older: What was there before.
        path: The folder on this machine.
    """
    if older is not None and not older.is_folder:
        remove(address)
    kept = {INDEX, *(part.path.name for part in parts_of_folder(path))}
    gone = set(older.parts) - kept if older else set()
    files = {_name(file): file for file in files_of(address)}
    now = files[INDEX].written if INDEX in files else None
    for name in filter(is_own_name, files.keys() - kept):
        written = files[name].written
        if now and written and now - written > ABANDONED_SECONDS:
            gone.add(name)
    for name in gone:
        remove(Address(address / name))


def fetch_whole(remote: RemoteFile, path: Path) -> None:
    """Fetch a file, whole or not at all. Raises as `fetch_cache`."""
    temporary = temporary_path(path)
    fetch(remote, temporary)
    os.replace(temporary, path)


def fetch_hollow(remote: RemoteFile, path: Path) -> None:
    """Fetch a cache file with a hole in place of its features and thumbnails.

    All else of it can be read and is checked as ever. A file without a seal of version 2 is fetched
    whole. Raises as `fetch_cache`.
    """
    size = remote.size or 0
    if not _write_hollow(lambda start, stop: read_range(remote, start, stop), size, path):
        fetch_whole(remote, path)


def make_hollow(path: Path) -> None:
    """Have a hole in place of the features and thumbnails of a cache file on this machine.

    Raises:
        WriteError: The disk is full.
    """
    with open_regular(path) as file:
        descriptor, size = file.fileno(), path.stat().st_size
        _write_hollow(lambda start, stop: os.pread(descriptor, stop - start, start), size, path)


def _write_hollow(read: Callable[[int, int], bytes], size: int, path: Path) -> bool:
    """Write what a seal says is the rest of a file; return whether it has such a seal."""
    block = read(0, min(USER_BLOCK, size))
    seal = Seal.from_user_block(block)
    if seal is None or seal.sha256 or seal.byte_count + USER_BLOCK != size:
        return False
    rest = seal.rest(size)
    if any(not USER_BLOCK <= start <= stop <= size for start, stop in rest):
        return False
    temporary = temporary_path(path)
    try:
        with open(temporary, "xb") as file:
            file.write(block)
            for start, stop in rest:
                file.seek(start)
                for first in range(start, stop, PIECE_BYTES):
                    file.write(read(first, min(first + PIECE_BYTES, stop)))
            file.truncate(size)
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _conflict(address: Address, path: Path) -> CacheError:
    """Put what was made here aside, so that the next run goes on with what is there."""
    unsent = copies.unsent_folder(address) / path.name
    for source, to in ((ledger_path(path), ledger_path(unsent)), (path, unsent)):
        if source.exists():
            os.rename(source, to)
    name, here = shlex.quote(str(address)), shlex.quote(str(unsent))
    return CacheError(
        f"{address} was written by another process meanwhile; what was extracted here is in "
        f"{unsent}: join both (heliograph cache merge {name} {here} -o NEW), or remove the latter; "
        "the same command goes on with what is there"
    )


def tag_of(file: RemoteFile) -> list[Any]:
    """Return what changes with the content of a file, ready for JSON."""
    return [file.tag, file.size]


def _tag(there: CacheThere | None) -> list[Any] | None:
    if there is None:
        return None
    parts = {name: tag_of(file) for name, file in there.parts.items()}
    return [*tag_of(there.file), *([parts] if parts else [])]


def _tags_of_parts(published: Mapping[str, Any]) -> dict[str, Any]:
    match published.get("there"):
        case [_, _, dict(parts)]:
            return parts
    return {}


def _state(path: Path) -> list[Any] | None:
    """Return what a write of a cache on this machine changes, ready for JSON."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    versions = [list(version) for file in files if (version := version_of(file))]
    return (versions if path.is_dir() else versions[0]) if versions else None


def _read(note: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, TypeError):
        return dict(json.loads(note.read_text()))
    return {}


def _write(note: Path, path: Path, there: CacheThere | None) -> None:
    atomic_write(note, json.dumps({"there": _tag(there), "here": _state(path)}))
