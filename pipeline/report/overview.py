"""Pages about several runs: a sweep, and a comparison."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data.errors import HeliographError
from data.files import atomic_write, open_regular
from data.wording import counted
from pipeline.report.charts import Axis, IntervalPanel, IntervalRow
from pipeline.report.report import FOLDER, TITLE, page_head, template
from pipeline.report.summary import BASELINES, baseline_name, chance_of, headline
from pipeline.report.text import OVER_SEEDS, Table, agreement_rows, comparison_rows, paired_clips
from pipeline.runs import PAGE, SCORES, Run, RunMetrics, percent

SWEEP = "sweep.csv"
MOST_BYTES = 16 << 20
KINDS = (
    ("chance", "chance: a guess among the candidates"),
    ("majority", f"majority: {BASELINES['majority']}"),
    ("ridge", f"ridge: {BASELINES['ridge']}"),
)
PERCENT = Axis(0.0, 100.0)
Part = tuple[str, list[IntervalPanel], list[Table], list[str]]


def is_sweep(folder: Path) -> bool:
    """Return whether a folder is that of a sweep."""
    return (folder / SWEEP).is_file() and not (folder / "config.json").exists()


def is_sweep_page(path: Path, folder: Path) -> bool:
    """Return whether a file is the page of a sweep, at its own place."""
    return path.absolute() == (folder / PAGE).absolute() and TITLE in page_head(path)


def require_not_of_sweep(path: Path, folder: Path) -> None:
    """Raise HeliographError where a path is a file that a sweep or a run in it is made of."""
    if os.path.realpath(path) == os.path.realpath(folder / SWEEP):
        raise HeliographError(
            f"{path} is not replaced: {folder} is made of it; choose another place"
        )
    for row in sweep_rows(folder):
        place = folder / row["folder"]
        if (place / "config.json").is_file():
            Run.open(place).files.require_not_of_run(path)


def write_sweep_report(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a sweep, SWEEP/report.html by default, and return its path.

    Raises:
        HeliographError: `sweep.csv` cannot be read.
    """
    target = folder / PAGE if out is None else out
    rows = sweep_rows(folder)
    every = _keys_of(rows[0])
    differ = [key for key in every if len({row[key] for row in rows if not row["error"]}) > 1]
    keys = differ or every
    runs = {row["folder"]: _metrics_of(folder, row["folder"]) for row in rows}
    panels = _sweep_panels(rows, keys, runs, target.parent, folder)
    page = _render(
        kind="sweep",
        name=folder.resolve().name,
        title=f"A sweep over {_and(keys)}",
        lede=f"{counted(len(rows), 'run')}, which differ in {_and(keys)} alone."
        if len(rows) > 1
        else "One run.",
        notes=[
            *(f"{row['folder']} failed: {row['error']}" for row in rows if row.get("error")),
            *(f"{row['folder']}: {row['leaks']}" for row in rows if row.get("leaks")),
        ],
        parts=[("Accuracy", panels, [_sweep_table(rows, keys, runs)], HINTS)],
        footer="The numbers are in sweep.csv and in the metrics.json of each run.",
    )
    atomic_write(target, page)
    return target


NO_KEYS = ("leaks", "folder", "error")
HINTS = [
    "Held-out clips; of the checkpoint that validation clips chose, or of the last epoch where a "
    "preset keeps none. Beware of the best of many runs: on other clips it will be less good.",
]


