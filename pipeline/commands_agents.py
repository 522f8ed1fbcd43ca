"""Commands about the agents: demo, train, evaluate, message."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from data.errors import HeliographError
from pipeline.options import PATH, SOME_CLIPS_FAILED, as_json, model_options
from pipeline.tables import score_rows, structure_rows
from pipeline.terminal import Bar, log, print_table


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
    _show(run.metrics(), as_json)
    log(f"{out}: {run.config.agents} agents, {len(run.seeds)} seeds")


@click.command()
@click.argument("run", type=PATH)
@click.option("--permutations", default=1000, type=click.IntRange(10), help="Of each null.")
@as_json
def evaluate(run: Path, permutations: int, as_json: bool) -> None:
    """Score a RUN against baselines on its splits, and its messages against chance."""
    from pipeline.evaluate import evaluate as stage

    _show(stage(run, permutations=permutations, progress=log), as_json)


@click.command()
@click.argument("run", type=PATH)
@click.argument("clips", nargs=-1, type=PATH, required=True)
@model_options
@as_json
def message(run: Path, clips: tuple[Path, ...], as_json: bool, **where: Any) -> None:
    """What the agents of a RUN say of CLIPS (videos, folders, manifests, or caches).

    Refuses clips whose features would be made otherwise than those of the run.
    """
    from pipeline import message as stage

    speaker = stage.load(run, **where)
    failed = False
    for said in stage.speak_all(speaker, clips):
        if isinstance(said, HeliographError):
            failed = True
            log(f"failed: {said}")
        else:
            click.echo(json.dumps(said.to_json()) if as_json else f"{said.clip}\t{said}")
    sys.exit(SOME_CLIPS_FAILED if failed else 0)


def _show(metrics: dict[str, Any], as_json: bool) -> None:
    """A run's `metrics.json`, whole as JSON or in brief as a table."""
    if as_json:
        click.echo(json.dumps(metrics))
        return
    print_table(*score_rows(metrics))
    if metrics.get("compositionality"):
        click.echo()
        print_table(*structure_rows(metrics))
