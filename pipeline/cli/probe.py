"""The `probe` command: what is known of video files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline.cli.options import (
    CLIPS,
    SOME_CLIPS_FAILED,
    HelpGroup,
    as_json,
    examples,
    reading_limits,
)
from pipeline.console import ProgressBar, echo, echo_json, warn

HELP_ORDER = 130
HELP_GROUP = HelpGroup.FEATURES


@click.command(epilog=examples("heliograph probe clip.mp4", "heliograph probe clips/*.mp4 --full"))
@click.argument("files", nargs=-1, type=CLIPS, required=True)
@click.option(
    "--full", is_flag=True, help="Decode every frame: finds all damage, and compares decoders."
)
@reading_limits
@as_json
def probe(files: tuple[Path, ...], full: bool, as_json: bool) -> None:
    """Say what video FILES hold.

    Frames, times, structure, colour, and what is wrong with the file. Says what it did not check:
    only --full decodes more than a frame.
    """
    from data.video import VideoInfo, describe, probe_files

    failed = 0
    with ProgressBar("files", may_be_quick=True) as bar:
        for done, found in enumerate(probe_files(files, decode=full), 1):
            if not isinstance(found, VideoInfo):
                failed += 1
                warn(f"failed: {found}")
            elif as_json:
                echo_json(found.to_json())
            else:
                for line in describe(found).split("\n"):
                    echo(line)
            bar.update(done, len(files))
    if failed:
        sys.exit(SOME_CLIPS_FAILED if failed < len(files) else 1)
