"""The identity of the content of a cache: one hash over its columns, one column after the other."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from data.files import write_error

_PIECE = 4096  # items of a list that are written as JSON at once
_IN_MEMORY = 1 << 16  # bytes of a column, before it goes to a file
_READ_BYTES = 1 << 20


def hash_columns(
    stated: Mapping[str, Any],
    lists: Mapping[str, Iterable[bytes]],
    arrays: Iterable[Iterable[bytes]],
) -> str:
    """Return the SHA-256 of JSON and of arrays after it, of which memory holds a piece at a time.

    The JSON is `json.dumps(..., sort_keys=True)` of what is stated and of the lists together.

    Args:
        stated: What is written at once.
        lists: The items of each list as JSON, in pieces.
        arrays: The bytes of each array, in pieces.
    """
    digest = sha256()
    between = "{"
    for name in sorted([*stated, *lists]):
        digest.update(f"{between}{json.dumps(name)}: ".encode())
        between = ", "
        if name in stated:
            digest.update(json.dumps(stated[name], sort_keys=True).encode())
            continue
        digest.update(b"[")
        for piece in lists[name]:
            digest.update(piece)
        digest.update(b"]")
    digest.update(b"}")
    for array in arrays:
        for piece in array:
            digest.update(piece)
    return digest.hexdigest()


def json_items(texts: Sequence[str], *, first: bool = True) -> Iterator[bytes]:
    """Yield what JSON has between the brackets of a list, in pieces; `first`: nothing is before."""
    for start in range(0, len(texts), _PIECE):
        piece = json.dumps(list(texts[start : start + _PIECE]))
        yield f"{'' if first and not start else ', '}{piece[1:-1]}".encode()


def array_bytes(column: NDArray[Any]) -> bytes:
    """Return the bytes of a column that are hashed.

    There are many NaN and two zeros; which of them it is means nothing.
    """
    if column.dtype == np.int64:
        return column.astype("<i8").tobytes()
    return np.where(np.isnan(column), np.nan, column + 0.0).astype("<f8").tobytes()


class SpooledColumns:
    """Columns that come a few clips at a time, and are then hashed one after the other.

    Meanwhile they are in files without names; use it in a `with` block.

    Args:
        folder: Where these files are.

    Raises:
        WriteError: The disk is full or not writable.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._lists: dict[str, IO[bytes]] = {}
        self._arrays: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _new_file(self) -> IO[bytes]:
        return self._stack.enter_context(SpooledTemporaryFile(_IN_MEMORY, dir=str(self._folder)))

    def add(self, lists: Mapping[str, Sequence[str]], arrays: Sequence[NDArray[Any]]) -> None:
        """Add some clips: the same lists and arrays each time, and as many arrays."""
        try:
            for name, texts in lists.items():
                if name not in self._lists:
                    self._lists[name] = self._new_file()
                file = self._lists[name]
                for piece in json_items(texts, first=not file.tell()):
                    file.write(piece)
            for number, column in enumerate(arrays):
                if number == len(self._arrays):
                    self._arrays.append(self._new_file())
                self._arrays[number].write(array_bytes(column))
        except OSError as error:
            raise write_error(self._folder, error) from error

    def hash(self, stated: Mapping[str, Any]) -> str:
        """Return the hash of all clips and of what is stated of them."""
        return hash_columns(
            stated,
            {name: _read(file) for name, file in self._lists.items()},
            map(_read, self._arrays),
        )


def _read(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while piece := file.read(_READ_BYTES):
        yield piece
