"""Recipes: an experiment as a file of settings, never a script of its own.

A recipe is a TOML file; ours stand in `pipeline/recipes`, and `heliograph experiment` also takes
the path of yours. Every key that it may have:

    title, question, note    what the report says above and below the table
    given = "..."            it needs features from a file (--features): which ones, in words
    [clips]                  else it makes clips: scene, grid, per_cell, seconds
    [views.NAME]             features of the clips: `steps` time steps, or `still` (one frame)
    [train]                  settings of `heliograph train` for every run
    [evaluate]               permutations, outcome and action, controls, as `heliograph evaluate`
    [measures]               path in metrics.json = "what it is": lines of the second table
    [[runs]]                 name, title, settings of this run alone
    [runs.paper]             accuracy or a measure = ["the paper's number", "where it stands"]
    [runs.control]           train the holistic control beside it: title, paper

A mistake in it is one sentence, before anything is made.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from data.errors import HeliographError, InvalidValueError
from data.simulate import SCENES
from pipeline.config import (
    TrainConfig,
    build_config,
    holistic,
    matched_bandwidth,
    with_control,
)
from pipeline.runs import has_key
from pipeline.training import group_game_settings, known_settings

NAMES = ("ramp", "collision", "vocabulary", "agents", "heterogeneous", "holistic", "phase87")
ACCURACY = "accuracy"
"""Stands for the three accuracies of the first table among a run's numbers of the paper."""


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """Clips to make: every pair of `grid` levels of the scene's two properties."""

    scene: str
    grid: int = 5
    per_cell: int = 12
    seconds: float = 2.0

    @property
    def name(self) -> str:
        """Of the folder: clips made otherwise stand in another.

        >>> ClipSettings(scene="ramp").name
        'ramp-5x5x12-2s'
        """
        return f"{self.scene}-{self.grid}x{self.grid}x{self.per_cell}-{self.seconds:g}s"


@dataclass(frozen=True, kw_only=True)
class AgentView:
    """Features of the clips: so many time steps, or of the middle frame alone."""

    name: str
    steps: int = 8
    still: bool = False


@dataclass(frozen=True)
class PaperNumber:
    """A number of the paper, as it says it, and where it stands."""

    says: str
    place: str


@dataclass(frozen=True, kw_only=True)
class HolisticControl:
    """The holistic control of a run."""

    title: str
    paper: Mapping[str, PaperNumber]


@dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """One run: `settings` as `train` takes them."""

    name: str
    title: str
    settings: Mapping[str, Any]
    paper: Mapping[str, PaperNumber]
    control: HolisticControl | None = None

    def config(self) -> TrainConfig:
        """What it will be trained with; raises HeliographError for settings that do not fit."""
        own = dict(self.settings)
        own.pop("seeds", None)
        matched, agents = own.pop("matched", False), own.pop("agents", None)
        count = agents if isinstance(agents, int | None) else len(agents)
        properties, preset = own.pop("properties", ()), own.pop("preset", "default")
        if self.control is not None:
            own = with_control(own)
        config = build_config(preset, properties, agents=count, **group_game_settings(own))
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
    text: str

    def __repr__(self) -> str:
        made = self.clips.name if self.clips else "given features"
        return f"Recipe({self.name}: {made}, {len(self.trainings)} runs)"

    def sized(
        self,
        *,
        grid: int | None = None,
        per_cell: int | None = None,
        seeds: int | None = None,
        epochs: int | None = None,
    ) -> Recipe:
        """The same, larger or smaller; None leaves what the recipe says.

        With fewer epochs than the encoders' own, these are as few. What does not apply to given
        features is left aside.
        """
        clips = self.clips
        if clips is not None:
            clips = dataclasses.replace(
                clips, grid=grid or clips.grid, per_cell=per_cell or clips.per_cell
            )
        more = {"seeds": seeds, "epochs": epochs}
        changes = {name: value for name, value in more.items() if value is not None}
        trainings = []
        for own in self.trainings:
            settings = dict(own.settings) | changes
            if epochs is not None:
                settings["oracle_epochs"] = min(own.config().oracle_epochs, epochs)
            trainings.append(dataclasses.replace(own, settings=settings))
        return dataclasses.replace(self, clips=clips, trainings=tuple(trainings))


