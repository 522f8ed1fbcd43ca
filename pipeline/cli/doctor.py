"""The `doctor` command: what usually goes wrong on a machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline.cli.options import HelpGroup, examples, hub_dir
from pipeline.console import echo_folded

HELP_ORDER = 150
HELP_GROUP = HelpGroup.START


@click.command(epilog=examples("heliograph doctor", "heliograph doctor --offline"))
@hub_dir
@click.option("--offline", is_flag=True, help="Make no network requests.")
def doctor(hub_dir: Path | None, offline: bool) -> None:
    """Check what usually goes wrong on a machine.

    Packages, weights, decoders and devices. A `note` is on something that some commands need and
    this machine lacks, such as weights without a network to fetch them. Exits 1 only where
    something is broken.
    """
    from pipeline.doctor import BROKEN, NOTE, OK, examine

    colours = {OK: "green", NOTE: "yellow", BROKEN: "red"}
    broken = False
    for check in examine(hub_dir=hub_dir, network=not offline):
        broken |= check.level == BROKEN
        line = f"{check.level:6}  {check.name}: {check.sentence}"
        echo_folded(line, indent=8, colour=colours[check.level])
    sys.exit(1 if broken else 0)
