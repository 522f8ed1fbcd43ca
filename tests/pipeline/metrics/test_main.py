"""The page about the metrics is generated, whole, and up to date."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from string import ascii_lowercase
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline.metrics import METRICS, Metric
from pipeline.metrics.__main__ import page, pictures, write
from pipeline.metrics.example_codes import EXAMPLE_CODES, MEANINGS, picture
from pipeline.metrics.ranking import ROUNDING

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_page_is_up_to_date():
    """`python -m pipeline.metrics docs` makes it again."""
    assert (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8") == page()


def test_the_pictures_are_up_to_date():
    folder = REPOSITORY / "docs" / "metrics"
    assert {path.name for path in folder.iterdir()} == set(pictures())
    for name, drawn in pictures().items():
        assert (folder / name).read_text(encoding="utf-8") == drawn


def test_page_and_pictures_are_written_together(tmp_path):
    write(tmp_path)
    assert (tmp_path / "metrics.md").read_text(encoding="utf-8") == page()
    linked = set(re.findall(r"\(metrics/([a-z0-9_]+\.svg)\)", page()))
    assert linked == {path.name for path in (tmp_path / "metrics").iterdir()} == set(pictures())


@pytest.mark.parametrize("metric", METRICS.values(), ids=str)
def test_every_metric_shows_what_it_likes_and_what_fools_it(metric):
    assert metric.lies
    liked, fooled = EXAMPLE_CODES[metric.liked], EXAMPLE_CODES[metric.fooled]
    for code in (liked, fooled):
        value = np.max(metric(code.tokens, MEANINGS))
        drawn = ElementTree.fromstring(pictures()[f"{metric.name}.svg"])
        assert any(f"{value:.2f}" in text for text in drawn.itertext())


def test_a_picture_has_each_symbol_of_each_message():
    code = EXAMPLE_CODES["names"]
    drawn = ElementTree.fromstring(picture([(code, "a caption")]))
    texts = ["".join(text.itertext()) for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    letters = Counter("".join(text for text in texts if len(set(text)) == 1))
    symbols = Counter(code.tokens.ravel().tolist())
    assert letters == {ascii_lowercase[symbol]: number for symbol, number in symbols.items()}
    assert "a caption" in texts


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
    assert "| `first_symbol` | 0 to 2 | larger | 1 | one half |" in text
    assert "- Null: on Sundays" in text
