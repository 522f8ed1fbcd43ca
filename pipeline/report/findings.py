"""`metrics.json` and `history.csv` as the report shows them: rows, places on axes, and words.

Reads whatever is there: a run that was only trained has accuracies, `evaluate` adds the rest, and
what is missing is named together with the command that adds it.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from scipy import stats

from data.errors import HeliographError
from pipeline.message import wording_for
from pipeline.metrics import METRICS
from pipeline.report.charts import Axis, Curves, curves
from pipeline.runs import AccuracyEstimate, HistoryRow, Run, RunMetrics, Spread

BASELINES = {
    "majority": "always the likelier answer",
    "volume": "the object's volume alone",
    "scenario": "the scenario alone",
    "condition": "the recording's condition alone",
    "ridge": "ridge regression on the raw features",
    "ridge_static": "ridge, middle time step alone",
    "ridge_shuffled_steps": "ridge, time steps shuffled",
}
HISTORY = [field.name for field in dataclasses.fields(HistoryRow)]
MAX_DOTS = 100  # seeds drawn one by one; of more, only mean and interval


@dataclass(frozen=True, kw_only=True)
class Row:
    """One score on an axis of percent; places are percent of the axis."""

    label: str
    kind: str  # "own", "heard", "control" or "baseline"
    note: str
    mean: float
    std: float
    seeds: tuple[float, ...]
    low: float
    high: float
    over: str  # what the interval is over: "objects", "seeds", or "" where there is none


@dataclass(frozen=True)
class Panel:
    """The rows of one question: all properties at once, or one of them."""

    title: str
    rows: tuple[Row, ...]
    chance: float | None


def findings(run: Run) -> dict[str, Any]:
    """Everything that the page says of scores."""
    metrics = run.metrics()
    return {
        "headline": headline(metrics),
        "panels": panels(metrics),
        "structure": structure(metrics),
        "causal": causal(metrics),
        "gains": _gains(metrics),
        "noise": _noise(metrics),
        "probes": _probes(metrics),
        "bits": metrics.compression,
        "agreement": metrics.agreement and metrics.agreement.seeds,
        "evaluated": metrics.baselines is not None,
        "notes": metrics.notes,
        "chosen_seed": metrics.chosen_seed,
        "skipped": sum(metrics.skipped_batches or []),
    }


def headline(metrics: RunMetrics) -> dict[str, Any]:
    """The honest accuracy of a run, chance, and the best baseline.

    `accuracy` is None where no pair of test clips could be asked; `imported` is the file of a
    checkpoint that was not trained here.
    """
    chosen = metrics.accuracy_test is not None
    entry: Spread = metrics.accuracy_test or metrics.accuracy_last_epoch
    baselines = dict(metrics.baselines or {})
    majority = baselines.pop("majority", None)
    known = {
        name: baseline.mean
        for name, baseline in baselines.items()
        if baseline is not None and baseline.mean is not None
    }
    best = max(known, key=lambda name: known[name], default=None)
    whose = metrics.kept_receiver if chosen and metrics.kept_receiver is not None else entry
    low, high, over = interval_of(whose) if entry.mean is not None else (0.0, 0.0, "")
    return {
        "accuracy": entry.mean,
        "low": low,
        "high": high,
        "over": over,
        "imported": metrics.imported_from,
        "seeds": len(entry.per_seed),
        "chosen": chosen,
        "chance": majority and majority.mean,
        "best": best and baseline_name(best),
        "best_accuracy": best and known[best],
    }


def panels(metrics: RunMetrics) -> list[Panel]:
    """All at once first where there are several properties, then each."""
    properties = list(metrics.properties)
    several = len(properties) > 1
    found = [_panel(metrics, None, "all properties at once")] if several else []
    return found + [_panel(metrics, name, wording_for(name).name) for name in properties]


def _panel(metrics: RunMetrics, name: str | None, title: str) -> Panel:
    own = metrics if name is None else metrics.properties[name]

    def part(entry: AccuracyEstimate | None) -> Spread | None:
        return entry if name is None or entry is None else entry.properties.get(name)

    imported = metrics.imported_from is not None
    last, nothing = ("imported checkpoint", "") if imported else ("last epoch", "nothing chosen")
    protocol = "30 draws of 32 pairs" if imported else "chosen on the test clips themselves"
    candidates: list[tuple[str, str, str, Spread | None]] = [
        ("checkpoint chosen on validation", "own", "", own.accuracy_test),
        (last, "own", nothing, own.accuracy_last_epoch),
        ("published protocol", "control", protocol, own.accuracy_published_protocol),
        ("the kept receiver alone", "own", "", part(metrics.kept_receiver)),
    ]
    if metrics.fresh_receivers is not None:
        newcomers = part(metrics.fresh_receivers.accuracy)
        candidates.append(("receivers that never met the agents", "heard", "", newcomers))
    candidates += [
        (f"control: {key.replace('_', ' ')}", "control", "", part(entry))
        for key, entry in (metrics.controls or {}).items()
    ]
    if name is None or len(metrics.properties) == 1:
        candidates.append(("trained on shuffled labels", "control", "", metrics.shuffled_labels))
    if metrics.control is not None:
        control = metrics.control
        whole = control if name is None else control.properties[name]
        entry = whole.accuracy_test or whole.accuracy_last_epoch
        label = f"holistic control {control.heads}x{control.vocab}"
        candidates.append((label, "control", "", entry))
    baselines = metrics.baselines or {}
    candidates += [
        (baseline_name(key), "baseline", "", part(entry)) for key, entry in baselines.items()
    ]
    rows = tuple(
        _row(label, kind, note, entry)
        for label, kind, note, entry in candidates
        if entry is not None and entry.mean is not None
    )
    majority = part(baselines.get("majority"))
    chance = None if majority is None or majority.mean is None else round(100 * majority.mean, 2)
    return Panel(title, rows, chance)


def baseline_name(key: str) -> str:
    """What a baseline is, in words.

    >>> baseline_name("ridge_agent_0"), baseline_name("random_weights")
    ("ridge, agent 1's time window alone", 'random weights')
    """
    if key.startswith("ridge_agent_"):
        return f"ridge, agent {int(key.removeprefix('ridge_agent_')) + 1}'s time window alone"
    return BASELINES.get(key, key.replace("_", " "))


def _row(label: str, kind: str, note: str, entry: Spread) -> Row:
    low, high, over = interval_of(entry)
    axis = Axis(0.0, 1.0)
    values = [value for value in entry.per_seed if value is not None]
    assert entry.mean is not None
    return Row(
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


def interval_of(entry: Spread) -> tuple[float, float, str]:
    """The 95 % interval of an entry whose mean is known, and what it is over.

    The entry's own, over objects and seeds drawn again; else Student's t over seeds; else, for one
    seed, none.

    >>> interval_of(Spread(mean=0.5, std=0.0, per_seed=[0.5]))
    (0.5, 0.5, '')
    """
    ends = [end for end in getattr(entry, "interval", ()) if end is not None]
    if len(ends) == 2:
        return ends[0], ends[1], "objects"
    seeds, mean = len(entry.per_seed), entry.mean
    assert mean is not None
    if seeds < 2:
        return mean, mean, ""
    half = float(stats.t.ppf(0.975, seeds - 1)) * (entry.std or 0.0) / math.sqrt(seeds)
    return max(0.0, mean - half), min(1.0, mean + half), "seeds"


def structure(metrics: RunMetrics) -> list[dict[str, Any]]:
    """The structural metrics, each on an axis from 0 to 1 with its null."""
    axis = Axis(0.0, 1.0)
    rows = []
    for name, entry in (metrics.compositionality or {}).items():
        title = METRICS[name].title if name in METRICS else name
        row: dict[str, Any] = {"name": title, "found": entry}
        if entry is not None:
            low, high = entry.interval
            values = {
                "mean": entry.mean,
                "low": low,
                "high": high,
                "null_mean": entry.null_mean,
                "null_low": entry.null_low,
                "null_high": entry.null_high,
            }
            row |= {key: axis.at(value) for key, value in values.items() if value is not None}
            row["seeds"] = [axis.at(one) for one in entry.per_seed[:MAX_DOTS] if one is not None]
        rows.append(row)
    return rows


def causal(metrics: RunMetrics) -> dict[str, Any] | None:
    """The drop of accuracy when a position is permuted: positions x properties, with intervals.

    None where `evaluate` has not intervened.
    """
    if metrics.interventions is None:
        return None
    found = metrics.interventions.resample
    largest = max(0.01, *(drop or 0.0 for row in found.drop for drop in row))
    p_values = found.p_value or [[None] * len(row) for row in found.drop]
    cells = [
        [
            {
                "drop": drop,
                "low": low,
                "high": high,
                "p": p,
                "shade": round(max(0.0, 100 * (drop or 0.0) / largest)),
            }
            for drop, (low, high), p in zip(drops, ends, ps, strict=True)
        ]
        for drops, ends, ps in zip(found.drop, found.interval, p_values, strict=True)
    ]
    return {
        "positions": metrics.interventions.positions,
        "cells": cells,
        "selectivity": found.selectivity,
    }


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


def _noise(metrics: RunMetrics) -> Curves | None:
    if metrics.noise is None:
        return None
    rows = [
        {"seed": seed, "epoch": 100 * (probability or 0.0), "accuracy": 100 * value}
        for probability, entry in zip(
            metrics.noise.probability, metrics.noise.accuracy, strict=True
        )
        for seed, value in enumerate(entry.per_seed)
        if value is not None
    ]
    return curves(
        "accuracy with symbols replaced at random, in percent",
        rows,
        "accuracy",
        what="percent of symbols replaced",
    )


def _probes(metrics: RunMetrics) -> list[dict[str, Any]]:
    """What a linear probe reads from the messages, and from the raw features."""
    rows = []
    for name, probes in (metrics.probes or {}).items():
        words = wording_for(name)
        rows.append(
            {
                "name": words.name,
                "unit": words.unit,
                "trained_on": probes.trained_on,
                "messages": probes.ridge.messages,
                "features": probes.ridge.features,
                "retained": probes.ridge.retained,
            }
        )
    return rows


def history_curves(run: Run) -> list[Curves]:
    """Accuracy on test clips and on validation clips, and loss, over the epochs of every seed."""
    path = run.folder / "history.csv"
    if not path.exists():
        return []
    try:
        with open(path, newline="") as file:
            rows = [
                {name: float(row[name] or "nan") for name in HISTORY}
                for row in csv.DictReader(file)
            ]
    except (ValueError, KeyError) as error:
        raise HeliographError(f"{path} is damaged: {error}") from error
    for row in rows:
        for name in row:
            if name.startswith("accuracy"):
                row[name] *= 100
    every = [
        curves("accuracy on test clips, in percent", rows, "accuracy_test"),
        curves("accuracy on validation clips, in percent", rows, "accuracy_validation"),
        curves("loss, in nats", rows, "loss"),
    ]
    return [one for one in every if one is not None]
