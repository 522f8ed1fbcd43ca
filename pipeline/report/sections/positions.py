"""What each position of the messages carries, and whether the receivers use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.metrics import COVERAGE, METRICS, VERDICTS
from pipeline.report.charts import Axis
from pipeline.report.sections.section import ReportContext, Section
from pipeline.runs import RunMetrics

MAX_DOTS = 100  # seeds drawn one by one


def build(context: ReportContext) -> Mapping[str, Any]:
    """Return the variables of the template."""
    positions = context.lexicon.positions if context.lexicon else ()
    metrics = context.metrics
    return {
        "most_information": max((max(one.information) for one in positions), default=0) or 1,
        "causal": causal(metrics),
        "structure": structure(metrics),
        "own_positions": metrics.own_positions,
        "verdicts": VERDICTS,
        "coverage": COVERAGE,
        "agreement": metrics.agreement and metrics.agreement.seeds,
    }


def causal(metrics: RunMetrics) -> dict[str, Any] | None:
    """Return the accuracy drop when a position is permuted, by position and property.

    None where `evaluate` has not intervened.
    """
    if metrics.interventions is None:
        return None
    resample = metrics.interventions.resample
    largest = max(0.01, *(drop or 0.0 for row in resample.drop for drop in row))
    p_values = resample.p_value or [[None] * len(row) for row in resample.drop]
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
        for drops, ends, ps in zip(resample.drop, resample.interval, p_values, strict=True)
    ]
    return {
        "positions": metrics.interventions.positions,
        "cells": cells,
        "selectivity": resample.selectivity,
    }


def structure(metrics: RunMetrics) -> list[dict[str, Any]]:
    """Return the structural metrics, each on an axis from 0 to 1 with its null."""
    axis = Axis(0.0, 1.0)
    rows = []
    for name, entry in (metrics.compositionality or {}).items():
        known = METRICS.get(name)
        title = known.title if known else name
        better = known.better if known else "larger"
        row: dict[str, Any] = {"key": name, "name": title, "better": better, "metric": entry}
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
            row["seeds"] = [
                axis.at(value) for value in entry.per_seed[:MAX_DOTS] if value is not None
            ]
        rows.append(row)
    return rows


SECTION = Section(name="positions", title="What positions carry", order=20, build=build)
