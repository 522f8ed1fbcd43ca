"""`metrics.json` and `history.csv` as the report shows them: rows, places on axes, and words.

Reads whatever is there: a run that was only trained has accuracies, `evaluate` adds the rest, and
what is missing is named together with the command that adds it.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from data.errors import HeliographError
from pipeline.message import words_for
from pipeline.metrics import METRICS
from pipeline.report.charts import Axis, Curves, curves
from pipeline.runs import HistoryRow, Run

Entry = Mapping[str, Any]  # {"mean", "std", "per_seed"}, perhaps "interval" and "properties"

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
class MessageContext:
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
        "bits": metrics.get("worth", {}).get("compression"),
        "agreement": metrics.get("agreement", {}).get("seeds"),
        "evaluated": "baselines" in metrics,
        "notes": metrics.get("notes", []),
        "chosen_seed": metrics.get("chosen_seed"),
        "skipped": sum(metrics.get("skipped_batches", [])),
    }


def headline(metrics: Entry) -> dict[str, Any]:
    """The honest accuracy of a run, chance, and the best baseline.

    `accuracy` is None where no pair of test clips could be asked; `imported` is the file of a
    checkpoint that was not trained here.
    """
    chosen = metrics["accuracy_test"] is not None
    entry = metrics["accuracy_test" if chosen else "accuracy_last_epoch"]
    baselines = {k: v for k, v in metrics.get("baselines", {}).items() if v is not None}
    majority = baselines.pop("majority", None)
    known = [name for name in baselines if _known(baselines[name])]
    best = max(known, key=lambda name: baselines[name]["mean"], default=None)
    whose = metrics.get("agents") if chosen and "interval" in metrics.get("agents", {}) else entry
    low, high, over = interval_of(whose or entry) if _known(entry) else (0.0, 0.0, "")
    return {
        "accuracy": entry["mean"],
        "low": low,
        "high": high,
        "over": over,
        "imported": metrics.get("imported_from"),
        "seeds": len(entry["per_seed"]),
        "chosen": chosen,
        "chance": majority and majority["mean"],
        "best": best and baseline_name(best),
        "best_accuracy": best and baselines[best]["mean"],
    }


def panels(metrics: Entry) -> list[MessageContext]:
    """All at once first where there are several properties, then each."""
    properties = list(metrics["properties"])
    several = len(properties) > 1
    found = [_panel(metrics, None, "all properties at once")] if several else []
    return found + [_panel(metrics, name, words_for(name).name) for name in properties]


def _panel(metrics: Entry, name: str | None, title: str) -> MessageContext:
    own = metrics if name is None else metrics["properties"][name]

    def part(entry: Entry | None) -> Entry | None:
        return entry if name is None or entry is None else entry["properties"].get(name)

    imported = "imported_from" in metrics
    last, nothing = ("imported checkpoint", "") if imported else ("last epoch", "nothing chosen")
    protocol = "30 draws of 32 pairs" if imported else "chosen on the test clips themselves"
    candidates: list[tuple[str, str, str, Entry | None]] = [
        ("checkpoint chosen on validation", "own", "", own["accuracy_test"]),
        (last, "own", nothing, own["accuracy_last_epoch"]),
        ("published protocol", "control", protocol, own["accuracy_published_protocol"]),
    ]
    if "agents" in metrics:
        candidates.append(("the kept receiver alone", "own", "", part(metrics["agents"])))
    if "listeners" in metrics:
        newcomers = part(metrics["listeners"]["accuracy"])
        candidates.append(("receivers that never met the agents", "heard", "", newcomers))
    candidates += [
        (f"control: {key.replace('_', ' ')}", "control", "", part(entry))
        for key, entry in (metrics.get("controls") or {}).items()
    ]
    if name is None or len(metrics["properties"]) == 1:
        shuffled = metrics.get("shuffled_labels")
        candidates.append(("trained on shuffled labels", "control", "", shuffled))
    if "control" in metrics:
        beside = metrics["control"]
        whole = beside if name is None else beside["properties"][name]
        entry = whole["accuracy_test"] or whole["accuracy_last_epoch"]
        label = f"holistic control {beside['heads']}x{beside['vocab']}"
        candidates.append((label, "control", "", entry))
    baselines = metrics.get("baselines", {})
    candidates += [
        (baseline_name(key), "baseline", "", part(entry)) for key, entry in baselines.items()
    ]
    rows = tuple(_row(*one[:3], one[3]) for one in candidates if one[3] and _known(one[3]))
    majority = part(baselines.get("majority"))
    chance = round(100 * majority["mean"], 2) if majority and _known(majority) else None
    return MessageContext(title, rows, chance)


def baseline_name(key: str) -> str:
    """What a baseline is, in words.

    >>> baseline_name("ridge_agent_0"), baseline_name("random_weights")
    ("ridge, agent 1's time window alone", 'random weights')
    """
    if key.startswith("ridge_agent_"):
        return f"ridge, agent {int(key.removeprefix('ridge_agent_')) + 1}'s time window alone"
    return BASELINES.get(key, key.replace("_", " "))


def _known(entry: Entry) -> bool:
    return isinstance(entry.get("mean"), float | int) and not math.isnan(entry["mean"])


def _row(label: str, kind: str, note: str, entry: Entry) -> Row:
    low, high, over = interval_of(entry)
    axis = Axis(0.0, 1.0)
    values = [one for one in entry["per_seed"] if one is not None]
    return Row(
        label=label,
        kind=kind,
        note=note,
        mean=entry["mean"],
        std=entry["std"],
        seeds=tuple(axis.at(one) for one in values) if 1 < len(values) <= MAX_DOTS else (),
        low=axis.at(low),
        high=axis.at(high),
        over=over,
    )


def interval_of(entry: Entry) -> tuple[float, float, str]:
    """The 95 % interval of an entry, and what it is over.

    The entry's own, over objects and seeds drawn again; else Student's t over seeds; else, for one
    seed, none.

    >>> interval_of({"mean": 0.5, "std": 0.1, "per_seed": [0.4, 0.6], "interval": [0.3, 0.7]})
    (0.3, 0.7, 'objects')
    >>> interval_of({"mean": 0.5, "std": 0.0, "per_seed": [0.5]})
    (0.5, 0.5, '')
    """
    if entry.get("interval") and None not in entry["interval"]:
        low, high = entry["interval"]
        return low, high, "objects"
    seeds, mean = len(entry["per_seed"]), entry["mean"]
    if seeds < 2:
        return mean, mean, ""
    half = float(stats.t.ppf(0.975, seeds - 1)) * entry["std"] / math.sqrt(seeds)
    return max(0.0, mean - half), min(1.0, mean + half), "seeds"


def structure(metrics: Entry) -> list[dict[str, Any]]:
    """The structural metrics, each on an axis from 0 to 1 with its null."""
    axis = Axis(0.0, 1.0)
    rows = []
    for name, found in metrics.get("compositionality", {}).items():
        row: dict[str, Any] = {
            "name": METRICS[name].title if name in METRICS else name,
            "found": found,
        }
        if found is not None:
            row |= {
                key: axis.at(found[key])
                for key in ("mean", "low", "high", "null_mean", "null_low", "null_high")
                if found.get(key) is not None
            }
            row["seeds"] = [axis.at(one) for one in found["per_seed"][:MAX_DOTS] if one is not None]
        rows.append(row)
    return rows


def causal(metrics: Entry) -> dict[str, Any] | None:
    """The drop of accuracy when a position is dealt anew: positions x properties, with intervals.

    None where `evaluate` has not intervened.
    """
    found = metrics.get("interventions", {}).get("resample")
    if not found or "drop" not in found:
        return None
    largest = max(0.01, float(np.max(found["drop"])))
    p_values = found.get("p_value") or [[None] * len(row) for row in found["drop"]]
    cells = [
        [
            {
                "drop": drop,
                "low": low,
                "high": high,
                "p": p,
                "shade": round(max(0.0, 100 * drop / largest)),
            }
            for drop, (low, high), p in zip(drops, ends, ps, strict=True)
        ]
        for drops, ends, ps in zip(found["drop"], found["interval"], p_values, strict=True)
    ]
    return {
        "positions": [tuple(place) for place in metrics["interventions"]["positions"]],
        "cells": cells,
        "targeted": found.get("targeted"),
    }


def _gains(metrics: Entry) -> list[dict[str, Any]]:
    names = {
        "dynamics": "all time steps over the middle one alone",
        "order": "time steps in order over the same ones shuffled",
    }
    gains = metrics.get("gains", {})
    return [
        {"name": names.get(key, key.replace("_", " ")), "entry": entry}
        for key, entry in gains.items()
        if entry is not None and _known(entry)
    ]


def _noise(metrics: Entry) -> Curves | None:
    found = metrics.get("noise")
    if not found:
        return None
    rows = [
        {"seed": seed, "epoch": 100 * probability, "accuracy": 100 * value}
        for probability, entry in zip(found["probability"], found["accuracy"], strict=True)
        for seed, value in enumerate(entry["per_seed"])
        if value is not None
    ]
    return curves(
        "accuracy with symbols replaced at random, in percent",
        rows,
        "accuracy",
        what="percent of symbols replaced",
    )


def _probes(metrics: Entry) -> list[dict[str, Any]]:
    """What a linear probe reads from the messages, and from the raw features."""
    rows = []
    for name, found in metrics.get("worth", {}).get("probes", {}).items():
        probe = found.get("ridge") or {}
        if not probe.get("messages") or not probe.get("features"):
            continue
        words = words_for(name)
        rows.append(
            {
                "name": words.name,
                "unit": words.unit,
                "trained_on": found.get("trained_on", False),
                "messages": probe["messages"].get("accuracy", probe["messages"]),
                "features": probe["features"].get("accuracy", probe["features"]),
                "retained": probe.get("retained"),
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
