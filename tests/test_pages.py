"""README, tutorials, guide and notebooks do what they say: their blocks run in order.

Each page runs in a fresh folder. What cannot be had here is stood in for (`stand_ins`), and what is
not run is named with what runs it (`LEFT_OUT`, `ELSEWHERE`). A block `text` below commands is an
excerpt of what they print: numbers, symbols and what a clip is said to be may differ, `...` is
anything.
"""

import ast
import contextlib
import io
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import backbones
from backbones import Backbone, Entry, LoadOptions
from data.simulate import simulate
from pipeline.config.presets import PRESETS
from tests.helpers.command import run
from tests.helpers.excerpts import assert_printed
from tests.helpers.films import make_film
from tests.helpers.tiny_backbone import TINY_ENTRY

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ("start", "your_videos", "physics101", "phase87", "train")
NOTEBOOKS = sorted(f"examples/{path.name}" for path in (ROOT / "examples").glob("*.ipynb"))
PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in (*TUTORIALS, "guide", "numbers")),
    *NOTEBOOKS,
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

ELSEWHERE = {
    "docs/extending.md": "tests/test_docs.py, in a copy of the source",
    "docs/your_backbone.md": "tests/test_docs.py, in a copy of the source",
    "docs/hub.md": "tests/pipeline/hub, with a Hub of their own",
    "docs/scaling.md": "tests/pipeline/extraction/test_actors.py, without Slurm and Kubernetes",
}
"""Pages with commands that are not run here, and what runs them."""

LEFT_OUT = {
    "make demo": "tests/pipeline/cli/test_demo.py, a small one",
    "pip install .": "tests/tools/test_install.py",
    "heliograph experiment all": "takes hours; tests/pipeline/experiments run each recipe, small",
}
"""Commands that are not run here, by their first words, and what runs them, or why nothing does."""

BACKBONES = {"dinov2_vits14": "pixels", "vjepa2_vitl": "tiny"}
"""Whose weights cannot be had here, and which backbone has their name."""

EPOCHS = 4
"""For which every preset trains here."""

OBJECTS = [f"object_{number:02d}" for number in range(12)]


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the language and the text of each block of code of a page, or cell of a notebook."""
    text = (ROOT / page).read_text("utf-8")
    if page.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        return [("cell", "".join(c["source"])) for c in cells if c["cell_type"] == "code"]
    return BLOCK.findall(text)


def commands(text: str) -> list[list[str]]:
    """Return the words of each command of a block, comments left out."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def is_left_out(words: list[str]) -> bool:
    return " ".join(words).startswith(tuple(LEFT_OUT))


def test_the_readme_is_at_most_200_lines_and_begins_with_a_picture():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 200
    assert lines[2].startswith("![")


def test_the_pictures_are_small():
    text = (ROOT / "README.md").read_text("utf-8")
    pictures = [ROOT / path for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)]
    assert {path.suffix for path in pictures} == {".png", ".webp"}
    assert [path.name for path in pictures if path.stat().st_size >= 300_000] == []


def test_every_page_with_commands_is_run():
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    with_commands = {p for p in pages if {"sh", "python"} & {language for language, _ in blocks(p)}}
    assert with_commands == {page for page in PAGES if page in pages} | set(ELSEWHERE)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page):
    """A command in a block without a language would not be run."""
    shown = "\n".join(text for language, text in blocks(page) if language not in ("sh", "python"))
    started = [line for line in shown.splitlines() if line.startswith("heliograph ")]
    assert started == []


def test_nothing_is_left_out_that_no_page_has():
    found = [words for page in PAGES for _, text in blocks(page) for words in commands_in(text)]
    assert {first for first in LEFT_OUT if not any(w.startswith(first) for w in found)} == set()


def commands_in(text: str) -> list[str]:
    return [re.sub(r"\s+", " ", line) for line in text.splitlines()]


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_a_notebook_is_kept_without_what_it_printed(page):
    notebook = json.loads((ROOT / page).read_text("utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("accuracy  71.0 % ± 2", "note\naccuracy 9.3 % ± 0.25\n", True),
        ("1-2 | 0-0  bouncy, perhaps rough", "4-4 | 3-1  –, slippery", True),
        ("one\n...\nthree", "one\ntwo\nthree", True),
        ("12 clips of 3 objects", "12 clips of 3 things", False),
        ("one\nthree", "one\ntwo\nthree", False),
    ],
)
def test_an_excerpt_has_the_words_that_are_printed(shown, printed, same):
    with contextlib.nullcontext() if same else pytest.raises(AssertionError, match="the page"):
        assert_printed(shown, printed)


def renamed(entry: Entry, name: str) -> Entry:
    """Return a backbone under the name of another, which has the paper's preprocessing, too."""

    def build(options: LoadOptions) -> Backbone:
        made = entry.build(replace(options, preprocess="official"))
        made.name = name
        made.preprocess = replace(made.preprocess, name=options.preprocess)
        made.fingerprint |= {"name": name, "preprocess": made.preprocess.describe()}
        return made

    return replace(entry, name=name, build=build, preprocessings=("official", "paper"))


