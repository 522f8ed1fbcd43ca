"""Rows that stay in their file: a block of them is checked when one of its rows is first used."""

import hashlib
import io
import math
import mmap
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from data.cache.blocks import DamagedRows, StoredRows, read_rows
from data.cache.errors import CacheError, DamagedCacheError

_SCANNED_BYTES = 1 << 25


class MappedRows:
    """Rows (N, ...) of one or several files, used as a read-only array is.

    `rows[index]` gives rows as numpy does, `numpy.asarray(rows)` all of them; nothing is given that
    was not checked. The files may be replaced meanwhile, the rows are still those of the old ones.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = tuple(map(int, shape))
        self.dtype = np.dtype(dtype)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.size * self.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"MappedRows({self.shape} {self.dtype})"

    def __getitem__(self, where: Any) -> Any:
        rows, *rest = where if isinstance(where, tuple) else (where,)
        if rows is None or rows is Ellipsis:
            return np.asarray(self)[where]
        numbers = np.arange(len(self))[rows]
        if rest and numbers.ndim > 1:
            return np.asarray(self)[where]
        if numbers.ndim == 0:
            return self._taken(numbers[None])[0][tuple(rest)]
        taken = self._taken(numbers.reshape(-1)).reshape(*numbers.shape, *self.shape[1:])
        return taken[(slice(None), *rest)] if rest else taken

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        rows = self._taken(np.arange(len(self)))
        if copy is False and dtype is not None and np.dtype(dtype) != self.dtype:
            raise ValueError(f"{self!r} is not {np.dtype(dtype)} without a copy")
        return np.array(rows, dtype, copy=True if copy else None)

    def read_into(self, array: NDArray[Any]) -> None:
        """Fill an array of the same shape and type with all rows, in parallel, each checked.

        Raises:
            CacheError: A row is damaged, or a file cannot be read.
        """
        raise NotImplementedError

    def _taken(self, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Return the rows (n, ...) of these numbers, checked."""
        raise NotImplementedError


class RowsOfFile(MappedRows):
    """Rows of one file.

    Args:
        path: Of the file, for messages.
        file: The open file; this keeps a descriptor of its own.
        stored: Where they are in it, and their hashes.
        clip_ids: Of the rows.
        what: What a row is called in a message.
    """

    def __init__(
        self,
        path: Path,
        file: io.FileIO,
        stored: StoredRows,
        clip_ids: Sequence[str],
        what: str = "features",
    ) -> None:
        super().__init__(stored.shape, stored.dtype)
        self._path, self._stored, self._clip_ids, self._what = path, stored, clip_ids, what
        self._file = io.FileIO(os.dup(file.fileno()))
        self._unchecked = np.ones(len(stored.hashes.digests) if stored.hashes else 0, dtype=bool)

    @cached_property
    def _memory(self) -> NDArray[Any]:
        if not self.size:
            return np.empty(self.shape, self.dtype)
        memory = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(memory, self.dtype, self.size, self._stored.offset).reshape(self.shape)

    def read_into(self, array: NDArray[Any]) -> None:
        """Fill an array with all rows."""
        self._read(array, 0)

    def check(self) -> None:
        """Check all rows.

        Raises:
            CacheError: A row is damaged, or the file cannot be read.
        """
        if self._stored.hashes is None or not self.size:
            return
        per_block = self._stored.hashes.rows_per_block
        step = per_block * max(1, _SCANNED_BYTES // (per_block * self._stored.row_bytes))
        for first in range(0, len(self), step):
            count = min(step, len(self) - first)
            self._read(np.empty((count, *self.shape[1:]), self.dtype), first)

    def _taken(self, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        hashes = self._stored.hashes
        if hashes is not None and self.size:
            per_block = hashes.rows_per_block
            blocks = np.unique(rows // per_block)
            for block in blocks[self._unchecked[blocks]]:
                first = int(block) * per_block
                count = min(per_block, len(self) - first)
                # Read, so that a fault of the disk is an error and not a signal; the pages that
                # are mapped are those that were read.
                self._read(np.empty((count, *self.shape[1:]), self.dtype), first)
                self._unchecked[block] = False
        if len(rows) == len(self) and np.array_equal(rows, np.arange(len(self))):
            return self._memory
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return self._memory[rows[0] : rows[-1] + 1]
        return self._memory[rows]

    def _read(self, array: NDArray[Any], first: int) -> None:
        """Fill an array with the rows from `first` on, with which a block begins; check them."""
        stored, descriptor = self._stored, self._file.fileno()
        try:
            read_rows(descriptor, stored.offset, array, stored.hashes, first)
        except OSError as error:
            raise CacheError(f"{self._path} cannot be read: {error.strerror or error}") from error
        except EOFError as error:
            raise CacheError(f"{self._path} ends before its {self._what} do") from error
        except DamagedRows as error:
            rows = range(error.first, error.last + 1)
            damaged = [row for row in rows if not self._matches(row)] or rows
            more = len(damaged) - 1
            several = f" and of {more} other{'s' if more > 1 else ''}" if more else ""
            raise DamagedCacheError(
                self._path,
                f"{self._path}: the {self._what} of {self._clip_ids[damaged[0]]}{several} "
                "are damaged",
            ) from error

    def _matches(self, row: int) -> bool:
        """Return whether one row matches the hash that the file has of it."""
        if not self._stored.sha256:
            return False
        content = np.empty((1, *self.shape[1:]), self.dtype)
        read_rows(
            self._file.fileno(), self._stored.offset + row * self._stored.row_bytes, content, None
        )
        return hashlib.sha256(content.data).hexdigest() == self._stored.sha256[row]


class JoinedRows(MappedRows):
    """Rows of several files, one after the other."""

    def __init__(self, parts: Sequence[Any]) -> None:
        first = parts[0]
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])
        super().__init__((int(self._starts[-1]), *first.shape[1:]), first.dtype)

    def read_into(self, array: NDArray[Any]) -> None:
        """Fill an array with all rows."""
        for part, start in zip(self._parts, self._starts, strict=False):
            rows = array[start : start + len(part)]
            if isinstance(part, MappedRows):
                part.read_into(rows)
            else:
                rows[:] = part

    def _taken(self, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype)
        which = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(which):
            here = which == number
            taken[here] = self._parts[number][rows[here] - self._starts[number]]
        return taken
