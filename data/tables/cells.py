"""Numbers in the cells of a column: their decimal sign, their unit, and what means unknown."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

UNKNOWN = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "-", "–", "—", "?"))
"""Cells that mean unknown, in small letters and without blanks around them."""

_BLANKS = " \u00a0\u2009\u202f"  # between thousands, as ISO 31-0 has them
_CELL = re.compile(
    rf"(?P<number>[+\-\u2212]?(?:[0-9.,{_BLANKS}]*[0-9][.,]?)(?:[eE][+-]?[0-9]+)?|[+-]?inf(?:inity)?)"
    r"\s*(?P<unit>(?:[^\W\d_]|[°%‰])(?:[^\W\d_]|[1-4](?![0-9])|[°%‰·*/^\-]){0,11})?",
    re.IGNORECASE,
)
_READINGS = {
    decimal: re.compile(
        rf"[+\-\u2212]?(?=[0-9]|{re.escape(decimal)}[0-9])"
        rf"(?:[0-9]{{1,3}}(?:[{re.escape(thousands)}{_BLANKS}][0-9]{{3}})+|[0-9]*)"
        rf"(?:{re.escape(decimal)}[0-9]*)?(?:[eE][+-]?[0-9]+)?"
    )
    for decimal, thousands in ((".", ","), (",", "."))
}


@dataclass(frozen=True)
class Numbers:
    """A column of numbers, NaN where unknown, with the unit and the decimal sign of its cells."""

    values: list[float]
    unit: str = ""
    decimal: str = "."


@dataclass(frozen=True)
class NoNumbers:
    """Why a column is not taken as numbers.

    `row` is the position of a cell that shows it; None where no single cell does. `is_fault` tells
    a wrong cell among numbers from a column of something else.
    """

    reason: str
    row: int | None = None
    is_fault: bool = False


def is_unknown(cell: Any) -> bool:
    """Return whether a cell means unknown: none, empty, or a word of `UNKNOWN`."""
    if isinstance(cell, str):
        return cell.strip().casefold() in UNKNOWN
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def read_numbers(cells: Sequence[Any], *, decimal_comma: bool = False) -> Numbers | NoNumbers:
    """Read a column of numbers, each with the same unit or none.

    A decimal comma and separators of thousands are understood where the cells leave one reading.

    Args:
        cells: Texts, numbers, or None.
        decimal_comma: Whether other columns of the file have a decimal comma.
    """
    known = {row: cell for row, cell in enumerate(cells) if not is_unknown(cell)}
    if not known:
        return NoNumbers("it is empty")
    split = {row: _split(cell) for row, cell in known.items()}
    read = {
        decimal: {row: _value(number, decimal) for row, (number, _) in split.items()}
        for decimal in _READINGS
    }
    wrong = {
        decimal: [row for row, value in values.items() if value is None]
        for decimal, values in read.items()
    }
    decimal = min(wrong, key=lambda sign: len(wrong[sign]))
    units = {unit: row for row, (number, unit) in reversed(split.items()) if number != ""}
    if bad := wrong[decimal]:
        is_fault = 2 * len(bad) <= len(known) and len(units) == 1
        kind = "not a number" if is_fault else "no numbers"
        return NoNumbers(f"{kind}, e.g. {known[bad[0]]!r}", bad[0], is_fault)
    if not wrong["."] and not wrong[","]:
        has_comma = decimal_comma or any("," in str(cell) for cell in known.values())
        unsure = [row for row in known if read["."][row] != read[","][row]]
        if unsure and has_comma:
            row = unsure[0]
            first, second = (f"{read[sign][row]:g}" for sign in (",", "."))
            return NoNumbers(f"{known[row]!r} could be {first} or {second}", row)
    if len(units) > 1:
        (one, row), (other, _) = sorted(units.items(), key=lambda item: -item[1])[:2]
        names = [repr(unit) if unit else "none" for unit in (other, one)]
        return NoNumbers(f"its cells have several units: {' and '.join(names)}", row)
    values = [math.nan] * len(cells)
    for row, value in read[decimal].items():
        assert value is not None
        values[row] = value
    return Numbers(values, next(iter(units)), decimal)


def _split(cell: Any) -> tuple[Any, str]:
    """Return the number of a cell, as text or number, and its unit; an empty text for no number."""
    if not isinstance(cell, str):
        return cell, ""
    match = _CELL.fullmatch(cell.strip())
    return (match["number"].strip(), match["unit"] or "") if match else ("", "")


def _value(number: Any, decimal: str) -> float | None:
    """Return the value of a number with this decimal sign; None if it is no number then."""
    if not isinstance(number, str):
        if not isinstance(number, int | float) or isinstance(number, bool):
            return None
        try:
            return float(number)
        except OverflowError:  # which 1e999 is, too
            return math.inf
    if number.casefold().lstrip("+-").startswith("inf"):
        return float(number)
    if not _READINGS[decimal].fullmatch(number):
        return None
    thousands = "," if decimal == "." else "."
    for mark in (thousands, *_BLANKS):
        number = number.replace(mark, "")
    return float(number.replace(decimal, ".").replace("\u2212", "-"))
