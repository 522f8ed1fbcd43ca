"""The `backbones` command."""

import json

import pytest

from backbones import clip, plugins
from tests.helpers.command import run


@pytest.mark.parametrize("words", [["backbones"], ["experiment", "--list"]])
def test_lists_fit_80_columns(words):
    lines = run(*words).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    names = {row["name"] for row in json.loads(run(*words, "--json").stdout)}
    assert names <= {line.split(" ")[0] for line in lines}


def test_a_broken_plugin_is_listed_with_its_error(tmp_path, monkeypatch):
    package = tmp_path / "broken_one-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: broken_one\nVersion: 1\n")
    (package / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nbroken_one = broken_one:ENTRY\n")
    (tmp_path / "broken_one.py").write_text("ENTRY = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    listed = run("backbones").stdout.splitlines()
    assert "broken_one is broken: broken_one:ENTRY is a int, not an Entry" in listed


def test_a_damaged_file_of_weights_is_named(tmp_path):
    path = tmp_path / clip.PUBLISHED.file
    path.write_bytes(b"<!DOCTYPE html><title>Log in</title>")
    fault = next(
        line
        for line in run("backbones", "--hub-dir", tmp_path).stdout.splitlines()
        if line.startswith("clip_vitl14: ")
    )
    assert fault.startswith(
        f"clip_vitl14: {path} is not the published file: it has 36 bytes, not 1,710,540,580: it is "
        "a web page (HTML), perhaps the login page of a network; delete it or download it again"
    )
