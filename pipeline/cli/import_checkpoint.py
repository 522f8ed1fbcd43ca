"""The `import-checkpoint` command: a run folder from a published checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import INPUT, PATH, HelpGroup, as_json, examples, show_run
from pipeline.console import log

HELP_ORDER = 160
HELP_GROUP = HelpGroup.PAPER


@click.command(
    "import-checkpoint",
    epilog=examples(
        "heliograph import-checkpoint phase54b.pt -o run --cache ramp.h5",
        "heliograph import-checkpoint a.pt -o run --cache a.h5 --property mass",
    ),
)
@click.argument("file", type=INPUT)
@click.option("-o", "--out", type=PATH, required=True, help="Run folder to make.")
@click.option("--cache", type=INPUT, required=True, help="Features of the clips to speak of (.h5).")
@click.option("--property", help="The label that a receiver of one property compares.")
@click.option("--overwrite", is_flag=True, help="Replace a run that is in --out.")
@click.option(
    "--allow-leaks",
    is_flag=True,
    help="Accept clips of equal content with different objects; the run is marked.",
)
@as_json
def import_checkpoint(
    file: Path,
    out: Path,
    cache: Path,
    property: str | None,
    overwrite: bool,
    allow_leaks: bool,
    as_json: bool,
) -> None:
    """Make a run folder from a published checkpoint.

    FILE is a .pt of the paper; `message`, `evaluate` and `report` take the run.
    """
    from pipeline.runs import import_checkpoint as stage

    run = stage(
        file,
        out,
        cache_path=cache,
        property=property,
        overwrite=overwrite,
        allow_leaks=allow_leaks,
        log=log,
    )
    show_run(run.metrics(), as_json)
