"""The `heliograph` command: one file of this package for each command, found by its name.

A command is a module with a click command called like the file, `HELP_ORDER`, its place in the list
of commands, and `HELP_GROUP`, its heading there. Each stage is a function elsewhere; commands are
only its words.

stdout carries data, stderr carries logs and progress. Exit codes: 0 all done, 1 failed, 2 wrong
usage, 3 done but some clips failed.
"""

from __future__ import annotations

import pkgutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from data.errors import HeliographError, InvalidValueError, OutOfMemoryError, StoppedError
from pipeline.cli.options import CommandGroup, examples
from pipeline.console import (
    Loudness,
    OutputError,
    flush_out,
    loudness,
    printable,
    set_loudness,
    show_log_of,
    warn,
)

STOPPED = 130  # the exit code after Ctrl-C: 128 and the number of SIGINT
GPU_ADVICE = {"batch": "a smaller --batch", "device": "another --device"}
OTHERS = "Others"  # heading of commands without a `HELP_GROUP`
MEMORY_ADVICE = {"batch": "a smaller --batch", "workers": "fewer --workers"}


class Commands(CommandGroup):
    """Finds commands by their files, and turns errors that users can act on into a sentence."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of the commands, in the order in which people need them."""
        names = [found.name for found in pkgutil.iter_modules(sys.modules[__package__].__path__)]
        modules = {name: _module(name) for name in names}
        commands = [name for name in names if hasattr(modules[name], "HELP_ORDER")]
        commands.sort(key=lambda name: modules[name].HELP_ORDER)
        return [name.replace("_", "-") for name in commands]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return the command of a file; None where there is no such file."""
        file = name.replace("-", "_")
        if not file.isidentifier() or "_" in name or find_spec(f"pipeline.cli.{file}") is None:
            return None
        module = _module(file)
        return getattr(module, file) if hasattr(module, "HELP_ORDER") else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group of commands, in the order in which they first appear."""
        groups: dict[str, list[str]] = {}
        for name in self.list_commands(ctx):
            module = _module(name.replace("-", "_"))
            groups.setdefault(getattr(module, "HELP_GROUP", OTHERS), []).append(name)
        width = max(len(name) for names in groups.values() for name in names)
        for heading, names in groups.items():
            rows = []
            for name in names:
                command = self.get_command(ctx, name)
                assert command is not None  # it has a file
                help_width = formatter.width - formatter.current_indent - width - 4
                rows.append((name.ljust(width), command.get_short_help_str(help_width)))
            with formatter.section(heading):
                formatter.write_dl(rows)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line; exit code 1 where stdout or stderr takes nothing more."""
        try:
            return super().main(*args, **extra)
        except OSError:  # click printed an error
            sys.exit(1)
        finally:
            try:
                flush_out()
            except OutputError as error:
                warn(f"Error: {error}")
                sys.exit(1)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the words of the command line, or print the help."""
        set_loudness(Loudness.NORMAL)
        with _sentences(self):
            return super().make_context(*args, **extra)

    def invoke(self, context: click.Context) -> Any:
        """Run the command: exit code 2 for a wrong value, 1 for what else users can mend."""
        with _sentences(self, context):
            return super().invoke(context)


@contextmanager
def _sentences(commands: Commands, context: click.Context | None = None) -> Iterator[None]:
    """Have click print a sentence, with the right exit code, for an error that users can act on."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort):
        raise  # no error: looking for its kind would load the backbones
    except KeyboardInterrupt as error:
        raise _Stopped(_how_to_go_on(commands, context)) from error
    except Exception as error:
        shown = _click_error(error) or _machine_error(error, commands, context)
        if shown is not None:
            vars(shown)["message"] = printable(shown.message)
        if shown is None or shown is error:
            raise
        if loudness() is Loudness.VERBOSE:
            for line in "".join(traceback.format_exception(error)).splitlines():
                warn(line)
        raise shown from error


def _click_error(error: Exception) -> click.ClickException | None:
    """Return an error as click prints it; None for a fault of the program."""
    match error:
        case click.ClickException():
            return error
        case StoppedError():
            return _Stopped(str(error))
        case InvalidValueError():
            return click.UsageError(str(error))
        case HeliographError() if not isinstance(error, OutOfMemoryError):
            return click.ClickException(str(error))
        case OSError():
            return click.ClickException(_sentence_of(error))
    return None


class _Stopped(click.ClickException):
    """What click prints after Ctrl-C, with the exit code of shells for it."""

    exit_code = STOPPED


def _how_to_go_on(commands: Commands, context: click.Context | None) -> str:
    with_resume = "resume" in _options_of(commands, context)
    return f"interrupted: run the same command {'with --resume' if with_resume else 'again'}"


def _options_of(commands: Commands, context: click.Context | None) -> set[str | None]:
    """Return the names of the options of the command that is run."""
    name = context.invoked_subcommand if context else None
    command = commands.get_command(context, name) if context and name else None
    return {parameter.name for parameter in command.params} if command else set()


def _machine_error(
    error: Exception, commands: Commands, context: click.Context | None
) -> click.ClickException | None:
    """Return the sentence for a lack of memory or a broken GPU, with what to do; None for others.

    The advice names the options that the command has.
    """
    from backbones import machine_error

    found = machine_error(error)
    if not isinstance(found, OutOfMemoryError):
        return click.ClickException(str(found)) if found else None
    options = _options_of(commands, context)
    choices = GPU_ADVICE if "GPU" in str(found) else MEMORY_ADVICE
    advice = [text for option, text in choices.items() if option in options]
    if not advice:
        advice = ["a machine with more"]
    return click.ClickException(f"{found}: try {' or '.join(advice)}")


def _sentence_of(error: OSError) -> str:
    """Return what failed and why."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{error.filename}: {reason}"
    try:
        flush_out()
    except OutputError as unwritten:  # click printed the help
        return str(unwritten)
    return reason


def _module(file: str) -> Any:
    return import_module(f"pipeline.cli.{file}")


CONTEXT = {
    "max_content_width": 100,
    "show_default": True,
    "help_option_names": ["-h", "--help"],
}


@click.group(
    cls=Commands,
    context_settings=CONTEXT,
    epilog=examples("heliograph demo", "heliograph COMMAND --help"),
)
@click.version_option(None, "-V", "--version", package_name="heliograph")
def main() -> None:
    """Turn raw video into short discrete messages about the physics in it."""
    for package in ("backbones", "data"):
        show_log_of(package)
