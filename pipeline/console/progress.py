"""What people see while a stage works: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
)

LOG_EVERY_SECONDS = 10.0
LOG_WIDTH = 100  # columns of a table that is not on a terminal


class Bar:
    """A progress bar on stderr; where stderr is no terminal, a line every ten seconds instead."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._console = Console(stderr=True)
        self._began = self._last_line = time.monotonic()
        self._said = -1
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Bar:
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.fields[note]}"),
                console=self._console,
            )
            self._progress.start()
            self._task = self._progress.add_task(self.title, total=None, note="", left="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(
        self, done: int, total: int, note: str = "", *, seconds_left: float | None = None
    ) -> None:
        """Says how far it is; `note` is what else is worth knowing now.

        seconds_left: where the caller knows better than the pace so far.
        """
        now = time.monotonic()
        if seconds_left is None and done:
            seconds_left = (now - self._began) / done * (total - done)
        left = "" if seconds_left is None or done >= total else f"{duration(seconds_left)} left"
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total, note=note, left=left)
        elif done != self._said and (done == total or now - self._last_line >= LOG_EVERY_SECONDS):
            self._last_line, self._said = now, done
            log(", ".join(part for part in (f"{self.title}: {done}/{total}", left, note) if part))


def duration(seconds: float) -> str:
    """A time that people wait, in two units at most.

    >>> [duration(seconds) for seconds in (0.4, 59.6, 3599, 9000, 200000)]
    ['0 s', '1 min 00 s', '59 min 59 s', '2 h 30 min', '55 h 33 min']
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def log(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)
