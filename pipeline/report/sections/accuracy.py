"""The accuracies of a run next to chance, controls and baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.message import wording_for
from pipeline.report.charts import Axis
from pipeline.report.sections.section import ReportContext, Section
from pipeline.report.summary import (
    baseline_meaning,
    baseline_name,
    chance_of,
    interval_of,
    missing_baselines,
    transfer_notes,
)
from pipeline.runs import AccuracyEstimate, NullAccuracy, RunMetrics, Spread

MAX_DOTS = 100  # seeds drawn one by one; of more, only mean and interval


@dataclass(frozen=True, kw_only=True)
class AccuracyRow:
    """One accuracy on an axis of percent.

    Attributes:
        label: What it is of.
        kind: "own", "fresh", "control" or "baseline"; the style of the row.
        note: In small print.
        mean: A fraction.
        std: Over seeds.
        seeds: Each seed, in percent of the axis.
        low: Lower end of the interval, in percent of the axis.
        high: Upper end.
        over: What the interval is over: "objects", "seeds", or "" where there is none.
    """

    label: str
    kind: str
    note: str
    mean: float
    std: float
    seeds: tuple[float, ...]
    low: float
    high: float
    over: str


@dataclass(frozen=True)
class AccuracyPanel:
    """The accuracies of one question: of all properties at once, or of one of them."""

    title: str
    rows: tuple[AccuracyRow, ...]
    chance: float | None


def build(context: ReportContext) -> Mapping[str, Any]:
    """Return the variables of the template."""
    metrics = context.metrics
    return {
        "panels": panels(metrics),
        "gains": _gains(metrics),
        "missing": [*missing_baselines(metrics), *transfer_notes(metrics)],
    }


def panels(metrics: RunMetrics) -> list[AccuracyPanel]:
    """Return a panel of all properties at once, where there are several, then one of each."""
    properties = list(metrics.properties)
    several = len(properties) != 1
    title = "all properties at once" if properties else "the clip that is meant"
    together = [_panel(metrics, None, title)] if several else []
    return together + [_panel(metrics, name, wording_for(name).name) for name in properties]


def _panel(metrics: RunMetrics, name: str | None, title: str) -> AccuracyPanel:
    accuracies = metrics if name is None else metrics.properties[name]

    def part(entry: AccuracyEstimate | NullAccuracy | None) -> Spread | None:
        return entry if name is None or entry is None else entry.properties.get(name)

    imported = metrics.imported_from is not None
    last, nothing = ("imported checkpoint", "") if imported else ("last epoch", "nothing chosen")
    protocol = "30 draws of 32 pairs" if imported else "chosen on the test clips themselves"
    candidates: list[tuple[str, str, str, Spread | None]] = [
        ("checkpoint chosen on validation", "own", "", accuracies.accuracy_test),
        (last, "own", nothing, accuracies.accuracy_last_epoch),
        ("published protocol", "control", protocol, accuracies.accuracy_published_protocol),
        ("the kept receiver alone", "own", "", part(metrics.kept_receiver)),
    ]
    if metrics.without_near_duplicates is not None:
        rest = part(metrics.without_near_duplicates.kept_receiver)
        label = "the kept receiver, without test clips that look like training clips"
        candidates.append((label, "own", "", rest))
    if metrics.generalisation is not None:
        trained = part(metrics.generalisation.training)
        candidates.append(("the kept receiver, on training clips", "control", "", trained))
    if metrics.fresh_receivers is not None:
        fresh = part(metrics.fresh_receivers.accuracy)
        candidates.append(("new receivers on frozen messages", "fresh", "", fresh))
    candidates += [
        (f"control: {key.replace('_', ' ')}", "control", "", part(entry))
        for key, entry in (metrics.controls or {}).items()
    ]
    candidates.append(("trained on shuffled labels", "control", "", part(metrics.shuffled_labels)))
    if metrics.control is not None:
        control = metrics.control
        whole = control if name is None else control.properties[name]
        entry = whole.accuracy_test or whole.accuracy_last_epoch
        label = f"holistic control {control.heads}x{control.vocab}"
        candidates.append((label, "control", "", entry))
    baselines = metrics.baselines or {}
    candidates += [
        (f"baseline: {baseline_name(key)}", "baseline", baseline_meaning(key), part(entry))
        for key, entry in baselines.items()
    ]
    rows = tuple(
        _row(label, kind, note, entry)
        for label, kind, note, entry in candidates
        if entry is not None and entry.mean is not None
    )
    chance = chance_of(metrics, name)
    chance = None if chance is None else round(100 * chance, 2)
    return AccuracyPanel(title, rows, chance)


def _row(label: str, kind: str, note: str, entry: Spread) -> AccuracyRow:
    low, high, over = interval_of(entry)
    axis = Axis(0.0, 1.0)
    values = [value for value in entry.per_seed if value is not None]
    assert entry.mean is not None
    return AccuracyRow(
        label=label,
        kind=kind,
        note=note,
        mean=entry.mean,
        std=entry.std or 0.0,
        seeds=tuple(axis.at(value) for value in values) if 1 < len(values) <= MAX_DOTS else (),
        low=axis.at(low),
        high=axis.at(high),
        over=over,
    )


def _gains(metrics: RunMetrics) -> list[dict[str, Any]]:
    names = {
        "dynamics": "all time steps over the middle one alone",
        "order": "time steps in order over the same ones shuffled",
    }
    gains = ((name, getattr(metrics.gains, key, None)) for key, name in names.items())
    return [
        {"name": name, "entry": gain}
        for name, gain in gains
        if gain is not None and gain.mean is not None
    ]


SECTION = Section(
    name="accuracy",
    title="Accuracy",
    heading="Accuracy next to what it must beat",
    order=10,
    build=build,
)
