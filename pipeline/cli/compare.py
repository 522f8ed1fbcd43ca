"""The `compare` command: two runs, seed by seed."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import PATH, HelpGroup, as_json, examples
from pipeline.console import echo_json

HELP_ORDER = 80
HELP_GROUP = HelpGroup.AGENTS


@click.command(
    epilog=examples(
        "heliograph compare runs/ours runs/theirs",
        "heliograph compare runs/ours runs/theirs --json",
    )
)
@click.argument("first", type=PATH, metavar="RUN")
@click.argument("second", type=PATH, metavar="RUN")
@as_json
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Compare accuracies and protocols of two runs, by seed.

    Differences are the second run's minus the first's.
    """
    from pipeline.evaluation import compare as stage
    from pipeline.report import show_comparison

    comparison = stage(first, second)
    if as_json:
        echo_json(comparison)
    else:
        show_comparison(comparison)
