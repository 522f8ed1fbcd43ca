"""Commands that can be pasted, and pages that open where somebody looks."""

import shlex
import sys

import pytest

from pipeline.experiments import next_steps
from pipeline.experiments.next_steps import open_page, opener, own_program, pasteable

DESKTOP = {"DISPLAY": ":0"}


@pytest.mark.parametrize(
    ("platform", "environment", "program"),
    [
        ("linux", DESKTOP, "xdg-open"),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, "xdg-open"),
        ("linux", {}, None),
        ("linux", DESKTOP | {"CI": "true"}, None),
        ("linux", DESKTOP | {"SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22"}, None),
        ("darwin", {}, "open"),
        ("darwin", {"SSH_TTY": "/dev/ttys001"}, None),
        ("win32", {}, "explorer"),
    ],
)
def test_a_page_opens_at_a_desktop_alone(platform, environment, program):
    assert opener(platform, environment) == program


@pytest.fixture
def desktop(monkeypatch, tmp_path):
    """A desktop whose program for opening files is known; what it was started with."""
    started = []
    monkeypatch.setattr(next_steps, "opener", lambda platform, environment: "xdg-open")
    monkeypatch.setattr(next_steps.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(next_steps.subprocess, "Popen", lambda words, **_: started.append(words))
    return started


@pytest.mark.parametrize("seen", [True, False])
def test_a_page_does_not_open_where_the_output_goes_into_a_file(desktop, monkeypatch, seen):
    monkeypatch.setattr(next_steps, "is_terminal", lambda stream: seen)
    page = next_steps.Path("report.html")
    assert open_page(page) is seen
    assert desktop == ([["xdg-open", str(page.resolve())]] if seen else [])


def test_a_desktop_that_cannot_start_a_program_is_none(desktop, monkeypatch):
    def refuse(words, **_):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(next_steps, "is_terminal", lambda stream: True)
    monkeypatch.setattr(next_steps.subprocess, "Popen", refuse)
    assert not open_page(next_steps.Path("report.html"))


def program(folder):
    folder.mkdir()
    (folder / "heliograph").write_text("#!/bin/sh\n")
    (folder / "heliograph").chmod(0o755)
    return folder / "heliograph"


def test_the_program_goes_by_its_path_where_the_shell_does_not_find_it(tmp_path, monkeypatch):
    own = program(tmp_path / "my programs")
    monkeypatch.setattr(sys, "argv", [str(own)])
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    line = pasteable("message", "runs/my demo/run", 3)
    assert shlex.split(line) == [str(own), "message", "runs/my demo/run", "3"]
    monkeypatch.setenv("PATH", str(own.parent))
    assert pasteable("--help") == "heliograph --help"
    monkeypatch.setenv("PATH", str(program(tmp_path / "of another").parent))
    assert own_program() == str(own)  # not the other one, which the shell would take


def test_what_runs_us_otherwise_has_no_path_of_ours(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest"])
    assert pasteable("demo", "--out", "a b") == "heliograph demo --out 'a b'"
