"""The README is short, its pictures are small, and its commands run in order in a fresh folder.

So do the commands of the pages that it sends a reader to first. What cannot be had here is stood in
for: see `stand_ins` and `LEFT_OUT`.
"""

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import backbones
from backbones import Backbone, Entry, LoadOptions
from data.simulate import simulate
from pipeline.config.presets import PRESETS
from tests.helpers.command import run
from tests.helpers.films import make_film
from tests.helpers.tiny_backbone import TINY_ENTRY

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/guide.md", "docs/numbers.md")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

LEFT_OUT = {
    "make demo": ".ci/run runs the demo's own test, which is slow",
    "pip install .": "tests/tools/test_install.py",
    "heliograph experiment all": "takes hours; tests/pipeline/experiments run each recipe, small",
}
"""Commands that are not run here, by their first words, and what runs them."""

BACKBONES = {"dinov2_vits14": "pixels", "vjepa2_vitl": "tiny"}
"""Whose weights cannot be had here, and which backbone has their name."""

EPOCHS = 4
"""For which every preset trains here."""

OBJECTS = [f"object_{number:02d}" for number in range(12)]


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the language and the text of each block of code of a page."""
    return BLOCK.findall((ROOT / page).read_text("utf-8"))


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


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Clips of the simulated spring, a second each."""
    folder = tmp_path_factory.mktemp("made") / "clips"
    simulate("spring", folder, grid=5, per_cell=1, size=64, seconds=1.0, workers=1)
    return sorted(folder.rglob("*.mp4"))


def renamed(entry: Entry, name: str) -> Entry:
    """Return a backbone under the name of another, which has the paper's preprocessing, too."""

    def build(options: LoadOptions) -> Backbone:
        made = entry.build(replace(options, preprocess="official"))
        made.name = name
        made.preprocess = replace(made.preprocess, name=options.preprocess)
        made.fingerprint |= {"name": name, "preprocess": made.preprocess.describe()}
        return made

    return replace(entry, name=name, build=build, preprocessings=("official", "paper"))


@pytest.fixture
def stand_ins(tmp_path: Path, videos: list[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder with what the pages' commands are given, and nothing else.

    - `~/phys101`: a tree in the layout of Physics 101, of simulated clips;
    - `i3d/`: features of these clips, an .npy each;
    - `clips.csv` and `clips/`: the same clips in a table with labels; `new_clip.mp4`, `day.mp4`;
    - `phase87_phys101_spring_features.pt`: features in the paper's format, made of that tree;
    - `BACKBONES` under the names of others;
    - presets that train for `EPOCHS`.
    """
    entries = {"pixels": backbones.BACKBONES["pixels"], "tiny": TINY_ENTRY}
    for name, used in BACKBONES.items():
        monkeypatch.setitem(backbones.BACKBONES, name, renamed(entries[used], name))
    for name, (one, several) in PRESETS.items():
        short = {"epochs": EPOCHS}
        monkeypatch.setitem(PRESETS, name, (one | short, several | short))
    here, home = tmp_path / "here", tmp_path / "home"
    (here / "clips").mkdir(parents=True)
    rows, masses = ["id,path,object,mass"], []
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
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    made = run("phase87", home / "phys101", "-o", "phase87_phys101_spring_features.pt")
    assert made.exit_code == 0, made.output
    return here


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_in_order(page, stand_ins, capsys):
    ran = 0
    for language, text in blocks(page):
        if language == "sh":
            for words in commands(text):
                if is_left_out(words):
                    continue
                assert words[0] == "heliograph", f"not a command of ours: {' '.join(words)}"
                done = run(*words[1:])
                assert done.exit_code == 0, f"{' '.join(words)}\n{done.output}"
                ran += 1
        elif language == "python":
            if not (stand_ins / "runs" / "demo").exists():  # what `make demo` made
                options = ("--per-cell", 2, "--seeds", 1, "--epochs", 2)
                assert run("demo", *options).exit_code == 0
            exec(compile(text, page, "exec"), {})
            assert "elasticity" in capsys.readouterr().out
            ran += 1
    assert ran
