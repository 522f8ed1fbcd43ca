"""The numbers of an experiment: one long list of lines, and the two tables that people read."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pipeline.experiments.recipe import ACCURACY, PaperNumber
from pipeline.metrics import COVERAGE, NOT_TESTED
from pipeline.report import baseline_name, interval_of, p_text
from pipeline.runs import (
    SCORES,
    AccuracyEstimate,
    Estimate,
    Record,
    RunMetrics,
    SeedShare,
    Spread,
)

Table = tuple[list[str], list[list[str]]]

ALL = "all at once"
BASELINES = (
    "ridge", "quantised_ridge", "quantised_labels", "differences", "pixels", "majority",
)  # fmt: skip
"""Baselines of the first table."""
PLAIN = ("compositionality.", "bins.", "agreement.", "worth.compression.")  # no shares
NOTHING = "-"


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One number of one setting.

    `measure` is its path in `metrics.json`, `part` the property that an accuracy is of. `low` and
    `high` are the ends of its 95 % interval, `over` what that is over: objects (and seeds), or
    seeds alone. `chance` is what the measure's null gives. `paper` is the paper's number as the
    paper says it, and `place` its source. What is not known is None, or "".
    """

    setting: str
    run: str
    measure: str
    title: str
    part: str = ""
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    over: str = ""
    seeds: int | None = None
    chance: float | None = None
    p_value: float | None = None
    verdict: str = ""
    paper: str = ""
    place: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a dict of JSON values."""
        return dataclasses.asdict(self)


def result_rows(
    setting: str,
    run: str,
    metrics: RunMetrics,
    *,
    measures: Mapping[str, str],
    paper: Mapping[str, PaperNumber],
) -> list[ResultRow]:
    """Return the rows of a run: accuracies and baselines, then `measures` (path -> title).

    `run` is its folder, `paper` the paper's numbers by path, `recipe.ACCURACY` for the accuracies.
    """
    properties = list(metrics.properties)
    parts = [ALL, *properties] if len(properties) > 1 else properties
    rows = []
    for part in parts:
        number = paper.get(ACCURACY) if part == parts[0] else None
        scores = metrics if part == ALL else metrics.properties[part]
        for score in SCORES:
            rows.append(
                _line(setting, run, score, ACCURACY, getattr(scores, score), number, part=part)
            )
        if scores.accuracy_test is not None:
            kept = _of(metrics.kept_receiver, part)
            rows[-len(SCORES)] = _with_interval(rows[-len(SCORES)], kept)
        for name in BASELINES:
            entry = _of((metrics.baselines or {}).get(name), part)
            path = f"baselines.{name}"
            rows.append(
                _line(
                    setting, run, path, f"baseline: {baseline_name(name)}", entry, None, part=part
                )
            )
    return rows + measured_rows(setting, run, metrics, measures, paper)


def measured_rows(
    setting: str,
    run: str,
    metrics: RunMetrics,
    measures: Mapping[str, str],
    paper: Mapping[str, PaperNumber] = MappingProxyType({}),
) -> list[ResultRow]:
    """Return the rows of `measures` alone (path -> title)."""
    return [
        _line(setting, run, path, title, metrics.at(path), paper.get(path))
        for path, title in measures.items()
    ]


def _of(entry: AccuracyEstimate | None, part: str) -> Estimate | None:
    """Return an accuracy of all properties at once, or of one of them."""
    if entry is None or part == ALL:
        return entry
    return entry.properties.get(part)


def _with_interval(line: ResultRow, kept: Estimate | None) -> ResultRow:
    """Return the row with the interval over objects of the receivers that were kept."""
    if kept is None:
        return line
    low, high, over = interval_of(kept)
    return dataclasses.replace(line, low=low, high=high, over=over)


def _line(
    setting: str,
    run: str,
    measure: str,
    title: str,
    entry: Any,
    number: PaperNumber | None,
    *,
    part: str = "",
) -> ResultRow:
    """Return the row of what `metrics.json` has there: a score, a ratio, a number or nothing."""
    known: dict[str, Any] = {}
    if isinstance(entry, int | float):
        known = {"mean": float(entry)}
    elif isinstance(entry, Record):
        known = _numbers_of(entry)
    return ResultRow(
        setting=setting,
        run=run,
        measure=measure,
        title=title,
        part=part,
        paper=number.text if number else "",
        place=number.source if number else "",
        **known,
    )


def _numbers_of(entry: Record) -> dict[str, Any]:
    """Return the columns that a record of `metrics.json` fills."""
    mean = getattr(entry, "value", getattr(entry, "mean", None))
    if mean is None:
        return {}
    known = {"mean": mean, "std": getattr(entry, "std", None)}
    ends = getattr(entry, "interval", None)
    if isinstance(entry, Spread):
        known["seeds"] = len(entry.per_seed)
        low, high, over = interval_of(entry)
        known |= {"low": low, "high": high, "over": over} if over else {}
    elif ends and None not in ends:
        over = "seeds" if isinstance(entry, SeedShare) else "objects"
        known |= {"low": ends[0], "high": ends[1], "over": over}
    known |= {
        "chance": getattr(entry, "null_mean", None),
        "p_value": getattr(entry, "p_value", None),
    }
    return known | {"verdict": getattr(entry, "verdict", None) or ""}


def as_csv(lines: Sequence[ResultRow]) -> str:
    """Return every row as CSV, with a header; what is not known is an empty cell."""
    text = io.StringIO()
    names = [field.name for field in dataclasses.fields(ResultRow)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(line.to_json() for line in lines)
    return text.getvalue()


# What people read


def paper_sources(lines: Iterable[ResultRow]) -> list[str]:
    """Return the sources of the paper's numbers, in the order of their footnotes."""
    return list(dict.fromkeys(line.place for line in lines if line.place))


