"""`metrics.json` as the short tables that the terminal shows."""

from __future__ import annotations

import json
from typing import Any

import click

from pipeline.terminal import percent, print_table

Table = tuple[list[str], list[list[str]]]

SCORE_NAMES = {
    "accuracy_test": "chosen on validation",
    "accuracy_last_epoch": "last epoch, nothing chosen",
    "accuracy_published_protocol": "published protocol (chosen on test)",
}


def score_rows(metrics: dict[str, Any]) -> Table:
    """Accuracies on test clips, then the baselines: all properties at once, and each."""
    properties = list(metrics["properties"])
    several = len(properties) > 1
    columns = ["accuracy on test clips", *(["all at once"] if several else []), *properties]
    rows = []
    for score, name in SCORE_NAMES.items():
        cells = [percent(metrics[score])] if several else []
        rows.append(
            [name, *cells, *(percent(metrics["properties"][own][score]) for own in properties)]
        )
    for baseline, found in metrics.get("baselines", {}).items():
        cells = [percent(found)] if several else []
        rows.append(
            [
                f"baseline: {baseline}",
                *cells,
                *(percent(found["properties"][own]) for own in properties),
            ]
        )
    return columns, rows


def structure_rows(metrics: dict[str, Any]) -> Table:
    """How the messages say it: each metric beside what chance gives."""
    columns = ["structure of the messages", "mean over seeds", "by chance", "p", "verdict"]
    rows = []
    for name, found in metrics["compositionality"].items():
        if found is None:
            rows.append([name, "-", "-", "-", "needs two properties"])
            continue
        rows.append(
            [
                name,
                f"{found['mean']:.3f} ± {found['std']:.3f}",
                f"{found['null_mean']:.3f}",
                f"{found['p_value']:.3f}",
                str(found["verdict"]),
            ]
        )
    return columns, rows


def show_metrics(metrics: dict[str, Any], as_json: bool) -> None:
    """A run's `metrics.json`, whole as JSON or in brief as a table."""
    if as_json:
        click.echo(json.dumps(metrics))
        return
    print_table(*score_rows(metrics))
    if metrics.get("compositionality"):
        click.echo()
        print_table(*structure_rows(metrics))
