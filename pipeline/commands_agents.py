"""Commands that make agents: demo, train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.options import PATH, as_json
from pipeline.tables import show_metrics
from pipeline.terminal import Bar, log


@click.command()
@click.option("--out", type=PATH, default=Path("runs/demo"), help="Folder for all it makes.")
@click.option("--per-cell", default=8, type=click.IntRange(1), help="Clips per grid cell.")
@click.option("--seeds", default=5, type=click.IntRange(1), help="Seeds 0 .. N-1.")
@click.option("--epochs", default=None, type=click.IntRange(1), help="Instead of the preset's.")
def demo(out: Path, per_cell: int, seeds: int, epochs: int | None) -> None:
    """Raw video to messages, on clips that it makes itself."""
    from pipeline.demo import run_demo

    run_demo(out, per_cell=per_cell, seeds=seeds, epochs=epochs)


@click.command()
@click.argument("cache", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help="Run folder to make.")
@click.option("--property", "properties", multiple=True, help="Label to talk about; repeatable.")
@click.option("--preset", default="default", help="default, published or stabilised.")
@click.option("--agents", type=click.IntRange(1), help="Senders, each with its time window.")
@click.option("--heads", type=click.IntRange(1), help="Symbols per agent.")
@click.option("--vocab", type=click.IntRange(2), help="Size of the vocabulary.")
@click.option("--seeds", default=10, type=click.IntRange(1), help="Seeds 0 .. N-1.")
@click.option("--epochs", type=click.IntRange(1), help="Instead of the preset's.")
@click.option(
    "--axes", type=click.IntRange(0), help="Principal axes of the features to keep; 0: all."
)
@click.option("--split", help="auto, objects, published, cells or cells-validated.")
@click.option("--shuffle-labels", is_flag=True, default=None, help="A control: nothing to learn.")
@click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
@click.option("--overwrite", is_flag=True, help="Replace a run that stands in --out.")
@as_json
def train(
    cache: Path,
    out: Path,
    properties: tuple[str, ...],
    preset: str,
    seeds: int,
    device: str,
    overwrite: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train agents on a CACHE to tell which of two clips has more of a property.

    Without --property: every label of the cache.
    """
    from pipeline.train import train as stage

    with Bar("training") as bar:
        run = stage(
            cache,
            out,
            properties=properties,
            preset=preset,
            seeds=range(seeds),
            device=device,
            overwrite=overwrite,
            progress=bar.update,
            **settings,
        )
    show_metrics(run.metrics(), as_json)
    log(f"{out}: {run.config.agents} agents, {len(run.seeds)} seeds")
