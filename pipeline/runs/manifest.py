"""The manifest of a run folder: size and hash of every file, checked by whatever reads the run.

OUT/manifest.json    {"schema_version": 1, "id": "...", "files": {"metrics.json":
                      {"bytes": 9, "sha256": "..."}}}

It covers `seeds/` too; a control is a run folder with a manifest of its own. Before a file changes,
its entry also holds, under `replaces`, what it was until then (null: it was not there): whenever
the process is killed, what is there is one of the two. The id is drawn when the run is made, and
stays: two runs that are equal to the bit have two. A run that an older version made has no
manifest. It is read, and marked as unchecked.

A file may be a link to a regular file, as in a snapshot of the Hugging Face hub, where a manifest
says what it must hold. Nothing is written through one.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from data import screening
from data.copies import address_of, is_copy
from data.errors import HeliographError, reason_of
from data.files import as_bytes, atomic_write, open_regular, version_of
from data.lock import BusyError, Lock
from data.versions import other_schema

MANIFEST = "manifest.json"
MANIFEST_LOCK = "manifest.lock"
CONTROL = "control"
NULL = "null"
UNFINISHED = "unfinished"
PAGE = "report.html"
INCOMING = ".incoming"
"""Folders and files of a run: `.incoming` is whole, and on its way into the folder that it is in.

See `pipeline.runs.replacement`, and `pipeline.training.checkpoints` for `unfinished`.
"""

SCHEMA_VERSION = 1
KEYS = {"schema_version", "id", "files"}
UNCHECKED = (
    "the files of this run are not checked: like those of older versions it has no manifest.json "
    "with their hashes; a run that is trained again has one"
)
LARGEST_FILE = 2 << 30  # bytes
LARGEST = {
    "config.json": 16 << 20,
    MANIFEST: 64 << 20,
    "lexicon.json": 64 << 20,
    "readout.json": 64 << 20,
}
ID_BYTES, CHECK_DIGITS = 16, 8
MOST_KEPT_BYTES = 64 << 20  # of a file
WAIT_SECONDS = 60.0
_PAUSE = 0.02


@dataclass(frozen=True)
class FileHash:
    """What a file holds: its size and the SHA-256 of its bytes."""

    size: int  # in bytes
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> FileHash:
        """Describe the content of a file."""
        return cls(len(content), hashlib.sha256(content).hexdigest())

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> FileHash:
        """Read an entry; raises ValueError for anything else."""
        size, digest = stored["bytes"], stored["sha256"]
        if type(size) is not int or not 0 <= size <= LARGEST_FILE or type(digest) is not str:
            raise ValueError("an entry is no size and hash")
        return cls(size, digest)

    def to_json(self) -> dict[str, Any]:
        """Return JSON types."""
        return {"bytes": self.size, "sha256": self.sha256}


@dataclass(frozen=True)
class Entry:
    """What a file of a run may hold: one thing, or two while it changes."""

    now: FileHash
    is_changing: bool = False
    replaces: FileHash | None = None  # None while it changes: the file was not there

    def allows(self, found: FileHash) -> bool:
        """Return whether a file may be this one."""
        return found == self.now or (self.is_changing and found == self.replaces)

    def settled(self, found: FileHash | None) -> Entry | None:
        """Return the entry after a change that ended with `found`; None: the file is not there."""
        if not self.is_changing:
            return self
        if found is None and self.replaces is None:
            return None
        return Entry(found) if found is not None and self.allows(found) else self

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Entry:
        """Read what `to_json` wrote."""
        replaces = stored.get("replaces")
        return cls(
            FileHash.from_json(stored),
            "replaces" in stored,
            None if replaces is None else FileHash.from_json(replaces),
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON types."""
        stored = self.now.to_json()
        if self.is_changing:
            stored["replaces"] = self.replaces and self.replaces.to_json()
        return stored


