"""The script for many clips: that its stand-ins still fit the extraction, and what it measures."""

import sys
from pathlib import Path

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


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no RssAnon")
@pytest.mark.parametrize("words", [[], ["--join"]], ids=["alone", "joined"])
def test_memory_does_not_grow_with_the_clips(monkeypatch, capsys, words: list[str]) -> None:
    counts, given = [16_000, 40_000], ["--steps", "1", "--dim", "8", "--no-sync", *words]
    given += ["--part-bytes", "4000000", "--clips", *map(str, counts)]  # 2,000 clips
    monkeypatch.setattr(sys, "argv", ["many_clips.py", *given])
    many_clips.main()
    _, *rows = capsys.readouterr().out.splitlines()
    few, many = (float(row.split()[-6]) for row in rows)  # MB
    # a table of less than 1 MiB is in memory; it was 620 where all of them were
    assert 1e6 * (many - few) / (counts[1] - counts[0]) < 400
