"""The `heliograph` command: one file of this package for each command, found by its name.

A command is a module with a click command called like the file, and `HELP_ORDER`, its place in the
list of commands. Each stage is a function elsewhere; commands are only its words.

stdout carries data, stderr carries logs and progress. Exit codes: 0 all done, 1 failed, 2 wrong
usage, 3 done but some clips failed.
"""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from data.errors import HeliographError, InvalidValueError


class Commands(click.Group):
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

    def invoke(self, context: click.Context) -> Any:
        """Run the command: exit code 2 for a wrong value, 1 for what else users can mend."""
        try:
            return super().invoke(context)
        except InvalidValueError as error:
            raise click.UsageError(str(error)) from error
        except HeliographError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.filename is None:
                raise
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error
        except Exception as error:
            raise _click_error(error) from error


def _click_error(error: Exception) -> Exception:
    """Return an error of the backbones as click prints it; any other as it is."""
    from backbones import BackboneError, BackboneValueError

    if isinstance(error, BackboneValueError):
        return click.UsageError(str(error))
    return click.ClickException(str(error)) if isinstance(error, BackboneError) else error


def _module(file: str) -> Any:
    return import_module(f"pipeline.cli.{file}")


@click.group(cls=Commands, context_settings={"max_content_width": 100, "show_default": True})
@click.version_option(package_name="heliograph")
def main() -> None:
    """Turn raw video into short discrete messages about the physics in it."""
