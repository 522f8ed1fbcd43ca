"""The page about the metrics is generated, whole, and up to date."""

import subprocess
import sys
from pathlib import Path

from pipeline.metrics import METRICS, Metric
from pipeline.metrics.__main__ import page
from pipeline.metrics.ranking import ROUNDING

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_page_is_up_to_date():
    """`python -m pipeline.metrics > docs/metrics.md` makes it again."""
    assert (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8") == page()


def test_the_command_prints_the_page():
    command = [sys.executable, "-m", "pipeline.metrics"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == page()
    assert not done.stderr


def test_every_metric_is_described():
    text = page()
    for metric in METRICS.values():
        assert f"`{metric.name}`\n" in text
        for words in (metric.title, metric.definition, metric.chance, metric.source):
            assert words in text
    assert f"{ROUNDING:.0e}".replace("e-0", "e-") in text


def test_a_new_metric_is_on_the_page(monkeypatch):
    new = Metric(
        name="first_symbol", title="First symbol", function=len, definition="the definition",
        chance="one half", source="the source", undefined="on Sundays", range=(0.0, 2.0),
    )  # fmt: skip
    monkeypatch.setitem(METRICS, "first_symbol", new)
    text = page()
    assert "| `first_symbol` | 0 to 2 | 1 | one half |" in text
    assert "- Null: on Sundays" in text
