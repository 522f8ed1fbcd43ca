"""Commands about what a run found: evaluate."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.options import PATH, as_json
from pipeline.tables import show_metrics
from pipeline.terminal import log


@click.command()
@click.argument("run", type=PATH)
@click.option("--permutations", default=1000, type=click.IntRange(10), help="Of each null.")
@as_json
def evaluate(run: Path, permutations: int, as_json: bool) -> None:
    """Score a RUN against baselines on its splits, and its messages against chance."""
    from pipeline.evaluate import evaluate as stage

    show_metrics(stage(run, permutations=permutations, progress=log), as_json)
