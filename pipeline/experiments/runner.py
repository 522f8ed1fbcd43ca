"""Run a recipe end to end: clips, features, agents, evaluation, tables and a page.

    OUT/clips/ramp-5x5x12-2s/            shared by every experiment on the scene
    OUT/features/ramp-....h5             shared too; its name says backbone, output and steps
    OUT/NAME/runs/<run>/                 run folders, each with its own report.html
    OUT/NAME/table.csv, table.json       every number, in long form
    OUT/NAME/experiment.json             what was run, and how long each stage took
    OUT/NAME/report.html                 the tables on a page, with links to the runs
    OUT/NAME/claims.md                   claims of a recipe, next to what is measured

What exists is kept: a second run continues, to the same bits, where the first one stopped.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import backbones
from data import cache
from data.errors import HeliographError, InvalidValueError
from data.files import atomic_write, open_regular, sha256_file
from data.interchange import import_features
from data.manifests import read_manifest
from data.versions import package_versions
from pipeline.console import ProgressBar, format_duration, log
from pipeline.evaluation import evaluate
from pipeline.experiments.artifacts import extract_features, make_clips
from pipeline.experiments.claims import PAGE, ClaimResult, claims_page, measure_claims
from pipeline.experiments.page import render
from pipeline.experiments.recipe import PaperNumber, Recipe, RunRecipe
from pipeline.experiments.tables import ResultRow, as_csv, result_rows
from pipeline.experiments.views import ViewFeatures
from pipeline.extraction import default_workers
from pipeline.report import scene_pictures, write_report
from pipeline.runs import BROKEN, CONTROL, Run
from pipeline.training import train

MOST_BYTES = 16 << 20  # of experiment.json


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a recipe is run with.

    `backbones`: of its views in their order, the last one for all that are left; none: the views'
    own. `features`: a file for a recipe that needs one (.pt of the paper, or a cache). `overwrite`:
    train runs that are there anew.
    """

    backbones: tuple[str, ...] = ()
    device: str = "auto"
    hub_dir: Path | None = None
    features: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class ExperimentResult:
    """An experiment that is done."""

    recipe: Recipe
    folder: Path
    lines: tuple[ResultRow, ...]
    seconds: Mapping[str, float]  # of each stage, when it last had something to do
    claims: tuple[ClaimResult, ...] = ()

    def __repr__(self) -> str:
        return f"ExperimentResult({self.recipe.name}, {len(self.lines)} lines)"

    def to_json(self) -> dict[str, Any]:
        """Return the rows and the stages, as JSON values."""
        return {
            "experiment": self.recipe.name,
            "folder": str(self.folder),
            "seconds": dict(self.seconds),
            "lines": [line.to_json() for line in self.lines],
        } | ({"claims": [claim.to_json() for claim in self.claims]} if self.claims else {})


def run_experiment(recipe: Recipe, out: Path, options: RunOptions) -> ExperimentResult:
    """Run what is not done yet of a recipe under `out`; tables are written after every run.

    Raises:
        HeliographError: a failure that the user can act on; what was done until then stays.
    """
    folder = Path(out) / recipe.name
    views = _views(recipe, options.backbones)
    stages = StageTimes(folder / "experiment.json", _about(recipe, options, views))
    log(f"{recipe.name}: {recipe.title}")
    caches = _caches(recipe, Path(out), options, views, stages)
    lines: list[ResultRow] = []
    count = len(recipe.trainings)
    result = ExperimentResult(recipe, folder, (), stages.seconds)
    scene = _scene(recipe, Path(out))
    for number, training in enumerate(recipe.trainings, 1):
        log(f"  {number}/{count} {training.title}")
        run = _train(training, caches, folder / "runs" / training.name, options, stages)
        for title, scored, paper in _scored_runs(training, run):
            _examine(scored, recipe, stages)
            lines += result_rows(
                title,
                scored.folder.relative_to(folder).as_posix(),
                scored.metrics(),
                measures=recipe.measures,
                paper=paper,
            )
        result = ExperimentResult(recipe, folder, tuple(lines), stages.seconds)
        _publish(result, stages.about, scene)
    if recipe.claims:
        claims = tuple(measure_claims(recipe.claims, folder, caches, stages))
        result = dataclasses.replace(result, claims=claims)
        _publish(result, stages.about, scene)
    return result


