"""The `evaluate` command: scores next to baselines and chance."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.numbers import WholeNumber
from pipeline.cli.options import (
    INPUT,
    HelpGroup,
    as_json,
    examples,
    moved_caches,
    moved_clips,
    named_caches,
    reading_limits,
)
from pipeline.console import Loudness, ProgressBar, log, loudness

HELP_ORDER = 70
HELP_GROUP = HelpGroup.AGENTS


@click.command(
    epilog=examples(
        "heliograph evaluate runs/ours",
        "heliograph evaluate runs/ours --against random.h5 --controls",
    )
)
@click.argument("run", type=INPUT)
@click.option(
    "--permutations",
    default=1000,
    type=WholeNumber(10, 1_000_000),
    help="Permutations behind each chance level.",
)
@click.option(
    "--against",
    multiple=True,
    metavar="[NAME=]CACHE",
    help="Another backbone's cache of the same clips (random weights, say), as a baseline; "
    "repeatable.",
)
@click.option(
    "--on",
    multiple=True,
    type=INPUT,
    metavar="CACHE",
    help="Try the agents, as they are, on the cache of another scenario; repeatable.",
)
@click.option("--outcome", help="Label to predict from messages and --action.")
@click.option("--action", help="Label that is the action before the --outcome.")
@click.option(
    "--controls",
    is_flag=True,
    help="Also train comparers without a bottleneck and with a continuous one (minutes).",
)
@click.option(
    "--videos",
    is_flag=True,
    help="Also decode the clips' videos: the baselines optical_flow and shortcuts (duration, "
    "frame rate, size and bytes).",
)
@moved_clips(", with --videos")
@moved_caches
@reading_limits
@as_json
def evaluate(
    run: Path,
    permutations: int,
    against: tuple[str, ...],
    on: tuple[Path, ...],
    outcome: str | None,
    action: str | None,
    controls: bool,
    videos: bool,
    clips: tuple[Path, ...],
    moved: tuple[str, ...],
    as_json: bool,
) -> None:
    """Score a RUN against baselines and chance.

    Baselines are ridge regressions on the clips' features, and without a network on the cache's
    thumbnails of their frames: pixels, differences (of successive frames) and first_frame.

    Also: what each position of the messages causes, whether new receivers learn them, and what
    they are worth. All of it is added to the run's metrics.json.
    """
    from pipeline.evaluation import evaluate as stage
    from pipeline.report import show_metrics

    if (outcome is None) != (action is None):
        raise click.UsageError("--outcome and --action go together: give both, or neither")
    if clips and not videos:
        raise click.UsageError("--clips says where the videos are, which --videos reads")
    with ProgressBar("evaluation", in_percent=True) as bar:
        metrics = stage(
            run,
            permutations=permutations,
            against=named_caches(against, "--against"),
            on=on,
            outcome=(outcome, action) if outcome and action else None,
            controls=controls,
            videos=clips if videos else None,
            moved=named_caches(moved, "--cache"),
            progress=log if loudness() is Loudness.VERBOSE else None,
            show=bar.update,
        )
    if metrics.unchecked:
        log(f"note: {run} has no manifest.json by which its files could be checked")
    show_metrics(metrics, as_json)
