"""The `message` command: the messages of clips."""

from __future__ import annotations

import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click

from data.errors import HeliographError
from pipeline.cli.options import (
    PATH,
    SOME_CLIPS_FAILED,
    HelpGroup,
    as_json,
    examples,
    model_options,
    reading_limits,
)
from pipeline.console import echo, echo_json, is_terminal, log, print_record, warn

HELP_ORDER = 90
HELP_GROUP = HelpGroup.AGENTS
FACTS = ("message", "meaning", "sure", "clip")  # what the cells after the first are, on a terminal


@click.command(
    epilog=examples(
        "heliograph message runs/ours clip.mp4",
        "heliograph message runs/ours clips/ --json > messages.jsonl",
    )
)
@click.argument("run", type=PATH)
@click.argument("clips", nargs=-1, type=PATH, required=True)
@model_options
@reading_limits
@as_json
def message(run: Path, clips: tuple[Path, ...], as_json: bool, **where: Any) -> None:
    """Print the messages of CLIPS by the agents of a RUN.

    CLIPS are videos, folders, manifests or caches. Prints a line a clip, its columns parted by
    tabs: the clip, its message, what that means by the lexicon of the run, how likely the agents
    find each symbol (softmax at temperature 1), whether the clip is like those of the training, and
    an estimate of each property: an interval that holds for nine in ten clips of new objects, and
    how likely the third (low, middle, high) is right. Refuses clips whose features would be made
    otherwise than those of the run.
    """
    from pipeline.message import load, messages_for

    speaker = load(run, **where)
    if speaker.run.unchecked:
        log(speaker.run.unchecked)
    failed = False
    missing: set[str] = set()
    for result in messages_for(speaker, clips):
        if isinstance(result, HeliographError):
            failed = True
            warn(f"failed: {result}")
            continue
        if as_json:
            echo_json(result.to_json())
        else:
            _show(result)
        for reason in result.missing:
            if reason not in missing:
                missing.add(reason)
                log(reason)
        if result.distance is not None and result.distance.unfamiliar:
            unlike = f"{result.clip} is unlike anything in the training"
            warn(f"warning: {unlike}: do not trust its message")
    sys.exit(SOME_CLIPS_FAILED if failed else 0)


def _show(message: Any) -> None:
    """Print a message: for people in two columns under the clip, for programs in one line."""
    cells = _cells(message)
    if not is_terminal(sys.stdout):
        echo(*cells)
        return
    strange = message.distance is not None and message.distance.unfamiliar
    facts = zip_longest(FACTS[: len(cells) - 1], cells[1:], fillvalue="")
    print_record(cells[0], facts, colour="yellow" if strange else "cyan")


def _cells(message: Any) -> list[str]:
    confidence = " | ".join(
        " ".join(f"{100 * p:.0f} %" for p in agent) for agent in message.confidence
    )
    return [
        message.clip,
        str(message),
        message.meaning or "-",
        confidence,
        str(message.distance or "-"),
        " | ".join(map(str, message.readings or ())) or "-",
    ]