@pytest.fixture(scope="module")
def stood_in():
    """`BACKBONES` under the names of others, and presets that train for `EPOCHS`."""
    entries = {"pixels": backbones.BACKBONES["pixels"], "tiny": TINY_ENTRY}
    with pytest.MonkeyPatch.context() as patch:
        for name, used in BACKBONES.items():
            patch.setitem(backbones.BACKBONES, name, renamed(entries[used], name))
        for name, (one, several) in PRESETS.items():
            short = {"epochs": EPOCHS}
            patch.setitem(PRESETS, name, (one | short, several | short))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, stood_in: None) -> Path:
    """What the pages' commands are given, made once.

    - `home/phys101`: a tree in the layout of Physics 101, of simulated clips;
    - `here/i3d/`: features of these clips, an .npy each;
    - `here/clips.csv` and `clips/`: the same clips in a table with labels;
    - `here/new_clip.mp4` and `day.mp4`: another clip, and a longer film;
    - `here/phase87_phys101_spring_features.pt`: features in the paper's format, made of that tree;
    - `here/runs/demo`: what `make demo` makes, of a clip a cell.
    """
    folder = tmp_path_factory.mktemp("made")
    here, home = folder / "here", folder / "home"
    simulate("spring", folder / "spring", grid=5, per_cell=1, size=64, seconds=1.0, workers=1)
    videos = sorted((folder / "spring").rglob("*.mp4"))
    (here / "clips").mkdir(parents=True)
    rows, masses = ["id,path,object,mass [g]"], []
    for number, name in enumerate(OBJECTS):
        masses.append(f"{name} {10 + 7 * number}")
        for trial in (1, 2):
            video = videos[2 * number + trial - 1]
            id_there = f"scenarios/spring/{name}/{trial:02d}/Camera_1.mp4"
            copy = home / "phys101" / id_there
            copy.parent.mkdir(parents=True)
            shutil.copy(video, copy)
            shutil.copy(video, here / "clips" / f"{name}_{trial}.mp4")
            rows.append(f"{id_there},clips/{name}_{trial}.mp4,{name},{10 + 7 * number}")
    (home / "phys101" / "objects").mkdir()
    (home / "phys101" / "objects" / "mass").write_text("\n".join(masses) + "\n")
    (home / "phys101" / "objects" / "vol").write_text("")
    (here / "clips.csv").write_text("\n".join(rows) + "\n")
    (here / "i3d").mkdir()
    for number, row in enumerate(rows[1:]):
        name = Path(row.split(",")[1]).stem
        np.save(here / "i3d" / f"{name}_rgb.npy", np.full((9 + number % 3, 4), number, np.float32))
    shutil.copy(videos[-1], here / "new_clip.mp4")
    make_film(here / "day.mp4", 1, frames=300)
    succeed("phase87", home / "phys101", "-o", here / "phase87_phys101_spring_features.pt")
    succeed("demo", "--out", here / "runs" / "demo", "--per-cell", 1, "--seeds", 1)
    return folder


@pytest.fixture
def stand_ins(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh folder with a copy of what is `made`, and nothing else."""
    shutil.copytree(made / "here", tmp_path / "here")
    monkeypatch.setenv("HOME", str(made / "home"))
    monkeypatch.chdir(tmp_path / "here")


def succeed(*words: object) -> str:
    """Run a command of ours and return what it prints."""
    done = run(*words)
    assert done.exit_code == 0, f"{shlex.join(map(str, words))}\n{done.output}"
    return done.output


def run_commands(text: str) -> str | None:
    """Return what the commands of a block print; None: all of them are left out."""
    printed = None
    for words in commands(text):
        if not is_left_out(words):
            assert words[0] == "heliograph", f"not a command of ours: {shlex.join(words)}"
            printed = (printed or "") + succeed(*words[1:])
    return printed


def run_python(text: str, names: dict[str, Any], *, is_cell: bool) -> str:
    """Return what Python prints; the last expression of a cell is shown, as notebooks do it."""
    body = ast.parse(text).body
    last = body.pop() if is_cell and isinstance(body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(ast.Module(body, []), "page", "exec"), names)
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), "page", "eval"), names)
            in_html = getattr(shown, "_repr_html_", None)
            print(in_html() if in_html else repr(shown))
    return printed.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page, stand_ins, monkeypatch):
    if page in NOTEBOOKS:  # their folder is where a notebook runs
        Path("examples").mkdir()
        monkeypatch.chdir("examples")
    names: dict[str, Any] = {}
    ran, printed = 0, None
    for language, text in blocks(page):
        if language == "text" and printed is not None:
            assert_printed(text, printed)
        elif language == "sh":
            printed = run_commands(text)
            ran += printed is not None
        elif language in ("python", "cell"):
            printed = run_python(text, names, is_cell=language == "cell")
            ran += 1
        else:
            printed = None
    assert ran
