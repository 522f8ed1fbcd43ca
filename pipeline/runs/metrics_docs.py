"""The page `docs/metrics_json.md`, generated from the type of `metrics.json`.

python -m pipeline.runs.metrics_docs > docs/metrics_json.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import AfterValidator

from pipeline.runs.metrics_schema import (
    AboveMedian,
    ControlMetrics,
    Intervention,
    ProbeResult,
    Range,
    Ratio,
    Record,
    RunMetrics,
    SeedMetrics,
    Spread,
    fields_of,
    is_record,
    kind_of,
)

Row = tuple[str, str, str]  # key, value, meaning
REPEATED = (Spread, Ratio, Intervention, ProbeResult, AboveMedian, ControlMetrics)
"""Records that have a table of their own, because several keys hold them."""


def page() -> str:
    """Return `docs/metrics_json.md`."""
    kinds: dict[str, type[Record]] = {}
    keys = list(_rows(RunMetrics, "", kinds))
    lines = [
        "# The keys of `metrics.json`",
        "",
        "Generated from `pipeline/runs/metrics_schema.py` by `python -m "
        "pipeline.runs.metrics_docs`: do not edit.",
        "",
        "Accuracies, differences and rates are fractions of 1; information is in bits where the "
        "key says so. `*` stands for a name that depends on the run (a property, a baseline, a "
        "label, a cache). A key that is absent was not computed; null stands for a number that "
        "could not be computed.",
        "",
        *_table(keys),
        "",
        "## Kinds of values",
    ]
    for name in sorted(kinds):
        summary = (kinds[name].__doc__ or "").splitlines()[0]
        lines += ["", f"### {name}", "", summary, "", *_table(_own_rows(kinds[name], kinds))]
    lines += ["", "## `seeds/<seed>/metrics.json`", "", *_table(_own_rows(SeedMetrics, kinds))]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row]) -> list[str]:
    return [
        "| key | value | meaning |",
        "|---|---|---|",
        *(f"| `{key}` | {value} | {meaning} |" for key, value, meaning in rows),
    ]


def _rows(model: type[Record], start: str, kinds: dict[str, type[Record]]) -> Iterator[Row]:
    """The keys of a record and of the records in it; kinds of numbers are collected."""
    for name, field in fields_of(model).items():
        path, kind = f"{start}{name}", kind_of(field.annotation)
        meaning = field.description or ""
        annotation = field.annotation
        while get_origin(kind) is dict:
            path, annotation = f"{path}.*", get_args(kind)[1]
            kind = kind_of(annotation)
        if is_record(kind) and not issubclass(kind, REPEATED):
            yield path, "", meaning
            yield from _rows(kind, f"{path}.", kinds)
        else:
            yield path, _value(annotation, field.metadata, kinds), meaning


def _own_rows(model: type[Record], kinds: dict[str, type[Record]]) -> list[Row]:
    return [
        (name, _value(field.annotation, field.metadata, kinds), field.description or "")
        for name, field in fields_of(model).items()
    ]


def _value(annotation: Any, metadata: Sequence[Any], kinds: dict[str, type[Record]]) -> str:
    """The values of a key in words: kind, range, and whether it may be null."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _value(inner, more, kinds)
    kind = kind_of(annotation)
    null = " or null" if type(None) in get_args(annotation) else ""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is list:
        return f"list of {_value(parts[0], (), kinds)}{null}"
    if origin is tuple:
        return f"[{', '.join(_value(part, (), kinds) for part in parts)}]{null}"
    if origin is dict:
        return f"object of {_value(parts[1], (), kinds)}{null}"
    if is_record(kind):
        if not issubclass(kind, ControlMetrics):
            _collect(kind, kinds)
        return f"{kind.__name__}{null}"
    names = {float: "number", int: "whole number", str: "text", bool: "true or false"}
    ranges = [m.func for m in metadata if isinstance(m, AfterValidator)]
    within = "".join(f" {own}" for own in ranges if isinstance(own, Range))
    return f"{names[kind]}{within}{null}"


def _collect(kind: type[Record], kinds: dict[str, type[Record]]) -> None:
    """Adds a kind of value and the kinds that are in it."""
    if kind.__name__ not in kinds:
        kinds[kind.__name__] = kind
        _own_rows(kind, kinds)


if __name__ == "__main__":
    print(page(), end="")
