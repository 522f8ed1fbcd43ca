"""One page for an experiment: its tables next to the paper's numbers, and links to its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from data.wording import counted
from pipeline.console import format_duration
from pipeline.experiments.claims import ClaimResult
from pipeline.experiments.figures import accuracy_panels, measure_panels
from pipeline.experiments.recipe import Recipe
from pipeline.experiments.tables import (
    ResultRow,
    accuracy_table,
    measure_notes,
    measure_tables,
    paper_sources,
)
from pipeline.report import FOLDER, template


def render(
    recipe: Recipe,
    rows: Sequence[ResultRow],
    about: Mapping[str, Any],
    seconds: Mapping[str, float],
    claims: Sequence[ClaimResult] = (),
    scene: Sequence[tuple[str, str]] = (),
) -> str:
    """Return the page as text; it loads nothing from anywhere.

    Args:
        recipe: What was run.
        rows: Its numbers.
        about: What it was run with.
        seconds: How long each stage took.
        claims: What was measured beside the runs.
        scene: Ids of clips, and pictures of them as data URIs.
    """
    return template("experiment.html").render(
        recipe=recipe,
        style=Markup((FOLDER / "report.css").read_text()),
        scene=scene,
        panels=accuracy_panels(rows),
        measure_panels=measure_panels(rows),
        accuracies=accuracy_table(rows),
        measures=measure_tables(rows),
        notes=measure_notes(rows),
        paper_sources=paper_sources(rows),
        claims=claims,
        runs=dict.fromkeys((row.setting, row.run) for row in rows),
        facts=_facts(recipe, about),
        stages=[(name, format_duration(stage)) for name, stage in seconds.items()],
        together=format_duration(sum(seconds.values())),
    )


def _facts(recipe: Recipe, about: Mapping[str, Any]) -> list[tuple[str, str]]:
    clips = recipe.clips
    rows = []
    if about.get("features"):
        given = [f"{name} = {file}" for name, file in about["features"].items()]
        rows.append(("features", f"given: {'; '.join(given)}"))
    elif clips is not None:
        count = clips.grid**2 * clips.per_cell
        rows += [
            (
                "clips",
                f"{count} of the scene {clips.scene}: {clips.grid} x {clips.grid} cells, "
                f"{counted(clips.per_cell, 'clip')} each, {clips.seconds:g} s",
            ),
            ("features", "; ".join(f"{name}: {view}" for name, view in about["views"].items())),
        ]
    seeds = sorted({str(run.get("seeds", 10)) for run in about["runs"].values()})
    rows += [
        ("seeds", " or ".join(seeds)),
        ("device", f"{about['device']}, {about['cores']} cores"),
        ("versions", ", ".join(f"{name} {one}" for name, one in about["versions"].items())),
    ]
    return rows