class MissingFileError(HeliographError):
    """A file of a run folder is missing."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is missing: the training did not finish")
        self.path = path


@dataclass(eq=False)
class RunFiles:
    """The files of one run folder, those of its seeds included.

    Attributes:
        root: The folder.
        entries: What each file holds, by its name in the folder; None for a run without a manifest.
        sealed: Whether the manifest is on disk, or the run is still being written.
        id: The run's own, by which it is told from one that is equal; empty for an older run.
    """

    root: Path
    entries: dict[str, Entry] | None = None
    sealed: bool = True
    id: str = ""
    _depth: int = field(default=0, repr=False)
    _manifest: str = field(default="", repr=False)  # SHA-256
    _kept: dict[str, tuple[Any, bytes]] = field(default_factory=dict, repr=False)

    @classmethod
    def new(cls, root: Path) -> RunFiles:
        """Return the files of a run that is to be written into an empty folder."""
        return cls(root, {}, sealed=False, id=new_id())

    @classmethod
    def open(cls, root: Path) -> RunFiles:
        """Return the files of a run folder.

        Raises:
            HeliographError: for a damaged manifest, and for a run that is not in its place yet.
        """
        files = cls(root)
        files._load()
        return files

    @property
    def is_checked(self) -> bool:
        """Whether a manifest says what the files hold."""
        return self.entries is not None

    @property
    def identity(self) -> str:
        """What the record of `data.screening` knows the run by."""
        if self.is_checked:
            return f"run:{self._manifest}"
        listed = {name: self._hash(name).to_json() for name in sorted(self._names())}
        return f"run:{hashlib.sha256(json.dumps(listed).encode()).hexdigest()}"

    def _names(self) -> Iterator[str]:
        """Yield the names of the files that reading a run reads."""
        names = ("config.json", "model.safetensors", "metrics.json", "messages.jsonl")
        folders = [self.root]
        if (self.root / "seeds").is_dir():
            folders += [path for path in (self.root / "seeds").iterdir() if path.is_dir()]
        for folder in folders:
            for name in (*names, "history.csv", "lexicon.json", "readout.json"):
                path = folder / name
                if os.path.lexists(path):
                    yield path.relative_to(self.root).as_posix()

    def read(self, name: str) -> bytes:
        """Return the content of a file, checked.

        Raises:
            MissingFileError: It is not there.
            HeliographError: It is not what was written, or no file that can be read.
        """
        version, kept = self._kept.pop(name, (None, None))
        if kept is not None and version == version_of(self.root / name):
            return kept
        while True:
            content = _content(self.root / name, follow_links=self.is_checked)
            if self._allows(name, content):
                return content
            known = self._manifest
            if self.sealed:
                self._load()  # another process may have changed the run
            if self._manifest == known:
                raise HeliographError(
                    f"{self.root / name} is damaged: it is not what was written, by the hash in "
                    f"{MANIFEST}; restore it, or make the run again"
                )

    def check_top(self) -> None:
        """Check what lies at the top of the run, but for its page; raises as `read` does.

        A missing file is for whoever needs it to report. What is read here is kept for the first
        `read`.
        """
        for name in self.entries or ():
            if "/" not in name and name not in (PAGE, "config.json") and self._is_there(name):
                version, content = version_of(self.root / name), self.read(name)
                if name != "model.pt" and len(content) <= MOST_KEPT_BYTES:
                    self._kept[name] = version, content

    def require_own(self, *names: str) -> None:
        """Raise HeliographError where writing these files would go through a link.

        Nothing is written into a copy of what is at an address either, where files may be no links.
        """
        if is_copy(self.root):
            raise HeliographError(
                f"{address_of(self.root)} is not written, as it is an address: copy the run to "
                "this machine, and name it there"
            )
        if address := address_of(self.root):
            raise HeliographError(
                f"{address} is not written: it is on the Hugging Face Hub; "
                f"`heliograph hub pull {address} -o RUN` makes a run of your own of it"
            )
        for path in (self.root / name for name in (MANIFEST, *names)):
            if path.is_symlink():
                copy = shlex.join(["cp", "-rL", str(self.root), "COPY"])
                raise HeliographError(
                    f"{path} is not written: it is a symbolic link, as in a snapshot of the "
                    f"Hugging Face hub; copy the run with `{copy}`, and use the copy"
                )

    def require_not_of_run(self, path: Path) -> None:
        """Raise HeliographError where a path is a file that the run is made of; its page is not."""
        made_of = {MANIFEST, *(self._names() if self.entries is None else self.entries)} - {PAGE}
        # realpath, as Path.resolve raises for a link to itself.
        if os.path.realpath(path) in {os.path.realpath(self.root / name) for name in made_of}:
            raise HeliographError(
                f"{path} is not replaced: {self.root} is made of it; choose another place"
            )

    def _allows(self, name: str, content: bytes) -> bool:
        if self.entries is None:
            return True
        entry = self.entries.get(name)
        return entry is not None and entry.allows(FileHash.of(content))

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file, which is checked; raises as `read` does."""
        return hashlib.sha256(self.read(name)).hexdigest()

    def size(self, name: str) -> int:
        """Return the bytes of a file, those it ought to have; of a missing one the most."""
        if self.entries is not None and name in self.entries:
            return self.entries[name].now.size
        path = self.root / name
        return path.lstat().st_size if os.path.lexists(path) else LARGEST_FILE

    def write(self, name: str, content: bytes | str) -> None:
        """Write a file, and its hash into the manifest of a run that has one.

        Raises:
            WriteError: It cannot be written; the run stays sound.
            HeliographError: Another run is in the folder by now.
        """
        content = as_bytes(content)
        now = FileHash.of(content)
        if not self.sealed:
            atomic_write(self.root / name, content)
            assert self.entries is not None
            self.entries[name] = Entry(now)
            return
        self.require_own(name)
        with self.changing():
            if self.entries is None:
                atomic_write(self.root / name, content)
                screening.record(self.identity)
                return
            entries = self._settled()
            before = entries.get(name)
            self._store(entries | {name: Entry(now, True, before.now if before else None)})
            atomic_write(self.root / name, content)
            self._store(entries | {name: Entry(now)})

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep other processes from changing the run, and see what they have changed.

        Raises:
            HeliographError: Another run is in the folder by now.
        """
        if self._depth or not self.sealed:
            yield
            return
        lock = wait_for_lock(self.root)
        self._depth += 1
        try:
            self._load()
            yield
        finally:
            self._depth -= 1
            lock.release()

    def seal(self) -> None:
        """Write the manifest of a run that has been written whole."""
        assert self.entries is not None
        self._store(self.entries)
        self.sealed = True

    def _settled(self) -> dict[str, Entry]:
        """Return the entries, those that a killed process left with two hashes decided."""
        assert self.entries is not None
        decided = {}
        for name, entry in self.entries.items():
            found = self._hash(name) if entry.is_changing and self._is_there(name) else None
            settled = entry.settled(found)
            if settled is not None:
                decided[name] = settled
        return decided

    def _is_there(self, name: str) -> bool:
        return os.path.lexists(self.root / name)

    def _hash(self, name: str) -> FileHash:
        with _opened(self.root / name, follow_links=self.is_checked) as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return FileHash(file.tell(), digest.hexdigest())

    def _store(self, entries: dict[str, Entry]) -> None:
        described = {name: entries[name].to_json() for name in sorted(entries)}
        own_id = {"id": self.id} if self.id else {}
        stored = {"schema_version": SCHEMA_VERSION, **own_id, "files": described}
        text = (json.dumps(stored, indent=1) + "\n").encode()
        self._manifest = hashlib.sha256(text).hexdigest()
        screening.record(f"run:{self._manifest}")
        atomic_write(self.root / MANIFEST, text)
        self.entries = entries

    def _load(self) -> None:
        """Read the manifest; raises HeliographError where it is that of another run by now."""
        path, before = self.root / MANIFEST, self.entries
        if os.path.lexists(self.root / INCOMING):
            raise HeliographError(
                f"{self.root} holds a new run that is not in its place yet: "
                f"`{shlex.join(['heliograph', 'report', str(self.root)])}` puts it there, as does "
                "the next training in it"
            )
        try:
            content = _content(path, follow_links=True)
        except MissingFileError:
            if before is not None:
                raise HeliographError(f"{path} is gone since the run was opened") from None
            return
        try:
            stored = json.loads(content)
            if stored["schema_version"] != SCHEMA_VERSION:
                raise HeliographError(
                    other_schema(path, stored["schema_version"], str(SCHEMA_VERSION))
                )
            entries = {str(name): Entry.from_json(entry) for name, entry in stored["files"].items()}
            own_id = stored.get("id", "")
            if not (own_id == "" or is_id(own_id)) or set(stored) - KEYS:
                raise ValueError("it has no id, or another key than a manifest has")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise HeliographError(f"{path} is damaged: {reason_of(error)}") from error
        trained = ("config.json", "model.safetensors")
        if before is not None and (
            self.id != own_id or any(before.get(one) != entries.get(one) for one in trained)
        ):
            raise HeliographError(f"{self.root} holds another run since it was opened: start again")
        self.entries, self.id = entries, own_id
        self._manifest = hashlib.sha256(content).hexdigest()


def new_id() -> str:
    """Return an id that no other run has; its last digits tell whether it was damaged."""
    drawn = secrets.token_hex(ID_BYTES)
    return drawn + _check_digits(drawn)


def is_id(value: object) -> bool:
    """Return whether a value is an id, undamaged.

    >>> is_id(new_id()), is_id("0" * 40)
    (True, False)
    """
    if not isinstance(value, str) or len(value) != 2 * ID_BYTES + CHECK_DIGITS:
        return False
    return value[-CHECK_DIGITS:] == _check_digits(value[:-CHECK_DIGITS])


def _check_digits(drawn: str) -> str:
    return hashlib.sha256(drawn.encode()).hexdigest()[:CHECK_DIGITS]


def check_listed(path: Path) -> None:
    """Check a file that lies in a run folder against the manifest there; others are not checked.

    Raises:
        HeliographError: It is not what was written.
    """
    for root in (path.parent, *path.absolute().parents[2:3]):
        if (root / MANIFEST).is_file():
            files = RunFiles.open(root)
            name = os.path.relpath(path, root)
            if name in (files.entries or ()):
                files.read(name)


def _content(path: Path, *, follow_links: bool) -> bytes:
    """Return the bytes of a file of a run; raises HeliographError where that cannot be."""
    with _opened(path, follow_links=follow_links) as file:
        return file.read()


@contextmanager
def _opened(path: Path, *, follow_links: bool) -> Iterator[BinaryIO]:
    """Open a file of a run to read it; raises HeliographError where it cannot be one."""
    largest = LARGEST.get(path.name, LARGEST_FILE)
    try:
        with open_regular(path, follow_links=follow_links) as file:
            size = os.fstat(file.fileno()).st_size
            if size > largest:
                raise HeliographError(
                    f"{path} is damaged: its {size:,} bytes are more than the {largest:,} of a run"
                )
            yield file
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise HeliographError(f"{path} is a symbolic link to a missing file") from None
        raise MissingFileError(path) from None
    except OSError as error:
        raise HeliographError(f"{path} cannot be read: {error.strerror or error}") from error


def wait_for_lock(root: Path) -> Lock:
    """Return the right to change a run; raises BusyError if another process keeps it."""
    give_up = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return Lock(root / MANIFEST_LOCK, root)
        except BusyError:
            if time.monotonic() > give_up:
                raise
            time.sleep(_PAUSE)
