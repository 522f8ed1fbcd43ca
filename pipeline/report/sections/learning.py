"""How the agents learned, and how much their messages hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.message import wording_for
from pipeline.report.charts import Curves, curves
from pipeline.report.sections.section import ReportContext, Section
from pipeline.runs import HistoryRow, RunMetrics


def build(context: ReportContext) -> Mapping[str, Any]:
    """Return the variables of the template."""
    metrics = context.metrics
    return {
        "curves": history_curves(context.run.history()),
        "noise": _noise(metrics),
        "probes": _probes(metrics),
        "bits": metrics.compression,
        "skipped": sum(metrics.skipped_batches or []),
    }


def history_curves(history: Sequence[HistoryRow]) -> list[Curves]:
    """Return accuracy on test and validation clips, and loss, over the epochs of every seed."""
    rows = [
        {
            name: 100 * value if name.startswith("accuracy") else value
            for name, value in dataclasses.asdict(row).items()
        }
        for row in history
    ]
    every = (
        curves("accuracy on test clips, in percent", rows, "accuracy_test"),
        curves("accuracy on validation clips, in percent", rows, "accuracy_validation"),
        curves("loss, in nats", rows, "loss"),
    )
    return [curve for curve in every if curve is not None]


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
        wording = wording_for(name)
        rows.append(
            {
                "name": wording.name,
                "unit": wording.unit,
                "trained_on": probes.trained_on,
                "messages": probes.ridge.messages,
                "features": probes.ridge.features,
                "retained": probes.ridge.retained,
            }
        )
    return rows


SECTION = Section(name="learning", title="Learning", order=40, build=build)
