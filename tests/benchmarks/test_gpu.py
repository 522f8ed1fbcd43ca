"""The benchmark of a GPU: its parts leave one another alone, and its table is Markdown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu import Part, Row, run_part, table


def test_a_table_is_markdown():
    assert table([Row("a | b", "1", "2"), Row("c", "3")]).splitlines() == [
        "| what | measured | target |",
        "|---|---|---|",
        "| a \\| b | 1 | 2 |",
        "| c | 3 |  |",
    ]


def test_a_part_that_needs_a_missing_package_says_so(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('no numpy', name='numpy')")
    (row,) = run_with(tmp_path)
    assert row == Row("agreement", "ended with 1: needs the package numpy")


def test_what_a_part_had_measured_counts_where_it_crashes(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        f"""import os, sys
if '--part' in sys.argv:
    print('{gpu.MARK}{{"what": "a", "figure": "1", "target": ""}}', flush=True)
    print('CUDA error: an illegal memory access', flush=True)
    os._exit(134)
"""
    )
    assert run_with(tmp_path) == [
        Row("a", "1"),
        Row("agreement", "ended with 134: CUDA error: an illegal memory access"),
    ]


def test_a_part_that_hangs_is_ended(tmp_path):
    (tmp_path / "numpy.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)")
    (row,) = run_with(tmp_path, limit=8)
    assert row.figure.startswith("not done in 8 s")


def run_with(folder: Path, limit: float = 60) -> list[Row]:
    """Run a part in which Python finds the modules of a folder first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        return run_part(Part("agreement", gpu.agreement, 0), ["--device", "cpu"], limit)


@pytest.mark.slow
@pytest.mark.timeout(1500)  # on busy cores
def test_it_measures_with_stand_in_sizes(tmp_path):
    words = ["--device", "cpu", "--small", "--out", str(tmp_path / "gpu.md")]
    parts = ["tests", "efficientnet_lite0", "published", "default", "agreement", "extraction"]
    only = [word for part in parts for word in ("--only", part)]
    command = [sys.executable, gpu.__file__, *words, *only]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "gpu.md").read_text()
    assert done.stdout.endswith(written)
    _, _, machine, *rows = written.splitlines()
    assert machine.startswith("| machine | no GPU")
    for text in (
        "tests marked `gpu`",
        "efficientnet_lite0, fp32, 2 clips of 8 frames a pass",
        "efficientnet_lite0, bf16",
        "published: 3 seeds of 4 epochs",
        "default: 3 seeds of 4 epochs",
        "accuracy of 2 seeds of 2 epochs, CPU and cpu | ",
        "extraction of 3 clips of 1080p",
    ):
        assert any(row.startswith(f"| {text}") for row in rows), written
    assert "ended with" not in written
    assert "not done" not in written
