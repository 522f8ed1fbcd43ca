"""Tables, on a terminal of 80 columns and in a pipe."""

import io
from typing import Any

import pytest
from rich.console import Console

from pipeline.console import echo_folded, print_table

COLUMNS = ["name", "what it is", "weights"]
ROWS = [
    ["efficientnet_lite0", "a small network with [brackets] and :smile: in its words", "here"],
    ["dinov2_vits14", "a transformer, " * 5, "to fetch"],
]


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    shown = io.StringIO()

    def terminal(**options: Any) -> Console:
        return Console(width=width, force_terminal=True, color_system=None, **options)

    monkeypatch.setattr("pipeline.console.tables.Console", terminal)
    monkeypatch.setattr("sys.stdout", shown)
    print_table(COLUMNS, ROWS)
    return shown.getvalue().splitlines()


def test_names_stay_whole_in_80_columns(monkeypatch):
    lines = on_a_terminal(monkeypatch, 80)
    assert all(len(line) <= 80 for line in lines)
    firsts = [line.split()[0] for line in lines if line[0] != " "]
    assert firsts == ["name", "efficientnet_lite0", "dinov2_vits14"]


def test_names_that_fill_the_terminal_are_folded(monkeypatch):
    lines = on_a_terminal(monkeypatch, 30)
    assert all(len(line) <= 30 for line in lines)
    text = "".join(line.split()[0] for line in lines[1:] if line[0] != " ")
    assert "efficientnet_lite0" in text


def test_in_a_pipe_there_are_no_colours_and_cells_are_to_the_letter(capsys):
    print_table(COLUMNS, ROWS)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "[brackets] and :smile:" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_table_without_rows_is_its_heads(capsys):
    print_table(COLUMNS, [])
    assert capsys.readouterr().out.split() == ["name", "what", "it", "is", "weights"]


def test_a_sentence_is_folded_between_words(capsys):
    echo_folded("no pixels: " + "clips/of/a/run/00.mp4 " * 9 + "have-no-thumbnails")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 100
    assert all(line.startswith("  clips/of") for line in lines[1:])
    assert lines[-1].endswith(" have-no-thumbnails")
