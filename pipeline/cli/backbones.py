"""The `backbones` command: the models that can extract features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import HelpGroup, as_json, examples, hub_dir
from pipeline.console import echo, echo_json, log, print_table

HELP_ORDER = 140
HELP_GROUP = HelpGroup.FEATURES


@click.command(epilog=examples("heliograph backbones", "heliograph backbones --json"))
@hub_dir
@as_json
def backbones(as_json: bool, hub_dir: Path | None) -> None:
    """List the models that can extract features.

    The last column says whether the weights are here. Below the table are the outputs that
    `extract --pool` chooses from, the usual one first. Next to these models, timm:MODEL is any
    image model of timm, with the weights that timm publishes on the Hugging Face hub:
    timm:resnet50, timm:vit_base_patch16_224.dino.
    """
    from backbones import describe

    rows = describe(hub_dir=hub_dir)
    if as_json:
        echo_json(rows)
        return
    cells = [
        [
            str(row["name"]),
            str(row["dim"]),
            str(row["frames_per_step"]),
            f"{int(str(row['parameters'])) / 1e6:,.1f} M",
            f"{int(str(row['size_bytes'])) / 1e6:,.0f} MB",
            str(row["licence"]),
            "here" if row["weights"] else "to fetch" if row["size_bytes"] else "none",
        ]
        for row in rows
        if row["error"] is None
    ]
    heads = ["name", "dim", "frames per step", "parameters", "size", "licence", "weights"]
    print_table(heads, cells)
    for row in rows:
        if row["outputs"]:
            echo(f"{row['name']} --pool: {_outputs(row)}")
    for row in rows:
        for fault in row["faults"] or ():
            echo(f"{row['name']}: {fault}")
        if row["error"] is not None:
            echo(f"{row['name']} is broken: {row['error']}")
    log("any image model of timm is timm:MODEL, such as timm:resnet50")


def _outputs(row: Mapping[str, Any]) -> str:
    """Return the outputs of a backbone, and how many cells there are."""
    cells = f" (N up to {row['places']}), sums" if row["places"] else ""
    return ", ".join(row["outputs"]) + cells
