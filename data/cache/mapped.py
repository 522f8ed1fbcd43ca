"""Rows that stay in their file: a block of them is checked when one of its rows is first used."""

import io
import math
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from data.cache.blocks import DamagedRows, RowHashes, read_rows
from data.cache.errors import CacheError


class MappedRows:
    """Rows (N, ...) of a file, used as a read-only array is.

    `rows[index]` gives rows as numpy does, `numpy.asarray(rows)` all of them; nothing is given that
    was not checked. The file may be replaced meanwhile, the rows are still those of the old one.

    Args:
        path: Of the file, for messages.
        file: The open file; this keeps a descriptor of its own.
        offset: Where the rows begin.
        shape: (N, ...).
        dtype: Of the rows.
        hashes: Of the rows; None if they have been checked already.
        what: What a row is called in a message.
    """

    def __init__(
        self,
        path: Path,
        file: io.FileIO,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        hashes: RowHashes | None,
        what: str = "features",
    ) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.size = math.prod(shape)
        self._path, self._offset, self._hashes, self._what = path, offset, hashes, what
        self._file = io.FileIO(os.dup(file.fileno()))
        if self.size:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._rows = np.frombuffer(memory, dtype, self.size, offset).reshape(shape)
        else:
            self._rows = np.empty(shape, dtype)
        blocks = len(hashes.digests) if hashes else 0
        self._unchecked = np.ones(blocks, dtype=bool)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

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
        return f"MappedRows({self.shape} {self.dtype} of {self._path})"

    def __getitem__(self, where: Any) -> NDArray[Any]:
        rows = where[0] if isinstance(where, tuple) else where
        if rows is None or rows is Ellipsis:
            rows = slice(None)
        self._check(np.atleast_1d(np.arange(len(self))[rows]))
        return self._rows[where]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        self._check(np.arange(len(self)))
        if copy or (dtype is not None and np.dtype(dtype) != self.dtype):
            if copy is False:
                raise ValueError(f"{self!r} is not {np.dtype(dtype)} without a copy")
            return self._rows.astype(dtype or self.dtype)
        return self._rows

    def _check(self, rows: NDArray[np.integer[Any]]) -> None:
        """Check the blocks of these rows that have not been checked yet.

        Raises:
            CacheError: A block is damaged, or cannot be read.
        """
        if self._hashes is None or not self.size:
            return
        per_block = self._hashes.rows_per_block
        blocks = np.unique(rows // per_block)
        for block in blocks[self._unchecked[blocks]]:
            first = int(block) * per_block
            stop = min(first + per_block, len(self))
            content = np.empty((stop - first, *self.shape[1:]), self.dtype)
            try:
                # Read, so that a fault of the disk is an error and not a signal; the pages that are
                # mapped are those that were read.
                read_rows(self._file.fileno(), self._offset, content, self._hashes, first)
            except DamagedRows as error:
                raise CacheError(
                    f"{self._path}: the {self._what} of clips {first + 1} to {stop} are damaged"
                ) from error
            except (OSError, EOFError) as error:
                raise CacheError(f"{self._path} cannot be read: {error}") from error
            self._unchecked[block] = False
