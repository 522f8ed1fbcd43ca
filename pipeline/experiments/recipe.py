"""Recipes: an experiment as a file of settings, never a script of its own.

A recipe is a TOML file; ours are in `pipeline/experiments/recipes`, and `heliograph experiment`
also takes the path of yours. Every key that it may have:

    title, question, note    what the report says above and below the table
    given = "..."            it needs features from files (--features): which ones, in words
    [clips]                  else it makes clips: scene, grid, per_cell, seconds
    [views.NAME]             features of the clips: so many `frames`, or `steps`, or `still` (one
                             frame); `pool`, an output as of `heliograph extract`; `backbone` and
                             `weights` ("random"), where --backbone does not say. Where features
                             are given, a file
    [views.NAME] of = "..."  what another view has, with its steps in the random `order` of this
                             number, or so many steps in a row `averaged`, or with a label more:
                             `without = ["mass", "volume"]` is mass_without_volume, what a straight
                             line through the volumes leaves of the masses
    [train]                  settings of `heliograph train` for every run
    [evaluate]               permutations, outcome and action, controls, as `heliograph evaluate`
    [measures]               path in metrics.json = "what it is": lines of the second table
    [[runs]]                 name, title, settings of this run alone
    [runs.paper]             accuracy or a measure = ["the paper's number", "its source"]
    [runs.control]           also train the holistic control: title, paper
    [[claims]]               what others say of such runs, and how it is measured: `Claim`

A mistake in it is one sentence, before anything is made.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, PlainValidator, ValidationError, create_model
from pydantic_core import ErrorDetails

from data.errors import HeliographError, InvalidValueError
from data.files import open_regular
from data.simulate import SCENES
from data.wording import meant
from pipeline.config import (
    StrictModel,
    TrainConfig,
    build_config,
    holistic,
    matched_bandwidth,
    sentence,
    with_control,
)
from pipeline.experiments.claim import Claim
from pipeline.runs import has_key
from pipeline.training import group_game_settings, known_settings

MOST_BYTES = 1 << 20
NAMES = (
    "ramp", "collision", "vocabulary", "agents", "heterogeneous", "holistic", "phase87",
    "paper-ramp", "windows", "ramp-80", "three-backbones", "matched-frames", "residual-mass",
    "claims",
)  # fmt: skip
DERIVED = ("of", "order", "averaged", "without")
"""Keys of a view that is made from another."""
FEATURES = "features"
"""The only features of a recipe without views."""
ACCURACY = "accuracy"
"""Stands for the three accuracies of the first table among a run's numbers of the paper."""


# The tables of the file


class ClipSettings(StrictModel):
    """Clips to make: every pair of `grid` levels of the scene's two properties."""

    scene: str
    grid: int = 5
    per_cell: int = 12
    seconds: float = 2.0

    @property
    def name(self) -> str:
        """Name of the folder; clips that are made otherwise are in another.

        >>> ClipSettings(scene="ramp").name
        'ramp-5x5x12-2s'
        """
        return f"{self.scene}-{self.grid}x{self.grid}x{self.per_cell}-{self.seconds:g}s"


class ViewTable(StrictModel):
    """Features of the clips: of so many frames or time steps, or of the middle frame alone."""

    steps: Annotated[int, Field(ge=1)] | None = None
    frames: Annotated[int, Field(ge=1)] | None = None
    still: bool = False
    pool: str | None = None
    backbone: str | None = None
    weights: Literal["random"] | None = None
    of: str | None = None
    order: Annotated[int, Field(ge=0)] | None = None
    averaged: Annotated[int, Field(ge=2)] | None = None
    without: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None


class PaperNumber(NamedTuple):
    """A number of the paper as it is printed there, and its source."""

    text: str
    source: str


def _paper_number(value: Any) -> PaperNumber:
    if not (isinstance(value, list) and [type(part) for part in value] == [str, str]):
        raise ValueError("not [number, source]")
    return PaperNumber(*value)


PaperNumbers = dict[str, Annotated[PaperNumber, PlainValidator(_paper_number)]]


class HolisticControl(StrictModel):
    """The holistic control of a run."""

    title: str
    paper: PaperNumbers = Field({})


class EvaluationTable(StrictModel):
    """What `evaluate` is asked for."""

    permutations: int | None = None
    outcome: str | None = None
    action: str | None = None
    controls: bool = False


