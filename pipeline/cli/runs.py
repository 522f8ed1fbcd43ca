"""The `runs` command: what lies in a folder of runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline.cli.options import PATH, SOME_CLIPS_FAILED, HelpGroup, as_json, examples
from pipeline.console import ProgressBar, echo_json, log, print_table, warn

HELP_ORDER = 75
HELP_GROUP = HelpGroup.AGENTS


@click.command(epilog=examples("heliograph runs", "heliograph runs experiments/ --json"))
@click.argument("folder", type=PATH, metavar="[DIR]", default="runs")
@as_json
def runs(folder: Path, as_json: bool) -> None:
    """List the runs and sweeps in DIR with key numbers.

    Of each run its accuracy on held-out clips with a 95 % interval, that of ridge regression on the
    features, and PosDis (Chaabouni et al. 2020) with its verdict; the last two once it was
    evaluated, when the interval is that of the receiver that each seed kept. Exit code 3 where a
    run cannot be read.
    """
    from pipeline.report import list_runs, listing_rows

    with ProgressBar("runs", may_be_quick=True) as bar:
        listed = list_runs(folder, bar.update)
    if as_json:
        echo_json([one.to_json() for one in listed])
    elif listed:
        print_table(*listing_rows(listed))
    else:
        log(f"{folder} holds no runs: `heliograph train CACHE -o RUN` makes one")
    failed = [one for one in listed if one.error]
    for one in failed:
        warn(f"failed: {one.error}")
    sys.exit(SOME_CLIPS_FAILED if failed else 0)
