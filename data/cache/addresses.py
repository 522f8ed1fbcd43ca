"""Caches at addresses (`data.remote`): copies to read, and one that is written and published.

They are where `data.copies` are.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data import copies
from data.cache.errors import CacheError
from data.cache.ledger import ledger_path
from data.errors import InvalidValueError
from data.files import Address, atomic_write, make_folder, temporary_path, version_of
from data.lock import Lock
from data.remote import RemoteFile, fetch, look_up, look_up_if_there, put


def copy_of(path: Path) -> Path:
    """Return a copy as `data.copies.copy_of` does; with that of a cache comes its ledger."""
    is_cache = path.suffix.lower() in (".h5", ".hdf5")
    ledgers = [Address(ledger_path(path))] if is_cache and isinstance(path, Address) else []
    return copies.copy_of(path, with_files=ledgers)


@contextmanager
def staged(address: Address) -> Iterator[Path]:
    """Give the path of a cache on this machine that is published at an address after the block.

    It begins as what is at the address. If the block ends with an error nothing is published, and
    the next one on this machine goes on with what is here; what is published may be removed here as
    other copies are. The cache is sent in one piece, after
    its ledger, and only where nobody else has written it meanwhile.

    Raises:
        BusyError: Another process of this machine writes it.
        CacheError: Another machine has written it, or it is a folder of parts.
        RemoteError: It cannot be had, or not be written.
        WriteError: The disk is full.
    """
    if address.scheme in ("http", "https"):
        raise InvalidValueError(f"{address}: nothing can be written to a web server")
    path = copies.folder_of(address) / "staged" / address.name
    note = path.with_name("published.json")
    copies.keep(path.parent)
    lock = Lock(path.parent / "lock", address, keep_folder=True)
    try:
        copies.make_room(0)
        there, published = look_up_if_there(address), _read(note)
        is_ours = published.get("here") == _state(path)
        is_known = published.get("there") == _tag(there) and path.exists()
        if there is not None and not is_known:
            if path.exists() and not is_ours:
                raise _conflict(address, path)
            fetch_both(there, path)
            _write(note, path, there)
        elif there is None and is_ours:  # it was removed there
            for file in (path, ledger_path(path)):
                file.unlink(missing_ok=True)
        yield path
        if not path.exists() or (there and _read(note).get("here") == _state(path)):
            return
        if path.is_dir():
            raise CacheError(f"{path} is a folder of parts, which cannot be at {address}: copy it")
        if _tag(look_up_if_there(address)) != _tag(there):
            raise _conflict(address, path)
        if ledger_path(path).exists():
            put(ledger_path(path), Address(ledger_path(address)))
        put(path, address)
        _write(note, path, look_up(address))
    finally:
        if _read(note).get("here") == _state(path):
            copies.free(path.parent)
        lock.release()


def fetch_both(remote: RemoteFile, path: Path) -> None:
    """Fetch a cache and its ledger.

    Raises:
        RemoteError: One of them cannot be had.
        WriteError: The disk is full.
    """
    make_folder(path.parent)
    ledger = look_up_if_there(Address(ledger_path(remote.address)))
    for file, target in ((ledger, ledger_path(path)), (remote, path)):
        if file is not None:
            fetch_whole(file, target)


def fetch_whole(remote: RemoteFile, path: Path) -> None:
    """Fetch a file, whole or not at all. Raises as `fetch_both`."""
    temporary = temporary_path(path)
    fetch(remote, temporary)
    os.replace(temporary, path)


def _conflict(address: Address, path: Path) -> CacheError:
    return CacheError(
        f"{address} was written by another process meanwhile; what was extracted here is in "
        f"{path}: join both with `heliograph cache merge`, and remove the latter"
    )


def _tag(remote: RemoteFile | None) -> list[Any] | None:
    return None if remote is None else [remote.tag, remote.size]


def _state(path: Path) -> list[int] | None:
    version = version_of(path)
    return None if version is None else list(version)


def _read(note: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, TypeError):
        return dict(json.loads(note.read_text()))
    return {}


def _write(note: Path, path: Path, there: RemoteFile) -> None:
    atomic_write(note, json.dumps({"there": _tag(there), "here": _state(path)}))