def _optional_settings() -> dict[str, Any]:
    """Return the fields of every setting of `heliograph train`, each of which may be missing."""
    return {
        name: (field.rebuild_annotation() | None, None) for name, field in known_settings().items()
    }


_Settings: Any = create_model("_Settings", __base__=StrictModel, **_optional_settings())


class TrainTable(_Settings):
    """Settings of every run."""

    properties: list[str] | None = None
    preset: str | None = None
    agents: int | list[str] | None = None
    seeds: Annotated[int, Field(ge=1)] | None = None
    matched: bool | None = None


class RunTable(TrainTable):
    """A run, with settings of its own."""

    name: str
    title: str | None = None
    paper: PaperNumbers = Field({})
    control: HolisticControl | None = None


class RecipeFile(StrictModel):
    """A recipe as it is written."""

    title: str
    question: str = ""
    note: str = ""
    given: str | None = None
    clips: ClipSettings | None = None
    views: dict[str, ViewTable] = Field({})
    train: TrainTable
    evaluate: EvaluationTable = EvaluationTable()
    measures: dict[str, str] = Field({})
    runs: list[RunTable]
    claims: list[Claim] = Field([])


TABLES: dict[str, type[BaseModel]] = {
    "": RecipeFile,
    "clips": ClipSettings,
    "views": ViewTable,
    "train": TrainTable,
    "evaluate": EvaluationTable,
    "runs": RunTable,
    "control": HolisticControl,
    "claims": Claim,
}


# What they become


