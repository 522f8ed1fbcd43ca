"""Blocks of rows: how the features in a file are hashed, and checked while they are read.

Rows lie one behind the other. A block is as many of them as make about 1 MiB, at least one; the
thread that reads a block hashes it while it is in the processor's cache.
"""

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 20
DIGEST_BYTES = 16  # of XXH3-128
_READERS = 4


def rows_in_block(row_bytes: int) -> int:
    """Return how many rows of this size a block has."""
    return max(1, BLOCK_BYTES // max(1, row_bytes))


class BlockHasher:
    """The hashes of blocks of rows that come one after the other."""

    def __init__(self, rows_per_block: int) -> None:
        self._rows_per_block = rows_per_block
        self._digests: list[bytes] = []
        self._open = xxhash.xxh3_128()
        self._rows = 0

    def add(self, row: Any) -> None:
        """Add the bytes of one row."""
        self._open.update(row)
        self._rows += 1
        if self._rows % self._rows_per_block == 0:
            self._close()

    def _close(self) -> None:
        self._digests.append(self._open.digest())
        self._open.reset()

    def finish(self) -> bytes:
        """Return the hashes of all blocks, 16 bytes each."""
        if self._rows % self._rows_per_block:
            self._close()
        return b"".join(self._digests)


@dataclass(frozen=True)
class RowHashes:
    """What rows of a file must hash to.

    `digests` uint8 (blocks, bytes of a hash) are those of `hash_of`, of `rows_per_block` rows each;
    the last block may have fewer.
    """

    digests: NDArray[np.uint8]
    rows_per_block: int
    hash_of: Callable[[Any], bytes]

    @classmethod
    def of_blocks(cls, digests: NDArray[np.uint8], rows_per_block: int) -> "RowHashes":
        """Return the XXH3-128 of blocks of rows."""
        return cls(digests, rows_per_block, xxhash.xxh3_128_digest)

    @classmethod
    def of_rows(cls, sha256: NDArray[np.bytes_]) -> "RowHashes":
        """Return the SHA-256 of single rows, given as 64 hex digits each.

        Raises:
            ValueError: There are other characters.
        """
        digests = np.frombuffer(bytes.fromhex(b"".join(sha256.tolist()).decode()), np.uint8)
        return cls(digests.reshape(len(sha256), -1), 1, _sha256)

    def first_damaged(self, first_block: int, rows: Any, block_bytes: int) -> int | None:
        """Return the first block that does not match its hash, or None.

        `rows` are bytes that begin with block `first_block`; each block has `block_bytes` of them.
        """
        for block, start in enumerate(range(0, len(rows), block_bytes), start=first_block):
            if self.hash_of(rows[start : start + block_bytes]) != self.digests[block].tobytes():
                return block
        return None


@dataclass(frozen=True)
class StoredRows:
    """Rows (N, ...) as they lie in a file: where they begin, and how they are checked.

    `sha256` is the hash of each row (empty where the file has none), and `hashes` what reading them
    is checked against; it is None where the whole file has been checked, or nothing can be.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sha256: Sequence[str]
    hashes: RowHashes | None

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class DamagedRows(Exception):
    """Rows `first` to `last` of a file are not those that were written."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__(first, last)
        self.first, self.last = first, last


def read_rows(
    descriptor: int, offset: int, array: NDArray[Any], hashes: RowHashes | None, first: int = 0
) -> None:
    """Fill an array (n, ...) with rows `first` to `first + n` of a file, and check them.

    Args:
        descriptor: of the open file, whose position stays.
        offset: where row 0 is in the file.
        array: contiguous; `first` is a multiple of the rows of a block, and the array ends with a
            block, or with the last row.
        hashes: of the rows; None: they are only read.
        first: the first row.

    Raises:
        DamagedRows: Rows do not match their hash.
        EOFError: The file ends before its rows do.
    """
    if not array.size:
        return
    memory = array.reshape(-1).view(np.uint8).data
    row_bytes = array.nbytes // len(array)
    rows_per_block = hashes.rows_per_block if hashes else rows_in_block(row_bytes)
    block_bytes = rows_per_block * row_bytes
    step = block_bytes * max(1, BLOCK_BYTES // block_bytes)
    offset += first * row_bytes

    def fill(start: int) -> None:
        rows = memory[start : start + step]
        _read_into(descriptor, offset + start, rows)
        if hashes is None:
            return
        first_block = (first * row_bytes + start) // block_bytes
        damaged = hashes.first_damaged(first_block, rows, block_bytes)
        if damaged is not None:
            row = damaged * rows_per_block
            raise DamagedRows(row, min(row + rows_per_block, first + len(array)) - 1)

    starts = range(0, len(memory), step)
    if len(starts) == 1:
        return fill(0)
    with ThreadPoolExecutor(_READERS) as pool:
        for _ in pool.map(fill, starts):
            pass


def _read_into(descriptor: int, offset: int, memory: memoryview) -> None:
    while memory:
        count = os.preadv(descriptor, [memory], offset)
        if not count:
            raise EOFError
        memory, offset = memory[count:], offset + count


def _sha256(content: Any) -> bytes:
    return hashlib.sha256(content).digest()
