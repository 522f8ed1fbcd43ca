"""Messages for other programs: a list of integers a line, and the labels of the same clips."""

import doctest
import importlib
import json
import shutil

import pytest

from data.errors import InvalidValueError
from pipeline.report import corpus_of, labels_path
from tests.helpers.command import run as command


def test_doctests():
    result = doctest.testmod(importlib.import_module("pipeline.report.corpus"))
    assert result.attempted > 0
    assert result.failed == 0


def test_every_clip_has_its_message_and_its_labels(run, tmp_path):
    path = tmp_path / "messages.jsonl"
    shown = command("report", str(run.folder), "--corpus", str(path))
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.split() == [str(path), str(labels_path(path))]
    messages = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    known = [json.loads(line) for line in labels_path(path).read_text("utf-8").splitlines()]
    assert len(messages) == len(known) == len(run.messages())
    for message, clip, line in zip(messages, known, run.messages(), strict=True):
        assert message == [symbol for agent in line["tokens"] for symbol in agent]
        assert all(type(symbol) is int for symbol in message)
        assert clip == {key: line[key] for key in ("clip", "object", "part", "labels")}


def test_a_clip_is_one_line_whatever_its_name(run):
    messages, labels = corpus_of(run)
    assert len(messages.splitlines()) == len(labels.splitlines()) == len(run.messages())


def test_what_is_there_is_not_replaced_by_accident(run, tmp_path):
    words = ("report", str(run.folder), "--corpus", str(tmp_path / "a.jsonl"))
    assert command(*words).exit_code == 0
    assert command(*words).exit_code == 0  # the same once more
    (tmp_path / "a.labels.jsonl").write_text("mine\n")
    shown = command(*words)
    assert shown.exit_code == 1
    assert "choose another --corpus, or insist with --overwrite" in shown.stderr
    assert (tmp_path / "a.labels.jsonl").read_text() == "mine\n"
    assert command(*words, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("option", "name"),
    [("--corpus", "messages.jsonl"), ("--corpus", "seeds/0/messages.jsonl"),
     ("--out", "metrics.json"), ("--out", "manifest.json")],
)  # fmt: skip
@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_run_is_never_written_over_by_what_is_made_of_it(
    run, tmp_path, option, name, has_manifest
):
    shutil.copytree(run.folder, tmp_path / "run")
    target = tmp_path / "run" / name
    if not has_manifest:
        (tmp_path / "run" / "manifest.json").unlink()
        if name == "manifest.json":
            return
    before = target.read_bytes()
    there = f"{tmp_path}/run/../run/{name}"
    shown = command("report", str(tmp_path / "run"), option, there, "--overwrite")
    assert shown.exit_code == 1
    assert "is not replaced" in shown.stderr
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--corpus", "a.txt"), "a.txt is not called .jsonl"),
        (("--corpus", "a.jsonl", "--out", "a.html"), "--corpus writes no page"),
        (("--corpus", "nowhere/a.jsonl"), "nowhere"),
    ],
)
def test_wrong_words_get_a_sentence(run, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nowhere").write_text("a file")
    shown = command("report", str(run.folder), *words)
    assert shown.exit_code in (1, 2)
    assert sentence in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_corpus_has_its_suffix(tmp_path):
    with pytest.raises(InvalidValueError, match=r"is not called \.jsonl"):
        labels_path(tmp_path / "corpus")
