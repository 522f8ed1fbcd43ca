"""The options of `heliograph train` that are settings of a run: made from `TrainConfig` itself."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import click

from data.errors import HeliographError
from pipeline.config import CHOICES, LEAST, PRESETS, TrainConfig, parse_agents, preset_settings

TYPES: dict[str, Callable[[Any], click.ParamType]] = {
    "int": lambda least: click.IntRange(least),
    "float": lambda least: click.FloatRange(least or 0, min_open=least is None),
}


class GroupedOption(click.Option):
    """An option that stands under a heading of its own in the command's help."""

    def __init__(self, *words: Any, group: str = "Options", **settings: Any) -> None:
        super().__init__(*words, **settings)
        self.group = group


option = functools.partial(click.option, cls=GroupedOption)


class GroupedCommand(click.Command):
    """A command whose help shows its options under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes a section for each group, in the order in which they first appear."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                groups.setdefault(getattr(param, "group", "Options"), []).append(record)
        for name in sorted(groups, key="Options".__eq__):  # --help itself comes last
            with formatter.section(name):
                formatter.write_dl(groups[name])


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for every setting of `TrainConfig` that says of itself what it is."""
    for field in reversed(dataclasses.fields(TrainConfig)):
        if "help" in field.metadata:
            command = option(*_words(field), **_option(field))(command)
    return command


def _words(field: dataclasses.Field[Any]) -> list[str]:
    dashed = field.name.replace("_", "-")
    return [f"--{dashed}/--no-{dashed}" if field.type == "bool" else f"--{dashed}"]


def _option(field: dataclasses.Field[Any]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "default": None,
        "group": field.metadata["group"],
        "help": f"{field.metadata['help']} {_defaults(field)}",
    }
    if field.name in CHOICES:
        said["type"] = click.Choice(CHOICES[field.name])
    elif field.type in TYPES:
        said["type"] = TYPES[str(field.type)](LEAST.get(field.name))
        said["metavar"] = "N" if field.type == "int" else "X"
    return said


def _defaults(field: dataclasses.Field[Any]) -> str:
    """What a setting is unless it is given: one value, or that of each preset."""
    presets: dict[str, list[str]] = {}  # value -> the presets that have it
    for preset in PRESETS:
        one, several = (
            _text(preset_settings(preset, several=many).get(field.name, field.default))
            for many in (False, True)
        )
        value = one if one == several else f"{one}, for several properties {several}"
        presets.setdefault(value, []).append(preset)
    if len(presets) == 1:
        return f"[{next(iter(presets))}]"
    said = [f"{', '.join(names)}: {value}" for value, names in presets.items()]
    return f"[{'; '.join(said)}]"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


class Agents(click.ParamType):
    """How many agents, or the name of each one's cache: `vjepa,dino` (or `vjepa+dino`)."""

    name = "agents"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[str, ...]:
        """An int, or a tuple of names."""
        if not isinstance(value, str):
            return value
        try:
            return parse_agents(value)
        except HeliographError as error:
            self.fail(str(error), param, ctx)


class Margin(click.ParamType):
    """`PROPERTY=WIDTH`: values that differ by no more are a tie."""

    name = "property=width"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """(property, width)."""
        name, _, width = str(value).rpartition("=")
        try:
            if name:
                return name, float(width)
        except ValueError:
            pass
        self.fail(f"{value!r} is not PROPERTY=WIDTH, as in mass=0.5", param, ctx)
