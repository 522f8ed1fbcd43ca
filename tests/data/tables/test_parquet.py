"""Parquet files as tables, and damaged ones, which crash or stop the library that reads them."""

import math
import random
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars
import pytest

from data.clips import ClipError
from data.screening import screen
from data.tables import read_table


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "t.parquet"
    columns = {
        "File": ["a.mp4", "b.mp4", "c.mp4"],
        "object": [3, 3, 7],
        "start": [0.5, None, math.nan],
        "mass [g]": [1.5, None, 2],
        "count": [1, 2, 3],
        "size": ["1.5 cm", "2 cm", "NA"],
        "day": [date(2024, 1, 2)] * 3,
        "__index_level_0__": [0, 1, 2],
    }
    polars.DataFrame(columns).write_parquet(path)
    return path


def test_types_are_those_of_the_file(path):
    table = read_table(path)
    first, second, third = table.clips
    assert [clip.id for clip in table.clips] == ["a.mp4", "b.mp4", "c.mp4"]
    assert [clip.object for clip in table.clips] == ["3", "3", "7"]
    assert [clip.start for clip in table.clips] == [0.5, None, None]
    assert dict(first.labels) == {"mass": 1.5, "count": 1, "size": 1.5}
    assert math.isnan(second.labels["mass"])
    assert math.isnan(third.labels["size"])
    assert dict(first.units) == {"mass": "g", "size": "cm"}
    said = {column.name: column.text for column in table.summary.columns}
    assert said["day"] == "left out: no numbers, e.g. '2024-01-02' (row 1)"
    assert said["__index_level_0__"] == "left out: it numbers the rows"
    assert table.summary.head == f"{path}: Parquet; 3 clips of 2 objects"


def test_a_wrong_row_is_named(tmp_path):
    polars.DataFrame({"path": ["a", "b"], "start": [1.0, -2.0]}).write_parquet(
        tmp_path / "t.parquet"
    )
    with pytest.raises(ClipError, match=r"t\.parquet, row 2: b: start is -2"):
        read_table(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"path,mass\n")
    with pytest.raises(ClipError, match=r"t\.parquet is no Parquet file"):
        read_table(tmp_path / "t.parquet")


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Return a file with some bytes changed after its first four, one in five cut short."""
    changed = bytearray(content)
    for _ in range(draw.choice([1, 2, 5, 30])):
        changed[draw.randrange(4, len(changed))] = draw.randrange(256)
    return bytes(changed[: draw.randrange(5, len(changed))] if draw.random() < 0.2 else changed)


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.soak)])
def test_damaged_files_are_read_or_refused_in_a_sentence(path, tmp_path, count):
    content, draw = path.read_bytes(), random.Random(0)
    files = [tmp_path / f"{number}.parquet" for number in range(count)]
    for file in files:
        file.write_bytes(mutate(content, draw))
    reasons = screen(files, "data.tables.parquet:check", seconds=10)
    assert len(reasons) > count / 4
    for file, reason in reasons.items():
        assert reason.startswith(f"{file} is ")
        assert "\n" not in reason


def test_a_damaged_file_costs_a_sentence(path, tmp_path):
    damaged = tmp_path / "t.parquet"
    damaged.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ClipError, match=r"t\.parquet is no sound Parquet file: "):
        read_table(damaged)


def test_polars_is_loaded_for_parquet_alone():
    code = "import sys, data.manifests, data.tables; print('polars' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert shown.stdout == "False\n"
