"""Commands that make agents: demo, train, import-checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import DEVICES, JSON, PATH, as_json, share_the_cores
from pipeline.cli.setting_options import Agents, GroupedCommand, Margin, option, setting_options
from pipeline.config import Group
from pipeline.console import ProgressBar, log

if TYPE_CHECKING:
    from pipeline.runs import RunMetrics


@click.command()
@click.option("--out", type=PATH, default=Path("runs/demo"), help="Folder for all it makes.")
@click.option("--per-cell", default=8, type=click.IntRange(1), help="Clips per grid cell.")
@click.option("--seeds", default=5, type=click.IntRange(1), help="How many: seeds 0 .. N-1.")
@click.option("--epochs", default=80, type=click.IntRange(1), help="Epochs of each training.")
def demo(out: Path, per_cell: int, seeds: int, epochs: int) -> None:
    """Raw video to messages, on clips that it makes itself."""
    share_the_cores()
    from pipeline.experiments import run_demo

    run_demo(out, per_cell=per_cell, seeds=seeds, epochs=epochs)


CHOSEN = "What to train"
FOLDER = "Where it goes"


@click.command(cls=GroupedCommand)
@click.argument("caches", type=str, nargs=-1, required=True, metavar="CACHE...")
@option(
    "--property",
    "properties",
    multiple=True,
    group=CHOSEN,
    help="Label to talk about; repeatable.",
    show_default="every label of the cache",
)
@option(
    "--preset",
    default="default",
    group=CHOSEN,
    help="default (ours), published (the paper's recipe) or stabilised (that of its 85.6 %).",
)
@option(
    "--seeds",
    default=10,
    type=click.IntRange(1),
    group=CHOSEN,
    help="How many: seeds 0 .. N-1.",
)
@option(
    "--control",
    is_flag=True,
    group=CHOSEN,
    help="Train beside it the paper's holistic control: one head with a symbol for each "
    "combination (1x64 beside 2x8), outputs clamped to +-15, learning rates halved. Unless told "
    "otherwise both then learn 200 epochs with one receiver.",
)
@option(
    "--matched-bandwidth",
    "matched",
    is_flag=True,
    group=CHOSEN,
    help="One agent over the whole clip with the heads of all agents together (paper, phase 81).",
)
@option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="KEY=A,B,...",
    group=CHOSEN,
    help="A grid of runs, each in a folder of its own under --out; repeatable. Keys are settings "
    "below, agents, preset or seeds.",
)
@option("-o", "--out", type=PATH, required=True, group=FOLDER, help="Run folder.")
@option(
    "--resume",
    is_flag=True,
    group=FOLDER,
    help="Go on with the unfinished training in --out, to the same bits as without the break.",
)
@option("--overwrite", is_flag=True, group=FOLDER, help="Replace what is in --out.")
@option(
    "--tensorboard",
    is_flag=True,
    group=FOLDER,
    help="Write event files to OUT/tensorboard too (needs the package tensorboard).",
)
@option(
    "--device",
    default="auto",
    group=FOLDER,
    help=DEVICES,
)
@option(
    "--json",
    "as_json",
    is_flag=True,
    group=FOLDER,
    help=JSON,
)
@option(
    "--agents",
    type=Agents(),
    metavar="N|NAME,...",
    group=Group.AGENTS,
    help="How many agents; agents of one cache share its time steps in order. Or the cache of "
    "each, by the file's stem or as NAME=PATH: vjepa,dino,vjepa,dino. [2]",
)
@setting_options
@option(
    "--tie-margin",
    "tie_margin",
    multiple=True,
    type=Margin(),
    group=Group.GAME,
    help="Values of a property that differ by no more are a tie; repeatable. [mass=0.5 (grams; "
    "paper), others 0]",
)
def train(
    caches: tuple[str, ...],
    out: Path,
    as_json: bool,
    sweeps: tuple[str, ...],
    tie_margin: tuple[tuple[str, float], ...],
    **settings: Any,
) -> None:
    """Train agents on the features of one or several CACHEs.

    They learn to tell a receiver which of two clips has more of a property. Several caches are
    joined by clip id; a static feature (one step) repeats over time.

    Values in brackets are what a setting is unless it is given.
    """
    from pipeline.training import show_sweep, split_words, sweep
    from pipeline.training import train as stage

    settings["tie_margin"] = dict(tie_margin) or None
    caches, words = split_words(caches, swept=bool(sweeps))
    if sweeps:
        show_sweep(
            sweep(caches, out, [*sweeps, *words], settings, log=log, bar=ProgressBar), as_json
        )
        return
    with ProgressBar("training") as bar:
        run = stage(caches, out, progress=bar.update, log=log, **settings)
    show_run(run.metrics(), as_json)
    log(f"{out}: {run.config.agents} agents, {len(run.seeds)} seeds")


@click.command("import-checkpoint")
@click.argument("file", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help="Run folder to make.")
@click.option("--cache", type=PATH, required=True, help="Features of the clips to speak of (.h5).")
@click.option("--property", help="The label that a receiver of one property compares.")
@click.option("--overwrite", is_flag=True, help="Replace a run that stands in --out.")
@as_json
def import_checkpoint(
    file: Path, out: Path, cache: Path, property: str | None, overwrite: bool, as_json: bool
) -> None:
    """Make a run folder of a published checkpoint.

    FILE is a .pt of the paper; `message`, `evaluate` and `report` take the run.
    """
    from pipeline.runs import import_checkpoint as stage

    run = stage(file, out, cache_path=cache, property=property, overwrite=overwrite)
    show_run(run.metrics(), as_json)


def show_run(metrics: RunMetrics, as_json: bool) -> None:
    """The tables of a run, and of its holistic control where there is one."""
    from pipeline.report import show_metrics

    show_metrics(metrics, as_json)
    if metrics.control is not None and not as_json:
        control = metrics.control
        click.echo(f"\nholistic control {control.heads}x{control.vocab}")
        show_metrics(control, as_json)
    if not as_json:
        for note in metrics.notes:
            log(f"note: {note}")
