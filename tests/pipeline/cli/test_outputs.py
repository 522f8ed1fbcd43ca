"""No command replaces what is at its `--out` by accident."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.cache import load, save
from tests.helpers.caches import features
from tests.helpers.command import run
from tests.helpers.paper_files import make_paper_features
from tests.helpers.trees import make_physics101_tree

REFUSED = "exists, and is something else: choose another --out, or insist with --overwrite"


def import_words(folder: Path) -> list[object]:
    make_paper_features(folder / "paper.pt")
    return ["cache", "import", folder / "paper.pt", "-o", folder / "imported.h5"]


def export_words(suffix: str) -> Callable[[Path], list[object]]:
    def words(folder: Path) -> list[object]:
        save(features(labels={"mass": np.ones(7)}), folder / "c.h5")
        return ["cache", "export", folder / "c.h5", "-o", folder / f"x{suffix}"]

    return words


def merge_words(folder: Path) -> list[object]:
    for name in "ab":
        save(features(5, prefix=name), folder / f"{name}.h5")
    return ["cache", "merge", folder / "a.h5", folder / "b.h5", "-o", folder / "all.h5"]


def index_words(folder: Path) -> list[object]:
    make_physics101_tree(folder)
    return ["index", "physics101", folder, "--scenario", "spring", "-o", folder / "c.jsonl"]


NO_FILES = {
    "a FIFO": "a FIFO",
    "a folder": "a folder",
    "a symbolic link": "a symbolic link",
    "a dangling link": "a symbolic link",
}

COMMANDS = {
    "import": import_words,
    "export .pt": export_words(".pt"),
    "export .npz": export_words(".npz"),
    "export .safetensors": export_words(".safetensors"),
    "merge": merge_words,
    "index": index_words,
}


@pytest.mark.parametrize("make_words", COMMANDS.values(), ids=COMMANDS)
def test_what_is_there_is_kept_unless_it_is_equal_or_the_user_insists(make_words, tmp_path):
    words = make_words(tmp_path)
    out = Path(str(words[-1]))
    assert run(*words).exit_code == 0
    first, status = out.read_bytes(), out.stat()

    again = run(*words)
    assert again.exit_code == 0
    assert f"{out}: already there" in again.stderr
    assert out.stat() == status

    out.write_bytes(first[:-1] + bytes([first[-1] ^ 1]))
    damaged = out.read_bytes()
    refused = run(*words)
    assert refused.exit_code == 1
    assert f"{out} {REFUSED}" in refused.stderr
    assert out.read_bytes() == damaged

    assert run(*words, "--overwrite").exit_code == 0
    assert out.stat().st_size == len(first)
    assert f"{out}: already there" in run(*words).stderr


@pytest.mark.parametrize("make_words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("kind", [*NO_FILES, "other cache"])
def test_what_is_no_such_file_is_kept_too(make_words, kind, tmp_path):
    words = make_words(tmp_path)
    out = Path(str(words[-1]))
    if kind == "other cache":
        save(features(11), out)
    elif kind == "a FIFO":
        os.mkfifo(out)
    elif kind == "a folder":
        out.mkdir()
    else:
        (tmp_path / "text").write_text("hello")
        out.symlink_to(tmp_path / ("text" if kind == "a symbolic link" else "nothing"))
    before = os.lstat(out)
    refused = run(*words)
    assert refused.exit_code == 1
    if kind == "other cache":
        assert REFUSED in refused.stderr
    else:
        said = f"{out} is not written: it is {NO_FILES[kind]}, not a file; remove it, or choose"
        assert said in refused.stderr
    assert os.lstat(out).st_ino == before.st_ino
    assert not (tmp_path / "nothing").exists()


def test_a_merge_into_one_of_its_own_caches_replaces_it(tmp_path):
    words = merge_words(tmp_path)
    before = (tmp_path / "a.h5").read_bytes()
    assert run(*words[:-1], tmp_path / "a.h5").exit_code == 1
    assert (tmp_path / "a.h5").read_bytes() == before
    assert run(*words[:-1], tmp_path / "a.h5", "--overwrite").exit_code == 0
    assert len(load(tmp_path / "a.h5")) == 10


def test_damage_outside_of_what_is_read_is_no_equal_content(tmp_path):
    """The seal stands twice in a cache, and one copy is enough to read it."""
    words = merge_words(tmp_path)
    assert run(*words).exit_code == 0
    with open(tmp_path / "all.h5", "r+b") as file:
        file.write(b"H")
    assert run(*words).exit_code == 1


@pytest.mark.parametrize(
    "words", [["extract", "."], ["cache", "merge", "a.h5"], ["cache", "import", "a.pt"]]
)
@pytest.mark.parametrize("name", ["x.npz", "x.PT", "x.safetensors", "x.csv", "x.mp4"])
def test_a_cache_does_not_have_the_name_of_another_format(words, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = run(*words, "-o", name)
    assert shown.exit_code == 2
    assert f"a cache is an HDF5 file, so call {name} x.h5" in shown.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["simulate", "train", "compare"])
def test_an_address_is_no_output(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = run(command, "ramp", "-o", "s3://bucket/out.h5")
    assert shown.exit_code == 2
    assert "s3:// outputs are not supported: write to a folder, and copy" in shown.stderr
    assert not list(tmp_path.iterdir())
