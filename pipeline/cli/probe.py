"""The `probe` command: what is known of video files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline.cli.options import (
    PATH,
    SOME_CLIPS_FAILED,
    as_json,
)
from pipeline.console import echo, echo_json, log

HELP_ORDER = 130


@click.command()
@click.argument("files", nargs=-1, type=PATH, required=True)
@as_json
def probe(files: tuple[Path, ...], as_json: bool) -> None:
    """Say what is known of video FILES.

    Frames, times, structure, damage, and which decoders agree.
    """
    from data.video import VideoError, describe
    from data.video import probe as look

    failed = False
    for file in files:
        try:
            found = look(file)
        except VideoError as error:
            failed = True
            log(f"failed: {error}")
            continue
        if as_json:
            echo_json(found.to_json())
        else:
            for line in describe(found).split("\n"):
                echo(line)
    if failed:
        sys.exit(SOME_CLIPS_FAILED if len(files) > 1 else 1)
