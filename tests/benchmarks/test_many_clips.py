"""The script for many clips: that its stand-ins still fit the extraction."""

import sys

import pytest

from benchmarks import many_clips


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--join"], ["--part-bytes", "1000"]])
def test_its_row_has_a_number_in_each_column(monkeypatch, capsys, words: list[str]) -> None:
    given = ["many_clips.py", "--clips", "300", "--steps", "1", "--dim", "8", *words]
    monkeypatch.setattr(sys, "argv", given)
    many_clips.main()
    header, row = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "clips"
    clips, seconds, _, cpu, _, written, *_ = row.replace("/s", " /s").split()
    assert clips == "300"
    assert min(map(float, (seconds, cpu, written.replace(",", "")))) > 0
