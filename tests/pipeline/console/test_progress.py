"""Progress, on a terminal of 80 columns and in a log."""

import io
import re
from contextlib import redirect_stderr

import pytest

from pipeline.console import ProgressBar, echo, format_duration, log


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


class Terminal(io.StringIO):
    """A stream that says it is a terminal, in an encoding."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def last_lines(self) -> list[str]:
        """The lines that it shows at the end."""
        last = self.getvalue().rpartition("\x1b[2K")[2]
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last).splitlines()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 80 columns."""
    for name in ("CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    return Terminal()


NOTE = "12300 done, 45 failed, 1234 frames/s, bottleneck: backbone"


def show_bar(terminal: Terminal, title: str = "clips", note: str = NOTE) -> None:
    with redirect_stderr(terminal), ProgressBar(title) as bar:
        bar.update(12345, 20600, note, seconds_left=4000)


def test_bar_count_and_time_left_come_first_and_the_note_is_below(terminal):
    show_bar(terminal)
    bar, below = terminal.last_lines()
    assert bar.rstrip() == "━" * 17 + "─" * 13 + "  12345/20600  1 h 06 min left  clips"
    assert below.rstrip() == f"  {NOTE}"


@pytest.mark.parametrize("columns", [24, 40, 60, 80])
def test_title_and_note_are_cut_and_never_the_bar_with_its_counts(terminal, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    show_bar(terminal, "3/12 vocab-8_heads-2_sender_lr-0.001_receivers-3", note="12300 done, " * 10)
    bar, below = terminal.last_lines()
    assert max(len(bar), len(below)) <= columns
    assert re.match("━+─+  12345/20600" if columns > 24 else "━+─+  12345", bar)
    assert bar.rstrip().endswith("…")
    assert below.rstrip().endswith("…")
    if columns >= 60:
        assert "1 h 06 min left" in bar


def test_a_terminal_without_such_characters_gets_others(terminal):
    terminal.encoding = "ascii"
    show_bar(terminal)
    assert terminal.last_lines()[0].startswith("#" * 17 + "-" * 13 + "  12345/20600")


def test_no_color_takes_the_colours_and_leaves_the_bar(terminal, monkeypatch):
    show_bar(terminal)
    assert "\x1b[32m" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    before = len(terminal.getvalue())
    show_bar(terminal)
    assert "\x1b[32m" not in terminal.getvalue()[before:]
    assert "12345/20600" in terminal.getvalue()[before:]


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "unknown"}, {"CI": "true"}])
def test_where_no_line_can_be_redrawn_there_are_lines(terminal, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with redirect_stderr(terminal), ProgressBar("clips") as bar:
        bar.update(1, 2)
        bar.update(2, 2, "none failed")
    assert terminal.getvalue() == "clips: 2/2, none failed\n"


def test_a_pipe_has_lines_even_where_colours_are_forced(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with ProgressBar("clips") as bar:
        bar.update(2, 2)
    assert capsys.readouterr().err == "clips: 2/2\n"


def test_what_is_printed_beside_a_bar_goes_where_it_belongs(terminal, capsys):
    with redirect_stderr(terminal), ProgressBar("clips") as bar:
        bar.update(1, 2)
        echo("data")
        log("a note")
    assert capsys.readouterr().out == "data\n"  # stdout is no terminal here
    assert "data" not in terminal.getvalue()
    assert "a note" in terminal.getvalue()


def test_a_log_has_no_line_of_what_is_over_in_no_time(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("pipeline.console.progress.time.monotonic", lambda: clock[0])
    for seconds, lines in ((2, []), (12, ["files: 1/2, 12 s left", "files: 2/2"])):
        clock[0] = 0.0
        with ProgressBar("files", may_be_quick=True) as bar:
            for done in (1, 2):
                clock[0] += seconds
                bar.update(done, 2)
        assert capsys.readouterr().err.splitlines() == lines


def test_a_log_of_days_has_fewer_lines(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("pipeline.console.progress.time.monotonic", lambda: clock[0])
    with ProgressBar("clips") as bar:
        for second in range(1, 86401):
            clock[0] = float(second)
            bar.update(second, 86400)
    assert len(capsys.readouterr().err.splitlines()) < 400


def test_without_a_note_a_bar_is_one_line(terminal):
    show_bar(terminal, note="")
    assert len(terminal.last_lines()) == 1


def test_a_stage_of_uneven_parts_is_told_in_percent(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("pipeline.console.progress.time.monotonic", lambda: clock[0])
    with ProgressBar("evaluation", in_percent=True) as bar:
        for second, done in ((0, 0), (12, 30), (40, 100)):
            clock[0] = float(second)
            bar.update(done, 100, "probes" if done < 100 else "")
    assert capsys.readouterr().err.splitlines() == [
        "evaluation: 30 %, 28 s left, probes",
        "evaluation: 100 %",
    ]
