"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from pipeline.console.output import Stderr, log, printable

LOG_EVERY_SECONDS = 10.0
BAR_WIDTH = 30  # characters; with title, counts and time a line fits into 80


class ProgressBar:
    """The progress of a stage, to be used in a `with` statement.

    On a terminal it is a bar, with a note in the line below. Elsewhere, as in a log, it is a line
    every ten seconds and one at the end.
    """

    def __init__(self, title: str) -> None:
        """Prepare the bar; `title` says what is counted."""
        self.title = printable(title)
        self._console = Console(file=Stderr())
        self._began = self._last_line = time.monotonic()
        self._logged = -1  # how many were done when the last line was written
        self._progress: _ProgressWithNote | None = None
        self._task = TaskID(0)

    def __enter__(self) -> ProgressBar:
        """Show the bar, on a terminal."""
        if self._console.is_terminal:
            self._progress = _ProgressWithNote(
                TextColumn("{task.description}", markup=False),
                BarColumn(BAR_WIDTH),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
                console=self._console,
            )
            self._progress.start()
            self._task = self._progress.add_task(self.title, total=None, left="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bar as it is."""
        if self._progress is not None:
            self._progress.stop()

    def update(
        self, done: int, total: int, note: str = "", *, seconds_left: float | None = None
    ) -> None:
        """Show how far the stage is.

        Args:
            done: how many are finished.
            total: how many there are.
            note: what else is worth knowing now.
            seconds_left: None to estimate it from the pace so far.
        """
        now = time.monotonic()
        if seconds_left is None and done:
            seconds_left = (now - self._began) / done * (total - done)
        left = (
            "" if seconds_left is None or done >= total else f"{format_duration(seconds_left)} left"
        )
        if self._progress is not None:
            self._progress.note = printable(note)
            self._progress.update(self._task, completed=done, total=total, left=left)
        elif done != self._logged and (done == total or now - self._last_line >= LOG_EVERY_SECONDS):
            self._last_line, self._logged = now, done
            log(", ".join(part for part in (f"{self.title}: {done}/{total}", left, note) if part))


class _ProgressWithNote(Progress):
    """Rich's progress with a note in a line of its own, cut at the edge of the terminal."""

    note = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the line with the bar and, if there is one, the note."""
        yield from super().get_renderables()
        if self.note:
            yield Text(f"  {self.note}", no_wrap=True, overflow="ellipsis")


def format_duration(seconds: float) -> str:
    """Return a time as text, in two units at most.

    >>> [format_duration(seconds) for seconds in (0.4, 59.6, 3599, 9000, 200000)]
    ['0 s', '1 min 00 s', '59 min 59 s', '2 h 30 min', '55 h 33 min']
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
