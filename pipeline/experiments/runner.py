"""Run a recipe end to end: clips, features, agents, evaluation, tables and a page.

    OUT/clips/ramp-5x5x12-2s/            shared by every experiment on the scene
    OUT/features/ramp-....h5             shared too; its name says backbone, output and steps
                                         (neither where features are given, but copies of .pt)
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
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import backbones
from data import cache
from data.errors import BROKEN, HeliographError, InvalidValueError
from data.files import atomic_write, open_regular, sha256_file
from data.interchange import import_features
from data.manifests import read_manifest
from data.simulate import SCENES
from data.versions import package_versions
from pipeline.cluster import Cluster
from pipeline.console import ProgressBar, format_duration, log
from pipeline.evaluation import evaluate
from pipeline.experiments.artifacts import extract_features, make_clips
from pipeline.experiments.claims import PAGE, ClaimResult, claims_page, measure_claims
from pipeline.experiments.derived import derive
from pipeline.experiments.page import render
from pipeline.experiments.recipe import FEATURES, PaperNumber, Recipe, RunRecipe
from pipeline.experiments.tables import ResultRow, as_csv, result_rows
from pipeline.experiments.views import ViewFeatures
from pipeline.extraction import default_workers
from pipeline.report import scene_pictures, write_report
from pipeline.runs import CONTROL, Run
from pipeline.training import Training, train, train_all

MOST_BYTES = 16 << 20  # of experiment.json


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a recipe is run with.

    `backbones`: of its views in their order, the last one for all that are left; none: the views'
    own. `features`: files (.pt of the paper, or caches) by view, "features" where a recipe has no
    views; then no clips are made, and what sees another view is left out. `overwrite`: train runs
    that are there anew. `cluster`: of Ray, whose nodes extract and train, and see the folder.
    """

    backbones: tuple[str, ...] = ()
    device: str = "auto"
    hub_dir: Path | None = None
    features: Mapping[str, Path] = field(default_factory=dict)
    overwrite: bool = False
    cluster: Cluster | None = None


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
    left_out = require_features(recipe, options.features)
    views = {} if _is_given(recipe, options.features) else _views(recipe, options.backbones)
    stages = StageTimes(folder / "experiment.json", _about(recipe, options, views))
    log(f"{recipe.name}: {recipe.title}")
    caches = _caches(recipe, Path(out), options, views, stages)
    lines: list[ResultRow] = []
    for name, reason in left_out.items():
        log(f"  {name} is left out: it {reason}")
    trainings = [training for training in recipe.trainings if training.name not in left_out]
    count = len(trainings)
    result = ExperimentResult(recipe, folder, (), stages.seconds)
    scene = _scene(recipe, Path(out)) if views else []
    if options.cluster is not None:
        _train_there(trainings, caches, folder, options, stages)
        options = dataclasses.replace(options, overwrite=False)
    for number, training in enumerate(trainings, 1):
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
        claims = tuple(measure_claims(recipe.claims, folder, caches, stages, left_out))
        result = dataclasses.replace(result, claims=claims)
        _publish(result, stages.about, scene)
    return result


def _scene(recipe: Recipe, out: Path) -> list[tuple[str, str]]:
    """Return pictures of a recipe's clips."""
    assert recipe.clips is not None
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
    clips = recipe.clips if views else None
    return {
        "experiment": recipe.name,
        "title": recipe.title,
        "clips": None if clips is None else vars(clips) | {"folder": clips.name},
        "views": {name: str(view) for name, view in views.items()},
        "features": {name: str(file) for name, file in options.features.items()} or None,
        "runs": {run.name: dict(run.settings) for run in recipe.trainings},
        "device": options.device,
        "cores": default_workers(),
        "versions": package_versions("heliograph", "torch", "numpy"),
        "recipe": recipe.text,
    }


# Clips and features


def _views(recipe: Recipe, names: tuple[str, ...]) -> dict[str, ViewFeatures]:
    """Return how the features of each view are made, by its name; wrong values fail at once."""
    own = [view for view in recipe.views if view.of is None]
    if len(names) > len(own):
        takes = "one backbone" if len(own) == 1 else f"{len(own)} backbones"
        raise InvalidValueError(
            f"{recipe.name} takes {takes}, not {len(names)}: {', '.join(names)}"
        )
    left = (names[-1] if names else None,) * (len(own) - len(names))
    return {
        view.name: ViewFeatures.of(view, name)
        for view, name in zip(own, (*names, *left), strict=True)
    }


def _caches(
    recipe: Recipe,
    out: Path,
    options: RunOptions,
    views: Mapping[str, ViewFeatures],
    stages: StageTimes,
) -> dict[str, Path]:
    """Return the cache of each view that is made or given, by name, and of those of others."""
    if views:
        caches = _make_caches(recipe, out, options, views, stages)
    else:
        caches = {name: _given(out, file) for name, file in options.features.items()}
    for view in recipe.views:
        if view.of in caches:
            caches[view.name] = derive(view, caches[view.of], out / "features")
    return caches


