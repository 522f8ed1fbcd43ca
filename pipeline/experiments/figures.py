"""The charts of an experiment's page: every number with its interval, and the paper's as a mark."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.experiments.tables import PLAIN, ResultRow
from pipeline.report import Axis, IntervalPanel, IntervalRow

BY_CHANCE = "what permuted properties give"
KINDS = {
    "majority": "majority: always the most frequent answer",
    "ridge": "ridge: regression on the features",
    "paper": "the paper's number",
}
_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%?)")


def accuracy_panels(rows: Sequence[ResultRow]) -> list[IntervalPanel]:
    """Return a panel for all properties at once and for each: a row for each setting."""
    panels = []
    for part in dict.fromkeys(row.part for row in rows if row.part):
        own = [row for row in rows if row.part == part]
        drawn = []
        for run, setting in dict.fromkeys((row.run, row.setting) for row in own):
            of_run = {row.measure: row for row in own if (row.run, row.setting) == (run, setting)}
            score = of_run["accuracy_test"]
            if score.mean is None:
                score = of_run["accuracy_last_epoch"]
            others = {
                "majority": _mean(of_run.get("baselines.majority")),
                "ridge": _mean(of_run.get("baselines.ridge")),
                "paper": paper_value(of_run["accuracy_test"].paper),
            }
            drawn.append((score, others))
        panels.append(_panel(f"accuracy, %: {part}", drawn, 100.0, Axis(0, 100), KINDS))
    return _with_one_key([panel for panel in panels if panel.rows])


def measure_panels(rows: Sequence[ResultRow]) -> list[IntervalPanel]:
    """Return a panel for each measure beside the accuracy: a row for each setting."""
    others = [row for row in rows if not row.part]
    panels = []
    for measure in dict.fromkeys(row.measure for row in others):
        own = [row for row in others if row.measure == measure]
        drawn = [(row, {"chance": row.chance, "paper": paper_value(row.paper)}) for row in own]
        scale = 1.0 if measure.startswith(PLAIN) else 100.0
        known = [
            scale * value
            for row, marks in drawn
            for value in (row.mean, row.low, row.high, *marks.values())
            if value is not None and math.isfinite(value)
        ]
        if known:
            axis = Axis(0, scale) if min(known) >= 0 and max(known) <= scale else Axis.of(known)
            kinds = KINDS | {"chance": BY_CHANCE}
            panels.append(_panel(own[0].title, drawn, scale, axis, kinds))
    return _with_one_key([panel for panel in panels if panel.rows])


def _with_one_key(panels: Sequence[IntervalPanel]) -> list[IntervalPanel]:
    """Return panels of which the last one says what the marks of all of them are."""
    kinds = dict(kind for panel in panels for kind in panel.kinds)
    return [
        replace(panel, kinds=tuple(kinds.items()) if panel is panels[-1] else ())
        for panel in panels
    ]


def _panel(
    title: str,
    drawn: Sequence[tuple[ResultRow, dict[str, float | None]]],
    scale: float,
    axis: Axis,
    words: Mapping[str, str],
) -> IntervalPanel:
    digits = 1 if scale > 1 else 2
    lines, seen = [], set()
    for row, marks in drawn:
        if row.mean is None or not math.isfinite(row.mean):
            continue
        low, high = (row.mean if end is None else end for end in (row.low, row.high))
        known = [(kind, value) for kind, value in marks.items() if value is not None]
        seen |= {kind for kind, _ in known}
        lines.append(
            IntervalRow(
                label=row.setting,
                text=f"{scale * row.mean:.{digits}f}"
                + (f" [{scale * low:.{digits}f}, {scale * high:.{digits}f}]" if row.over else ""),
                mean=axis.at(scale * row.mean),
                low=axis.at(scale * low),
                high=axis.at(scale * high),
                over=row.over,
                marks=tuple((kind, axis.at(scale * value)) for kind, value in known),
                link=f"{row.run}/report.html",
            )
        )
    kinds = tuple((kind, meaning) for kind, meaning in words.items() if kind in seen)
    return IntervalPanel(title, axis, tuple(lines), kinds)


def paper_value(text: str) -> float | None:
    """Return the paper's number, a fraction where it is one; None where it says none.

    >>> paper_value("85.6 % ± 5.8"), paper_value("0.762 ± 0.047"), paper_value("")
    (0.856, 0.762, None)
    """
    found = _NUMBER.match(text)
    if found is None:
        return None
    return round(float(found[1]) / (100 if found[2] else 1), 9)


def _mean(row: ResultRow | None) -> float | None:
    return None if row is None else row.mean
