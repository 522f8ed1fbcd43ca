"""The `onboard` command: a new sender joins the receivers of a run."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.numbers import WholeNumber
from pipeline.cli.options import INPUT, HelpGroup, as_json, examples, moved_caches, named_caches
from pipeline.console import ProgressBar, echo, echo_folded, echo_json, log, print_table

HELP_ORDER = 75
HELP_GROUP = HelpGroup.AGENTS


@click.command(
    epilog=examples(
        "heliograph onboard runs/ours pixels.h5",
        "heliograph onboard runs/ours dinov2.h5 --agent 1 --steps 2000",
    )
)
@click.argument("run", type=INPUT)
@click.argument("cache", type=INPUT)
@click.option(
    "--agent",
    type=WholeNumber(1),
    help="The agent whose place it takes, counted from 1.",
    show_default="the one whose silence costs most on training clips",
)
@click.option(
    "--steps",
    type=WholeNumber(1, 20_000),
    help="Steps of training, a batch each.",
    show_default="500",
)
@moved_caches
@as_json
def onboard(
    run: Path,
    cache: Path,
    agent: int | None,
    steps: int | None,
    moved: tuple[str, ...],
    as_json: bool,
) -> None:
    """Let a new sender join the frozen agents of a RUN.

    The newcomer learns to be understood by receivers that do not learn. It sees the same clips
    through another CACHE: of another backbone, or of another output. Its accuracy is shown over
    steps, next to the agent that it replaces, silence in its place, and a newcomer that learns
    from labels of other objects. Nothing is written.
    """
    from pipeline.evaluation import retest, retests
    from pipeline.runs import Run

    chosen = {"agent": agent, "steps": steps}
    joined = Run.open(run)
    if joined.unchecked:
        log(joined.unchecked)
    with ProgressBar("steps") as bar:
        entry = retest(
            "onboarding",
            joined,
            others={cache.stem: cache},
            moved=named_caches(moved, "--cache"),
            progress=bar.update,
            **{name: value for name, value in chosen.items() if value is not None},
        )
    if as_json:
        echo_json(entry)
        return
    onboarding = retests()["onboarding"]
    print_table(*onboarding.table(entry))
    echo()
    echo_folded(onboarding.sentence(entry) + ".")
