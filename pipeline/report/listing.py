"""What lies in a folder of runs: runs, sweeps and unfinished trainings, with their key numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.errors import HeliographError
from data.files import as_written
from data.wording import counted
from pipeline.report.overview import is_sweep
from pipeline.report.summary import headline
from pipeline.report.text import Table
from pipeline.runs import UNFINISHED, Run

MOST_FOLDERS = 100_000
STRUCTURE = "posdis_chaabouni2020"
"""The measure of structure that is listed: it is null for a single property."""


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A folder of the list.

    Attributes:
        folder: Its path.
        kind: "run", "sweep" or "unfinished".
        sweep: Of a run in a sweep, the sweep's folder; else "".
        runs: Of a sweep, how many there are in it.
        properties: Of a run, and so are all that follow.
        agents: How many.
        heads: Symbols of each agent.
        vocab: Symbols to choose from.
        seeds: How many.
        accuracy: On held-out clips, to believe; a fraction.
        low: Lower end of its 95 % interval; once evaluated, of that of the kept receiver.
        high: Upper end.
        over: What the interval is over: "objects", "seeds", or "" where there is none.
        chance: Of a guess; of a comparison that of the baseline majority.
        ridge: Of ridge regression on the features.
        structure: PosDis of Chaabouni et al. 2020.
        verdict: Whether that makes it compositional.
        leaks: A sentence where `--allow-leaks` let something pass.
        error: Why it cannot be read; "" where it can.
    """

    folder: str
    kind: str
    sweep: str = ""
    runs: int | None = None
    properties: tuple[str, ...] = ()
    agents: int | None = None
    heads: int | None = None
    vocab: int | None = None
    seeds: int | None = None
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    over: str = ""
    chance: float | None = None
    ridge: float | None = None
    structure: float | None = None
    verdict: str = ""
    leaks: str = ""
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a dict of JSON values."""
        return asdict(self)


def list_runs(
    folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[ListedRun]:
    """Return the runs, sweeps and unfinished trainings in a folder, or the one that it is.

    Args:
        folder: Is searched with all folders in it; links are not followed, nor is a run searched.
        progress: Called with how many are read, and how many there are.

    Raises:
        HeliographError: There is no such folder, or one with too many folders in it.
    """
    if not folder.is_dir():
        raise HeliographError(f"{as_written(folder)} is no folder: name one that holds runs")
    found = list(_find(folder))
    listed = []
    for number, (path, kind) in enumerate(found, 1):
        sweep = next((one for one, other in found if other == "sweep" and one in path.parents), "")
        if kind == "sweep":
            cells = sum(other == "run" and path in one.parents for one, other in found)
            listed.append(ListedRun(folder=str(path), kind=kind, runs=cells))
        elif kind == "unfinished":
            listed.append(ListedRun(folder=str(path), kind=kind, sweep=str(sweep)))
        else:
            listed.append(_read(path, str(sweep)))
        progress(number, len(found))
    return listed


def _find(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folders of a list and their kinds, in the order of their names."""
    for number, (name, folders, files) in enumerate(os.walk(folder)):
        if number >= MOST_FOLDERS:
            raise HeliographError(
                f"{folder} has more than {MOST_FOLDERS:,} folders in it: name one further in"
            )
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        path = Path(name)
        if "config.json" in files and not {"metrics.json", "messages.jsonl"}.isdisjoint(files):
            folders.clear()
            yield path, "run"
        elif is_sweep(path):
            yield path, "sweep"
        elif UNFINISHED in folders:
            folders.clear()
            yield path, "unfinished"


def _read(path: Path, sweep: str) -> ListedRun:
    """Return the key numbers of a run."""
    try:
        run = Run.open(path)
        metrics = run.metrics()
    except (HeliographError, OSError) as error:
        return ListedRun(folder=str(path), kind="run", sweep=sweep, error=str(error))
    best, config = headline(metrics), run.config
    ridge = (metrics.baselines or {}).get("ridge")
    structure = (metrics.compositionality or {}).get(STRUCTURE)
    has_ends = best.accuracy is not None and bool(best.over)
    return ListedRun(
        folder=str(path),
        kind="run",
        sweep=sweep,
        properties=config.properties,
        agents=config.agents,
        heads=config.heads,
        vocab=config.vocab,
        seeds=len(run.seeds),
        accuracy=best.accuracy,
        low=best.low if has_ends else None,
        high=best.high if has_ends else None,
        over=best.over,
        chance=best.chance,
        ridge=None if ridge is None else ridge.mean,
        structure=None if structure is None else structure.mean,
        verdict=(structure and structure.verdict) or "",
        leaks=metrics.leaks.mark if metrics.leaks else "",
    )


def listing_rows(listed: Sequence[ListedRun]) -> Table:
    """Return the table of a list; what cannot be read has the sentence about it elsewhere."""
    columns = ["run", "properties", "agents", "seeds", "accuracy [95 %]", "ridge", "PosDis"]
    return columns, [_row(one) for one in listed]


def _row(one: ListedRun) -> list[str]:
    if one.kind == "sweep":
        return [one.folder, f"a sweep of {counted(one.runs or 0, 'run')}", *[""] * 5]
    if one.kind == "unfinished" or one.error:
        return [one.folder, "cannot be read" if one.error else "not finished", *[""] * 5]
    ends = f" [{_percent(one.low)}, {_percent(one.high)}]" if one.low is not None else ""
    accuracy = "-" if one.accuracy is None else f"{100 * one.accuracy:.1f} %{ends}"
    structure = "-" if one.structure is None else f"{one.structure:.2f} {one.verdict}".strip()
    return [
        one.folder,
        ", ".join(one.properties) or "-",
        f"{one.agents} of {one.heads}x{one.vocab}",
        str(one.seeds),
        accuracy + (" leaks" if one.leaks else ""),
        "-" if one.ridge is None else f"{100 * one.ridge:.1f} %",
        structure,
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f}"
