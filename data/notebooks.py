"""What objects show in a notebook: small HTML tables, and data frames of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from data.errors import HeliographError

MOST_ROWS = 10
LONGEST = 200  # characters of a cell


class Picture(str):
    """A data URI of a picture, for a cell of a table."""


def html_table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[Any]], notes: Sequence[str] = ()
) -> str:
    """Return a table as HTML. All text is escaped; a `Picture` is shown.

    >>> html_table("1 < 2", ["a"], [["<b>"]])
    '<table><caption>1 &lt; 2</caption><tr><th>a</th></tr><tr><td>&lt;b&gt;</td></tr></table>'

    Args:
        caption: Above the table.
        header: Names of the columns.
        rows: Cells, as many as there are columns.
        notes: Sentences below the table.
    """
    lines = [_row("th", header), *(_row("td", row) for row in rows)]
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<table><caption>{escape(caption)}</caption>{''.join(lines)}</table>{below}"


def _row(tag: str, cells: Sequence[Any]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_cell(cell)}</{tag}>' for cell in cells)}</tr>"


def _cell(cell: Any) -> str:
    if isinstance(cell, Picture):
        return f'<img src="{escape(cell)}">'
    text = "" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell)
    return escape(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")


def data_frame(columns: Mapping[str, Any]) -> Any:
    """Return a `pandas.DataFrame` of columns of one length.

    Raises:
        HeliographError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise HeliographError(
            f"a data frame needs the package pandas ({error}): pip install pandas"
        ) from error
    return pandas.DataFrame(dict(columns))
