"""The `heliograph` command. Each stage is a function elsewhere; commands are only its words.

stdout carries data, stderr carries logs and progress. Exit codes: 0 all done, 1 failed, 2 wrong
usage, 3 done but some clips failed.
"""

from __future__ import annotations

from typing import Any

import click

from data.errors import HeliographError, InvalidValueError
from pipeline.cli.agents import demo, import_checkpoint, train
from pipeline.cli.cache import cache
from pipeline.cli.data import backbones, doctor, probe, simulate
from pipeline.cli.experiment import experiment
from pipeline.cli.extract import extract, phase87
from pipeline.cli.index import index
from pipeline.cli.messages import message, report
from pipeline.cli.options import InOrder
from pipeline.cli.results import compare, evaluate


class Commands(InOrder):
    """Turns what users can act on into one sentence and exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        from backbones import BackboneError

        try:
            return super().invoke(context)
        except InvalidValueError as error:
            raise click.UsageError(str(error)) from error
        except (HeliographError, BackboneError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.filename is None:
                raise
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error


@click.group(cls=Commands, context_settings={"max_content_width": 100, "show_default": True})
@click.version_option(package_name="heliograph")
def main() -> None:
    """Turn raw video into short discrete messages about the physics in it."""


for command in (
    demo, simulate, index, extract, cache, train, evaluate, compare, message, report, experiment,
    phase87, probe, backbones, doctor, import_checkpoint,
):  # fmt: skip
    main.add_command(command)
