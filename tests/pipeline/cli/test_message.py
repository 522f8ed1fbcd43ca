"""The `message` command, and where its lines go."""

import io
import re
import subprocess

import numpy as np
import pytest

from data import cache
from pipeline.cli.message import _show
from pipeline.message import Message
from pipeline.training import train
from tests.helpers.command import run_process

MESSAGE = Message(
    clip="a/very/long/path/that/somebody/will/type/again/00.mp4",
    tokens=np.array([[3, 7], [1, 2]]),
    confidence=np.array([[0.98, 0.5], [0.75, 1.0]]),
    gloss=(("heavy", "of middle friction"), ("bouncy", "slippery")),
)


def test_a_pipe_has_a_line_a_clip(capsys):
    _show(MESSAGE)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split("\t")[:4] == [
        MESSAGE.clip, "3-7 | 1-2", MESSAGE.meaning, "98 % 50 % | 75 % 100 %",
    ]  # fmt: skip


@pytest.mark.parametrize("columns", [30, 80])
def test_a_terminal_has_columns_and_colours_and_no_name_is_folded(monkeypatch, columns):
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", shown)
    for name, value in {"COLUMNS": str(columns), "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    _show(MESSAGE)
    assert "\x1b[1;36m" in shown.getvalue()
    head, *lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()).splitlines()
    assert head == MESSAGE.clip
    assert all(len(line) <= columns for line in lines)
    assert re.match(r"  message  3-7 \| 1-2 *$", lines[0])
    assert re.match(r"  meaning  heavy, of middle", lines[1])
    words = " ".join(" ".join(lines).split())
    assert f"meaning {MESSAGE.meaning} sure 98 % 50 % | 75 % 100 % clip -" in words


def test_messages_that_cannot_be_printed_are_a_sentence(features, tmp_path):
    cache.save(features, tmp_path / "made.h5")
    train(tmp_path / "made.h5", tmp_path / "run", properties=["mass"], epochs=1, seeds=1)
    words = ("message", tmp_path / "run", tmp_path / "made.h5", "--device", "cpu")
    with open("/dev/full", "w") as full:
        ended = run_process(*words, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 1
    assert ended.stderr == "Error: standard output cannot be written: No space left on device\n"
