"""Where several processes that write one cache see what the others have done.

That is a folder on a disk that all of them see (`SharedFolder`), or one in an object store
(`RemoteFolder`), of which each process has a mirror. `JoinedStore` works in the folder or in the
mirror, and says here what the others are to see, and what it needs of them.

An object store has no locks and no renaming. What is relied on are single puts, which show a file
whole or not at all, and puts where nothing is, of which one wins. Times of claims are those of
the store's clock; that of a host may differ by 15 minutes, as the store refuses its requests else.
"""

import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from data.cache.addresses import (
    CacheThere,
    fetch_cache,
    fetch_hollow,
    fetch_whole,
    files_of,
    lone_parts,
    look_up_cache,
    make_hollow,
    parts_of_folder,
    remove_cache,
    remove_older,
    tag_of,
    without_index,
)
from data.cache.errors import INDEX, CacheError, joined_of
from data.cache.ledger import ledger_path
from data.cache.parts import PartFiles, exceeds_a_file
from data.copies import folder_of, note_address
from data.errors import InvalidValueError
from data.files import (
    Address,
    atomic_write,
    make_folder,
    process_name,
    sweep_temporaries,
    temporary_path,
    version_of,
    write_error,
    write_once,
)
from data.remote import (
    MissingError,
    RemoteError,
    RemoteFile,
    look_up,
    look_up_all,
    look_up_if_there,
    look_up_in_list,
    put,
    put_new,
    remove,
)

_STORES = ("s3", "gs")  # that can put a file where nothing is
_TRIES = 5  # to fetch a file that is written meanwhile
_FETCHES = 8  # at once
KEPT_BYTES = 4 << 30  # of shards in a mirror whose features are there
_LEDGER_BYTES = 1 << 20  # of one file, which is put whole after each batch, and fetched by all


def shared_folder(output: Path) -> "SharedFolder":
    """Return the folder of the processes that write a cache, at a path or at an address.

    Raises:
        InvalidValueError: Several processes cannot write to such an address.
        WriteError: There is no room for a mirror.
    """
    return RemoteFolder(output) if isinstance(output, Address) else SharedFolder(output)


def refuse_unshared(output: Path) -> None:
    """Check that several processes can write a cache.

    Raises:
        InvalidValueError: They cannot write to such an address.
    """
    if isinstance(output, Address) and output.scheme not in _STORES:
        raise InvalidValueError(
            f"{output}: several processes write to s3:// or gs://, or to a folder that all of them "
            "see: choose another --out"
        )


