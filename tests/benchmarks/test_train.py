"""The benchmark of training on wide features runs and prints a line for each width."""

import re
import sys

import pytest

from benchmarks import train


@pytest.mark.slow
def test_wide_features_train_as_they_are_and_on_axes(monkeypatch, capsys) -> None:
    monkeypatch.setattr(train, "WIDTHS", (70,))
    monkeypatch.setattr(sys, "argv", ["train.py", "--wide", "--epochs", "1", "--rounds", "1"])
    train.main()
    (line,) = capsys.readouterr().out.splitlines()[2:]
    assert re.fullmatch(r"70( +[0-9]+\.[0-9]+){3}", line)


def test_a_benchmark_of_nothing_is_refused(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit, match="2"):
        train.main()
    assert "give a cache, --wide or --host" in capsys.readouterr().err
