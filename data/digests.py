"""Tables of millions of texts in little memory: a text is known by 128 bits of its hash."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LOW = (1 << 64) - 1
_LEAST = 1 << 12  # new entries at least, before they are sorted in
_SHARE = 16  # or one for so many that are there


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
        numbers = np.fromiter(
            (half for digest in digests for half in (digest >> 64, digest & _LOW)), np.uint64
        ).reshape(-1, 2)
        self.high, self.low = np.ascontiguousarray(numbers[:, 0]), numbers[:, 1].copy()

    def __len__(self) -> int:
        return len(self.high)

    def __getitem__(self, row: int) -> int:
        return int(self.high[row]) << 64 | int(self.low[row])

    def take(self, rows: NDArray[np.integer[Any]]) -> "Digests":
        """Return the digests (n,) of some rows."""
        taken = Digests()
        taken.high, taken.low = self.high[rows], self.low[rows]
        return taken

    def groups(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows (N,) such that equal digests are together, and where each group begins.

        The rows of a group are in their order.
        """
        order = np.lexsort((self.low, self.high))
        begins = np.ones(len(order), bool)
        begins[1:] = np.diff(self.high[order]) != 0
        begins[1:] |= np.diff(self.low[order]) != 0
        return order, begins


class DigestTable:
    """A map from digests to records, 16 bytes and those of a record each.

    One thread at a time may change it, while others look entries up.

    Args:
        record: The type of a record: numpy fields, whose values are given and had as a tuple.
    """

    def __init__(self, record: DTypeLike) -> None:
        self._sorted = Digests(), np.empty(0, record)  # by the first halves of the digests
        self._recent: dict[int, tuple[Any, ...]] = {}  # to be sorted in

    @property
    def _digests(self) -> Digests:
        return self._sorted[0]

    @property
    def _records(self) -> NDArray[Any]:
        return self._sorted[1]

    def __len__(self) -> int:
        self._sort_in()
        return len(self._digests)

    @property
    def nbytes(self) -> int:
        """Bytes of what is sorted in."""
        return 16 * len(self) + self._records.nbytes

    @property
    def records(self) -> NDArray[Any]:
        """All records, in the order of `digests`; they must not be changed."""
        self._sort_in()
        return self._records

    @property
    def digests(self) -> Digests:
        """All digests, sorted; they must not be changed."""
        self._sort_in()
        return self._digests

    def __contains__(self, digest: int) -> bool:
        return self.get(digest) is not None

    def get(self, digest: int) -> tuple[Any, ...] | None:
        """Return the record of a digest; None if there is none."""
        if (recent := self._recent.get(digest)) is not None:
            return recent
        own, records = self._sorted
        high, low = np.uint64(digest >> 64), np.uint64(digest & _LOW)
        row = int(own.high.searchsorted(high))
        while row < len(own) and own.high[row] == high:
            if own.low[row] == low:
                return records[row].item()
            row += 1
        return None

    def __setitem__(self, digest: int, record: tuple[Any, ...]) -> None:
        self._recent[digest] = record
        if len(self._recent) >= max(_LEAST, len(self._digests) // _SHARE):
            self._sort_in()

    def remove(self, digests: Iterable[int]) -> None:
        """Remove the entries of some digests, where there are any."""
        self._sort_in()
        rows = self.rows_of(Digests(digests))
        self._keep(np.delete(np.arange(len(self._digests)), rows[rows >= 0]))

    def keep_where(self, here: NDArray[np.bool_]) -> None:
        """Keep these entries (N,) alone, in the order of `records`."""
        self._keep(np.flatnonzero(here))

    def pop_where(self, field: str, value: Any) -> list[int]:
        """Remove all entries with this value in a field of their record; return their digests."""
        here = self.records[field] == value
        found = [self._digests[row] for row in np.flatnonzero(here).tolist()]
        self._keep(np.flatnonzero(~here))
        return found

    def rows_of(self, digests: Digests) -> NDArray[np.int64]:
        """Return where in `records` those of digests (N,) are; -1 where there are none."""
        self._sort_in()
        return self._rows_of(digests)

    def _rows_of(self, digests: Digests) -> NDArray[np.int64]:
        own = self._digests
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

    def _keep(self, rows: NDArray[np.int64]) -> None:
        self._sorted = self._digests.take(rows), self._records[rows]

    def _sort_in(self) -> None:
        if not self._recent:
            return
        entries = sorted(self._recent.items())
        new = Digests(digest for digest, _ in entries)
        records = np.array([record for _, record in entries], self._records.dtype)
        rows = self._rows_of(new)
        known = rows >= 0
        self._records[rows[known]] = records[known]
        at = np.searchsorted(self._digests.high, new.high[~known])
        digests = Digests()
        digests.high = np.insert(self._digests.high, at, new.high[~known])
        digests.low = np.insert(self._digests.low, at, new.low[~known])
        self._sorted = digests, np.insert(self._records, at, records[~known])
        self._recent = {}  # at last, so that a thread that only looks finds every entry


class DigestMap:
    """A map from digests to digests, 32 bytes each."""

    def __init__(self) -> None:
        self._table = DigestTable([("high", "u8"), ("low", "u8")])

    def get(self, digest: int) -> int | None:
        """Return what a digest is mapped to; None if it is not."""
        found = self._table.get(digest)
        return None if found is None else found[0] << 64 | found[1]

    def __setitem__(self, digest: int, value: int) -> None:
        self._table[digest] = value >> 64, value & _LOW

    def pop(self, digest: int) -> None:
        """Remove what a digest is mapped to, if it is."""
        if digest in self._table:
            self._table.remove([digest])

    def values(self) -> Digests:
        """Return all that digests are mapped to."""
        found = Digests()
        found.high, found.low = (self._table.records[name] for name in ("high", "low"))
        return found