def accuracy_table(lines: Sequence[ResultRow]) -> Table:
    """Return a row for each setting and property: honest, published protocol, baselines, paper.

    Of the baselines without a network, those that no run has are left out.
    """
    parts = sorted({line.part for line in lines if line.part})
    what = f"accuracy of {parts[0]}, %" if len(parts) == 1 else "accuracy, %"
    known = {line.measure for line in lines if line.mean is not None}
    baselines = {
        f"baselines.{name}": baseline_name(name)
        for name in BASELINES
        if name in ("ridge", "majority") or f"baselines.{name}" in known
    }
    columns = [
        what, "chosen on validation [95 %]", "last epoch", "published protocol",
        *baselines.values(), "paper",
    ]  # fmt: skip
    notes = paper_sources(lines)
    rows: dict[tuple[str, str, str], dict[str, ResultRow]] = {}
    for line in lines:
        if line.part:
            rows.setdefault((line.run, line.setting, line.part), {})[line.measure] = line
    table, before = [], ""
    for (run, setting, part), by_measure in rows.items():
        test, last, protocol = (by_measure[score] for score in SCORES)
        table.append(
            [
                f"  {part}" if run == before else setting,
                value_text(test),
                _spread(last),
                _spread(protocol),
                *(_number(by_measure[path].mean, 1) for path in baselines),
                _paper(test, notes),
            ]
        )
        before = run
    return columns, table


def measure_tables(lines: Sequence[ResultRow]) -> list[Table]:
    """Return shares (outcomes, retained accuracy), then structure: a row for each measure.

    A table that would have no rows is left out, and so are columns that nothing fills.
    """
    notes = paper_sources(lines)
    others = [line for line in lines if not line.part]
    parts = (
        ("next to the accuracy, %", [line for line in others if not _plain(line)]),
        ("structure of the messages", [line for line in others if _plain(line)]),
    )
    return [_measures(title, others, notes) for title, others in parts if others]


def measure_notes(lines: Sequence[ResultRow]) -> list[str]:
    """Return sentences below the tables of measures: what intervals hold, what is not tested."""
    structure = [line for line in lines if line.measure.startswith("compositionality.")]
    notes = [COVERAGE] if any(line.over == "objects" for line in structure) else []
    if any(line.verdict == NOT_TESTED for line in structure):
        notes.append(
            "Not tested: there are no null seeds, so nothing is claimed of the structure. "
            "`--null 39` trains 39 with each run (`null = 39` under [train] in a recipe)."
        )
    return notes


def _measures(title: str, lines: Sequence[ResultRow], notes: Sequence[str]) -> Table:
    columns = [title, "here [95 %]", "chance", "p", "verdict", "paper"]
    rows = [
        [
            f"  {line.title}",
            value_text(line),
            NOTHING if line.chance is None else f"{line.chance:.2f}",
            NOTHING if line.p_value is None else p_text(line.p_value).removeprefix("p = "),
            line.verdict or NOTHING,
            _paper(line, notes),
        ]
        for line in lines
    ]
    filled = [0, *(i for i in range(1, 6) if any(row[i] != NOTHING for row in rows))]
    table, before = [], ""
    for line, row in zip(lines, rows, strict=True):
        if line.run != before:
            table.append([line.setting, *[""] * (len(filled) - 1)])
        table.append([row[i] for i in filled])
        before = line.run
    return [columns[i] for i in filled], table


def _plain(line: ResultRow) -> bool:
    """Return whether its number is no percentage."""
    return line.measure.startswith(PLAIN)


def _number(value: float | None, digits: int, *, share: bool = True) -> str:
    """Return a number as a cell: a share in percent, a dash for nothing.

    >>> _number(0.5249, 1), _number(None, 1), _number(0.924, 2, share=False)
    ('52.5', '-', '0.92')
    """
    if value is None or math.isnan(value):
        return NOTHING
    return f"{100 * value if share else value:.{digits}f}"


def value_text(line: ResultRow) -> str:
    """Return a number with its standard deviation over seeds and its interval."""
    return f"{_spread(line)} {_interval(line)}".strip()


def _spread(line: ResultRow) -> str:
    share = not _plain(line)
    digits = 1 if share else 2
    text = _number(line.mean, digits, share=share)
    if line.std is None or (line.seeds or 0) < 2 or text == NOTHING:
        return text
    return f"{text} ± {_number(line.std, digits, share=share)}"


def _interval(line: ResultRow) -> str:
    if line.low is None or line.high is None:
        return ""
    share = not _plain(line)
    low, high = (_number(end, 0 if share else 2, share=share) for end in (line.low, line.high))
    return f"[{low}, {high}]"


def _paper(line: ResultRow, notes: Sequence[str]) -> str:
    return f"{line.paper} ({notes.index(line.place) + 1})" if line.paper else NOTHING
