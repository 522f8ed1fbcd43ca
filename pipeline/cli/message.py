"""The `message` command: the messages of clips."""

from __future__ import annotations

import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click

from data.errors import HeliographError
from data.windows import video_of
from data.wording import counted
from pipeline.cli.options import (
    CLIPS_OR_CACHE,
    INPUT,
    SOME_CLIPS_FAILED,
    HelpGroup,
    as_json,
    examples,
    model_options,
    reading_limits,
    windows,
    windows_of,
)
from pipeline.console import (
    echo,
    echo_json,
    is_terminal,
    log,
    print_record,
    printable,
    warn,
)

HELP_ORDER = 90
HELP_GROUP = HelpGroup.AGENTS
FACTS = ("message", "meaning", "sure", "clip")  # what the cells after the first are, on a terminal


@click.command(
    epilog=examples(
        "heliograph message runs/ours clip.mp4",
        "heliograph message runs/ours clips/ --json > messages.jsonl",
    )
)
@click.argument("run", type=INPUT)
@click.argument("clips", nargs=-1, type=CLIPS_OR_CACHE, required=True)
@windows
@model_options
@reading_limits
@as_json
def message(
    run: Path,
    clips: tuple[Path, ...],
    every: float | None,
    span: float | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Print the messages of CLIPS by the agents of a RUN.

    CLIPS are videos, folders, manifests or caches. Prints a line for each clip, with tabs between
    its columns: the clip, its message, what that means by the lexicon of the run, how likely the
    agents find each symbol (softmax at temperature 1), whether the clip is like those of the
    training, and an estimate of each property: an interval that holds for nine in ten clips of new
    objects, and how likely the third (low, middle, high) is right. Refuses clips whose features
    would be made otherwise than those of the run.

    With `--every` each video is cut into windows, and has a line for each: a timeline on a
    terminal, and elsewhere the same columns, with start and end of the window in seconds after
    them.
    """
    from pipeline.message import load, messages_for

    cut = windows_of(every, span)
    if cut and (caches := [path for path in clips if path.suffix == ".h5"]):
        raise click.UsageError(f"--every cuts videos, and {caches[0]} has its clips already")
    speaker = load(run, **where)
    if speaker.run.unchecked:
        log(speaker.run.unchecked)
    failed = done = False
    missing: set[str] = set()
    timeline = Timeline() if cut and is_terminal(sys.stdout) else None
    for result in messages_for(speaker, clips, windows=cut):
        if isinstance(result, HeliographError):
            failed = True
            warn(f"failed: {result}")
            continue
        done = True
        if as_json:
            echo_json(result.to_json())
        elif timeline is not None:
            timeline.add(result)
        else:
            _show(result)
        for reason in result.missing:
            if reason not in missing:
                missing.add(reason)
                log(reason)
        unfamiliar = result.distance is not None and result.distance.unfamiliar
        if unfamiliar and (timeline is None or as_json):  # a timeline marks it
            unlike = f"{result.clip} is unlike anything in the training"
            warn(f"warning: {unlike}: do not trust its message")
    if timeline is not None and timeline.unfamiliar:
        warn(
            f"warning: {counted(timeline.unfamiliar, 'window')} marked ? are unlike anything in "
            "the training: do not trust their messages"
        )
    if failed:
        sys.exit(SOME_CLIPS_FAILED if done else 1)


class Timeline:
    """The messages of windows as a timeline of 80 columns: a heading a video, a line a window.

    A window that is unlike anything in the training is marked by a question mark.

    Attributes:
        unfamiliar: How many are.
    """

    WIDTH = 80

    def __init__(self) -> None:
        self.unfamiliar = 0
        self._video = ""

    def add(self, message: Any) -> None:
        """Print the line of a window."""
        video = video_of(message.clip)
        if video != self._video:
            self._video = video
            echo(video)
        strange = message.distance is not None and message.distance.unfamiliar
        self.unfamiliar += strange
        start, end = message.window
        head = f"{clock_time(start)}-{clock_time(end)} {'?' if strange else ' '} {message}"
        line = printable(f"{head}  {message.meaning}".rstrip())
        echo(line if len(line) <= self.WIDTH else f"{line[: self.WIDTH - 3]}...")


def clock_time(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds, to a hundredth.

    >>> clock_time(2.5), clock_time(3723.0)
    ('0:00:02.50', '1:02:03.00')
    """
    hundredths = round(seconds * 100)
    hours, rest = divmod(hundredths, 360_000)
    minutes, rest = divmod(rest, 6_000)
    return f"{hours}:{minutes:02d}:{rest // 100:02d}.{rest % 100:02d}"


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
        *([] if message.window is None else map("{:.10g}".format, message.window)),
    ]