def _scene(recipe: Recipe, out: Path) -> list[tuple[str, str]]:
    """Return pictures of a recipe's clips; none where features are given."""
    if recipe.clips is None:
        return []
    return scene_pictures(read_manifest(out / "clips" / recipe.clips.name / "manifest.jsonl"))


@dataclass
class StageTimes:
    """How long each stage took, kept in `experiment.json` with the settings."""

    path: Path
    about: Mapping[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with suppress(OSError, HeliographError, *BROKEN):  # times of old are a courtesy
            with open_regular(self.path) as file:
                stages = json.loads(file.read(MOST_BYTES))["stages"]
            self.seconds |= {str(name): float(seconds) for name, seconds in stages.items()}
        self._write()

    @contextmanager
    def __call__(self, name: str, *, anew: bool = True) -> Iterator[None]:
        """Time a stage; one that finds its work done (`anew` false) keeps the time of before."""
        began = time.monotonic()
        yield
        if anew:
            self.seconds[name] = round(time.monotonic() - began, 1)
            log(f"    {name}: {format_duration(self.seconds[name])}")
            self._write()

    def _write(self) -> None:
        content = dict(self.about) | {
            "stages": self.seconds,
            "seconds": round(sum(self.seconds.values()), 1),
        }
        atomic_write(self.path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _about(
    recipe: Recipe, options: RunOptions, views: Mapping[str, ViewFeatures]
) -> dict[str, Any]:
    clips = recipe.clips
    return {
        "experiment": recipe.name,
        "title": recipe.title,
        "clips": None if clips is None else vars(clips) | {"folder": clips.name},
        "views": {name: str(view) for name, view in views.items()},
        "features": str(options.features) if clips is None else None,
        "runs": {run.name: dict(run.settings) for run in recipe.trainings},
        "device": options.device,
        "cores": default_workers(),
        "versions": package_versions("heliograph", "torch", "numpy"),
        "recipe": recipe.text,
    }


# Clips and features


def _views(recipe: Recipe, names: tuple[str, ...]) -> dict[str, ViewFeatures]:
    """Return how the features of each view are made, by its name; wrong values fail at once."""
    if recipe.clips is None:
        return {}
    if len(names) > len(recipe.views):
        takes = "one backbone" if len(recipe.views) == 1 else f"{len(recipe.views)} backbones"
        raise InvalidValueError(
            f"{recipe.name} takes {takes}, not {len(names)}: {', '.join(names)}"
        )
    left = (names[-1] if names else None,) * (len(recipe.views) - len(names))
    return {
        view.name: ViewFeatures.of(view, name)
        for view, name in zip(recipe.views, (*names, *left), strict=True)
    }


def _caches(
    recipe: Recipe,
    out: Path,
    options: RunOptions,
    views: Mapping[str, ViewFeatures],
    stages: StageTimes,
) -> dict[str, Path]:
    """Return the cache of each view, or the one that is given, by name."""
    scene = recipe.clips
    if scene is None:
        require_features(recipe, options.features)
        assert options.features is not None
        return {"features": _given(out, options.features)}
    backbones.resolve_device(options.device)
    folder = out / "clips" / scene.name
    with stages("clips", anew=not (folder / "manifest.jsonl").exists()):
        clips = make_clips(
            folder, scene.scene, grid=scene.grid, per_cell=scene.per_cell, seconds=scene.seconds
        )
    caches: dict[str, Path] = {}
    for name, view in views.items():
        caches[name] = out / "features" / f"{scene.name}-{view.name}.h5"
        if view.has_all(caches[name], clips):
            continue
        with stages(f"features of {name}"):
            model = view.load(device=options.device, hub_dir=options.hub_dir)
            extract_features(clips, caches[name], backbone=model, sampling=view.sampling)
    return caches


def require_features(recipe: Recipe, file: Path | None) -> None:
    """Check that a recipe which needs a feature file is given one that has its properties.

    Raises:
        HeliographError: it is not, or the file cannot be read.
    """
    if recipe.clips is not None:
        return
    if file is None:
        raise InvalidValueError(
            f"{recipe.name} needs {recipe.given}: give the file (.pt or .h5) with --features"
        )
    labels = import_features(file).labels if file.suffix == ".pt" else cache.info(file)["labels"]
    for training in recipe.trainings:
        for name in training.settings["properties"]:
            if name not in labels:
                raise HeliographError(
                    f"{file} is not what {recipe.name} needs, {recipe.given}: it has no {name}, "
                    f"its labels are {', '.join(labels) or 'none'}"
                )


def _given(out: Path, file: Path) -> Path:
    """Return the cache that the user gives, or make one of the paper's file that they give."""
    if file.suffix != ".pt":
        return file
    target = out / "features" / f"{file.stem}.h5"
    if not target.exists():
        cache.save(import_features(file), target)
    elif cache.info(target)["fingerprint"].get("sha256") != sha256_file(file):
        raise HeliographError(f"{target} was made of another {file.name}: choose another --out")
    return target


# Runs


def _train(
    training: RunRecipe,
    caches: Mapping[str, Path],
    folder: Path,
    options: RunOptions,
    stages: StageTimes,
) -> Run:
    agents = training.settings.get("agents")
    seen = dict.fromkeys(agents) if isinstance(agents, list) else caches
    finished = (folder / "metrics.json").exists() and not options.overwrite
    with stages(f"training {training.name}", anew=not finished), ProgressBar(training.name) as bar:
        return train(
            [f"{name}={caches[name]}" for name in seen],
            folder,
            control=training.control is not None,
            device=options.device,
            resume=not options.overwrite,
            overwrite=options.overwrite,
            progress=bar.update,
            **training.settings,
        )


def _scored_runs(training: RunRecipe, run: Run) -> list[tuple[str, Run, Mapping[str, PaperNumber]]]:
    """Return the run and its holistic control: title, run, and the paper's numbers."""
    runs = [(training.title, run, training.paper)]
    if training.control is not None:
        control = Run.open(run.folder / CONTROL)
        runs.append((training.control.title, control, training.control.paper))
    return runs


def _examine(run: Run, recipe: Recipe, stages: StageTimes) -> None:
    """Evaluate a run and write its report, unless both exist."""
    name = run.folder.relative_to(stages.path.parent / "runs").as_posix()
    asked, metrics = dict(recipe.evaluation), run.metrics()
    outcome, action = asked.pop("outcome", None), asked.pop("action", None)
    wanted = ["baselines", *(["outcome"] if outcome else [])]
    wanted += ["controls"] if asked.get("controls") else []
    missing = any(getattr(metrics, part) is None for part in wanted)
    with stages(f"evaluation {name}", anew=missing):
        if missing:
            evaluate(run.folder, outcome=(outcome, action) if outcome else None, **asked)
    report = run.folder / "report.html"
    if missing or not report.exists():
        with stages(f"report {name}"):
            write_report(run.folder)


def _publish(
    result: ExperimentResult, about: Mapping[str, Any], scene: Sequence[tuple[str, str]]
) -> None:
    rows = [line.to_json() for line in result.lines]
    atomic_write(result.folder / "table.csv", as_csv(result.lines))
    atomic_write(
        result.folder / "table.json", json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    )
    page = render(result.recipe, result.lines, about, result.seconds, result.claims, scene)
    atomic_write(result.folder / "report.html", page)
    if result.claims:
        text = claims_page(result.recipe.title, result.claims, result.folder)
        atomic_write(result.folder / PAGE, text)
