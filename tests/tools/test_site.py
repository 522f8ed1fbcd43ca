"""The site of the documentation: whole, strict, and without anything from elsewhere."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
import yaml

import heliograph

pytest.importorskip("mkdocs", reason="the site is built with the extra 'docs'")
from tools import site

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("source", "markdown", "on_the_site"),
    [
        ("README.md", "[guide](docs/guide.md#training)", "[guide](guide.md#training)"),
        ("README.md", "![a\nclip](docs/pictures/x.png)", "![a\nclip](pictures/x.png)"),
        ("benchmarks/RESULTS.md", "[a page](../docs/videos.md)", "[a page](videos.md)"),
        ("docs/numbers.md", "[all](../benchmarks/RESULTS.md#speed)", "[all](results.md#speed)"),
        ("docs/architecture.md", "[the tree](../README.md)", "[the tree](index.md)"),
        ("docs/architecture.md", "[run.py](../pipeline/runs/run.py) A run.", "run.py A run."),
        ("README.md", "[paper](https://arxiv.org/abs/1)", "[paper](https://arxiv.org/abs/1)"),
        ("docs/guide.md", "[below](#training)", "[below](#training)"),
        ("docs/guide.md", "`heads[0](x.md)`", "`heads[0](x.md)`"),
        ("docs/guide.md", "```\n[a](../README.md)\n```\n", "```\n[a](../README.md)\n```\n"),
        ("examples/messages.ipynb", "[next](scores.ipynb)", "[next](scores.md)"),
        ("README.md", "[`docs/guide.md`](docs/guide.md)", "[`docs/guide.md`](guide.md)"),
    ],
)
def test_links_hold_on_the_site(source, markdown, on_the_site):
    assert site.linked(markdown, ROOT / source) == on_the_site


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder of the site, built as `make docs` does, warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return folder


def test_every_page_is_in_the_navigation(built):
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    listed = set(re.findall(r"[\w.]+\.md", str(nav)))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")} | site.PAGES_ADDED
    assert all((built / page).with_suffix(".html").exists() for page in listed)


def test_links_of_the_built_pages_lead_to_files(built):
    for page in built.glob("*.html"):
        for target in re.findall(r'(?:href|src)="([^"#?:]+)["#?]', page.read_text("utf-8")):
            if not target.startswith("/"):  # those of 404.html
                assert (built / target).exists(), f"{page.name}: {target}"


def test_nothing_is_fetched_from_elsewhere(built):
    tag = re.compile(r'<(?:script|img|link rel="(?:stylesheet|preconnect)")[^>]*"https?:[^>]*>')
    for page in built.glob("*.html"):
        assert tag.findall(page.read_text("utf-8")) == [], page.name


@pytest.mark.parametrize("words", [[], ["probe"], ["cache", "merge"]], ids=" ".join)
def test_a_command_has_the_help_that_it_prints(built, words):
    program = "from pipeline import cli; cli.main(prog_name='heliograph')"
    command = [sys.executable, "-c", program, *words, "--help"]
    at_80_columns = os.environ | {"COLUMNS": "80"}
    printed = subprocess.run(command, capture_output=True, text=True, env=at_80_columns).stdout
    page = re.sub("<[^>]+>", "", (built / "commands.html").read_text("utf-8"))
    assert printed.startswith("Usage: heliograph")
    assert printed.strip() in unescape(page)


def test_every_public_name_has_its_docstring(built):
    parts = (built / "api.html").read_text("utf-8").split("<h3 ")[1:]
    for name in set(heliograph.__all__) - {"metrics", "__version__"}:
        (part,) = (p for p in parts if f"heliograph.{name}" in p.partition("</h3>")[0])
        assert "<p>" in part[part.index("doc-contents") :], name
