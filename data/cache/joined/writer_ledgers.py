"""The ledgers of the processes that write one cache: each has its own, and reads those of all."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from data.cache.joined.shared_folder import SharedFolder
from data.cache.ledger import add_to_ledger, append_entries, new_entries
from data.digests import digest_of
from data.files import make_folder


class WriterLedgers:
    """The ledgers in a folder that processes share; one thread at a time may use them.

    Args:
        shared: The folder.
        writer: The name of this process.
    """

    def __init__(self, shared: SharedFolder, writer: str) -> None:
        self._shared, self._writer = shared, writer
        self._folder = shared.path / "writers"
        self._positions: dict[Path, int] = {}  # how far each ledger is read
        self._filled = 0  # by this process

    def news(self) -> Iterator[dict[str, Any]]:
        """Yield the entries of other processes that were not read yet."""
        self._shared.update()
        for path in sorted(self._folder.glob("*.jsonl")):
            if path.name.startswith(self._writer):
                continue
            start = self._positions.setdefault(path, 0)
            with suppress(OSError):
                for entry, end in new_entries(path, start):
                    self._positions[path] = end
                    yield entry

    def read_again(self) -> None:
        """Have `news` begin at the start: a ledger that was removed may be there anew."""
        self._positions.clear()

    def append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Append entries to that of this process, for the others to see.

        Raises:
            WriteError: The disk is full or not writable.
            RemoteError: They cannot be put where the others see them.
        """
        number = f".{self._filled}" if self._filled else ""
        path = self._folder / f"{self._writer}{number}.jsonl"
        make_folder(self._folder)
        append_entries(path, entries, sync=True)
        self._shared.publish(path)
        most = self._shared.ledger_bytes
        if most is not None and path.stat().st_size > most:
            self._filled += 1

    def merge(self, target: Path, stays: Callable[[int], bool]) -> None:
        """Bring them into the ledger of the cache, and remove them.

        Args:
            target: The cache.
            stays: Whether the features of a key, given by its digest, are in a shard still; a
                ledger that has such a key stays, too: it says in which.
        """
        place, merged = ("shard", "row"), []

        def entries(path: Path) -> Iterator[dict[str, Any]]:
            with suppress(OSError):
                for entry, _ in new_entries(path, 0):
                    yield entry

        def lines() -> Iterator[dict[str, Any]]:
            for path in sorted(self._folder.glob("*.jsonl")):
                keys = (digest_of(str(one["key"])) for one in entries(path) if one.get("key"))
                if not any(map(stays, keys)):
                    merged.append(path)
                    for entry in entries(path):
                        yield {name: value for name, value in entry.items() if name not in place}

        add_to_ledger(target, lines())
        self._shared.publish_ledger()
        for path in merged:
            self._shared.remove(path)
