"""Progress, on a terminal of 80 columns and in a log."""

import io
import re

import pytest
from rich.console import Console

from pipeline.console import ProgressBar, format_duration


def test_a_log_has_a_line_every_so_often(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("pipeline.console.progress.time.monotonic", lambda: clock[0])
    with ProgressBar("clips") as bar:
        for second in range(1, 31):
            clock[0] = float(second)
            bar.update(second, 30, "1 failed")
    assert capsys.readouterr().err.splitlines() == [
        "clips: 10/30, 20 s left, 1 failed",
        "clips: 20/30, 10 s left, 1 failed",
        "clips: 30/30, 1 failed",
    ]


def test_durations_are_short():
    assert [format_duration(seconds) for seconds in (5, 65, 7300)] == [
        "5 s",
        "1 min 05 s",
        "2 h 01 min",
    ]


def screen(monkeypatch: pytest.MonkeyPatch, *, width: int, note: str) -> list[str]:
    """The lines that a terminal shows at the end."""
    shown = io.StringIO()
    terminal = Console(file=shown, width=width, force_terminal=True, legacy_windows=False)
    monkeypatch.setattr("pipeline.console.progress.Console", lambda file: terminal)
    with ProgressBar("clips") as bar:
        bar.update(12345, 20600, note, seconds_left=4000)
    last = shown.getvalue().rpartition("\x1b[2K")[2]
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last).splitlines()


def test_a_bar_fits_into_80_columns_with_its_note_in_the_next_line(monkeypatch):
    note = "12300 done, 45 failed, 1234 frames/s, bottleneck: backbone"
    bar, below = screen(monkeypatch, width=80, note=note)
    assert bar.startswith("clips ")
    assert bar.split()[-5:] == ["12345/20600", "1", "h", "06", "min", "left"][-5:]
    assert "12345/20600 1 h 06 min left" in bar
    assert len(bar) <= 80
    assert below == f"  {note}"


def test_a_narrow_terminal_cuts_the_note_and_wraps_nothing(monkeypatch):
    lines = screen(monkeypatch, width=60, note="12300 done, " * 10)
    assert len(lines) == 2
    assert all(len(line) <= 60 for line in lines)
    assert lines[1].endswith("…")


def test_without_a_note_a_bar_is_one_line(monkeypatch):
    assert len(screen(monkeypatch, width=80, note="")) == 1
