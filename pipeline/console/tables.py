"""Tables on stdout."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from data.wording import counted
from pipeline.console.output import Stdout, echo, printable

if TYPE_CHECKING:  # rich is loaded where a table is printed
    from rich.console import Console

LOG_WIDTH = 80  # columns of a table that is not on a terminal
GAP = 2  # blanks between columns
_TIED = re.compile(r"(?<=\d) (?=(?:%|[A-Za-z]{1,3})(?![A-Za-z]))|(?<=±) |(?<=,) (?=[^ ]*\])")
"""Blanks at which no cell is folded: before a unit, after ±, and inside an interval."""


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: bool = True
) -> None:
    """Print a table on stdout, its cells to the letter, made printable.

    Cells are folded between words, never between a number and its unit; the first of a row, a name
    that somebody may type, is never folded. A table that does not fit into a terminal is a list:
    under each name a line a column.

    Args:
        columns: their heads.
        rows: a cell of text for each column.
        right: whether the columns after the first are aligned to the right.

    Raises:
        OutputError: stdout takes nothing more.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    heads = [printable(column) for column in columns]
    body = [[printable(cell) for cell in row] for row in rows]
    by_column = [list(cells) for cells in zip(heads, *body, strict=True)]
    natural = [max(map(cell_len, cells)) for cells in by_column]
    least = natural[:1] + [max(map(_longest_word, cells)) for cells in by_column[1:]]
    needed = sum(least) + GAP * (len(least) - 1)
    console = _console()
    if needed > console.width:
        if console.is_terminal:
            _print_list(heads, body)
            return
        console.width = needed + LOG_WIDTH // 2
    table = Table(box=None, pad_edge=False, header_style="bold")
    widths = _widths(least, natural, console.width - GAP * (len(least) - 1))
    for number, (head, width) in enumerate(zip(heads, widths, strict=True)):
        justify = "right" if right and number else "left"
        table.add_column(Text(_fold(head, width)), justify=justify, overflow="fold", width=width)  # type: ignore[arg-type]
    for row in body:
        table.add_row(*(Text(_fold(cell, room)) for cell, room in zip(row, widths, strict=True)))
    console.print(table)


def echo_folded(sentence: str, *, indent: int = 2, colour: str | None = None) -> None:
    """Print a sentence on stdout, folded between words to the width of tables.

    Args:
        sentence: the sentence.
        indent: blanks before all lines but the first.
        colour: of the first word, on a terminal.

    Raises:
        OutputError: stdout takes nothing more.
    """
    for line in textwrap.wrap(
        sentence,
        _console().width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    ):
        echo(line, colour=colour)
        colour = None


def print_record(name: str, facts: Iterable[tuple[str, str]], *, colour: str = "cyan") -> None:
    """Print a name on stdout and what is known of it below: a column of words, a column of facts.

    Args:
        name: never folded.
        facts: a word and a text each; the text is folded between words.
        colour: of the name, on a terminal.

    Raises:
        OutputError: stdout takes nothing more.
    """
    from rich.table import Table
    from rich.text import Text

    console = _console()
    table = Table.grid(padding=(0, GAP))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for word, text in facts:
        table.add_row(Text(f"  {printable(word)}"), Text(printable(text)))
    console.print(Text(printable(name), style=f"bold {colour}"), soft_wrap=True)
    console.print(table)


def format_size(size: int) -> str:
    """Return a number of bytes as people read it.

    >>> [format_size(size) for size in (1, 999, 7_005_504, 41_200_000_000)]
    ['1 byte', '999 bytes', '7.0 MB', '41.2 GB']
    """
    if size < 1000:
        return counted(size, "byte")
    exponent = min((len(str(size)) - 1) // 3, 5)
    return f"{size / 1000**exponent:.1f} {'kMGTP'[exponent - 1]}B"


def _console() -> Console:
    """Return rich's console on stdout; what is no terminal has a fixed width, and no colours."""
    from rich.console import Console

    stdout = Stdout()
    console = Console(
        file=stdout, markup=False, emoji=False, highlight=False, force_terminal=stdout.isatty()
    )
    if not console.is_terminal:
        console.width = LOG_WIDTH
    return console


def _print_list(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table as a list: the first cell of each row, the others with their heads below."""
    for name, *cells in rows:
        echo(name)
        for head, cell in zip(heads[1:], cells, strict=True):
            echo(f"  {head}: {cell}" if head else f"  {cell}")


def _longest_word(text: str) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, _words(text)), default=0)


def _words(text: str) -> list[str]:
    """Return the parts of a cell between which it may be folded.

    >>> _words("85.1 % ± 5.6 [80, 90] of all")
    ['85.1 %', '± 5.6', '[80, 90]', 'of', 'all']
    """
    return [word.replace("\0", " ") for word in _TIED.sub("\0", text).split(" ")]


def _fold(text: str, width: int) -> str:
    r"""Return a cell in lines that are no wider than its column.

    >>> _fold("85.1 % ± 5.6", 8)
    '85.1 %\n± 5.6'
    """
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    lines: list[str] = []
    for word in _words(text):
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def _widths(least: Sequence[int], natural: Sequence[int], room: int) -> list[int]:
    """Return the width of each column: what it needs, and a share of the room that is left.

    >>> _widths([4, 2, 2], [4, 3, 30], room=20)
    [4, 3, 13]
    """
    widths, left = list(least), room - sum(least)
    by_want = sorted(range(len(least)), key=lambda number: natural[number] - least[number])
    for place, number in enumerate(by_want):
        more = min(natural[number] - least[number], left // (len(by_want) - place))
        widths[number] += more
        left -= more
    return widths
