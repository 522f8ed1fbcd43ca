"""Tables, on a terminal of 80 columns and in a pipe."""

import io
import re
from collections.abc import Sequence

import pytest

from pipeline.console import echo_folded, print_table

COLUMNS = ["name", "what it is", "weights"]
ROWS = [
    ["efficientnet_lite0", "a small network with [brackets] and :smile: in its words", "here"],
    ["dinov2_vits14", "a transformer, " * 5, "to fetch"],
]


def on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, width: int, rows: Sequence[Sequence[str]] = ROWS
) -> list[str]:
    """The lines that a terminal of some columns shows."""
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", shown)
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(COLUMNS, rows)
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown.getvalue().splitlines()]


def test_names_stay_whole_in_80_columns(monkeypatch):
    lines = on_a_terminal(monkeypatch, 80)
    assert all(len(line) <= 80 for line in lines)
    firsts = [line.split()[0] for line in lines if line[0] != " "]
    assert firsts == ["name", "efficientnet_lite0", "dinov2_vits14"]


@pytest.mark.parametrize("width", [46, 60, 80, 120])
def test_cells_are_folded_between_words(monkeypatch, width):
    lines = on_a_terminal(monkeypatch, width)
    assert all(len(line) <= width for line in lines)
    words = {word for row in [COLUMNS, *ROWS] for cell in row for word in cell.split()}
    assert {word for line in lines for word in line.split()} == words


@pytest.mark.parametrize("width", [44, 52, 60])
def test_a_number_is_never_folded_off_its_unit(monkeypatch, width):
    cells = ["85.1 % ± 5.6", "a network of 21.3 MB", "8.5 [5.0, 20.0]"]
    lines = on_a_terminal(monkeypatch, width, [cells[:1] + cells[1:], ["two", *cells[:2]]])
    text = "\n".join(lines)
    for whole in ("85.1 %", "± 5.6", "21.3 MB", "[5.0, 20.0]"):
        assert whole in text


def test_what_is_too_wide_for_a_terminal_becomes_a_list_and_no_name_is_folded(monkeypatch):
    name = "a/very/long/path/of/a/clip/that/somebody/types.mp4"
    assert on_a_terminal(monkeypatch, 40, [[name, "two words", "here"]]) == [
        name, "  what it is: two words", "  weights: here",
    ]  # fmt: skip


def test_a_pipe_is_as_wide_as_its_names_need(capsys):
    name = "n" * 120
    print_table(COLUMNS, [[name, "two words", "here"]])
    assert f"\n{name}  two words  here" in re.sub(" {3,}", "  ", capsys.readouterr().out)


def test_in_a_pipe_there_are_no_colours_and_cells_are_to_the_letter(capsys):
    print_table(COLUMNS, ROWS)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "[brackets] and :smile:" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_table_without_rows_is_its_heads(capsys):
    print_table(COLUMNS, [])
    assert capsys.readouterr().out.split() == ["name", "what", "it", "is", "weights"]


def test_a_sentence_is_folded_between_words(capsys):
    echo_folded("no pixels: " + "clips/of/a/run/00.mp4 " * 9 + "have-no-thumbnails")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= 80
    assert all(line.startswith("  clips/of") for line in lines[1:-1])
    assert lines[-1] == "  have-no-thumbnails"
