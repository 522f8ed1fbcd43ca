"""A grid of runs with one command: a folder for each cell, and one table of them all.

OUT/<key>-<value>_<key>-<value>/    a run folder each
OUT/sweep.csv                       a line for each cell
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from data.errors import HeliographError, InvalidValueError
from data.files import atomic_write
from data.wording import meant
from pipeline.cluster import Cluster
from pipeline.config import IDLE_WITH, PRESETS, parse_agents
from pipeline.console import echo, echo_json, print_table, warn
from pipeline.runs import SCORES, Run, percent
from pipeline.training.settings import known_settings, parse_known_setting
from pipeline.training.tasks import Training, train_all
from pipeline.training.train import train


def _count(text: str) -> int:
    if int(text) < 1:
        raise InvalidValueError(f"seeds must be at least 1, got {text}")
    return int(text)


def _preset(text: str) -> str:
    if text not in PRESETS:
        raise InvalidValueError(f"no preset {text!r}: choose one of {', '.join(PRESETS)}")
    return text


KEYS: dict[str, Callable[[str], Any]] = {
    "agents": parse_agents,
    "preset": _preset,
    "seeds": _count,
    **{name: functools.partial(parse_known_setting, name) for name in known_settings()},
}


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: its settings, as words, and its result."""

    folder: Path
    words: dict[str, str]
    run: Run | None
    error: str = ""

    def row(self) -> dict[str, Any]:
        """Return a row of `sweep.csv`: fractions over seeds; empty where there are none."""
        metrics = self.run.metrics() if self.run else None
        scores = {
            f"{score}_{part}": getattr(getattr(metrics, score, None), part, None)
            for score in SCORES
            for part in ("mean", "std")
        }
        count = len(self.run.seeds) if self.run else None
        return self.words | {
            "seeds": count,
            **scores,
            "leaks": metrics.leaks.mark if metrics and metrics.leaks else "",
            "folder": self.folder.name,
            "error": self.error,
        }


def sweep(
    caches: Sequence[str],
    out: Path,
    words: Sequence[str],
    settings: dict[str, Any],
    *,
    log: Callable[[str], None],
    bar: Callable[[str], AbstractContextManager[Any]],
    cluster: Cluster | None = None,
) -> list[Cell]:
    """Train every cell of the grid that is not finished yet, and write `sweep.csv`.

    An error in one cell leaves the others alone; if every cell fails, the first error is raised and
    nothing is written.

    Args:
        caches: as `train` takes them.
        out: the folder of the cells and of `sweep.csv`.
        words: `KEY=A,B,...` each.
        settings: as `train` takes them; a swept key replaces a setting.
        log: called with what is worth a line.
        bar: makes a progress bar with a title.
        cluster: of Ray, whose nodes see the caches and `out`; its cells are trained at once.
    """
    axes = dict(map(parse_axis, words))
    if len(axes) < len(words):
        raise InvalidValueError("--sweep names a key twice: give all its values at once")
    grid = list(itertools.product(*axes.values()))
    again = {"resume": not settings["overwrite"]}
    trainings = []
    for values in grid:
        given = dict(zip(axes, values, strict=True))
        folder = out / "_".join(f"{key}-{value}" for key, value in given.items())
        setting = {key: KEYS[key](text) for key, text in given.items()}
        # What all cells share may change nothing in this one: `--sweep axes=0,64 --shrinkage 1`.
        idle = [name for name, (other, off) in IDLE_WITH.items() if setting.get(other) == off]
        trainings.append(Training(caches, folder, settings | again | dict.fromkeys(idle) | setting))
    cells: dict[int, Cell] = {}
    errors: dict[int, HeliographError] = {}
    for number, error in (
        _train_here(trainings, log, bar)
        if cluster is None
        else _train_there(trainings, cluster, settings["device"], log, bar)
    ):
        folder, given = trainings[number].folder, dict(zip(axes, grid[number], strict=True))
        if error is None:
            cells[number] = Cell(folder, given, Run.open(folder))
        else:
            log(f"{folder.name}: {error}")
            errors[number] = error
            cells[number] = Cell(folder, given, None, str(error))
        if any(cell.run for cell in cells.values()):
            _write_table(out / "sweep.csv", [cells[one] for one in sorted(cells)])
    if len(errors) == len(grid):
        raise errors[0]
    return [cells[one] for one in sorted(cells)]


