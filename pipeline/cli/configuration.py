"""Options of a command in a TOML file: `--config` reads one, `--print-config` prints one.

A key is the long name of an option (`sender_lr` or `sender-lr`) or of an argument (`clips`). What
may be given several times is a list, and KEY=VALUE a table: `tie_margin = {mass = 0.5}`.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from data.files import open_regular
from data.wording import meant
from pipeline.cli.options import PATH
from pipeline.console import echo

COMMENT_WIDTH = 96
APART = {"config", "print_config", "from", "help"}  # keys that no file has


class ConfiguredCommand(click.Command):
    """A command whose options may stand in a TOML file; those of the command line win."""

    def __init__(self, *words: Any, **settings: Any) -> None:
        super().__init__(*words, **settings)
        self.params += [
            click.Option(
                ["--config"],
                type=PATH,
                metavar="FILE",
                expose_value=False,
                help="Options in a TOML file; those of the command line win.",
            ),
            click.Option(
                ["--print-config"],
                is_flag=True,
                expose_value=False,
                help="Print all options as such a file, and do nothing else.",
            ),
        ]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words, with the values of the file for options that they do not have."""
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        if "help" in given or ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        texts: dict[str, Any] = {}
        if origin := given.get("origin"):
            texts |= self._texts(ctx, f"--from {origin}", self.values_of(origin))
        if config := given.get("config"):
            texts |= self._texts(ctx, str(config), read_config(Path(config)))
        ctx.default_map = texts
        if "print_config" in given:
            self._print(ctx, given)
            ctx.exit()
        return super().parse_args(ctx, args)

    def values_of(self, origin: str) -> dict[str, Any]:
        """Return the options that made something, by key; for commands with an option `--from`."""
        raise NotImplementedError

    def find_parameter(self, ctx: click.Context, key: str) -> click.Parameter | None:
        """Return the parameter of a key; None where there is none."""
        known = {_key(param): param for param in self.get_params(ctx)}
        name = key.replace("-", "_")
        return None if name in APART else known.get(name)

    def _texts(self, ctx: click.Context, place: str, table: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a file by the parameter's name, as they would be typed, checked."""
        texts = {}
        for key, value in table.items():
            param = self.find_parameter(ctx, key)
            if param is None or param.name is None:
                names = {_key(known) for known in self.get_params(ctx)} - APART
                hint = meant(key.replace("-", "_"), names, f"see {ctx.command_path} --help")
                raise click.UsageError(f"{place}: there is no option {key!r}: {hint}")
            try:
                texts[param.name] = _typed_text(param, value)
                param.type_cast_value(ctx, texts[param.name])
            except (click.BadParameter, ValueError) as error:
                reason = error.message if isinstance(error, click.BadParameter) else error
                raise click.UsageError(f"{place}: {key}: {reason}") from None
        return texts

    def _print(self, ctx: click.Context, given: Mapping[str, Any]) -> None:
        """Print every option with its value; what has none is a comment."""
        echo(f"# {ctx.command_path} --config FILE")
        for param in self.get_params(ctx):
            if _key(param) in APART:
                continue
            echo()
            for line in textwrap.wrap(getattr(param, "help", None) or "", COMMENT_WIDTH):
                echo(f"# {line}")
            value, _ = param.consume_value(ctx, given)
            if param.value_is_missing(value):
                typed = False if getattr(param, "is_bool_flag", False) else None
            else:
                typed = param.type_cast_value(ctx, value)
            empty = typed is None or typed == ()
            echo(f"# {_key(param)} =" if empty else f"{_key(param)} = {_toml(typed)}")


def read_config(path: Path) -> dict[str, Any]:
    """Return the table of a TOML file.

    Raises:
        click.UsageError: it is no TOML.
        UnsafeFileError: it is no ordinary file.
        OSError: it cannot be read.
    """
    import tomllib

    with open_regular(path, follow_links=True) as file:
        content = file.read()
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise click.UsageError(f"{path} is no TOML: {error}") from None


def _key(param: click.Parameter) -> str:
    """Return the name of a parameter in a file."""
    name = max(param.opts, key=len) if isinstance(param, click.Option) else param.name or ""
    return name.lstrip("-").replace("-", "_")


def _typed_text(param: click.Parameter, value: Any) -> Any:
    """Return a value of TOML as it would be typed: a text, several of them, or a yes or no.

    Raises:
        ValueError: it cannot be typed, or only once or as yes or no.
    """
    if isinstance(param, click.Option) and param.is_flag:
        if not isinstance(value, bool):
            raise ValueError(f"{_toml(value)} is neither true nor false")
        return value
    if isinstance(value, Mapping):
        texts = [f"{key}={_joined(each)}" for key, each in value.items()]
    else:
        texts = [_text(each) for each in (value if isinstance(value, list) else [value])]
    return (
        texts
        if (isinstance(param, click.Option) and param.multiple) or param.nargs != 1
        else (",".join(texts))
    )


def _joined(value: Any) -> str:
    return ",".join(map(_text, value if isinstance(value, list) else [value]))


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{_toml(value)} is neither a text nor a number")
    return str(value)


def _toml(value: Any) -> str:
    """Return a value as TOML has it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(_toml(each) for each in _words(value))}]"
        case Mapping():
            return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _words(values: Sequence[Any]) -> Iterator[Any]:
    """Yield values, a pair of a name and a number as NAME=NUMBER."""
    for value in values:
        yield f"{value[0]}={value[1]!r}" if isinstance(value, tuple) else value