def find(name: str) -> Recipe:
    """The recipe of this name, or in the file of this path."""
    if name in NAMES:
        file = resources.files("pipeline.experiments") / "recipes" / f"{name}.toml"
        return parse(file.read_text(encoding="utf-8"), name, name)
    path = Path(name)
    if path.suffix != ".toml":
        known = ", ".join(NAMES)
        raise InvalidValueError(
            f"no experiment {name!r}: choose one of {known}, all, or the path of a recipe (.toml)"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.reason
        raise HeliographError(f"{path} cannot be read: {reason}") from error
    return parse(text, path.stem, str(path))


def parse(text: str, name: str, source: str) -> Recipe:
    """Reads a recipe; raises HeliographError, naming `source` and the place, for a wrong one."""
    try:
        return _Reader(source).recipe(tomllib.loads(text), name, text)
    except tomllib.TOMLDecodeError as error:
        raise HeliographError(f"{source} is not TOML: {error}") from error


Kinds = Mapping[str, type | tuple[type, ...]]

_RECIPE: Kinds = {
    "title": str, "question": str, "note": str, "given": str, "clips": dict, "views": dict,
    "train": dict, "evaluate": dict, "measures": dict, "runs": list,
}  # fmt: skip
_CLIPS: Kinds = {"scene": str, "grid": int, "per_cell": int, "seconds": (int, float)}
_VIEW: Kinds = {"steps": int, "still": bool}
_EVALUATE: Kinds = {"permutations": int, "outcome": str, "action": str, "controls": bool}
_KINDS: dict[Any, type | tuple[type, ...]] = {
    int: int, float: (int, float), bool: bool,
}  # fmt: skip
_TRAIN: Kinds = {
    "properties": list, "preset": str, "agents": (int, list), "seeds": int, "matched": bool,
    **{
        name: _KINDS.get(field.annotation, str)
        for name, field in known_settings().items()
    },
}  # fmt: skip
_RUN: Kinds = {"name": str, "title": str, "paper": dict, "control": dict} | dict(_TRAIN)


class _Reader:
    """Reads the parts of a recipe; every complaint names the file and the part."""

    def __init__(self, source: str) -> None:
        self.source = source

    def recipe(self, table: Mapping[str, Any], name: str, text: str) -> Recipe:
        found = self.table(table, _RECIPE, "", needs=("title", "train", "runs"))
        if ("clips" in found) == ("given" in found):
            raise self.wrong("", "a recipe either makes [clips] or says what is given")
        clips = self.clips(found["clips"]) if "clips" in found else None
        views = self.views(found.get("views", {}))
        if clips is not None and not views:
            raise self.wrong("", "no [views.NAME] says which features to make of the clips")
        measures = self.table(found.get("measures", {}), None, "measures")
        for path in measures:
            if not has_key(path):
                raise self.wrong("measures", f"metrics.json has no {path}")
        evaluation = self.table(found.get("evaluate", {}), _EVALUATE, "evaluate")
        if ("outcome" in evaluation) != ("action" in evaluation):
            raise self.wrong("evaluate", "outcome and action go together")
        shared = self.table(found["train"], _TRAIN, "train", needs=("properties",))
        trainings = tuple(
            self.training(own, shared, number, measures)
            for number, own in enumerate(found["runs"], 1)
        )
        names = [own.name for own in trainings]
        if not names or len(set(names)) < len(names):
            raise self.wrong("runs", "every run needs a name of its own, and one is the least")
        recipe = Recipe(
            name=name,
            title=found["title"],
            question=found.get("question", ""),
            note=found.get("note", ""),
            clips=clips,
            given=found.get("given", ""),
            views=views,
            evaluation=evaluation,
            measures=measures,
            trainings=trainings,
            text=text,
        )
        self.names_fit(recipe)
        return recipe

    def clips(self, table: Mapping[str, Any]) -> ClipSettings:
        clips = ClipSettings(**self.table(table, _CLIPS, "clips", needs=("scene",)))
        if clips.scene not in SCENES:
            raise self.wrong("clips", f"no scene {clips.scene!r}: there are {', '.join(SCENES)}")
        return clips

    def views(self, tables: Mapping[str, Any]) -> tuple[AgentView, ...]:
        found = []
        for name, table in tables.items():
            where = f"views.{name}"
            view = AgentView(name=name, **self.table(table, _VIEW, where))
            if view.steps < 1 or not name.replace("-", "").isalnum():
                raise self.wrong(where, "a view has a plain name and at least one step")
            found.append(view)
        return tuple(found)

    def training(
        self,
        table: Mapping[str, Any],
        shared: Mapping[str, Any],
        number: int,
        measures: Mapping[str, str],
    ) -> RunRecipe:
        where = f"run {number}"
        found = self.table(table, _RUN, where, needs=("name",))
        name, title = found.pop("name"), found.pop("title", None)
        if not name.replace("-", "").isalnum():
            raise self.wrong(where, f"{name!r} is no name of a folder: letters, digits, hyphens")
        paper = self.paper(found.pop("paper", {}), where, measures)
        control = None
        if "control" in found:
            beside = self.table(
                found.pop("control"), {"title": str, "paper": dict}, where, needs=("title",)
            )
            theirs = self.paper(beside.get("paper", {}), where, measures)
            control = HolisticControl(title=beside["title"], paper=theirs)
        own = RunRecipe(
            name=name,
            title=title or name,
            settings=dict(shared) | found,
            paper=paper,
            control=control,
        )
        try:
            own.config()
        except HeliographError as error:
            raise self.wrong(f"{where}, {name}", str(error)) from error
        return own

    def paper(
        self, table: Mapping[str, Any], where: str, measures: Mapping[str, str]
    ) -> dict[str, PaperNumber]:
        numbers = {}
        for path, value in table.items():
            if path != ACCURACY and path not in measures:
                raise self.wrong(where, f"a number of the paper for {path}, which is no measure")
            if not (isinstance(value, list) and [type(one) for one in value] == [str, str]):
                raise self.wrong(where, f"{path} of the paper is not [number, place]")
            numbers[path] = PaperNumber(*value)
        return numbers

    def names_fit(self, recipe: Recipe) -> None:
        """Agents see views that there are; the scene has the properties."""
        views = [view.name for view in recipe.views]
        for own in recipe.trainings:
            agents = own.settings.get("agents")
            seen = agents if isinstance(agents, list) else views
            stray = [name for name in seen if name not in views]
            if stray:
                known = ", ".join(views) or "none"
                raise self.wrong(own.name, f"no view {stray[0]!r} to see: there are {known}")
            if len(views) > 1 and not isinstance(agents, list):
                raise self.wrong(own.name, "with several views, agents is a list of what they see")
            if recipe.clips is not None:
                labels = [one.label for one in SCENES[recipe.clips.scene].properties]
                for name in own.settings["properties"]:
                    if name not in labels:
                        there = " and ".join(labels)
                        raise self.wrong(own.name, f"no property {name!r}: the scene has {there}")

    def table(
        self, table: Any, kinds: Kinds | None, where: str, needs: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """A table whose keys and types are right; `kinds` None: any keys, all of them texts."""
        if not isinstance(table, dict):
            raise self.wrong(where, "not a table")
        for key, value in table.items():
            if kinds is not None and key not in kinds:
                raise self.wrong(where, f"no key {key!r}: the keys are {', '.join(kinds)}")
            kind = str if kinds is None else kinds[key]
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise self.wrong(where, f"{key} cannot be {value!r}")
        for key in needs:
            if key not in table:
                raise self.wrong(where, f"{key} is missing")
        return dict(table)

    def wrong(self, where: str, what: str) -> HeliographError:
        place = f"{self.source}, {where}" if where else self.source
        return HeliographError(f"{place}: {what}")