class SharedFolder(PartFiles):
    """A folder on a disk that all processes see.

    Attributes:
        output: The cache, as the user names it.
        target: The cache where this process reads and writes it.
        path: The folder, where this process reads and writes it.
        ledger_bytes: After which a process begins another ledger; None: never.
    """

    ledger_bytes: int | None = None

    def __init__(self, output: Path) -> None:
        self.output = self.target = output
        self.path = joined_of(output)

    def named(self, path: Path) -> Path:
        """Return the name of a file of the folder for whoever may remove it."""
        return path

    def update(self) -> None:
        """Have the ledgers of the others as they are now."""

    def glob(self, pattern: str) -> list[Path]:
        """Return the files in the folder that there are now, sorted."""
        return sorted(self.path.glob(pattern))

    def has(self, path: Path) -> bool:
        """Return whether a shard that a ledger names is there, as far as that is known."""
        return path.exists()

    def fetch(self, paths: Sequence[Path]) -> None:
        """Have files to read; those that are gone are not there."""

    def fetch_shards(self, paths: Sequence[Path]) -> None:
        """Have what is in shards, of which the features may be left out where they are many."""

    def write_once(self, path: Path, content: str) -> bool:
        """Write a file where there is none, as `data.files.write_once`; have it to read if not."""
        return write_once(path, content)

    def write_lines_once(self, path: Path, lines: Iterable[str]) -> None:
        """Write lines to a file where there is none; its name says what is in it."""
        write_once(path, lines)

    def publish(self, path: Path) -> None:
        """Let the others see a file that was written whole."""

    def renew(self, path: Path) -> None:
        """Touch a claim of this process."""
        with suppress(OSError):
            os.utime(path)

    def take_away(self, path: Path) -> None:
        """Remove a claim that is void; of two processes that do so one takes it away."""
        with suppress(OSError):
            away = path.with_name(f".{path.name}.{process_name()}.tmp")
            path.rename(away)
            away.unlink()

    def remove(self, path: Path) -> None:
        """Remove a file, which may be gone."""
        with suppress(OSError):
            path.unlink()

    def fetch_target(self) -> None:
        """Have the cache and its ledger as they are now."""

    def update_target(self) -> None:
        """Have them as they are now, where somebody has consolidated the cache."""

    def publish_target(self) -> None:
        """Let everybody see the cache."""

    def publish_ledger(self) -> None:
        """Let everybody see the ledger of the cache."""

    def remove_if_done(self, holder: Callable[[Path], str | None]) -> None:
        """Remove the folder where all that is in its ledgers is in the cache.

        Args:
            holder: Returns who holds a claim; None if nobody does.
        """
        if self.glob("writers/*.jsonl"):
            return
        orphans = self.glob("shards/*/*.h5")  # that no ledger names
        claims = self.glob("claims/[0-9a-z]*")
        self.fetch(claims)
        if any(map(holder, claims)) or self.glob("writers/*.jsonl"):
            return
        lists = self.glob("clips/*.jsonl")
        notes = self.glob("*.json")  # the last one is the note
        for path in (*orphans, *claims, *lists, *notes):
            self.remove(path)
        self.remove_empty()

    def remove_empty(self) -> None:
        """Remove the folder where nothing is left in it."""
        own = [self.path / name for name in ("shards", "writers", "claims", "clips")]
        for each in (*self.path.glob("shards/*"), *own, self.path):
            sweep_temporaries(each)
            with suppress(OSError):
                each.rmdir()

    def close(self) -> None:
        """Remove what this process alone has."""


