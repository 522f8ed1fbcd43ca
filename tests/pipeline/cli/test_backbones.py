"""The `backbones` command."""

from backbones import plugins
from tests.helpers.command import run


def test_a_broken_plugin_is_listed_with_its_error(tmp_path, monkeypatch):
    package = tmp_path / "broken_one-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: broken_one\nVersion: 1\n")
    (package / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nbroken_one = broken_one:ENTRY\n")
    (tmp_path / "broken_one.py").write_text("ENTRY = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    listed = run("backbones").stdout.splitlines()
    assert "broken_one is broken: broken_one:ENTRY is a int, not an Entry" in listed