def _train_here(
    trainings: Sequence[Training],
    log: Callable[[str], None],
    bar: Callable[[str], AbstractContextManager[Any]],
) -> Iterator[tuple[int, HeliographError | None]]:
    for number, one in enumerate(trainings):
        try:
            with bar(f"{number + 1}/{len(trainings)} {one.folder.name}") as shown:
                train(one.caches, one.folder, progress=shown.update, log=log, **one.settings)
        except HeliographError as error:
            yield number, error
        else:
            yield number, None


def _train_there(
    trainings: Sequence[Training],
    cluster: Cluster,
    device: str,
    log: Callable[[str], None],
    bar: Callable[[str], AbstractContextManager[Any]],
) -> Iterator[tuple[int, HeliographError | None]]:
    with bar("trainings") as shown:
        shown.update(0, len(trainings), "")
        for count, (number, trained) in enumerate(train_all(trainings, cluster, device=device), 1):
            for line in trained.lines:
                log(line)
            yield number, trained.error
            shown.update(count, len(trainings), trainings[number].folder.name)


def parse_axis(word: str) -> tuple[str, list[str]]:
    """Return a key and its values.

    >>> parse_axis("vocab=2,3,5")
    ('vocab', ['2', '3', '5'])
    """
    key, _, text = word.partition("=")
    key = key.strip().replace("-", "_")
    values = [value.strip() for value in text.split(",")]
    if key not in KEYS:
        hint = meant(key, KEYS, f"the keys are {', '.join(sorted(KEYS))}")
        raise InvalidValueError(f"--sweep has no key {key!r}: {hint}")
    if not text:
        raise InvalidValueError(f"--sweep {word} names no values: --sweep {key}=A,B,C")
    for value in values:
        try:
            KEYS[key](value)
        except (ValueError, KeyError):
            raise InvalidValueError(f"--sweep: {key} cannot be {value!r}") from None
        except InvalidValueError as error:
            raise InvalidValueError(f"--sweep: {error}") from None
    if len(set(values)) < len(values):
        raise InvalidValueError(f"--sweep has a value of {key} twice: {text}")
    return key, values


def split_words(caches: Sequence[str], *, swept: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Separate caches from further axes.

    `--sweep vocab=2,3 agents=1,2` gives the second axis as a cache.

    >>> split_words(["vjepa.h5", "agents=1,2"], swept=True)
    (('vjepa.h5',), ('agents=1,2',))
    """
    words = tuple(word for word in caches if swept and word.split("=")[0].replace("-", "_") in KEYS)
    kept = tuple(word for word in caches if word not in words)
    if not kept:
        raise InvalidValueError("name a cache to train on")
    return kept, words


def show_sweep(cells: Sequence[Cell], as_json: bool) -> None:
    """Print the table of a sweep, then what failed; exit code 3 where a cell did."""
    if as_json:
        echo_json([cell.row() for cell in cells])
    else:
        columns = [*cells[0].words, "chosen on validation", "last epoch", "published protocol"]
        rows = []
        for cell in cells:
            metrics = cell.run.metrics() if cell.run else None
            scores = (percent(getattr(metrics, score, None)) for score in SCORES)
            rows.append([*cell.words.values(), *scores])
        print_table(columns, rows)
        for cell in cells:
            if cell.run and (leaks := cell.run.metrics().leaks):
                echo(f"{cell.folder.name}: {leaks.mark}")
    failed = [cell for cell in cells if cell.error]
    for cell in failed:
        warn(f"failed: {cell.folder.name}: {cell.error}")
    if failed:
        raise click.exceptions.Exit(3)


def _write_table(path: Path, cells: Sequence[Cell]) -> None:
    text = io.StringIO()
    rows = [cell.row() for cell in cells]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue())
