"""Options in a TOML file: the same run as of the options that were typed."""

import json
import tomllib

import pytest

from pipeline.cli import main
from tests.helpers.command import run


@pytest.fixture
def called(monkeypatch):
    """What each command is called with, in place of doing it."""
    calls: list[dict] = []
    for name in ("train", "extract"):
        command = main.get_command(None, name)
        monkeypatch.setattr(command, "callback", lambda **options: calls.append(options))
    return calls


WORDS = {
    "train": [
        "vjepa.h5", "odd=x.h5", "-o", "runs/a", "--property", "mass", "--property", "drag",
        "--preset", "ridge", "--seeds", 3, "--agents", "vjepa,odd", "--sender-lr", "3e-4",
        "--no-refit", "--tie-margin", "mass=0.5", "--control", "--sweep", "vocab=2,3",
    ],
    "extract": [
        "a/", "ä \"b\".csv", "-o", "x.h5", "--sampler", "fps", "--fps", "2.5", "--pad",
        "--workers", 2,
        "--timeout", 30,
    ],
}  # fmt: skip


@pytest.mark.parametrize("command", WORDS)
def test_what_is_printed_is_read_again_to_the_same_options(command, called, tmp_path):
    printed = run(command, *WORDS[command], "--print-config")
    assert printed.exit_code == 0, printed.output
    assert not called
    tomllib.loads(printed.stdout)
    (tmp_path / "c.toml").write_text(printed.stdout)
    assert run(command, *WORDS[command]).exit_code == 0
    shown = run(command, "--config", tmp_path / "c.toml")
    assert shown.exit_code == 0, shown.output
    typed, configured = called
    assert typed == configured
    assert run(command, "--config", tmp_path / "c.toml", "--print-config").stdout == printed.stdout


def test_words_go_before_the_file_and_its_tables_are_pairs(called, tmp_path):
    (tmp_path / "c.toml").write_text(
        'caches = ["a.h5"]\nout = "x"\nproperty = "mass"\nseeds = 4\nagents = ["a", "b"]\n'
        "sender-lr = 1e-3\nrefit = true\n[tie_margin]\nmass = 0.5\n[sweep]\nvocab = [2, 3]\n"
    )
    shown = run("train", "b.h5", "--seeds", 2, "--config", tmp_path / "c.toml")
    assert shown.exit_code == 0, shown.output
    (options,) = called
    assert (options["caches"], options["seeds"]) == (("b.h5",), 2)
    assert options["properties"] == ("mass",)
    assert options["agents"] == ("a", "b")
    assert (options["sender_lr"], options["refit"], options["axes"]) == (1e-3, True, None)
    assert options["tie_margin"] == (("mass", 0.5),)
    assert options["sweeps"] == ("vocab=2,3",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("vocba = 3", "there is no option 'vocba': did you mean vocab?"),
        ("zzz = 3", "there is no option 'zzz': see"),
        ("config = 'x'", "there is no option 'config'"),
        ("seeds = 2.5", "seeds: 2.5 is not a whole number of at least 1"),
        ("seeds = true", "seeds: true is neither a text nor a number"),
        ("seeds = 0", "seeds: 0 is not a whole number of at least 1"),
        ("refit = 1", "refit: 1 is neither true nor false"),
        ("sender_lr = nan", "sender_lr: nan is not a finite number"),
        ("tie_margin = {mass = 'wide'}", "tie_margin: 'mass=wide' is not PROPERTY=WIDTH"),
        ("property = [['mass']]", 'property: ["mass"] is neither a text nor a number'),
        ("seeds =", "is no TOML: Invalid value"),
    ],
)
def test_what_a_file_has_wrong_is_a_sentence(text, sentence, called, tmp_path):
    (tmp_path / "c.toml").write_text(f"{text}\n")
    shown = run("train", "a.h5", "-o", "x", "--config", tmp_path / "c.toml")
    assert shown.exit_code == 2
    assert f"Error: {tmp_path / 'c.toml'}" in shown.stderr
    assert sentence in shown.stderr
    assert not called


def test_a_file_that_is_none_is_a_sentence(tmp_path):
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe")
    assert "is no TOML" in run("extract", "--config", tmp_path / "c.toml").stderr
    gone = run("extract", "--config", tmp_path / "gone.toml")
    assert (gone.exit_code, "gone.toml: No such file" in gone.stderr) == (1, True)
    folder = run("extract", "--config", tmp_path)
    assert folder.exit_code == 1
    assert "Traceback" not in folder.stderr


def test_what_no_file_and_no_word_gives_is_missing_as_ever(tmp_path):
    (tmp_path / "c.toml").write_text("seeds = 2\n")
    shown = run("train", "--config", tmp_path / "c.toml")
    assert (shown.exit_code, "Missing argument" in shown.stderr) == (2, True)


def test_options_of_a_game_may_stand_in_a_file(called, tmp_path):
    words = ["--game", "referential", "--distractors", 8]
    shown = run("train", "a.h5", "-o", "x", *words, "--print-config")
    assert tomllib.loads(shown.stdout)["distractors"] == 8
    (tmp_path / "c.toml").write_text(shown.stdout)
    assert run("train", "--config", tmp_path / "c.toml").exit_code == 0
    assert called[0]["distractors"] == 8
    assert json.dumps(called[0]["game"]) == '"referential"'
