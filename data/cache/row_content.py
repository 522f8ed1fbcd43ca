"""Where the features and thumbnails of a clip are, in a file that was read before."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache.blocks import StoredRows, read_rows
from data.cache.errors import CacheError, DamagedCacheError
from data.cache.features import row_sha256
from data.cache.seal import open_cache_file


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where one row is: row `number` of the rows of a file."""

    path: Path
    rows: StoredRows
    number: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the row."""
        return self.rows.shape[1:]

    @property
    def offset(self) -> int:
        """Where in the file the row begins, in bytes."""
        return self.rows.offset + self.number * self.rows.row_bytes

    @property
    def sha256(self) -> str:
        """The SHA-256 of the row, empty if the whole file has been checked."""
        return self.rows.sha256[self.number] if self.rows.sha256 else ""

    def content_sha256(self) -> str:
        """Return the SHA-256 of the row as it was written, or, where none was kept, as it is."""
        return self.sha256 or row_sha256(self.read())[0]

    def read(self, file: io.FileIO | None = None) -> NDArray[Any] | None:
        """Read the row (1, ...); None if it is not the one that was written.

        Args:
            file: The file, if it is open.

        Raises:
            CacheError: The file cannot be read.
        """
        if file is None:
            with open_cache_file(self.path) as file:
                return self.read(file)
        row = np.empty((1, *self.shape), self.rows.dtype)
        try:
            read_rows(file.fileno(), self.offset, row, None)
        except EOFError as error:
            raise CacheError(f"{self.path} ends before its features do") from error
        except OSError as error:
            raise CacheError(f"{self.path} cannot be read: {error.strerror or error}") from error
        content, sha256 = row.data if row.size else b"", self.sha256
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            return None
        return row


@dataclass(frozen=True, slots=True)
class RowContent:
    """Where the features of a clip are, and its thumbnails; None where it has none."""

    clip_id: str
    features: RowPlace
    thumbnails: RowPlace | None

    @property
    def path(self) -> Path:
        """The file in which its features are."""
        return self.features.path

    @property
    def number(self) -> int:
        """Their row there."""
        return self.features.number

    def read(self, file: io.FileIO | None = None) -> NDArray[Any]:
        """Read the features (1, T, D), from their file if it is open.

        Raises:
            CacheError: They are not those that were written.
        """
        return self._read(self.features, "features", file)

    def read_thumbnails(self, file: io.FileIO | None = None) -> NDArray[np.uint8]:
        """Read the thumbnails (1, F, h, w), from their file if it is open.

        Raises:
            CacheError: There are none, or they are not those that were written.
        """
        if self.thumbnails is None:
            raise CacheError(f"{self.path} has no thumbnails")
        return self._read(self.thumbnails, "thumbnails", file)

    def _read(self, place: RowPlace, what: str, file: io.FileIO | None) -> NDArray[Any]:
        row = place.read(file)
        if row is None:
            raise DamagedCacheError(
                self.path, f"{self.path}: the {what} of {self.clip_id} are damaged"
            )
        return row


def sha256_of_rows(rows: Sequence[RowContent]) -> tuple[list[str], list[str]]:
    """Return the hashes of the features and of the thumbnails of rows, empty without these."""
    features = [row.features.content_sha256() for row in rows]
    return features, [row.thumbnails.content_sha256() if row.thumbnails else "" for row in rows]
