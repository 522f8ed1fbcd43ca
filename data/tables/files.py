"""Files of tables: read once, decoded, and taken apart into rows of cells."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.clips import ClipError
from data.files import Address, UnsafeFileError, is_hollow, missing, open_regular
from data.remote import read
from data.tables import json_rows
from data.tables.names import role_of

LONGEST_LINE = 1 << 20  # characters
MOST_BYTES = 1 << 30
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Rows:
    """The rows of a table as they stand in its file.

    `rows` holds for each its number, a line of the file where `place` is "line", and its cells by
    column: texts where `is_text`, else also numbers, None, and in JSON whatever it has. `header`
    are the columns that are there whatever the rows have, and `unnamed` the cells of columns
    without a name.
    """

    format: str
    rows: Sequence[tuple[int, dict[str, Any]]]
    header: Sequence[str] = ()
    unnamed: Sequence[Sequence[Any]] = ()
    encoding: str = ""
    delimiter: str = ""
    place: str = "line"
    is_text: bool = False


def read_rows(path: Path) -> tuple[Rows, str]:
    """Return the rows of a table and the SHA-256 of its bytes.

    Raises:
        ClipError: The file cannot be read, or is not what its name says.
    """
    content = _content(path)
    return FORMATS[path.suffix.lower()](path, content), hashlib.sha256(content).hexdigest()


def _content(path: Path) -> bytes:
    if isinstance(path, Address):
        content = read(path, MOST_BYTES)
    else:
        content = _read_here(path)
    if len(content) > MOST_BYTES:
        raise ClipError(f"{path} is no table of clips: it has more than {MOST_BYTES:,} bytes")
    return content


def _read_here(path: Path) -> bytes:
    try:
        if is_hollow(path):
            raise ClipError(f"{path} is no manifest: hardly any of its bytes were ever written")
        with open_regular(path, follow_links=True) as file:
            return file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise ClipError(missing(path)) from error
    except OSError as error:
        raise ClipError(f"{path} cannot be read: {error.strerror}") from error
    except UnsafeFileError as error:
        raise ClipError(str(error)) from error


def _decoded(path: Path, content: bytes, *, other: str = "") -> tuple[str, str]:
    """Return a text and its encoding: UTF-8, UTF-16 by its mark, else `other` where there is one.

    Raises:
        ClipError: It is not such text.
    """
    try:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            return content.decode("utf-16"), "UTF-16"
        if content.startswith(b"\xef\xbb\xbf"):
            return content.decode("utf-8-sig"), "UTF-8 with a byte order mark"
        return content.decode(), "UTF-8"
    except UnicodeDecodeError as error:
        if other and error.encoding == "utf-8":
            try:
                return content.decode(other), other
            except UnicodeDecodeError:
                raise ClipError(
                    f"{path} is not UTF-8 text ({error.reason}), nor {other}: save it as UTF-8"
                ) from error
        raise ClipError(f"{path} is not UTF-8 text: {error.reason}") from error


def _lines(path: Path, text: str) -> Iterator[str]:
    """Yield the lines of a text; one of endless length is no line of a table."""
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        if len(line) > LONGEST_LINE:
            raise ClipError(f"{path}, line {number}: more than {LONGEST_LINE:,} characters")
        yield line


def _read_csv(path: Path, content: bytes) -> Rows:
    """Read a header and lines of cells; the delimiter is the one that parts the header best."""
    text, encoding = _decoded(path, content, other="cp1252")
    lines = list(_lines(path, text))
    skipped = 0
    if lines and lines[0].strip().startswith("sep=") and len(lines[0].strip()) == 5:
        delimiter, skipped = lines[0].strip()[-1], 1  # a line that Excel writes and reads
    else:
        delimiter = _delimiter(lines)
    after_blank = any(f'{delimiter} "' in line for line in lines)  # a quote that begins a cell
    reader = csv.reader(
        lines[skipped:], delimiter=delimiter, strict=True, skipinitialspace=after_blank
    )
    rows: list[tuple[int, list[str]]] = []
    header: list[str] = []
    line = skipped
    try:
        for cells in reader:
            line = skipped + reader.line_num
            if not header:
                header = cells
            elif any(cell.strip() for cell in cells):  # spreadsheets end in lines of delimiters
                if len(cells) != len(header):
                    raise ClipError(f"{path}, line {line}: not {len(header)} cells")
                rows.append((line, cells))
    except csv.Error as error:
        raise ClipError(f"{path}, line {line + 1}: {error}") from error
    named = [name for name in header if name.strip()]
    if twice := [name for name in named if named.count(name) > 1]:
        raise ClipError(f"{path}, line 1: a column appears twice in the header: {twice[0]!r}")
    if not any(role_of(name) == "path" for name in named):
        columns = ", ".join(map(repr, header)) or "none"
        ids = [name for name in named if role_of(name) == "id"]
        hint = f"; if {ids[0]!r} names files, or clips of a cache, call it 'path'" if ids else ""
        raise ClipError(f"{path}, line 1: no column 'path' in the header; there is {columns}{hint}")
    return Rows(
        format="TSV" if delimiter == "\t" else "CSV",
        encoding=encoding,
        delimiter="" if delimiter == "\t" else delimiter,
        header=named,
        rows=[
            (number, {name: cell for name, cell in zip(header, cells, strict=True) if name.strip()})
            for number, cells in rows
        ],
        unnamed=[
            [cells[column] for _, cells in rows]
            for column, name in enumerate(header)
            if not name.strip()
        ],
        is_text=True,
    )


def _delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter that gives the header a column of paths, and most columns."""

    def merit(delimiter: str) -> tuple[bool, int]:
        try:
            names = next(csv.reader(lines, delimiter=delimiter), [])
        except csv.Error:
            names = []
        return any(role_of(name) == "path" for name in names), len(names)

    return max(_DELIMITERS, key=merit)


def _read_txt(path: Path, content: bytes) -> Rows:
    """Read one path a line; empty lines are skipped."""
    text, encoding = _decoded(path, content, other="cp1252")
    lines = [line.rstrip("\r\n") for line in _lines(path, text)]
    first = next((line for line in lines if line.strip()), "")
    for delimiter in _DELIMITERS:
        names = first.split(delimiter)
        if len(names) > 1 and sum(role_of(name) is not None for name in names) > 1:
            raise ClipError(
                f"{path} is a table, not a list of paths: it begins with the header {first!r}; "
                "name it .csv"
            )
    return Rows(
        format="list of paths",
        encoding=encoding,
        header=["path"],
        rows=[
            (number, {"path": line}) for number, line in enumerate(lines, start=1) if line.strip()
        ],
        is_text=True,
    )


def _read_json_lines(path: Path, content: bytes) -> Rows:
    text, encoding = _decoded(path, content)
    return Rows("JSON lines", list(json_rows.in_lines(path, _lines(path, text))), encoding=encoding)


def _read_json(path: Path, content: bytes) -> Rows:
    text, encoding = _decoded(path, content)
    return Rows("JSON", list(json_rows.in_document(path, text)), encoding=encoding)


def _read_parquet(path: Path, content: bytes) -> Rows:
    from data.tables import parquet  # polars takes a second to load

    header, rows = parquet.read(path, content)
    unnamed = [name for name in header if not name.strip()]
    return Rows(
        format="Parquet",
        header=[name for name in header if name.strip()],
        rows=[
            (number, {name: cell for name, cell in row.items() if name.strip()})
            for number, row in rows
        ],
        unnamed=[[row[name] for _, row in rows] for name in unnamed],
        place="row",
    )


FORMATS: dict[str, Callable[[Path, bytes], Rows]] = {
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}
