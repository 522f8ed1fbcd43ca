"""The `probe` command: what is known of video files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline.cli.options import (
    PATH,
    SOME_CLIPS_FAILED,
    as_json,
    reading_limits,
)
from pipeline.console import echo, echo_json, log

HELP_ORDER = 130


@click.command()
@click.argument("files", nargs=-1, type=PATH, required=True)
@reading_limits
@as_json
def probe(files: tuple[Path, ...], as_json: bool) -> None:
    """Say what is known of video FILES.

    Frames, times, structure, damage, and which decoders agree.
    """
    from data.video import VideoInfo, describe, probe_files

    failed = False
    for found in probe_files(files):
        if not isinstance(found, VideoInfo):
            failed = True
            log(f"failed: {found}")
            continue
        if as_json:
            echo_json(found.to_json())
        else:
            for line in describe(found).split("\n"):
                echo(line)
    if failed:
        sys.exit(SOME_CLIPS_FAILED if len(files) > 1 else 1)
