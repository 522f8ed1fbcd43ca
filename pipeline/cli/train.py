"""The `train` command: agents from features."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.wording import counted
from pipeline.cli.numbers import WholeNumber
from pipeline.cli.options import (
    DEVICES,
    JSON,
    PATH,
    HelpGroup,
    completed_by,
    examples,
    local,
    ray_options,
    show_run,
)
from pipeline.cli.outputs import require_free, require_page
from pipeline.cli.setting_options import SettingsCommand, grouped_option
from pipeline.console import ProgressBar, echo_json, log

if TYPE_CHECKING:
    from pipeline.cluster import Cluster
    from pipeline.report import LivePage

HELP_ORDER = 60
HELP_GROUP = HelpGroup.AGENTS


CHOSEN = "What to train"
FOLDER = "Where it goes"


@click.command(
    cls=SettingsCommand,
    epilog=examples(
        "heliograph train clips.h5 -o runs/ours --property mass",
        "heliograph train clips.h5 -o runs/ours --preset ridge --agents 4 --seeds 20",
    ),
)
@click.argument("caches", type=str, nargs=-1, required=True, metavar="CACHE...")
@grouped_option(
    "--property",
    "properties",
    multiple=True,
    group=CHOSEN,
    help="Label to send messages about; repeatable.",
    show_default="every label of the cache",
)
@grouped_option(
    "--preset",
    default="default",
    group=CHOSEN,
    help="default (ours), published (the paper's recipe), stabilised (that of its 85.6 %) or ridge "
    "(ours: agents that start from regressions on their features).",
    shell_complete=completed_by("pipeline.config", "PRESETS"),
)
@grouped_option(
    "--seeds",
    default=10,
    type=WholeNumber(1),
    group=CHOSEN,
    help="How many seeds, numbered from 0.",
)
@grouped_option(
    "--control",
    is_flag=True,
    group=CHOSEN,
    help="Also train the paper's holistic control: one head with a symbol for each "
    "combination (1x64 next to 2x8), outputs clamped to +-15, learning rates halved. Unless set "
    "otherwise, both then train for 200 epochs with one receiver.",
)
@grouped_option(
    "--matched-bandwidth",
    "matched",
    is_flag=True,
    group=CHOSEN,
    help="One agent over the whole clip with the heads of all agents together (paper, phase 81).",
)
@grouped_option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="KEY=A,B,...",
    group=CHOSEN,
    help="A grid of runs, each in a folder of its own under --out; repeatable. Keys are settings "
    "below, agents, preset or seeds.",
)
@grouped_option(
    "--allow-leaks",
    is_flag=True,
    group=CHOSEN,
    help="Go on where clips of different objects are, or look like, one clip in training and test; "
    "the run is marked.",
)
@grouped_option(
    "--power",
    is_flag=True,
    group=CHOSEN,
    help="Train nothing: say which accuracies these seeds and test objects could show to be above "
    "chance, and which differences of two runs.",
)
@grouped_option("-o", "--out", type=PATH, required=True, group=FOLDER, help="Run folder.")
@grouped_option(
    "--from",
    "origin",
    metavar="RUN",
    expose_value=False,
    group=CHOSEN,
    help="Everything as in this run, its caches too, but for what is given here.",
)
@grouped_option(
    "--resume",
    is_flag=True,
    group=FOLDER,
    help="Continue the unfinished training in --out, to the same bits as without the break.",
)
@grouped_option("--overwrite", is_flag=True, group=FOLDER, help="Replace what is in --out.")
@grouped_option(
    "--tensorboard",
    is_flag=True,
    group=FOLDER,
    help="Write event files to OUT/tensorboard too (needs the package tensorboard).",
)
@grouped_option(
    "--watch",
    "watched",
    type=PATH,
    metavar="PAGE",
    group=FOLDER,
    help="Write a page with the curves (.html) while it trains; a browser that shows it follows.",
)
@grouped_option(
    "--device",
    default="auto",
    group=FOLDER,
    help=DEVICES,
)
@ray_options("the trainings of a --sweep", "training", grouped_option, group=FOLDER)
@grouped_option(
    "--json",
    "as_json",
    is_flag=True,
    group=FOLDER,
    help=JSON,
)
def train(
    caches: tuple[str, ...],
    out: Path,
    as_json: bool,
    sweeps: tuple[str, ...],
    tie_margin: tuple[tuple[str, float], ...],
    watched: Path | None,
    power: bool,
    cluster: Cluster | None,
    **settings: Any,
) -> None:
    """Train agents on the features of one or several CACHEs.

    They learn to tell a receiver which of two clips has more of a property. Several caches are
    joined by content where both know it, else by clip id; a static feature (one step) repeats over
    time.

    Values in brackets are what a setting is unless it is given.
    """
    from pipeline.training import show_sweep, split_words, sweep
    from pipeline.training import train as stage

    settings["tie_margin"] = dict(tie_margin) or None
    caches, words = split_words(caches, swept=bool(sweeps))
    caches = tuple(map(local, caches))
    if sweeps and watched is not None:
        raise click.UsageError("--watch follows one training, not those of a --sweep")
    if cluster and not sweeps:
        raise click.UsageError("--ray shares the trainings of a --sweep, and there is none")
    if power:
        if sweeps:
            raise click.UsageError("--power is about one training, not those of a --sweep")
        _show_power(caches, settings, as_json)
        return
    if sweeps:
        axes = [*sweeps, *words]
        cells = sweep(caches, out, axes, settings, log=log, bar=ProgressBar, cluster=cluster)
        show_sweep(cells, as_json)
        return
    with ExitStack() as stack:
        callbacks = []
        if watched is not None:
            callbacks.append(stack.enter_context(_live_page(watched, out)))
        bar = stack.enter_context(ProgressBar("training"))
        run = stage(caches, out, progress=bar.update, log=log, callbacks=callbacks, **settings)
    show_run(run.metrics(), as_json)
    log(f"{out}: {counted(run.config.agents, 'agent')}, {counted(len(run.seeds), 'seed')}")


def _show_power(caches: tuple[str, ...], settings: dict[str, Any], as_json: bool) -> None:
    from pipeline.evaluation import power
    from pipeline.report import show_power
    from pipeline.training import plan_run

    elsewhere = ("device", "overwrite", "resume", "tensorboard")
    words = {name: value for name, value in settings.items() if name not in elsewhere}
    plan = plan_run(caches, log=log, **words)
    found = power(plan.config, plan.seeds, plan.examples, plan.splits)
    (echo_json if as_json else show_power)(found)


def _live_page(path: Path, out: Path) -> LivePage:
    """Return the page that follows a training, and say where it is.

    It takes the place of such a page alone: --overwrite is about OUT.
    """
    from pipeline.report import LivePage, is_live_page

    require_page(path, "--watch")
    require_free(path, is_live_page(path), option="--watch", insist="")
    log(f"{path}: open it in a browser to follow the training")
    return LivePage(path, str(out))
