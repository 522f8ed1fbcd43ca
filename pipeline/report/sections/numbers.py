"""Every number of `metrics.json`, also those that no other section shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.report.sections.section import ReportContext, Section
from pipeline.runs import Record, Spread


def build(context: ReportContext) -> Mapping[str, Any]:
    """Return the variables of the template."""
    return {"rows": list(number_rows(context.metrics))}


def number_rows(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the text of every value; the numbers of single seeds are left out.

    Records in a list are numbered from 1.

    >>> list(number_rows({"a": Spread(mean=0.5, std=0.1, per_seed=[0.4, 0.6]), "b": [1, 2.5]}))
    [('a', '0.5 ± 0.1'), ('b', '1, 2.5')]
    """
    start = f"{path}." if path else ""
    if isinstance(value, Record):
        left_out = {"per_seed"}
        if isinstance(value, Spread):
            yield path, _spread_text(value)
            left_out |= {"mean", "std", "interval"}
        for name in type(value).model_fields:
            if name in value.model_fields_set - left_out:
                yield from number_rows(getattr(value, name), f"{start}{name}")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from number_rows(item, f"{start}{name}")
    elif _holds_records(value):
        for number, item in enumerate(value, 1):
            yield from number_rows(item, f"{start}{number}")
    else:
        yield path, _text(value)


def _holds_records(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, Record) for item in value)


def _spread_text(spread: Spread) -> str:
    text = f"{_text(spread.mean)} ± {_text(spread.std)}"
    interval = getattr(spread, "interval", None)
    return text if interval is None else f"{text} [{_text(interval)}]"


def _text(value: Any) -> str:
    """A value in a line; the parts of nested lists are in brackets."""
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value).lower() if isinstance(value, bool) else value
    if isinstance(value, Sequence):
        parts = (
            f"[{_text(item)}]" if isinstance(item, list | tuple) else _text(item) for item in value
        )
        return ", ".join(parts)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


SECTION = Section(name="numbers", title="All numbers", order=70, build=build)
