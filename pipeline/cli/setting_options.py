"""The options of `heliograph train` that are settings of a run: made from `TrainConfig` itself."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import click

from data.errors import InvalidValueError
from pipeline.cli.configuration import ConfiguredCommand
from pipeline.cli.numbers import FiniteNumber, WholeNumber

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


class GroupedOption(click.Option):
    """An option that is under a heading of its own in the command's help."""

    def __init__(self, *words: Any, group: str = "Options", **settings: Any) -> None:
        super().__init__(*words, **settings)
        self.group = group


grouped_option = functools.partial(click.option, cls=GroupedOption)


class SettingsCommand(ConfiguredCommand):
    """A command with an option for each setting, its options under headings in the help.

    The options are made when they are needed first. Settings that only some games have need the
    games, which load torch: they are made for words that no other option has, and for --game.
    """

    def __init__(self, *words: Any, **settings: Any) -> None:
        super().__init__(*words, **settings)
        self.with_settings = self.with_games = False

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return all parameters that are needed until now."""
        if not self.with_settings:
            self.params += setting_options()
            self.with_settings = True
        return super().get_params(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words, with the options of games if there may be one among them."""
        known = {word for param in self.get_params(ctx) for word in _words_of(param)} - {"--game"}
        words = {word.partition("=")[0] for word in args if word.startswith("--")}
        if words - known:
            self._add_games()
        return super().parse_args(ctx, args)

    def find_parameter(self, ctx: click.Context, key: str) -> click.Parameter | None:
        """Return the parameter of a key in a file, with the options of games if need be."""
        found = super().find_parameter(ctx, key)
        if found is None:
            self._add_games()
            found = super().find_parameter(ctx, key)
        return found

    def values_of(self, origin: str) -> dict[str, Any]:
        """Return the options that made a run."""
        from pipeline.training import options_of_run

        return options_of_run(origin)

    def _add_games(self) -> None:
        if not self.with_games:
            self.params += game_options()
            self.with_games = True

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group, in the order in which they first appear."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                groups.setdefault(getattr(param, "group", "Options"), []).append(record)
        for name in sorted(groups, key="Options".__eq__):  # --help itself comes last
            with formatter.section(name):
                formatter.write_dl(groups[name])


def _words_of(param: click.Parameter) -> list[str]:
    return [*param.opts, *param.secondary_opts]


def setting_options() -> list[click.Option]:
    """Return an option for every setting of `TrainConfig`."""
    from pipeline.config import Group, TrainConfig, setting_fields

    agents = GroupedOption(
        ["--agents"],
        type=Agents(),
        metavar="N|NAME,...",
        group=Group.AGENTS,
        help="How many agents; agents of one cache share its time steps in order. Or the cache of "
        "each, by the file's stem or as NAME=PATH: vjepa,dino,vjepa,dino. [2]",
    )
    tie_margin = GroupedOption(
        ["--tie-margin", "tie_margin"],
        multiple=True,
        type=Margin(),
        group=Group.GAME,
        help="Values of a property that differ by no more are a tie; repeatable. [mass=0.5 (grams; "
        "paper), others 0]",
    )
    settings = [_option(name, field) for name, field in setting_fields(TrainConfig).items()]
    return [agents, *settings, tie_margin]


def game_options() -> list[click.Option]:
    """Return an option for every setting that only some games have."""
    from pipeline.config import TrainConfig
    from pipeline.training import known_settings

    fields = known_settings()
    return [_option(name, fields[name]) for name in fields if name not in TrainConfig.model_fields]


def _option(name: str, field: FieldInfo) -> GroupedOption:
    from pipeline.config import group_of

    dashed = name.replace("_", "-")
    words = f"--{dashed}/--no-{dashed}" if field.annotation is bool else f"--{dashed}"
    return GroupedOption(
        [words],
        default=None,
        group=group_of(field),
        help=f"{field.description} {_defaults(name, field)}",
        **_type(name, field),
    )


def _type(name: str, field: FieldInfo) -> dict[str, Any]:
    """Return the type of an option as click takes it, and its metavar."""
    if name in ("channel", "game"):
        return {"type": Registered(name), "metavar": "NAME"}
    if get_origin(field.annotation) is Literal:
        return {"type": click.Choice(get_args(field.annotation))}
    if field.annotation is int:
        return {"type": WholeNumber(**_bounds(field)), "metavar": "N"}
    if field.annotation is float:
        return {"type": FiniteNumber(**_bounds(field)), "metavar": "X"}
    return {}


def _bounds(field: FieldInfo) -> dict[str, Any]:
    """Return the bounds of a number, as click takes them."""
    from annotated_types import Ge, Gt

    bounds: dict[str, Any] = {}
    for bound in field.metadata:
        if isinstance(bound, Ge):
            bounds["min"] = bound.ge
        elif isinstance(bound, Gt):
            bounds |= {"min": bound.gt, "min_open": True}
    return bounds


def _defaults(name: str, field: FieldInfo) -> str:
    """Return what a setting is unless it is given: one value, or that of each preset."""
    from pipeline.config import PRESETS, preset_settings

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


class Registered(click.ParamType):
    """The name of a channel or game, each in a file of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name."""
        from pipeline.training import setting_choices

        if value not in (choices := setting_choices(self.name)):
            self.fail(f"no {self.name} {value!r}: choose one of {', '.join(choices)}", param, ctx)
        return value


class Agents(click.ParamType):
    """How many agents, or the name of each one's cache: `vjepa,dino` (or `vjepa+dino`)."""

    name = "agents"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[str, ...]:
        """Return an int, or a tuple of names."""
        from pipeline.config import parse_agents

        if not isinstance(value, str):
            return value
        try:
            return parse_agents(value)
        except InvalidValueError as error:
            self.fail(str(error), param, ctx)


class Margin(click.ParamType):
    """`PROPERTY=WIDTH`: values that differ by no more are a tie."""

    name = "property=width"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Return (property, width)."""
        name, _, width = str(value).rpartition("=")
        try:
            if name and 0 <= float(width) < math.inf:
                return name, float(width)
        except ValueError:
            pass
        self.fail(f"{value!r} is not PROPERTY=WIDTH, as in mass=0.5", param, ctx)
