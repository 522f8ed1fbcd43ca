"""Commands about what a run says: message."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from data.errors import HeliographError
from pipeline.options import PATH, SOME_CLIPS_FAILED, as_json, model_options
from pipeline.terminal import log


@click.command()
@click.argument("run", type=PATH)
@click.argument("clips", nargs=-1, type=PATH, required=True)
@model_options
@as_json
def message(run: Path, clips: tuple[Path, ...], as_json: bool, **where: Any) -> None:
    """What the agents of a RUN say of CLIPS (videos, folders, manifests, or caches).

    Refuses clips whose features would be made otherwise than those of the run.
    """
    from pipeline import message as stage

    speaker = stage.load(run, **where)
    failed = False
    for said in stage.speak_all(speaker, clips):
        if isinstance(said, HeliographError):
            failed = True
            log(f"failed: {said}")
        else:
            click.echo(json.dumps(said.to_json()) if as_json else f"{said.clip}\t{said}")
    sys.exit(SOME_CLIPS_FAILED if failed else 0)