def _make_caches(
    recipe: Recipe,
    out: Path,
    options: RunOptions,
    views: Mapping[str, ViewFeatures],
    stages: StageTimes,
) -> dict[str, Path]:
    """Return the caches of views of clips, which are made where they are missing."""
    scene = recipe.clips
    assert scene is not None
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
            extract_features(
                clips,
                caches[name],
                backbone=partial(view.load, device=options.device, hub_dir=options.hub_dir),
                sampling=view.sampling,
                cluster=options.cluster,
            )
    return caches


def _is_given(recipe: Recipe, files: Mapping[str, Path]) -> bool:
    return recipe.clips is None or bool(files)


def require_features(recipe: Recipe, files: Mapping[str, Path]) -> dict[str, str]:
    """Check that a recipe has what its runs see, and that these have its properties.

    Args:
        recipe: The recipe.
        files: Of its views, by name; none where it makes clips.

    Returns:
        Why which runs are left out, by name: of the files that they need some are not given.

    Raises:
        HeliographError: A file cannot be read or has not the properties, or no run is left.
    """
    if not _is_given(recipe, files):
        assert recipe.clips is not None
        scene = recipe.clips.scene
        _require_labels(
            recipe, {}, [prop.label for prop in SCENES[scene].properties], f"the scene {scene}"
        )
        return {}
    source = {view.name: view.of or view.name for view in recipe.views}
    views = list(source) or [FEATURES]
    left_out = {}
    for run in recipe.trainings:
        needed = dict.fromkeys(source.get(name, name) for name in run.sees(views))
        lacking = [name for name in needed if name not in files]
        if lacking:
            left_out[run.name] = f"sees {', '.join(lacking)}: {_asked(recipe, lacking)}"
    if len(left_out) == len(recipe.trainings):
        given = recipe.given or "features of its views"
        raise InvalidValueError(f"{recipe.name} needs {given}: {_asked(recipe, recipe.sources)}")
    labels = {label for file in files.values() for label in _labels_of(file)}
    labels |= {"_without_".join(view.without) for view in recipe.views if view.without}
    _require_labels(recipe, left_out, labels, ", ".join(map(str, files.values())))
    return left_out


def _asked(recipe: Recipe, names: Sequence[str]) -> str:
    """Return what to do for features of some views."""
    if recipe.sources == (FEATURES,):
        return "give the file (.pt or .h5) with --features"
    files = " ".join(f"--features {name}=FILE" for name in names)
    return f"give {'it' if len(names) == 1 else 'them'} (.pt or .h5) with {files}"


def _labels_of(file: Path) -> Sequence[str]:
    return list(
        import_features(file).labels if file.suffix == ".pt" else cache.info(file)["labels"]
    )


def _require_labels(
    recipe: Recipe, left_out: Collection[str], labels: Collection[str], where: str
) -> None:
    for training in recipe.trainings:
        for name in training.settings["properties"] if training.name not in left_out else ():
            if name not in labels:
                what = f", {recipe.given}" if recipe.given else ""
                raise HeliographError(
                    f"{where} is not what {recipe.name} needs{what}: it has no {name}, its labels "
                    f"are {', '.join(sorted(labels)) or 'none'}"
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


def _settings(training: RunRecipe, options: RunOptions) -> dict[str, Any]:
    return {
        "control": training.control is not None,
        "device": options.device,
        "resume": not options.overwrite,
        "overwrite": options.overwrite,
        **training.settings,
    }


def _inputs(training: RunRecipe, caches: Mapping[str, Path]) -> list[str]:
    return [f"{name}={caches[name]}" for name in training.sees(list(caches))]


def _train(
    training: RunRecipe,
    caches: Mapping[str, Path],
    folder: Path,
    options: RunOptions,
    stages: StageTimes,
) -> Run:
    finished = (folder / "metrics.json").exists() and not options.overwrite
    with stages(f"training {training.name}", anew=not finished), ProgressBar(training.name) as bar:
        return train(
            _inputs(training, caches), folder, progress=bar.update, **_settings(training, options)
        )


def _train_there(
    trainings: Sequence[RunRecipe],
    caches: Mapping[str, Path],
    folder: Path,
    options: RunOptions,
    stages: StageTimes,
) -> None:
    """Train on a cluster what is not trained yet.

    Raises:
        HeliographError: one of them failed; the others are trained.
    """
    assert options.cluster is not None
    left = [
        one
        for one in trainings
        if options.overwrite or not (folder / "runs" / one.name / "metrics.json").exists()
    ]
    tasks = [
        Training(_inputs(one, caches), folder / "runs" / one.name, _settings(one, options))
        for one in left
    ]
    errors: dict[int, HeliographError] = {}
    with stages("trainings", anew=bool(left)), ProgressBar("trainings") as bar:
        done = train_all(tasks, options.cluster, device=options.device) if tasks else ()
        for count, (number, trained) in enumerate(done, 1):
            bar.update(count, len(tasks), left[number].name)
            if trained.error is not None:
                log(f"    {left[number].name}: {trained.error}")
                errors[number] = trained.error
    if errors:
        raise errors[min(errors)]


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
