"""The `experiment` command: the paper's headline experiments from raw video."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.errors import HeliographError
from pipeline.cli.options import PATH, SOME_CLIPS_FAILED, as_json, device, hub_dir, share_the_cores
from pipeline.console import echo, echo_json, format_duration, log, print_table

if TYPE_CHECKING:
    from pipeline.experiments import ExperimentResult, Recipe

HELP_ORDER = 110
EVERY = "all"


@click.command()
@click.argument("name", required=False)
@click.option(
    "--list", "list_them", is_flag=True, help="List the experiments, and do nothing else."
)
@click.option("--out", type=PATH, default=Path("runs/experiments"), help="Folder for all it makes.")
@click.option(
    "--grid", type=click.IntRange(2), help="Levels of each property.", show_default="the recipe's"
)
@click.option(
    "--per-cell", type=click.IntRange(1), help="Clips per grid cell.", show_default="the recipe's"
)
@click.option(
    "--seeds", type=click.IntRange(1), help="How many: seeds 0 .. N-1.", show_default="the recipe's"
)
@click.option(
    "--epochs", type=click.IntRange(1), help="Epochs of each training.", show_default="the recipe's"
)
@click.option(
    "--backbone",
    default="efficientnet_lite0",
    metavar="NAME[,NAME]",
    help="See `heliograph backbones`; heterogeneous takes two: moving,still.",
)
@click.option("--features", type=PATH, help="Feature file that phase87 needs (.pt or .h5).")
@device
@hub_dir
@click.option("--overwrite", is_flag=True, help="Train anew; clips and features stay.")
@as_json
def experiment(
    name: str | None,
    list_them: bool,
    out: Path,
    backbone: str,
    features: Path | None,
    device: str,
    hub_dir: Path | None,
    overwrite: bool,
    as_json: bool,
    **size: int | None,
) -> None:
    """Run a headline experiment of the paper from raw video.

    NAME is one of --list, the path of a recipe of yours (.toml), or "all". Experiments on one scene
    share clips and features in --out; a second run goes on where the first one stopped.
    """
    share_the_cores()
    from pipeline.experiments import NAMES, find

    if list_them:
        _show_list([find(each) for each in NAMES], as_json)
        return
    if name is None:
        raise click.UsageError("name an experiment, or ask for the --list")
    from pipeline.experiments import RunOptions, run_experiment

    options = RunOptions(
        backbones=tuple(backbone.split(",")),
        device=device,
        hub_dir=hub_dir,
        features=features,
        overwrite=overwrite,
    )
    if name != EVERY:
        result = run_experiment(find(name).sized(**size), out, options)
        _show([result], as_json)
        return
    done: list[ExperimentResult] = []
    failed: list[str] = []
    for recipe in (find(each).sized(**size) for each in NAMES):
        if recipe.clips is None and features is None:
            log(f"{recipe.name} is left out: it needs --features, {recipe.given}")
            continue
        views = max(1, len(recipe.views))
        own_options = dataclasses.replace(options, backbones=options.backbones[:views])
        try:
            done.append(run_experiment(recipe, out, own_options))
        except HeliographError as error:
            log(f"{recipe.name}: {error}")
            failed.append(recipe.name)
    _show(done, as_json, several=True)
    if failed:
        log(f"failed: {', '.join(failed)}")
        raise click.exceptions.Exit(SOME_CLIPS_FAILED if done else 1)


def _show_list(recipes: list[Recipe], as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "name": recipe.name,
            "title": recipe.title,
            "question": recipe.question,
            "clips": recipe.clips and recipe.clips.name,
            "runs": [run.name for run in recipe.trainings],
        }
        for recipe in recipes
    ]
    if as_json:
        echo_json(rows)
        return
    cells = [
        [row["name"], row["title"], row["clips"] or "given features", str(len(row["runs"]))]
        for row in rows
    ]
    print_table(["name", "what", "clips", "runs"], cells, right=False)


def _show(results: list[ExperimentResult], as_json: bool, *, several: bool = False) -> None:
    """Print the tables of every experiment, and on stderr where the rest is."""
    from pipeline.experiments import accuracy_table, measure_tables, paper_sources

    if as_json:
        results_json = [result.to_json() for result in results]
        echo_json(results_json if several else results_json[0])
    for result in results:
        if not as_json:
            echo()
            echo(f"{result.recipe.name}: {result.recipe.title}")
            echo()
            print_table(*accuracy_table(result.lines))
            for table in measure_tables(result.lines):
                echo()
                print_table(*table)
            for number, place in enumerate(paper_sources(result.lines), 1):
                echo(f"({number}) {place}")
        took = format_duration(sum(result.seconds.values()))
        log(f"{result.folder / 'report.html'}: {took} of work in all")
