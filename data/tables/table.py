"""A table of clips: its columns given their roles, its cells their types, its rows made clips."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Never

from data.clips import Clip, ClipError, id_of_file
from data.errors import InvalidValueError
from data.files import Address, path_of
from data.levels import TOLERANCE
from data.tables.cells import NoNumbers, Numbers, is_unknown, read_numbers
from data.tables.files import Rows, read_rows
from data.tables.identity import refuse_alike, refuse_same_ids
from data.tables.names import (
    ROLES,
    is_row_number,
    is_seconds,
    role_of,
    split_unit,
    time_without_seconds,
)
from data.tables.summary import LABEL, LEFT_OUT, Column, TableSummary
from data.values import suspicious_values
from data.windows import stretch_id

_NESTED = ("labels", "units")  # keys of a row of JSON that hold values by label
_ABSENT = object()  # the value of a label that a row of JSON does not have


@dataclass(frozen=True)
class Table:
    """The clips of a table, and what was understood of it."""

    clips: list[Clip]
    summary: TableSummary


@dataclass(frozen=True)
class _Label:
    """A label: the column it comes from, its unit, and its values, some of them `_ABSENT`."""

    column: str
    name: str
    unit: str
    values: Sequence[Any]


def read_table(path: Path) -> Table:
    """Read the clips of one table; paths in it are relative to its folder, or addresses.

    Raises:
        ClipError: The file cannot be read, a column or a line is wrong, or two objects or ids
            differ in spelling alone; the message gives file, line and reason.
    """
    rows, sha256 = read_rows(path)
    return _Reading(path, rows, sha256).table()


class _Reading:
    """One table while it is understood."""

    def __init__(self, path: Path, rows: Rows, sha256: str) -> None:
        self.path, self.rows, self.sha256 = path, rows, sha256
        self.is_json = rows.format.startswith("JSON")
        self.cells = [row for _, row in rows.rows]
        names = dict.fromkeys([*rows.header, *itertools.chain.from_iterable(self.cells)])
        self.names = [name for name in names if not (self.is_json and name in _NESTED)]
        self.column_of = self._roles()
        self.left_out: dict[str, str] = {}
        self.decimal_comma = False
        self.stripped: list[int] = []

    def table(self) -> Table:
        """Return the clips and the summary."""
        starts, ends, labels = self._numbers()
        if self.decimal_comma:  # now 1.200 in another column could be 1200, too
            self.left_out.clear()
            starts, ends, labels = self._numbers()
        labels += self._nested_labels()
        units = self._units(labels)
        names = Counter(label.name for label in labels)
        if twice := [label.column for label in labels if names[label.name] > 1]:
            self._refuse(f"two columns are one label: {twice[0]!r} and {twice[1]!r}; remove one")
        ids, objects, scenarios = map(self._texts, ("id", "object", "scenario"))
        paths = []
        for row in range(len(self.cells)):
            with self._at(row):
                paths.append(self._clip_path(row))
        rows_of = Counter(path for path, given in zip(paths, ids, strict=True) if not given)
        clips = []
        for row, path in enumerate(paths):
            with self._at(row):
                values = {label.name: label.values[row] for label in labels}
                values = {name: value for name, value in values.items() if value is not _ABSENT}
                name = id_of_file(path)
                several = rows_of[path] > 1 and not ids[row]  # stretches of one video
                clips.append(
                    Clip(
                        id=stretch_id(name, starts[row], ends[row])
                        if several
                        else ids[row] or name,
                        path=self._place_of(path),
                        start=starts[row],
                        end=ends[row],
                        object=objects[row] or name * several,
                        scenario=scenarios[row],
                        labels=values,
                        units={name: unit for name, unit in units.items() if name in values},
                        table_sha256=self.sha256,
                    )
                )
        refuse_same_ids(clips)
        return Table(clips, self._summary(clips, labels, units))

    def _roles(self) -> dict[str, str]:
        """Return the column of each role that has one."""
        found: dict[str, str] = {}
        for name in self.names:
            if (role := time_without_seconds(name)) is not None:
                self._refuse(f"column {name!r}: {role} is given in seconds; convert or rename it")
            if (role := role_of(name)) is not None:
                if role in found:
                    self._refuse(
                        f"two columns are the {role} of a clip: {found[role]!r} and {name!r}; "
                        "remove or rename one"
                    )
                found[role] = name
        return found

    def _numbers(self) -> tuple[list[float | None], list[float | None], list[_Label]]:
        """Return the starts, the ends, and the labels that have a column each."""
        starts, ends = map(self._times, ("start", "end"))
        labels = []
        taken = set(self.column_of.values())
        for name in self.names:
            if name not in taken and (label := self._label(name)) is not None:
                labels.append(label)
        return starts, ends, labels

    def _column(self, name: str) -> list[Any]:
        return [row.get(name) for row in self.cells]

    def _read(self, name: str, cells: Sequence[Any]) -> Numbers | NoNumbers:
        numbers = read_numbers(cells, decimal_comma=self.decimal_comma)
        if isinstance(numbers, Numbers) and numbers.decimal == ",":
            self.decimal_comma = True
        return numbers

    def _times(self, role: str) -> list[float | None]:
        """Return the start or end of each row in seconds; None where the table has none."""
        if role not in self.column_of:
            return [None] * len(self.cells)
        name = self.column_of[role]
        cells = self._column(name)
        if not self.rows.is_text:
            for row, cell in enumerate(cells):
                if not isinstance(cell, int | float | None) or isinstance(cell, bool):
                    self._refuse(f"{role} is {cell!r}, not a number of seconds", row)
            return cells
        numbers = self._read(name, cells)
        if isinstance(numbers, NoNumbers):
            if numbers.row is None:
                return [None] * len(cells)
            cell = cells[numbers.row]
            reason = f": {numbers.reason}" if "could be" in numbers.reason else ""
            self._refuse(f"{role} is {cell!r}, not a number of seconds{reason}", numbers.row)
        if not is_seconds(numbers.unit):
            self._refuse(f"{role} is in {numbers.unit}, not in seconds: convert it", 0)
        return [None if math.isnan(value) else value for value in numbers.values]

    def _label(self, name: str) -> _Label | None:
        """Return the label of a column; None for a column that is left out."""
        cells = self._column(name)
        if is_row_number(name, cells):
            self.left_out[name] = "it numbers the rows"
            return None
        for row, cell in enumerate(cells):
            if isinstance(cell, dict | list):
                keys = ", ".join((*ROLES, "labels", "units"))
                self._refuse(f"unknown key {name!r}; the keys are {keys}, and labels", row)
        numbers = self._read(name, cells)
        label, unit = split_unit(name)
        if isinstance(numbers, NoNumbers):
            if numbers.is_fault and numbers.row is not None:
                cell = cells[numbers.row]
                self._refuse(
                    f"label {label!r} is {cell!r}, not a number (empty means unknown)", numbers.row
                )
            place = "" if numbers.row is None else f" ({self._place(numbers.row)})"
            self.left_out[name] = numbers.reason + place
            return None
        if unit and numbers.unit and unit != numbers.unit:
            self.left_out[name] = f"its name says {unit!r}, and its cells {numbers.unit!r}"
            return None
        return _Label(name, label, unit or numbers.unit, numbers.values)

    def _nested_labels(self) -> list[_Label]:
        """Return the labels of rows of JSON that hold them under `labels`."""
        if not self.is_json:
            return []
        values: dict[str, list[Any]] = {}
        for row, entry in enumerate(self.cells):
            labels = entry.get("labels", {})
            if not isinstance(labels, dict):
                self._refuse(f"labels is {labels!r}, not an object of numbers", row)
            for name, value in labels.items():
                if not isinstance(value, int | float | None) or isinstance(value, bool):
                    self._refuse(f"label {name!r} is {value!r}, not a number", row)
                column = values.setdefault(name, [_ABSENT] * len(self.cells))
                column[row] = math.nan if value is None else value
        return [_Label(name, *split_unit(name), cells) for name, cells in values.items()]

    def _units(self, labels: Sequence[_Label]) -> dict[str, str]:
        """Return the unit of each label that has one: its own, and what rows of JSON say."""
        units = {label.name: label.unit for label in labels if label.unit}
        if not self.is_json:
            return units
        names = {label.name for label in labels}
        for row, entry in enumerate(self.cells):
            given = entry.get("units", {})
            if not isinstance(given, dict) or not all(isinstance(u, str) for u in given.values()):
                self._refuse(f"units is {given!r}, not an object of texts", row)
            for name, unit in given.items():
                if name not in names:
                    self._refuse(f"there is a unit of {name!r}, which is no label", row)
                if units.setdefault(name, unit) != unit:
                    self._refuse(f"the unit of {name!r} is {unit!r}, and elsewhere "
                                 f"{units[name]!r}", row)  # fmt: skip
        return {name: unit for name, unit in units.items() if unit}

    def _texts(self, role: str) -> list[str]:
        """Return the id, object or scenario of each row, empty where the table has none."""
        if role not in self.column_of:
            return [""] * len(self.cells)
        texts = []
        for row, cell in enumerate(self._column(self.column_of[role])):
            if is_unknown(cell) and (role != "id" or not str(cell or "").strip()):
                cell = ""
            elif isinstance(cell, float) and cell.is_integer():
                cell = str(int(cell))  # as pandas writes whole numbers of which some are missing
            elif isinstance(cell, int) and not isinstance(cell, bool):
                cell = str(cell)
            if not isinstance(cell, str):
                self._refuse(f"{role} is {cell!r}, not text", row)
            texts.append(cell)
        if role != "id":
            given = ((text, self._place(row)) for row, text in enumerate(texts) if text)
            with self._at_any():
                refuse_alike(role, given)
        return [text.strip() for text in texts] if self.rows.is_text else texts

    def _clip_path(self, row: int) -> str:
        """Return the path of a row as it stands there, or without the blanks around it.

        What exists as written wins; in a table that is not UTF-8 that may be the bytes of a name.
        """
        text = self.cells[row].get(self.column_of.get("path", "path"))
        if text is not None and not isinstance(text, str):
            self._refuse(f"path is {text!r}, not text", row)
        if not text or not text.strip():
            self._refuse("no path", row)
        if not self.rows.is_text:
            return text
        choices = [text, text.strip()]
        if self.rows.encoding == "cp1252":
            choices += [os.fsdecode(choice.encode("cp1252")) for choice in choices]
        if len(set(choices)) == 1:
            return text
        there = (choice for choice in choices if os.path.lexists(self._place_of(choice)))
        chosen = next(there, choices[1])
        if chosen == choices[1] and text != chosen:
            self.stripped.append(row)
        return chosen

    def _place_of(self, text: str) -> Path:
        """Return the path that a row names: an address, or relative to the table."""
        path = path_of(text)
        return path if isinstance(path, Address) else path_of(self.path.parent / text)

    def _summary(
        self, clips: Sequence[Clip], labels: Sequence[_Label], units: dict[str, str]
    ) -> TableSummary:
        role_of_column = {column: role for role, column in self.column_of.items()}
        label_of = {label.column: label for label in labels}
        columns, warnings = [], []
        for number, cells in enumerate(self.rows.unnamed, start=1):
            reason = "it numbers the rows" if is_row_number("", cells) else "it has no name"
            columns.append(Column(name=f"(no name {number})", role=LEFT_OUT, reason=reason))
        for name in dict.fromkeys((*self.names, *label_of)):
            if name in label_of:
                label = label_of[name].name
                columns.append(_label_column(name, label, units.get(label, ""), clips))
                values = [clip.labels.get(label, math.nan) for clip in clips]
                warnings += [found.sentence(label) for found in suspicious_values(values)]
            elif name in self.left_out:
                columns.append(Column(name=name, role=LEFT_OUT, reason=self.left_out[name]))
            else:
                columns.append(Column(name=name, role=role_of_column[name]))
        return TableSummary(
            path=self.path,
            format=self.rows.format,
            encoding=self.rows.encoding,
            delimiter=self.rows.delimiter,
            decimal="," if self.decimal_comma else "",
            clips=len(clips),
            objects=len({clip.object for clip in clips}),
            columns=tuple(columns),
            notes=tuple(self._notes(clips)),
            warnings=tuple(warnings),
        )

    def _notes(self, clips: Sequence[Clip]) -> Iterator[str]:
        alone = sum(not clip.has_object for clip in clips)
        if alone and alone == len(clips):
            yield "every clip is its own object: a column 'object' says which clips show one thing"
        elif alone:
            yield f"{alone} of {len(clips)} clips name no object: each is its own"
        if self.stripped:
            count = len(self.stripped)
            yield (
                f"blanks around {'a path' if count == 1 else f'{count} paths'} are left out, first "
                f"in {self._place(self.stripped[0])}"
            )

    def _place(self, row: int) -> str:
        return f"{self.rows.place} {self.rows.rows[row][0]}"

    def _refuse(self, reason: str, row: int | None = None) -> Never:
        """Raise with the file, the place (the header where no row is given), and the reason."""
        place = f", {self._place(row)}" if row is not None else ", line 1" * bool(self.rows.is_text)
        raise ClipError(f"{self.path}{place}: {reason}")

    @contextmanager
    def _at(self, row: int) -> Iterator[None]:
        """Put file and place before what is wrong with a row."""
        try:
            yield
        except (ClipError, InvalidValueError, TypeError, ValueError, OverflowError) as error:
            prefix = f"{self.path}, {self._place(row)}: "
            if str(error).startswith(prefix):
                raise
            raise ClipError(f"{prefix}{error}") from error

    @contextmanager
    def _at_any(self) -> Iterator[None]:
        """Put the file before what is wrong with several rows."""
        try:
            yield
        except ClipError as error:
            raise ClipError(f"{self.path}: {error}") from error


def _label_column(name: str, label: str, unit: str, clips: Sequence[Clip]) -> Column:
    ranges: dict[str, tuple[float, float]] = {}
    missing = 0
    for clip in clips:
        value = clip.labels.get(label, math.nan)
        if math.isnan(value):
            missing += 1
        else:
            low, high = ranges.get(clip.object, (value, value))
            ranges[clip.object] = min(low, value), max(high, value)
    column = Column(name=name, role=LABEL, label=label, unit=unit, missing=missing)
    if not ranges:
        return column
    return replace(
        column,
        low=min(low for low, _ in ranges.values()),
        high=max(high for _, high in ranges.values()),
        one_per_object=all(
            math.isclose(low, high, rel_tol=TOLERANCE) for low, high in ranges.values()
        ),
    )
