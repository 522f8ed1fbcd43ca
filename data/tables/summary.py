"""What was understood of a table: its file, and each column with its role or why it is left out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LEFT_OUT = "left out"
LABEL = "label"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    `role` is one of `names.ROLES`, "label", or "left out", which has a `reason`. A label has its
    name, unit, range (None where no value is known), the clips that lack it, and whether all clips
    of an object have one value of it.
    """

    name: str
    role: str
    reason: str = ""
    label: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    missing: int = 0
    one_per_object: bool = False

    @property
    def text(self) -> str:
        """What the column is, in words."""
        if self.role == LEFT_OUT:
            return f"left out: {self.reason}"
        if self.role != LABEL:
            return self.role
        parts = ["label" if self.label == self.name else f"label {self.label}"]
        if self.low is None or self.high is None:
            parts.append("no value known")
        else:
            low, high = f"{self.low:g}", f"{self.high:g}"
            values = low if low == high else f"{low} to {high}"
            parts.append(f"{values} {self.unit}".rstrip())
            if self.missing:
                parts.append(f"{self.missing} missing")
            parts.append(f"{'one value' if self.one_per_object else 'several values'} per object")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class TableSummary:
    """What was understood of a table.

    `format` is that of the file, with `encoding`, `delimiter` and `decimal` sign where it has such.
    `notes` are sentences about how it was read; `warnings` are about what is probably wrong.
    """

    path: Path
    format: str
    encoding: str = ""
    delimiter: str = ""
    decimal: str = ""
    clips: int
    objects: int
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """File, format, clips and objects, in words."""
        parts = [self.format]
        if self.encoding and self.encoding != "UTF-8":
            parts.append(self.encoding)
        if self.delimiter and self.delimiter != ",":
            parts.append(f"delimiter {self.delimiter!r}")
        if self.decimal == ",":
            parts.append("decimal comma")
        clips = "1 clip" if self.clips == 1 else f"{self.clips} clips"
        objects = "1 object" if self.objects == 1 else f"{self.objects} objects"
        return f"{self.path}: {', '.join(parts)}; {clips} of {objects}"

    @property
    def line(self) -> str:
        """All of it in one line: what a command prints before it begins."""
        parts = [self.head]
        near = [
            f"{column.name!r} as {column.role}"
            for column in self.columns
            if column.role not in (LABEL, LEFT_OUT) and column.name != column.role
        ]
        if near:
            parts.append(f"read {', '.join(near)}")
        labels = [column for column in self.columns if column.role == LABEL]
        if labels:
            names = [f"{one.label} [{one.unit}]" if one.unit else one.label for one in labels]
            parts.append(f"labels {', '.join(names)}")
        left_out = [column for column in self.columns if column.role == LEFT_OUT]
        if left_out:
            reasons = [f"{column.name!r} ({column.reason})" for column in left_out]
            parts.append(f"left out {', '.join(reasons)}")
        return "; ".join(parts)

    def lines(self, width: int = 80) -> Iterator[str]:
        """Yield all of it in lines of a width: the head, a line a column, warnings and notes."""
        yield from textwrap.wrap(self.head, width, subsequent_indent="  ", break_on_hyphens=False)
        names = [column.name if column.name == column.name.strip() else repr(column.name)
                 for column in self.columns]  # fmt: skip
        indent = min(max((len(name) for name in names), default=0), width // 3)
        for name, column in zip(names, self.columns, strict=True):
            yield from textwrap.wrap(
                f"{name:{indent}}  {column.text}", width, initial_indent="  ",
                subsequent_indent=" " * (indent + 4), drop_whitespace=True, break_on_hyphens=False,
            )  # fmt: skip
        remarks = [f"warning: {one}" for one in self.warnings]
        remarks += [f"note: {one}" for one in self.notes]
        for remark in remarks:
            yield from textwrap.wrap(remark, width, subsequent_indent="  ", break_on_hyphens=False)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "path": str(self.path)}
