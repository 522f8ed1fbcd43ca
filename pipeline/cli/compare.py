"""The `compare` command: two or more runs, seed by seed."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.numbers import WholeNumber
from pipeline.cli.options import INPUT, PATH, HelpGroup, as_json, examples
from pipeline.cli.outputs import overwrite, require_free, require_page
from pipeline.console import echo_json, log

HELP_ORDER = 80
HELP_GROUP = HelpGroup.AGENTS

MOST_PLANNED_SEEDS = 1_000_000


@click.command(
    epilog=examples(
        "heliograph compare runs/ours runs/theirs",
        "heliograph compare runs/one runs/two runs/three -o comparison.html",
    )
)
@click.argument("runs", nargs=-1, type=INPUT, metavar="RUN RUN...")
@click.option(
    "--planned-seeds",
    type=WholeNumber(2, MOST_PLANNED_SEEDS),
    help="Say what difference this many seeds would show, in place of those that the runs have.",
)
@click.option("-o", "--out", type=PATH, help="Also write a page with charts, to this file (.html).")
@overwrite
@as_json
def compare(
    runs: tuple[Path, ...],
    planned_seeds: int | None,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Compare accuracies and protocols of runs, by seed.

    Differences are the second run's minus the first's. Of more than two runs every two are
    compared, with p-values corrected for their number (Holm). "Shown from" is the smallest true
    difference that the seeds show in four of five trainings.
    """
    if len(runs) < 2:
        raise click.UsageError("it takes two runs at least to compare")
    runs = _without_repeats(runs)
    from pipeline.evaluation import compare as stage
    from pipeline.evaluation import compare_all
    from pipeline.report import open_run, show_comparison, show_comparisons, write_comparison

    if out is not None:
        for run in runs:
            open_run(run).files.require_not_of_run(out)
        require_page(out)
        require_free(out, overwrite)
    if len(runs) > 2:
        comparisons = compare_all(runs, planned_seeds=planned_seeds)
        (echo_json if as_json else show_comparisons)(comparisons)
        pairs = comparisons["pairs"]
    else:
        comparison = stage(*runs, planned_seeds=planned_seeds)
        (echo_json if as_json else show_comparison)(comparison)
        pairs = [comparison]
    if out is not None:
        log(f"{write_comparison(out, runs, pairs)}: the comparison as a page")


def _without_repeats(runs: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the runs, each once, with a remark on one that is named again; of one alone both."""
    found: dict[Path, Path] = {}
    for run in runs:
        if run.resolve() in found:
            log(f"{run} is named twice: a run does not differ from itself")
        found.setdefault(run.resolve(), run)
    return tuple(found.values()) if len(found) > 1 else runs[:2]
