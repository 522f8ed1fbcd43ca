"""The pages of docs/ are true: what they name exists, and their examples run."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.metrics import METRICS
from tests.helpers.excerpts import assert_printed
from tests.helpers.module_tree import PAGE, renewed

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])
STEP = re.compile(r"^\| \d+\. .* \| `(?P<name>[\w.]+)` \| `(?P<file>[\w/.]+)` \|$", re.MULTILINE)


def test_the_tree_is_that_of_the_source():
    assert PAGE.read_text("utf-8") == renewed(PAGE.read_text("utf-8")), "run `make docs`"


def names_in(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Return the functions and classes of a body, and what is in them."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name: node.body for node in body if isinstance(node, kinds)}


def test_the_walks_name_functions_that_exist():
    steps = STEP.findall(PAGE.read_text("utf-8"))
    assert len(steps) > 20
    for name, file in steps:
        body = ast.parse((ROOT / file).read_text("utf-8")).body
        for part in name.split("."):
            assert part in names_in(body), f"{file} has no {name}"
            body = names_in(body)[part]


def test_the_glossary_has_every_metric_that_is_reported():
    words = re.findall(r"^\| ([^|]+?) \|", (DOCS / "glossary.md").read_text("utf-8"), re.MULTILINE)
    reported = [name for name, metric in METRICS.items() if not metric.per_position]
    named = [name.replace("_", " ") for name in reported]
    assert [name for name in named if not name.startswith(tuple(words))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_backticks_exist(page):
    pattern = r"`((?:backbones|data|docs|pipeline|tests)/[\w/.-]+)`"
    named = set(re.findall(pattern, page.read_text("utf-8")))
    missing = {name for name in named if not (ROOT / name).exists()}
    assert missing <= written_by_examples()


EXAMPLE = re.compile(r"^`([\w/.-]+)`:\n\n```\w+\n(.*?)```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```sh\n(.*?)```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^```text\n(.*?)```$", re.MULTILINE | re.DOTALL)


def sections() -> dict[str, str]:
    """Return the sections with commands of the pages that write files of the source, by title."""
    text = "".join(
        (DOCS / name).read_text("utf-8") for name in ("your_backbone.md", "extending.md")
    )
    parts = [part.partition("\n") for part in text.split("\n## ")[1:]]
    return {title: body for title, _, body in parts if COMMANDS.search(body)}


def written_by_examples() -> set[str]:
    """Return the paths of the files that the examples write."""
    return {path for body in sections().values() for path, _ in EXAMPLE.findall(body)}


SLOW = {
    "A model of timm",
    "A file in the source",
    "A game, or another loss",
    "A report section",
    "An experiment",
}


@pytest.mark.parametrize(
    "title",
    [pytest.param(title, marks=[pytest.mark.slow] * (title in SLOW)) for title in sections()],
)
def test_the_examples_of_extending_run(title, tmp_path):
    """Each section's files are written into a copy of the source, and its commands run there."""
    for package in ("backbones", "data", "pipeline"):
        shutil.copytree(ROOT / package, tmp_path / package)
    for path, content in EXAMPLE.findall(sections()[title]):
        file = tmp_path / path
        assert not file.exists(), f"{path} is there already"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, "utf-8")
    commands = "".join(COMMANDS.findall(sections()[title]))
    assert commands, f"{title} has no commands that use its files"
    tools = tmp_path / "bin"
    tools.mkdir()
    words_of = {"heliograph": '-c "from pipeline.cli import main; main()"', "python": ""}
    for tool, words in words_of.items():
        (tools / tool).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (tools / tool).chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PATH": path}
    done = subprocess.run(
        ["sh", "-e", "-c", commands], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    for shown in PRINTED.findall(sections()[title]):
        assert_printed(shown, done.stdout + done.stderr)
