"""Rows of a cache that is to be written, which are made as they are used."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import overload

from data.cache.rows import CacheRow

_AT_ONCE = 1 << 13  # rows that are in memory together


class RowBatches(Sequence[CacheRow]):
    """Rows of which those are in memory that follow each other, few at a time."""

    _made: tuple[int, list[CacheRow]] = 0, []  # the first row that is in memory, and all of them

    @abstractmethod
    def _make(self, start: int, stop: int) -> list[CacheRow]:
        """Return rows in their order, each file being read once."""

    @overload
    def __getitem__(self, where: int) -> CacheRow: ...
    @overload
    def __getitem__(self, where: slice) -> list[CacheRow]: ...
    def __getitem__(self, where: int | slice) -> CacheRow | list[CacheRow]:
        if isinstance(where, slice):
            start, stop, _ = where.indices(len(self))
            return list(self._between(start, stop))
        if not 0 <= where < len(self):
            raise IndexError(where)
        return next(self._between(where, where + 1))

    def __iter__(self) -> Iterator[CacheRow]:
        return self._between(0, len(self))

    def _between(self, start: int, stop: int) -> Iterator[CacheRow]:
        for first in range(start - start % _AT_ONCE, stop, _AT_ONCE):
            if self._made[0] != first or not self._made[1]:
                self._made = 0, []  # before others take as much memory
                self._made = first, self._make(first, min(first + _AT_ONCE, len(self)))
            yield from self._made[1][max(0, start - first) : stop - first]