class RemoteFolder(SharedFolder):
    """A folder in an object store, with a mirror of this process in `~/.cache/heliograph/remote`.

    A mirror has what this process wrote and what it needs of the others. That of a process that
    died is removed by the next one.
    """

    ledger_bytes = _LEDGER_BYTES

    def __init__(self, output: Address) -> None:
        refuse_unshared(output)
        here = folder_of(output)
        note_address(output)
        sweep_temporaries(here)
        self._mirror = temporary_path(here / "joined")
        try:
            self._mirror.mkdir(mode=0o700)
        except OSError as error:
            raise write_error(self._mirror, error) from error
        super().__init__(self._mirror / output.name)
        self.output = output
        self._guard = threading.Lock()
        self._own: set[Path] = set()
        self._tags: dict[Path, str] = {}  # of what was fetched
        self._shards: set[Path] | None = None  # that there were when ledgers were first read
        self._is_updated = False
        self._hollow: set[Path] = set()  # files whose features are not here
        self._kept = 0  # bytes of shards that this process has published and are whole here
        self._there: CacheThere | None = None  # the cache that `target` is a copy of
        self._version: object = None  # of that copy
        self._ledger_tag = ""  # of the ledger that it came with

    def named(self, path: Path) -> Path:
        """Return the address of a file of the folder."""
        return joined_of(self.output) / path.relative_to(self.path)

    def _address(self, path: Path) -> Address:
        return Address(self.named(path))

    def _files(self, below: str) -> dict[Path, RemoteFile]:
        folder, found = joined_of(self.output), list[RemoteFile]()
        with suppress(MissingError):
            found = look_up_all(Address(folder / below))
        return {
            self.path / one.address.relative_to(folder): one
            for one in found
            if ".." not in one.address.parts
        }

    def update(self) -> None:
        """Fetch the ledgers of others that have changed."""
        self._fetch(self._files("writers"))
        # A shard is there before a ledger names it, and the first ledgers may be old.
        self._shards = None if self._is_updated else set(self._files("shards"))
        self._is_updated = True

    def glob(self, pattern: str) -> list[Path]:
        """List the folder, and return what matches."""
        first, *_, rest = pattern.split("/") if "/" in pattern else ("", pattern)
        depth = pattern.count("/") + 1
        return [
            path
            for path in sorted(self._files(first))
            if len(path.relative_to(self.path).parts) == depth and path.match(rest)
        ]

    def has(self, path: Path) -> bool:
        """Return whether a shard is there, or was named since."""
        return self._shards is None or path in self._shards

    def fetch(self, paths: Sequence[Path]) -> None:
        """Fetch files that are not here as they are there."""
        self._fetch(self._look_up(paths))

    def _look_up(self, paths: Sequence[Path]) -> dict[Path, RemoteFile]:
        with ThreadPoolExecutor(_FETCHES) as threads:
            found = threads.map(lambda path: look_up_if_there(self._address(path)), paths)
            return {path: one for path, one in zip(paths, found, strict=True) if one}

    def fetch_shards(self, paths: Sequence[Path]) -> None:
        """Fetch shards, without their features where they are more than a file should hold."""
        found = self._look_up(paths)
        size = sum(one.size or 0 for one in found.values())
        if self.target.is_dir() or exceeds_a_file(size):
            self._hollow |= found.keys() - self._own - self._tags.keys()
        self._fetch(found)

    @contextmanager
    def having(self, paths: Collection[Path]) -> Iterator[None]:
        """Have the features of shards and parts during a block; those are fetched that are not."""
        hollow = sorted(self._hollow.intersection(paths))
        with ThreadPoolExecutor(_FETCHES) as threads:
            list(threads.map(self._fill, hollow))
        yield
        for path in hollow:
            make_hollow(path)

    def _fill(self, path: Path) -> None:
        is_part = path.parent == self.target
        with suppress(MissingError):  # what reads it says that it is damaged or gone
            fetch_whole(
                look_up(self._address_of_part(path) if is_part else self._address(path)), path
            )

    def keep_part(self, path: Path) -> None:
        """Put a part, which no index names yet, and leave its features out here."""
        put(path, self._address_of_part(path))
        make_hollow(path)
        self._hollow.add(self.target / path.name)

    def _address_of_part(self, path: Path) -> Address:
        return Address(self.output / path.name)

    def _fetch(self, files: dict[Path, RemoteFile]) -> None:
        with ThreadPoolExecutor(_FETCHES) as threads:
            list(threads.map(self._fetch_one, files, files.values()))

    def _fetch_one(self, path: Path, there: RemoteFile) -> None:
        if path in self._own or self._tags.get(path) == there.tag:
            return
        make_folder(path.parent)
        get = fetch_hollow if path in self._hollow else fetch_whole
        for tries_left in reversed(range(_TRIES)):
            try:
                get(there, path)
                break
            except MissingError:  # its process has just removed it
                return
            except RemoteError:
                again = look_up_if_there(self._address(path))
                if again is None:
                    return
                if again.tag == there.tag or not tries_left:
                    raise
                there = again  # its process has just written it
        if there.written is not None:
            os.utime(path, (there.written, there.written))
        self._tags[path] = there.tag

    def write_once(self, path: Path, content: str) -> bool:
        """Put a file where there is none; fetch the one that is there."""
        if put_new(content.encode(), self._address(path)):
            self._keep(path, content)
            return True
        with self._guard:
            self._own.discard(path)
            self._tags.pop(path, None)
        path.unlink(missing_ok=True)
        self.fetch([path])
        with suppress(OSError):  # a put that was answered by an error may have been done
            if path.read_text() == content:
                self._keep(path, content)
                return True
        return False

    def write_lines_once(self, path: Path, lines: Iterable[str]) -> None:
        """Put a file of lines where there is none; its name says what is in it."""
        write_once(path, lines)
        put_new(path, self._address(path))
        with self._guard:
            self._own.add(path)

    def _keep(self, path: Path, content: str) -> None:
        atomic_write(path, content)
        with self._guard:
            self._own.add(path)
            self._tags.pop(path, None)  # of another's, which was there before

    def publish(self, path: Path) -> None:
        """Put a file; of shards the features stay here up to `KEPT_BYTES`."""
        put(path, self._address(path))
        self._own.add(path)
        if path.suffix == ".h5":
            size = path.stat().st_size
            if self._kept + size > KEPT_BYTES:
                make_hollow(path)
                self._hollow.add(path)
            else:
                self._kept += size

    def renew(self, path: Path) -> None:
        """Put a claim again."""
        with suppress(OSError):
            os.utime(self._mirror)
        with self._guard, suppress(RemoteError, OSError):
            if path in self._own:
                put(path, self._address(path))

    def take_away(self, path: Path) -> None:
        """Remove a claim, unless another process has it since."""
        self.remove(path)

    def remove(self, path: Path) -> None:
        """Remove a file from the store, unless it has changed since it was fetched, and here."""
        with self._guard, suppress(RemoteError):
            self._own.discard(path)
            tag = self._tags.pop(path, None)
            if tag is not None and path.parent.name in ("claims", "writers"):
                there = look_up_if_there(self._address(path))
                if there is not None and there.tag != tag:
                    return
            remove(self._address(path))
            super().remove(path)

    def fetch_target(self) -> None:
        """Fetch the cache and its ledger, unless they are here as they are there.

        Of a folder of parts the features are fetched when a part is written of them.
        """
        address, ledger = Address(self.output), self._look_up_ledger()  # which is put last
        there = look_up_cache(address)
        if there is None and lone_parts(address) and not files_of(Address(joined_of(address))):
            raise without_index(address)  # else a process of this folder has put them
        if there is not None and there != self._there:
            parts = self._there.parts if self._there else {}
            known = {name: tag_of(file) for name, file in parts.items()}
            fetch_cache(there, address, self.target, known=known, hollow=True)
        elif ledger is not None and ledger.tag != self._ledger_tag:
            fetch_whole(ledger, ledger_path(self.target))
        elif there is None and self._there is not None:
            remove_cache(self.target)
        self._note_target(there)
        self._ledger_tag = ledger.tag if ledger else ""
        self._hollow |= {part.path for part in parts_of_folder(self.target)}

    def _look_up_ledger(self) -> RemoteFile | None:
        return look_up_in_list(Address(ledger_path(self.output)))

    def update_target(self) -> None:
        """Fetch them where the ledger has changed, which is put after the cache."""
        ledger = self._look_up_ledger()
        if ledger is None or ledger.tag == self._ledger_tag:
            return
        try:
            self.fetch_target()
        except (RemoteError, CacheError):  # another process has just put them again
            self.fetch_target()

    def _note_target(self, there: CacheThere | None) -> None:
        self._there, self._version = there, _version(self.target)

    def publish_target(self) -> None:
        """Put the cache in one piece, or the index of its parts, where nobody has meanwhile.

        Raises:
            CacheError: Somebody has.
        """
        address, version = Address(self.output), _version(self.target)
        if version is None or version == self._version:
            return
        older, is_folder = self._there, self.target.is_dir()
        source = self.target / INDEX if is_folder else self.target
        to = Address(address / INDEX) if is_folder else address
        if older is None:
            is_free = put_new(source, to)
        elif is_free := look_up_cache(address) == older:
            put(source, to)
        if not is_free:
            raise CacheError(
                f"{address} was written by another process meanwhile: the same command goes on "
                "with what both have done"
            )
        if is_folder:
            remove_older(address, older, self.target)
        self._note_target(look_up_cache(address))

    def publish_ledger(self) -> None:
        """Put the ledger of the cache."""
        put(ledger_path(self.target), Address(ledger_path(self.output)))

    def close(self) -> None:
        """Remove the mirror."""
        shutil.rmtree(self._mirror, ignore_errors=True)


def _version(target: Path) -> object:
    """Return what a write of a cache on this machine changes; None if there is none."""
    return version_of(target / INDEX if target.is_dir() else target)
