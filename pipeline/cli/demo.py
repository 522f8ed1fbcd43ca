"""The `demo` command: the whole pipeline on clips that it makes itself."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.numbers import WholeNumber
from pipeline.cli.options import PATH, HelpGroup, examples, share_the_cores

HELP_ORDER = 10
HELP_GROUP = HelpGroup.START


@click.command(
    epilog=examples("heliograph demo", "heliograph demo --out runs/small --per-cell 4 --seeds 1")
)
@click.option("--out", type=PATH, default=Path("runs/demo"), help="Folder for all it makes.")
@click.option("--per-cell", default=8, type=WholeNumber(1), help="Clips per grid cell.")
@click.option("--seeds", default=3, type=WholeNumber(1), help="How many seeds, numbered from 0.")
@click.option("--epochs", default=25, type=WholeNumber(1), help="Epochs of each training.")
@click.option(
    "--no-open", is_flag=True, help="Do not open the page of the run in a browser at the end."
)
def demo(out: Path, per_cell: int, seeds: int, epochs: int, no_open: bool) -> None:
    """Raw video to messages, on clips that it makes itself."""
    share_the_cores()
    from pipeline.experiments import run_demo

    run_demo(out, per_cell=per_cell, seeds=seeds, epochs=epochs, show_page=not no_open)
