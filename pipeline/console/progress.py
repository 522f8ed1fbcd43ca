"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from pipeline.console.output import (
    Loudness,
    Stderr,
    is_dumb,
    is_terminal,
    log,
    loudness,
    printable,
)

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

LOG_EVERY_SECONDS = 10.0  # at first; of a long stage a thirtieth of the time that it has taken
LOG_AT_LEAST_EVERY_SECONDS = 300.0
BAR_WIDTH = 30  # characters; with count and time left a line fits into 80
REST_WIDTH = 50  # of a narrow terminal that is not for the bar


class ProgressBar:
    """The progress of a stage, to be used in a `with` statement.

    On a terminal it is a bar, how many are done, the time left and the title, with a note in the
    line below. What does not fit is cut at the end. Elsewhere, as in a log, on a terminal that
    cannot redraw a line (`TERM=dumb`) and where the variable `CI` is set, it is a line every ten
    seconds, later fewer, and one at the end.
    """

    def __init__(self, title: str, *, may_be_quick: bool = False, in_percent: bool = False) -> None:
        """Prepare the bar.

        Args:
            title: says what is counted, or in percent what is done.
            may_be_quick: a log has no line of a stage that is over before the first is due.
            in_percent: show percent of the total in place of the two numbers.
        """
        self.title = printable(title)
        self._in_percent = in_percent
        self._may_be_quick = may_be_quick
        self._began = self._last_line = time.monotonic()
        self._logged = -1  # how many were done when the last line was written
        self._console: Console | None = None
        self._live: Live | None = None
        self._signs = ("#", "-")
        self._done, self._total = 0, 0
        self._left = self._note = ""

    def __enter__(self) -> ProgressBar:
        """Show the bar, on a terminal."""
        redraws = is_terminal(sys.stderr) and not is_dumb() and not os.environ.get("CI")
        if redraws and loudness() is not Loudness.QUIET:
            from rich.console import Console
            from rich.live import Live

            self._console = Console(file=Stderr(), force_terminal=True, highlight=False)
            self._signs = _signs(getattr(sys.stderr, "encoding", None) or "utf-8")
            self._live = Live(
                console=self._console,
                get_renderable=self._lines,
                refresh_per_second=10,
                redirect_stdout=is_terminal(sys.stdout),  # data for a file are not for it
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bar as it is."""
        if self._live is not None:
            self._live.stop()

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
        passed = now - self._began
        if seconds_left is None and done:
            seconds_left = passed / done * (total - done)
        left = (
            "" if seconds_left is None or done >= total else f"{format_duration(seconds_left)} left"
        )
        every = min(max(LOG_EVERY_SECONDS, passed / 30), LOG_AT_LEAST_EVERY_SECONDS)
        if self._live is not None:
            self._done, self._total, self._left, self._note = done, total, left, printable(note)
            return
        ends = done == total and not (self._may_be_quick and self._logged < 0)
        if done != self._logged and (ends or now - self._last_line >= every):
            self._last_line, self._logged = now, done
            counts = f"{self.title}: {self._counts(done, total)}"
            log(", ".join(part for part in (counts, left, note) if part))

    def _counts(self, done: int, total: int) -> str:
        if not total:
            return "..."
        return f"{100 * done // total} %" if self._in_percent else f"{done}/{total}"

    def _lines(self) -> Group:
        """Return what the terminal shows now."""
        from rich.console import Group
        from rich.text import Text

        assert self._console is not None  # there is a terminal
        width = max(8, min(BAR_WIDTH, self._console.width - REST_WIDTH))
        full = width * self._done // self._total if self._total else 0
        whole, rest = self._signs
        counts = self._counts(self._done, self._total)
        line = Text.assemble(
            (whole * full, "green"),
            (rest * (width - full), "dim"),
            "  ".join(["", *filter(None, (counts, self._left, self.title))]),
        )
        lines = [line, Text(f"  {self._note}")] if self._note else [line]
        for shown in lines:
            shown.no_wrap, shown.overflow = True, "ellipsis"
        return Group(*lines)


def _signs(encoding: str) -> tuple[str, str]:
    """Return what the finished part of a bar and the rest are drawn with, in an encoding."""
    signs = ("━", "─")
    try:
        "".join(signs).encode(encoding)
    except (UnicodeError, LookupError):
        return "#", "-"
    return signs


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
