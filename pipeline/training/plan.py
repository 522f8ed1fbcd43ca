"""What a training is to be, from caches and words: settings, seeds, clips and their splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import HeliographError, InvalidValueError
from pipeline.config import TrainConfig, build_config, matched_bandwidth, with_control
from pipeline.dataset import (
    Examples,
    RunInputs,
    Split,
    build_examples,
    left_out_sentence,
    read_inputs,
)
from pipeline.runs import MOST_SEEDS, settle_objects
from pipeline.training.diagnostics import missing_axes, require_labelled
from pipeline.training.labels import (
    describe_labels,
    require_labels_that_differ,
    require_learnable_scale,
)
from pipeline.training.settings import group_game_settings


@dataclass(frozen=True, eq=False)
class Plan:
    """A training to come.

    Attributes:
        config: Its settings.
        seeds: Their numbers.
        inputs: What its caches hold.
        examples: The clips that it reads.
        splits: Of each seed.
        same_content: As `settle_objects` found it.
        about_labels: Sentences about the labels.
    """

    config: TrainConfig
    seeds: Sequence[int]
    inputs: RunInputs
    examples: Examples
    splits: list[Split]
    same_content: list[str]
    about_labels: list[str]

    def __repr__(self) -> str:
        return f"Plan({len(self.seeds)} seeds, {self.examples})"


def plan_run(
    caches: Path | str | Sequence[Path | str],
    *,
    properties: Sequence[str] = (),
    preset: str = "default",
    seeds: int | Sequence[int] = 10,
    agents: int | Sequence[str] | None = None,
    matched: bool = False,
    control: bool = False,
    allow_leaks: bool = False,
    log: Callable[[str], None],
    **settings: Any,
) -> Plan:
    """Return the plan of a training; the arguments are those of `train`.

    Raises:
        HeliographError: A wrong name, too few objects, or labels that nothing can be learned from.
    """
    paths, sees = name_caches([caches] if isinstance(caches, Path | str) else caches, agents)
    inputs = read_inputs(paths)
    for name, reasons in inputs.left_out.items():
        log(left_out_sentence(name, reasons))
    inputs, united, same_content = settle_objects(inputs, allow_leaks=allow_leaks)
    if united:
        log(united)
    names = tuple(properties) or tuple(inputs.clips.labels)
    if not names:
        raise HeliographError(
            f"{' and '.join(map(str, paths.values()))} has no labels, so there is nothing to learn:"
            " `heliograph cache label` takes them from a table"
        )
    config = build_config(
        preset,
        names,
        agents=agents if isinstance(agents, int | None) else len(agents),
        sees=sees or None,
        **group_game_settings(with_control(settings) if control else settings),
    )
    if matched:
        config = matched_bandwidth(config)
    if isinstance(seeds, int):
        if seeds > MOST_SEEDS:
            raise InvalidValueError(f"seeds must be at most {MOST_SEEDS:,}, got {seeds}")
        seeds = range(seeds)
    if not seeds:
        raise InvalidValueError("a run needs at least one seed")
    examples = build_examples(
        inputs.caches, config.properties, " and ".join(map(str, paths.values()))
    )
    require_labelled(examples, config.properties, tuple(paths.values()))
    require_labels_that_differ(inputs, config, examples)
    require_learnable_scale(inputs, config)
    for sentence in (about_labels := describe_labels(inputs, config)):
        log(sentence)
    splits = [examples.split(config.split, seed) for seed in seeds]
    if settings.get("axes"):
        for sentence in missing_axes(inputs, config, splits):
            log(sentence)
    return Plan(config, seeds, inputs, examples, splits, same_content, about_labels)


def name_caches(
    caches: Sequence[Path | str], agents: int | Sequence[str] | None
) -> tuple[dict[str, Path], tuple[int, ...]]:
    """The caches by name, and the number of the cache that each agent sees.

    Names are the stems of the files, or given as `NAME=PATH`; `agents` may give a cache as
    `NAME=PATH` too. With a single cache and a number of agents the second part is empty. Raises
    HeliographError for a name of two files, or for none.
    """
    named: dict[str, Path] = {}
    for text in map(str, caches):
        _add(named, *_name_and_path(text))
    if agents is None or isinstance(agents, int):
        if len(named) > 1:
            raise InvalidValueError(
                f"several caches given: assign one per agent, e.g. --agents {','.join(named)}"
            )
        return named, ()
    seen = []
    for text in agents:
        name, path = _name_and_path(text)
        if path is not None and "=" in text:
            _add(named, name, path)
        else:
            name = text
        if name not in named:
            raise InvalidValueError(
                f"no cache is called {name!r}: the caches are {', '.join(named)}; "
                "another is given as NAME=PATH"
            )
        seen.append(name)
    unseen = [name for name in named if name not in seen]
    if unseen:
        raise InvalidValueError(f"no agent sees {', '.join(unseen)}")
    order = list(named)
    return named, tuple(order.index(name) for name in seen) if len(order) > 1 else ()


def _name_and_path(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if separator and name and "/" not in name and not Path(text).exists():
        return name, Path(path)
    return Path(text).stem, Path(text)


def _add(named: dict[str, Path], name: str, path: Path) -> None:
    if named.setdefault(name, path) != path:
        raise InvalidValueError(
            f"two caches are called {name!r}, {named[name]} and {path}: give one as NAME=PATH"
        )
