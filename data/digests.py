"""Tables of millions of texts in little memory: a text is known by 128 bits of its hash.

What is small is in memory, and the rest in files without names (`data.columns`).
"""

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from data.columns import BLOCK, Columns, column_of, ranges

_LOW = (1 << 64) - 1
_HALVES = np.dtype([("high", "u8"), ("low", "u8")])
_LEAST = 1 << 12  # new entries, before they are sorted
_RATIO = 16  # a run is this many times larger than the next one, or they become one
_TOGETHER = 1 << 17  # digests that are sorted together


def digest_of(text: str) -> int:
    """Return 128 bits of the hash of a text, by which no two texts are taken for one."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())


class Digests:
    """A column of digests (N,), 16 bytes each.

    Attributes:
        high: uint64 (N,), their first halves.
        low: uint64 (N,), their second halves.
    """

    def __init__(self, digests: Iterable[int] = ()) -> None:
        numbers = column_of(_HALVES, _blocks(iter(digests)))
        self.high, self.low = numbers["high"], numbers["low"]

    @classmethod
    def of_halves(cls, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> "Digests":
        """Return digests of their halves (N,)."""
        own = cls.__new__(cls)
        own.high, own.low = high, low
        return own

    def __len__(self) -> int:
        return len(self.high)

    def __getitem__(self, row: int) -> int:
        return int(self.high[row]) << 64 | int(self.low[row])

    def take(self, rows: NDArray[Any] | slice) -> "Digests":
        """Return the digests (n,) of some rows, or where a mask (N,) is true."""
        return Digests.of_halves(self.high[rows], self.low[rows])

    def groups(
        self, *, but: int | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
        """Yield rows such that equal digests are together, and where each group begins.

        A group is whole, and its rows are in their order; the groups come in pieces, in no order.

        Args:
            but: A digest whose rows are left out.
        """
        bits = (len(self) // _TOGETHER).bit_length()
        for piece in range(1 << bits):
            found = [np.empty(0, np.int64)]
            for some in ranges(len(self)):
                high, low = self.high[some], self.low[some]
                here = high >> np.uint64(64 - bits) == piece if bits else np.ones(len(high), bool)
                if but is not None:
                    here &= (high != but >> 64) | (low != but & _LOW)
                found.append(np.flatnonzero(here) + some.start)
            rows = np.concatenate(found)
            high, low = self.high[rows], self.low[rows]
            order = np.lexsort((low, high))
            begins = np.ones(len(order), bool)
            begins[1:] = np.diff(high[order]) != 0
            begins[1:] |= np.diff(low[order]) != 0
            yield rows[order], begins


def _blocks(digests: Iterator[int]) -> Iterator[NDArray[Any]]:
    while some := list(islice(digests, BLOCK)):
        halves = (half for digest in some for half in (digest >> 64, digest & _LOW))
        yield np.fromiter(halves, np.uint64, 2 * len(some)).view(_HALVES)


class _Run:
    """Entries of a table, sorted by the first halves of their digests.

    Attributes:
        digests: Theirs (N,).
        records: Theirs (N,).
    """

    def __init__(self, high: NDArray[Any], low: NDArray[Any], records: NDArray[Any]) -> None:
        self.digests, self.records = Digests.of_halves(high, low), records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, rows: NDArray[Any] | slice) -> "_Run":
        some = self.digests.take(rows)
        return _Run(some.high, some.low, self.records[rows])

    @classmethod
    def of(cls, entries: dict[int, tuple[Any, ...]], record: np.dtype[Any]) -> "_Run":
        """Return entries as a run, in memory."""
        own = sorted(entries)
        digests = Digests(own)
        records = np.array([entries[digest] for digest in own], record)
        return cls(np.ascontiguousarray(digests.high), digests.low, records)

    def find(self, digest: int) -> tuple[Any, ...] | None:
        """Return the record of a digest; None if there is none."""
        own, low = self.digests, digest & _LOW
        high = np.uint64(digest >> 64)
        row = int(own.high.searchsorted(high))
        while row < len(own.high) and own.high[row] == high:
            if own.low[row] == low:
                return self.records[row].item()
            row += 1
        return None

    def rows_of(self, digests: Digests) -> NDArray[np.int64]:
        """Return where those of digests (n,) are; -1 where there are none."""
        own = self.digests
        at = np.searchsorted(own.high, digests.high)
        found, left = np.full(len(at), -1), np.arange(len(at))
        while len(left):  # more than once where two first halves are the same
            left = left[at[left] < len(own)]
            left = left[own.high[at[left]] == digests.high[left]]
            same = own.low[at[left]] == digests.low[left]
            found[left[same]] = at[left[same]]
            left = left[~same]
            at[left] += 1
        return found

    def pieces(self) -> "Iterator[_Run]":
        """Yield the entries, some at a time."""
        return (self[some] for some in ranges(len(self)))

    def updated(self, newer: "_Run") -> "_Run":
        """Return these entries with newer ones, which take the place of those of equal digests."""
        rows = self.rows_of(newer.digests)
        known = rows >= 0
        records = self.records.copy()
        records[rows[known]] = newer.records[known]
        new = newer[~known]
        at = np.searchsorted(self.digests.high, new.digests.high)
        return _Run(
            np.insert(self.digests.high, at, new.digests.high),
            np.insert(self.digests.low, at, new.digests.low),
            np.insert(records, at, new.records),
        )

    def pairs(self, newer: "_Run") -> "Iterator[tuple[_Run, _Run]]":
        """Yield entries and the newer ones among them, some at a time."""
        start = first = 0
        while start < len(self) or first < len(newer):
            stop, last = start + BLOCK, len(newer)
            if stop < len(self):  # equal first halves stay together
                high = self.digests.high[stop - 1]
                stop = int(self.digests.high.searchsorted(high, "right"))
                last = int(newer.digests.high.searchsorted(high, "right"))
            yield self[start:stop], newer[first:last]
            start, first = stop, last


class DigestTable:
    """A map from digests to records, 16 bytes and those of a record each.

    The entries are in few sorted runs, the newest ones in a dictionary. One thread at a time may
    change it, while others look entries up.

    Args:
        record: The type of a record: numpy fields, whose values are given and had as a tuple.

    Raises:
        WriteError: From any method: there is no room for the files.
    """

    def __init__(self, record: DTypeLike) -> None:
        self._record = np.dtype(record)
        self._runs: tuple[_Run, ...] = ()  # the largest and oldest first
        self._recent: dict[int, tuple[Any, ...]] = {}

    def __len__(self) -> int:
        return len(self._one_run())

    @property
    def nbytes(self) -> int:
        """Bytes of all entries once they are sorted."""
        return len(self) * (16 + self._record.itemsize)

    @property
    def records(self) -> NDArray[Any]:
        """All records, in the order of `digests`; they cannot be changed."""
        return self._one_run().records

    @property
    def digests(self) -> Digests:
        """All digests, sorted; they cannot be changed."""
        return self._one_run().digests

    def __contains__(self, digest: int) -> bool:
        return self.get(digest) is not None

    def get(self, digest: int) -> tuple[Any, ...] | None:
        """Return the record of a digest; None if there is none."""
        if (recent := self._recent.get(digest)) is not None:
            return recent
        for run in reversed(self._runs):
            if (found := run.find(digest)) is not None:
                return found
        return None

    def __setitem__(self, digest: int, record: tuple[Any, ...]) -> None:
        self._recent[digest] = record
        if len(self._recent) >= _LEAST:
            self._sort_in()

    def pieces(self) -> Iterator[tuple[Digests, NDArray[Any]]]:
        """Yield digests (n,) and their records (n,), some at a time."""
        return ((piece.digests, piece.records) for piece in self._one_run().pieces())

    def remove(self, digests: Iterable[int]) -> None:
        """Remove the entries of some digests, where there are any."""
        gone = _Run.of(dict.fromkeys(digests, (True,)), np.dtype([("gone", "?")]))
        self.keep_where(lambda own, records: gone.rows_of(own) < 0)

    def keep_where(self, chosen: Callable[[Digests, NDArray[Any]], NDArray[np.bool_]]) -> None:
        """Keep those entries alone that a function of digests (n,) and records (n,) chooses."""
        run = self._one_run()
        kept = (piece[chosen(piece.digests, piece.records)] for piece in run.pieces())
        self._runs = (self._written(kept, most=len(run)),)

    def pop_where(self, field: str, value: Any) -> list[int]:
        """Remove all entries with this value in a field of their record; return their digests."""
        found: list[int] = []
        for own, records in self.pieces():
            found += [own[row] for row in np.flatnonzero(records[field] == value).tolist()]
        self.keep_where(lambda own, records: records[field] != value)
        return found

    def rows_of(self, digests: Digests) -> NDArray[np.int64]:
        """Return where in `records` those of digests (n,) are; -1 where there are none."""
        return self._one_run().rows_of(digests)

    def _one_run(self) -> _Run:
        if self._recent or len(self._runs) != 1:
            self._sort_in(ratio=None)
        return self._runs[0]

    def _sort_in(self, ratio: int | None = _RATIO) -> None:
        """Make a run of what is new, and one of two as long as they differ by less than `ratio`."""
        runs = [*self._runs, _Run.of(self._recent, self._record)]
        while len(runs) > 1 and (ratio is None or len(runs[-2]) < ratio * len(runs[-1])):
            newer, older = runs.pop(), runs.pop()
            pairs = (one.updated(two) for one, two in older.pairs(newer))
            runs.append(self._written(pairs, most=len(older) + len(newer)))
        self._runs = tuple(runs)
        self._recent = {}  # at last, so that a thread that only looks finds every entry

    def _written(self, pieces: Iterable[_Run], *, most: int) -> _Run:
        columns = Columns("u8", "u8", self._record, most=most)
        for piece in pieces:
            columns.add(piece.digests.high, piece.digests.low, piece.records)
        return _Run(*columns.finish())


class DigestMap:
    """A map from digests to digests, 33 bytes each."""

    def __init__(self) -> None:
        self._table = DigestTable([("high", "u8"), ("low", "u8"), ("here", "?")])

    def get(self, digest: int) -> int | None:
        """Return what a digest is mapped to; None if it is not."""
        found = self._table.get(digest)
        return None if found is None or not found[2] else found[0] << 64 | found[1]

    def __setitem__(self, digest: int, value: int) -> None:
        self._table[digest] = value >> 64, value & _LOW, True

    def pop(self, digest: int) -> None:
        """Remove what a digest is mapped to, if it is."""
        if digest in self._table:
            self._table[digest] = 0, 0, False

    def values(self) -> Iterator[Digests]:
        """Yield all that digests are mapped to, some at a time."""
        for _, records in self._table.pieces():
            here = records[records["here"]]
            yield Digests.of_halves(here["high"], here["low"])
