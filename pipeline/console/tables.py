"""Tables on stdout."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.console.output import Stdout, echo, printable

LOG_WIDTH = 100  # columns of a table that is not on a terminal


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: bool = True
) -> None:
    """Print a table on stdout, its cells to the letter, made printable.

    Args:
        columns: their heads.
        rows: a cell of text for each column.
        right: whether the columns after the first are aligned to the right.

    Raises:
        OutputError: stdout takes nothing more.
    """
    console = Console(file=Stdout(), markup=False, emoji=False)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    rows = [[printable(cell) for cell in row] for row in rows]
    # Names stay whole where there is room for them: other columns are folded first.
    narrow_names = max((len(row[0]) for row in rows), default=0) <= console.width // 2
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(
            Text(printable(column)),
            justify="right" if right and number else "left",
            overflow="fold",
            no_wrap=number == 0 and narrow_names,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def echo_folded(sentence: str) -> None:
    """Print a sentence on stdout, folded between words to the width of tables.

    Raises:
        OutputError: stdout takes nothing more.
    """
    console = Console(file=Stdout())
    width = console.width if console.is_terminal else LOG_WIDTH
    for line in textwrap.wrap(
        sentence, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    ):
        echo(line)
