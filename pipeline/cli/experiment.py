"""The `experiment` command: the paper's headline experiments from raw video."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.errors import HeliographError
from pipeline.cli.numbers import WholeNumber
from pipeline.cli.options import (
    PATH,
    SOME_CLIPS_FAILED,
    HelpGroup,
    as_json,
    completed_by,
    device,
    examples,
    home,
    hub_dir,
    local,
    ray_options,
    share_the_cores,
)
from pipeline.console import echo, echo_folded, echo_json, format_duration, log, print_table, warn

if TYPE_CHECKING:
    from pipeline.cluster import Cluster
    from pipeline.experiments import ExperimentResult, Recipe

HELP_ORDER = 110
HELP_GROUP = HelpGroup.PAPER
EVERY = "all"
SERVED = "phase87"  # by a feature file without a name, when all are run


@click.command(
    epilog=examples("heliograph experiment --list", "heliograph experiment ramp --seeds 3")
)
@click.argument(
    "name", required=False, shell_complete=completed_by("pipeline.experiments", "NAMES")
)
@click.option(
    "--list", "list_them", is_flag=True, help="List the experiments, and do nothing else."
)
@click.option("--out", type=PATH, default=Path("runs/experiments"), help="Folder for all it makes.")
@click.option(
    "--grid", type=WholeNumber(2), help="Levels of each property.", show_default="the recipe's"
)
@click.option(
    "--per-cell", type=WholeNumber(1), help="Clips per grid cell.", show_default="the recipe's"
)
@click.option(
    "--seeds",
    type=WholeNumber(1),
    help="How many seeds, numbered from 0.",
    show_default="the recipe's",
)
@click.option(
    "--epochs", type=WholeNumber(1), help="Epochs of each training.", show_default="the recipe's"
)
@click.option(
    "--null",
    type=WholeNumber(0),
    help="Null seeds to train with each run; verdicts need 39.",
    show_default="the recipe's",
)
@click.option(
    "--backbone",
    metavar="NAME[,NAME]",
    help="Of each view, the last for all that are left; see `heliograph backbones`.",
    show_default="the recipe's, or efficientnet_lite0",
)
@click.option(
    "--features",
    multiple=True,
    metavar="[NAME=]FILE",
    help="Feature file (.pt or .h5) in place of made clips, of the view NAME; repeatable. Without "
    "a name for the only view; with `all` NAME is the experiment, or it is phase87.",
)
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="LABEL",
    help="What every run is about; repeatable.",
    show_default="the recipe's",
)
@device
@ray_options("clips and trainings", "actor or training")
@hub_dir
@click.option("--overwrite", is_flag=True, help="Train again; clips and features stay.")
@as_json
def experiment(
    name: str | None,
    list_them: bool,
    out: Path,
    backbone: str | None,
    features: tuple[str, ...],
    device: str,
    cluster: Cluster | None,
    hub_dir: Path | None,
    overwrite: bool,
    as_json: bool,
    **size: Any,
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
    from pipeline.experiments import RunOptions, require_features, run_experiment

    recipes = [find(each).sized(**size) for each in (NAMES if name == EVERY else [name])]
    files = _files(features, recipes, SERVED if name == EVERY else recipes[0].name)
    options = RunOptions(
        backbones=tuple(backbone.split(",")) if backbone is not None else (),
        device=device,
        cluster=cluster,
        hub_dir=hub_dir,
        overwrite=overwrite,
    )
    if name != EVERY:
        given = dataclasses.replace(options, features=files.get(recipes[0].name, {}))
        _show([run_experiment(recipes[0], out, given)], as_json)
        return
    done: list[ExperimentResult] = []
    failed: list[str] = []
    for recipe in recipes:
        if recipe.clips is None and recipe.name not in files:
            continue
        try:  # now, and not after hours of the others
            require_features(recipe, files.get(recipe.name, {}))
        except HeliographError as error:
            log(f"{recipe.name}: {error}")
            failed.append(recipe.name)
    for recipe in recipes:
        if recipe.name in failed:
            continue
        if recipe.clips is None and recipe.name not in files:
            several = len(recipe.sources) > 1
            way = "to be run by itself, with" if several else f"--features {recipe.name}=FILE,"
            log(f"{recipe.name} is left out: it needs {way} {recipe.given}")
            continue
        own_options = dataclasses.replace(
            options,
            backbones=options.backbones[: len(recipe.sources)],
            features=files.get(recipe.name, {}),
        )
        try:
            done.append(run_experiment(recipe, out, own_options))
        except HeliographError as error:
            log(f"{recipe.name}: {error}")
            failed.append(recipe.name)
    _show(done, as_json, several=True)
    if failed:
        warn(f"failed: {', '.join(failed)}")
        raise click.exceptions.Exit(SOME_CLIPS_FAILED if done else 1)


def _files(
    features: Sequence[str], recipes: Sequence[Recipe], served: str
) -> dict[str, dict[str, Path]]:
    """Return the feature files of each recipe that has any, by view.

    Args:
        features: NAME=FILE, or FILE alone.
        recipes: that are run.
        served: the recipe that a file alone is for.

    Raises:
        click.UsageError: a name that is no view, or two files for one.
    """
    takes = {recipe.name: recipe.sources for recipe in recipes}
    own = takes[served]
    names = takes if len(takes) > 1 else dict.fromkeys((*own, *([served] if len(own) == 1 else ())))
    files: dict[str, dict[str, Path]] = {}
    for text in features:
        name, equals, file = text.partition("=")
        if not equals or (name not in names and ("/" in name or Path(text).exists())):
            name, file = served, text
        elif not file:
            raise click.UsageError(f"--features {text} names no file")
        elif name not in names:
            raise click.UsageError(f"--features {text}: no {name!r}, choose one of {_list(names)}")
        recipe = name if name in takes else served
        if name in takes and len(takes[recipe]) > 1:
            way = f"with `heliograph experiment {recipe}`, " if len(takes) > 1 else ""
            raise click.UsageError(
                f"--features {text}: {recipe} has several views, {way}name one of "
                f"{_list(takes[recipe])}"
            )
        view = takes[recipe][0] if name in takes else name
        if view in files.setdefault(recipe, {}):
            before = files[recipe][view]
            raise click.UsageError(f"--features: two files for {name}, {before} and {file}")
        files[recipe][view] = home(Path(local(file)))
    return files


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


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
    from pipeline.experiments import accuracy_table, measure_notes, measure_tables, paper_sources

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
            for note in measure_notes(result.lines):
                echo_folded(note)
            for number, place in enumerate(paper_sources(result.lines), 1):
                echo(f"({number}) {place}")
            for claim in result.claims:
                echo()
                echo_folded(f"{claim.claim.title}. Said: {claim.claim.says}")
                echo_folded(f"  measured: {claim.sentence}")
        took = format_duration(sum(result.seconds.values()))
        log(f"{result.folder / 'report.html'}: {took} of work in all")
