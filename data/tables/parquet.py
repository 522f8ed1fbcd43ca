"""Parquet files, read by polars: native code, which meets each file first in another process."""

import hashlib
import io
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars

from data.clips import ClipError
from data.files import Address, open_regular
from data.screening import require_screened

_CHECKER = "data.tables.parquet:check"
_SECONDS = 20.0  # a damaged file may stop the threads that read it for ever
_KINDS = (str, int, float, bool)


def read(path: Path, content: bytes) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    """Return the columns of a file, and its rows, numbered from 1: texts, numbers, or None.

    Raises:
        ClipError: It is no sound Parquet file; the message says why.
    """
    if not content.startswith(b"PAR1"):
        raise ClipError(f"{path} is no Parquet file")
    with _on_disk(path, content) as file:
        try:
            require_screened(file, _identity(content), _CHECKER, seconds=_SECONDS, error=ClipError)
        except ClipError as error:
            raise ClipError(str(error).replace(str(file), str(path))) from error
    frame = _frame(path, content)
    columns = [[_cell(value) for value in frame[name].to_list()] for name in frame.columns]
    rows = [dict(zip(frame.columns, row, strict=True)) for row in zip(*columns, strict=True)]
    return frame.columns, list(enumerate(rows, start=1))


@contextmanager
def _on_disk(path: Path, content: bytes) -> Iterator[Path]:
    """Give a file that has the bytes of one, which may be at an address."""
    if not isinstance(path, Address):
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        file.write(content)
        file.flush()
        yield Path(file.name)


def check(path: Path) -> str:
    """Read a file as `read` does, and return the identity of its bytes; for `data.screening`."""
    with open_regular(path, follow_links=True) as file:
        content = file.read()
    frame = _frame(path, content)
    for name in frame.columns:
        frame[name].to_list()
    return _identity(content)


def _frame(path: Path, content: bytes) -> polars.DataFrame:
    try:
        return polars.read_parquet(io.BytesIO(content), use_statistics=False)
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        reason = str(error).partition("\n")[0]
        raise ClipError(f"{path} is no sound Parquet file: {reason}") from error


def _identity(content: bytes) -> str:
    return f"parquet:{hashlib.sha256(content).hexdigest()}"


def _cell(value: Any) -> Any:
    """Return a value of polars as a cell: what is neither text nor number as its text."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if value is None or isinstance(value, _KINDS) else str(value)