@dataclass(frozen=True, kw_only=True)
class AgentView:
    """Features of the clips that an agent can see, by name.

    Attributes:
        name: as runs call it.
        steps: time steps, unless `frames` are given; None are `STEPS`.
        frames: of a clip.
        still: whether it is of the middle frame alone.
        pool: the output of the backbone; None is its usual one.
        backbone: unless the user names another.
        weights: `random` for untrained ones of this backbone.
        of: the view that it is made from; None: it is made from clips, or given.
        order: the random order of that view's steps.
        averaged: how many of its steps in a row become one.
        without: a label, and the one whose straight line is taken from it.
    """

    name: str
    steps: int | None = None
    frames: int | None = None
    still: bool = False
    pool: str | None = None
    backbone: str | None = None
    weights: str | None = None
    of: str | None = None
    order: int | None = None
    averaged: int | None = None
    without: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """One run: `settings` as `train` takes them."""

    name: str
    title: str
    settings: Mapping[str, Any]
    paper: Mapping[str, PaperNumber]
    control: HolisticControl | None = None

    def sees(self, views: Sequence[str]) -> tuple[str, ...]:
        """Return what its agents see, each once.

        Args:
            views: Of the recipe, by name.
        """
        agents = self.settings.get("agents")
        return tuple(dict.fromkeys(agents if isinstance(agents, list) else views))

    def config(self) -> TrainConfig:
        """Return what it will be trained with.

        Raises:
            InvalidValueError: settings that do not fit together.
        """
        settings = dict(self.settings)
        settings.pop("seeds", None)
        matched, agents = settings.pop("matched", False), settings.pop("agents", None)
        count = agents if isinstance(agents, int | None) else len(agents)
        properties, preset = settings.pop("properties", ()), settings.pop("preset", "default")
        if self.control is not None:
            settings = with_control(settings)
        config = build_config(preset, properties, agents=count, **group_game_settings(settings))
        if self.control is not None:
            holistic(config)
        return matched_bandwidth(config) if matched else config


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An experiment, read and checked."""

    name: str
    title: str
    question: str
    note: str
    clips: ClipSettings | None  # None: features are given
    given: str
    views: tuple[AgentView, ...]
    evaluation: Mapping[str, Any]
    measures: Mapping[str, str]
    trainings: tuple[RunRecipe, ...]
    claims: tuple[Claim, ...]
    text: str

    def __repr__(self) -> str:
        made = self.clips.name if self.clips else "given features"
        return f"Recipe({self.name}: {made}, {len(self.trainings)} runs)"

    @property
    def sources(self) -> tuple[str, ...]:
        """The views that are made from clips, or given, by name; those of others follow."""
        return tuple(view.name for view in self.views if view.of is None) or (FEATURES,)

    def sized(
        self,
        *,
        grid: int | None = None,
        per_cell: int | None = None,
        seeds: int | None = None,
        epochs: int | None = None,
        null: int | None = None,
        properties: Sequence[str] = (),
    ) -> Recipe:
        """Return the recipe in another size; None leaves what the recipe says.

        With fewer epochs than the encoders' own, these are as few; newcomers of claims have ten
        steps for an epoch at most. What does not apply to given features is ignored. Properties
        take the place of those of every run.
        """
        clips = self.clips
        if clips is not None:
            size = {"grid": grid or clips.grid, "per_cell": per_cell or clips.per_cell}
            clips = clips.model_copy(update=size)
        more = {
            "seeds": seeds,
            "epochs": epochs,
            "null": null,
            "properties": list(properties) or None,
        }
        changes = {name: value for name, value in more.items() if value is not None}
        trainings = []
        for run in self.trainings:
            settings = dict(run.settings) | changes
            if epochs is not None:
                settings["oracle_epochs"] = min(run.config().oracle_epochs, epochs)
            trainings.append(dataclasses.replace(run, settings=settings))
        claims = [
            claim if epochs is None else claim.shortened(10 * epochs) for claim in self.claims
        ]
        return dataclasses.replace(
            self, clips=clips, trainings=tuple(trainings), claims=tuple(claims)
        )


def find(name: str) -> Recipe:
    """Return the recipe of this name, or in the file of this path."""
    if name in NAMES:
        ours = resources.files("pipeline.experiments") / "recipes" / f"{name}.toml"
        return parse(ours.read_text(encoding="utf-8"), name, name)
    path = Path(name)
    if path.suffix != ".toml":
        known = ", ".join(NAMES)
        raise InvalidValueError(
            f"no experiment {name!r}: choose one of {known}, all, or the path of a recipe (.toml)"
        )
    try:
        with open_regular(path, follow_links=True) as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.reason
        raise HeliographError(f"{path} cannot be read: {reason}") from error
    if len(content) > MOST_BYTES:
        raise HeliographError(f"{path} is no recipe: it has more than {MOST_BYTES:,} bytes")
    return parse(text, path.stem, str(path))


def parse(text: str, name: str, source: str) -> Recipe:
    """Read a recipe.

    Args:
        text: TOML.
        name: of the experiment.
        source: what errors call the file.

    Raises:
        HeliographError: a mistake in it; the sentence names the file and the part.
    """
    try:
        file = RecipeFile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise HeliographError(f"{source} is not TOML: {error}") from error
    except ValidationError as error:
        unknown_first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise _wrong(source, *_explain(unknown_first[0])) from None
    recipe = Recipe(
        name=name,
        title=file.title,
        question=file.question,
        note=file.note,
        clips=file.clips,
        given=file.given or "",
        views=tuple(AgentView(name=key, **dict(view)) for key, view in file.views.items()),
        evaluation=file.evaluate.model_dump(exclude_unset=True),
        measures=file.measures,
        trainings=tuple(_run_recipe(file.train, run) for run in file.runs),
        claims=tuple(file.claims),
        text=text,
    )
    for part, reason in _mistakes(file, recipe):
        raise _wrong(source, part, reason)
    return recipe


def _run_recipe(shared: TrainTable, run: RunTable) -> RunRecipe:
    settings = run.model_dump(exclude_unset=True, exclude={"name", "title", "paper", "control"})
    return RunRecipe(
        name=run.name,
        title=run.title or run.name,
        settings=shared.model_dump(exclude_unset=True) | settings,
        paper=run.paper,
        control=run.control,
    )


def _explain(details: ErrorDetails) -> tuple[str, str]:
    """Return the part of the file that an error of pydantic is in, and a sentence about it."""
    loc = [str(part) for part in details["loc"]]
    table, part = "", ""
    if loc[0] in ("clips", "train", "evaluate", "measures") and len(loc) > 1:
        table = part = loc.pop(0)
    elif loc[0] == "views" and len(loc) > 2:
        table, part, loc = "views", f"views.{loc[1]}", loc[2:]
    elif loc[0] == "runs" and len(loc) > 2:
        table, part, loc = "runs", f"run {int(loc[1]) + 1}", loc[2:]
    elif loc[0] == "claims" and len(loc) > 2:
        table, part, loc = "claims", f"claim {int(loc[1]) + 1}", loc[2:]
    if table == "runs" and loc[0] == "control" and len(loc) > 1:
        table, loc = "control", loc[1:]
    if loc[0] == "paper" and len(loc) > 1:
        return part, f"{loc[1]} of the paper is not [number, source]"
    if details["type"] == "extra_forbidden":
        known = TABLES[table].model_fields
        hint = meant(loc[0], known, f"the keys are {', '.join(known)}")
        return part, f"no key {loc[0]!r}: {hint}"
    details["loc"] = (loc[0],)
    return part, sentence(details, {})


def _mistakes(file: RecipeFile, recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield what does not fit together: the part of the file, and a sentence."""
    if (file.clips is None) == (file.given is None):
        yield "", "a recipe either makes [clips] or says what is given"
    if file.clips is not None and file.clips.scene not in SCENES:
        yield "clips", f"no scene {file.clips.scene!r}: there are {', '.join(SCENES)}"
    if file.clips is not None and not file.views:
        yield "", "no [views.NAME] says which features to make of the clips"
    for view in recipe.views:
        for reason in _mistakes_of_view(view, recipe):
            yield f"views.{view.name}", reason
    for path in file.measures:
        if not has_key(path):
            yield "measures", f"metrics.json has no {path}"
    if (file.evaluate.outcome is None) != (file.evaluate.action is None):
        yield "evaluate", "outcome and action go together"
    if not file.train.properties:
        yield "train", "properties is missing"
    for number, run in enumerate(recipe.trainings, 1):
        yield from _mistakes_of_run(run, f"run {number}", recipe)
    names = [run.name for run in recipe.trainings]
    views = [view.name for view in recipe.views]
    for number, claim in enumerate(recipe.claims, 1):
        for reason in claim.mistakes(names, views):
            yield f"claim {number}, {claim.name}", reason
    if len({claim.name for claim in recipe.claims}) < len(recipe.claims):
        yield "claims", "every claim needs a name of its own"
    if not names or len(set(names)) < len(names):
        yield "runs", "every run needs a name of its own, and at least one run is needed"