def sweep_rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a `sweep.csv`.

    Raises:
        HeliographError: it cannot be read, or has none.
    """
    path = folder / SWEEP
    with open_regular(path, follow_links=True) as file:
        content = file.read(MOST_BYTES + 1)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise HeliographError(f"{path} is damaged: it is no text") from error
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error:  # a cell without an end
        rows = []
    names = {row.get("folder") for row in rows}
    if (
        not rows
        or "error" not in rows[0]
        or not _keys_of(rows[0])
        or any(None in row for row in rows)  # more cells than columns
        or any(not name or name in (".", "..") or "/" in name or "\\" in name for name in names)
    ):
        raise HeliographError(
            f"{path} is damaged: it names no folders of runs; the same `heliograph train --sweep` "
            "writes it again"
        )
    return [{str(key): value or "" for key, value in row.items()} for row in rows]


def _keys_of(row: Mapping[str, str]) -> list[str]:
    """Return the settings over which a sweep goes."""
    return [key for key in row if key and not key.startswith(SCORES) and key not in NO_KEYS]


def _metrics_of(folder: Path, name: str) -> RunMetrics | None:
    try:
        return Run.open(folder / name).metrics()
    except (HeliographError, OSError):  # it failed, or was moved
        return None


def _sweep_panels(
    rows: Sequence[Mapping[str, str]],
    keys: Sequence[str],
    runs: Mapping[str, RunMetrics | None],
    place: Path,
    folder: Path,
) -> list[IntervalPanel]:
    drawn = []
    for row in rows:
        metrics = runs[row["folder"]]
        if metrics is not None:
            page = folder / row["folder"] / PAGE
            link = f"{row['folder']}/{PAGE}" if place == folder and page.is_file() else ""
            label = ", ".join(f"{key} {row[key]}" for key in keys)
            drawn += _accuracy_row(label, metrics, link=link)
    return [_accuracy_panel(drawn)] if drawn else []


def _accuracy_panel(rows: Sequence[IntervalRow]) -> IntervalPanel:
    seen = {kind for row in rows for kind, _ in row.marks}
    kinds = tuple((kind, words) for kind, words in KINDS if kind in seen)
    return IntervalPanel("Accuracy on held-out clips, %", PERCENT, tuple(rows), kinds)


def _accuracy_row(label: str, metrics: RunMetrics, *, link: str = "") -> list[IntervalRow]:
    """Return the accuracy to believe as a row, with majority and ridge as marks; none without."""
    best = headline(metrics)
    if best.accuracy is None:
        return []
    ridge = (metrics.baselines or {}).get("ridge")
    guess = "majority" if metrics.game is None else "chance"
    others = {guess: chance_of(metrics), "ridge": None if ridge is None else ridge.mean}
    return [
        IntervalRow(
            label=label,
            text=_text(best.accuracy, best.low, best.high, best.over),
            mean=PERCENT.at(100 * best.accuracy),
            low=PERCENT.at(100 * best.low),
            high=PERCENT.at(100 * best.high),
            over=best.over,
            marks=tuple(
                (kind, PERCENT.at(100 * value))
                for kind, value in others.items()
                if value is not None
            ),
            link=link,
        )
    ]


def _text(mean: float, low: float, high: float, over: str) -> str:
    ends = f" [{100 * low:.1f}, {100 * high:.1f}]" if over else ""
    return f"{100 * mean:.1f} %{ends}"


def _sweep_table(
    rows: Sequence[Mapping[str, str]],
    keys: Sequence[str],
    runs: Mapping[str, RunMetrics | None],
) -> Table:
    columns = [*keys, "chosen on validation", "last epoch", "published protocol", "ridge"]
    table = []
    for row in rows:
        metrics = runs[row["folder"]]
        scores = [percent(getattr(metrics, score, None)) for score in SCORES]
        ridge = (metrics.baselines or {}).get("ridge") if metrics else None
        table.append([*(row[key] for key in keys), *scores, percent(ridge)])
    return columns, table


def write_comparison(out: Path, runs: Sequence[Path], pairs: Sequence[Mapping[str, Any]]) -> Path:
    """Write a page about runs that were compared, and return its path.

    Args:
        out: The page.
        runs: The run folders.
        pairs: What `pipeline.evaluation.compare` returned of every two.

    Raises:
        HeliographError: for a run that cannot be read.
    """
    accuracies = [row for run in runs for row in _accuracy_row(str(run), Run.open(run).metrics())]
    parts: list[Part] = []
    if accuracies:
        parts.append(("Each run", [_accuracy_panel(accuracies)], [], []))
    for pair in pairs:
        parts.append(_pair_part(dict(pair)))
    if len(pairs) > 1:
        hint = f"p in brackets: corrected for {counted(len(pairs), 'pair')} (Holm)."
        parts[-1][3].append(hint)
    page = _render(
        kind="comparison",
        name=counted(len(runs), "run"),
        title=f"{len(runs)} runs, compared seed by seed",
        lede="Differences are the second run’s minus the first’s, each seed against itself.",
        notes=[
            *dict.fromkeys(
                f"{folder}: {mark}" for pair in pairs for folder, mark in pair["leaks"].items()
            ),
            *dict.fromkeys(
                f"{folder} is not checked: it has no manifest.json with the hashes of its files"
                for pair in pairs
                for folder in pair["unchecked"]
            ),
        ],
        parts=parts,
        footer="The same as `heliograph compare` prints; all numbers with --json.",
    )
    atomic_write(out, page)
    return out


def _pair_part(pair: dict[str, Any]) -> Part:
    """Return what the page shows of two runs."""
    columns, rows = comparison_rows(pair)
    drawn = []
    for name, own in _differences(pair):
        ends = own["interval"] or (own["difference"], own["difference"])
        drawn.append((name, own["difference"], *ends, "seeds" if own["interval"] else ""))
    panels = []
    if drawn:
        reach = max(0.01, *(abs(value) for _, *values, _ in drawn for value in values))
        axis = Axis(-105 * reach, 105 * reach)
        panels = [
            IntervalPanel(
                "Difference, in points",
                axis,
                tuple(
                    IntervalRow(
                        label=name,
                        text=f"{100 * mean:+z.1f}"
                        + (f" [{100 * low:z.1f}, {100 * high:z.1f}]" if over else ""),
                        mean=axis.at(100 * mean),
                        low=axis.at(100 * low),
                        high=axis.at(100 * high),
                        over=over,
                        marks=(("zero", axis.at(0.0)),),
                        kind="baseline" if name.startswith("baseline") else "own",
                    )
                    for name, mean, low, high, over in drawn
                ),
            )
        ]
    first, second = pair["runs"]
    origins = [
        f"{run}: {'; '.join(features)}."
        for run, features in zip(pair["runs"], pair["features"], strict=True)
    ]
    seeds = f"{paired_clips(pair)}."
    tables = [(columns, rows)] if rows else []
    if pair["agreement"] is not None:
        tables.append(agreement_rows(pair["agreement"]))
    hints = [seeds, *origins, *([f"{OVER_SEEDS[:1].upper()}{OVER_SEEDS[1:]}."] if rows else [])]
    return f"{first} and {second}", panels, tables, hints


def _differences(pair: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the differences of a pair by the names of their rows in `comparison_rows`."""
    found = []
    for score, entry in pair["scores"].items():
        for name, own in {"all at once": entry["together"], **entry["properties"]}.items():
            if own is not None and not (name == "all at once" and len(entry["properties"]) == 1):
                found.append((f"{name}, {score.removeprefix('accuracy_').replace('_', ' ')}", own))
    return found + [
        (f"baseline: {baseline_name(name)}", own) for name, own in pair["baselines"].items()
    ]


def _render(**variables: Any) -> str:
    style = Markup((FOLDER / "report.css").read_text())
    return template("overview.html").render(style=style, **variables)


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
