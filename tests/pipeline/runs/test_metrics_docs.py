"""The page about `metrics.json` is generated, whole, and up to date."""

import subprocess
import sys
from pathlib import Path

from pipeline.runs import RunMetrics
from pipeline.runs.metrics_docs import page

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_page_is_up_to_date():
    """`python -m pipeline.runs.metrics_docs > docs/metrics_json.md` makes it again."""
    assert (REPOSITORY / "docs" / "metrics_json.md").read_text() == page()


def test_the_command_prints_the_page():
    command = [sys.executable, "-m", "pipeline.runs.metrics_docs"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == page()
    assert not done.stderr


def test_every_key_has_a_meaning():
    text = page()
    for name in RunMetrics.model_fields:
        assert f"| `{name}" in text
    for line in text.splitlines():
        if line.startswith("| `"):
            assert len(line.strip("|").split("|")[2].strip()) > 5, line
