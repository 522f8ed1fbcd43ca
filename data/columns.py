"""Columns of numbers of millions of clips: in memory while they are small, then in a file."""

import mmap
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from data.files import WriteError, write_error

BLOCK = 1 << 16
"""Rows that are looked at together, where a column may be in a file."""
_IN_MEMORY = 1 << 20  # bytes of columns that stay in memory


class Columns:
    """Columns of one length (N,), which are written a block at a time and read as arrays.

    The file in which large ones are has no name, so that it is gone with the process. It is in the
    folder `temporary_folder`. What the system has of it in memory it gives up where others need it.

    Args:
        kinds: The type of each column.
        most: How many rows are written at most; only one column may have any number.
    """

    def __init__(self, *kinds: DTypeLike, most: int = 0) -> None:
        self._kinds = [np.dtype(kind) for kind in kinds]
        sizes = [most * kind.itemsize for kind in self._kinds[:-1]]
        self._starts = np.cumsum([0, *sizes]).tolist()
        self._rows = 0
        self._folder = temporary_folder()
        folder = str(self._folder)
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=folder)  # noqa: SIM115

    def __len__(self) -> int:
        return self._rows

    def add(self, *blocks: NDArray[Any]) -> None:
        """Add a block of rows (n,) of each column.

        Raises:
            WriteError: The disk is full or not writable.
        """
        try:
            for start, kind, block in zip(self._starts, self._kinds, blocks, strict=True):
                self._file.seek(start + self._rows * kind.itemsize)
                self._file.write(np.ascontiguousarray(block, kind).tobytes())
        except OSError as error:
            raise _no_room(self._folder, error) from error
        self._rows += len(blocks[0])

    def finish(self) -> list[NDArray[Any]]:
        """Return the columns (N,), which cannot be changed; none takes a block any more.

        Raises:
            WriteError: The disk is full or not writable.
        """
        if not self._rows:
            self._file.close()
            return [np.empty(0, kind) for kind in self._kinds]
        size = self._starts[-1] + self._rows * self._kinds[-1].itemsize
        try:
            with self._file as file:
                file.seek(0)  # which writes what waits to be written
                content: Any = (
                    file.read(size)
                    if size <= _IN_MEMORY
                    else mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
                )
        except OSError as error:
            raise _no_room(self._folder, error) from error
        return [
            np.frombuffer(content, kind, self._rows, start)
            for start, kind in zip(self._starts, self._kinds, strict=True)
        ]


def column_of(kind: DTypeLike, blocks: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Return the blocks (n,) of a column as one array (N,), which cannot be changed.

    Raises:
        WriteError: The disk is full or not writable.
    """
    column = Columns(kind)
    for block in blocks:
        column.add(block)
    (array,) = column.finish()
    return array


def ranges(count: int) -> Iterable[slice]:
    """Return the rows of so many in pieces of `BLOCK` rows."""
    return (slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


def temporary_folder() -> Path:
    """Return the folder of large temporary files: `TMPDIR`, or `/var/tmp`, as `/tmp` may be memory.

    Raises:
        WriteError: There is none that can be written.
    """
    large = Path("/var/tmp")
    if not os.environ.get("TMPDIR") and os.access(large, os.W_OK | os.X_OK):
        return large
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise WriteError(f"there is no folder for temporary files: {error}") from error


def _no_room(folder: Path, error: OSError) -> WriteError:
    return WriteError(f"{write_error(folder, error)} (TMPDIR names another folder)")