def _mistakes_of_view(view: AgentView, recipe: Recipe) -> Iterator[str]:
    if not view.name.replace("-", "").isalnum():
        yield "a view has a plain name: letters, digits, hyphens"
    own = {name for name, value in vars(view).items() if value is not None and value is not False}
    changes, made = own & {"order", "averaged", "without"}, own - {"name", *DERIVED}
    if len(changes) != (view.of is not None):
        yield "a view of another has one of order, averaged and without"
    if view.of is not None and view.of not in recipe.sources:
        yield f"no view {view.of!r} that it is of: there are {', '.join(recipe.sources)}"
    if made and (view.of is not None or recipe.clips is None):
        yield f"{min(made)} is of features that are made from clips"
    if view.frames is not None and (view.still or view.steps is not None):
        yield f"frames stands alone, without {'still' if view.still else 'steps'}"
    if view.still and "motion" in (view.pool or ""):
        yield f"nothing moves in one frame: still and pool = {view.pool!r} do not go together"
    if view.weights is not None and view.backbone is None:
        yield "weights are those of a backbone, which is missing"


def _mistakes_of_run(run: RunRecipe, part: str, recipe: Recipe) -> Iterator[tuple[str, str]]:
    if not run.name.replace("-", "").isalnum():
        yield part, f"{run.name!r} is no name of a folder: letters, digits, hyphens"
    for path in (*run.paper, *(run.control.paper if run.control else ())):
        if path != ACCURACY and path not in recipe.measures:
            yield part, f"a number of the paper for {path}, which is no measure"
    part = f"{part}, {run.name}"
    try:
        run.config()
    except HeliographError as error:
        yield part, str(error)
    views = [view.name for view in recipe.views]
    agents = run.settings.get("agents")
    for name in run.sees(views):
        if name not in views:
            yield part, f"no view {name!r} to see: there are {', '.join(views) or 'none'}"
    if len(views) > 1 and not isinstance(agents, list):
        yield part, "with several views, agents is a list of what they see"
    if recipe.clips is not None:
        labels = [prop.label for prop in SCENES[recipe.clips.scene].properties]
        for name in run.settings["properties"]:
            if name not in labels:
                yield part, f"no property {name!r}: the scene has {' and '.join(labels)}"


def _wrong(source: str, part: str, reason: str) -> HeliographError:
    return HeliographError(f"{source}, {part}: {reason}" if part else f"{source}: {reason}")
