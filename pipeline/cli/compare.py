"""The `compare` command: two or more runs, seed by seed."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import PATH, HelpGroup, as_json, examples
from pipeline.console import echo_json

HELP_ORDER = 80
HELP_GROUP = HelpGroup.AGENTS

MOST_PLANNED_SEEDS = 1_000_000


@click.command(
    epilog=examples(
        "heliograph compare runs/ours runs/theirs",
        "heliograph compare runs/one runs/two runs/three --planned-seeds 40",
    )
)
@click.argument("runs", nargs=-1, type=PATH, metavar="RUN RUN...")
@click.option(
    "--planned-seeds",
    type=click.IntRange(2, MOST_PLANNED_SEEDS),
    help="Say what difference this many seeds would show, in place of those that the runs have.",
)
@as_json
def compare(runs: tuple[Path, ...], planned_seeds: int | None, as_json: bool) -> None:
    """Compare accuracies and protocols of runs, by seed.

    Differences are the second run's minus the first's. Of more than two runs every two are
    compared, with p-values corrected for their number (Holm). "Shown from" is the smallest true
    difference that the seeds show in four of five trainings.
    """
    if len(runs) < 2:
        raise click.UsageError("it takes two runs at least to compare")
    from pipeline.evaluation import compare as stage
    from pipeline.evaluation import compare_all
    from pipeline.report import show_comparison, show_comparisons

    if len(runs) > 2:
        comparisons = compare_all(runs, planned_seeds=planned_seeds)
        (echo_json if as_json else show_comparisons)(comparisons)
        return
    comparison = stage(*runs, planned_seeds=planned_seeds)
    (echo_json if as_json else show_comparison)(comparison)
