"""The options of `heliograph train` that are settings of a run: made from `TrainConfig` itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import click
from annotated_types import Ge, Gt
from pydantic.fields import FieldInfo

from data.errors import HeliographError
from pipeline.config import (
    PRESETS,
    TrainConfig,
    group_of,
    parse_agents,
    preset_settings,
    setting_fields,
)

NUMBERS: dict[Any, tuple[type[click.ParamType], str]] = {
    int: (click.IntRange, "N"),
    float: (click.FloatRange, "X"),
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
    """Add an option for every setting of `TrainConfig`."""
    for name, field in reversed(setting_fields(TrainConfig).items()):
        command = option(*_words(name, field), **_option(name, field))(command)
    return command


def _words(name: str, field: FieldInfo) -> list[str]:
    dashed = name.replace("_", "-")
    return [f"--{dashed}/--no-{dashed}" if field.annotation is bool else f"--{dashed}"]


def _option(name: str, field: FieldInfo) -> dict[str, Any]:
    words: dict[str, Any] = {
        "default": None,
        "group": group_of(field),
        "help": f"{field.description} {_defaults(name, field)}",
    }
    if get_origin(field.annotation) is Literal:
        words["type"] = click.Choice(get_args(field.annotation))
    elif field.annotation in NUMBERS:
        kind, words["metavar"] = NUMBERS[field.annotation]
        words["type"] = kind(**_bounds(field))
    return words


def _bounds(field: FieldInfo) -> dict[str, Any]:
    """The bounds of a number, as click takes them."""
    bounds: dict[str, Any] = {}
    for bound in field.metadata:
        if isinstance(bound, Ge):
            bounds["min"] = bound.ge
        elif isinstance(bound, Gt):
            bounds |= {"min": bound.gt, "min_open": True}
    return bounds


def _defaults(name: str, field: FieldInfo) -> str:
    """What a setting is unless it is given: one value, or that of each preset."""
    presets: dict[str, list[str]] = {}  # value -> the presets that have it
    for preset in PRESETS:
        one, several = (
            _text(preset_settings(preset, several=many).get(name, field.default))
            for many in (False, True)
        )
        value = one if one == several else f"{one}, for several properties {several}"
        presets.setdefault(value, []).append(preset)
    if len(presets) == 1:
        return f"[{next(iter(presets))}]"
    each = [f"{', '.join(names)}: {value}" for value, names in presets.items()]
    return f"[{'; '.join(each)}]"


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
