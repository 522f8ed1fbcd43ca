"""What is released: one version, a changelog in its form, packages that are whole, hosted CI."""

import configparser
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("backbones", "data", "heliograph", "pipeline")
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")  # Keep a Changelog 1.1
BUILD = (
    "import sys; from setuptools import build_meta as b; b.build_sdist('{0}'); b.build_wheel('{0}')"
)


def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_setup_cfg_alone_says_the_version_and_the_citation_has_it():
    version = settings()["metadata"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == version
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    assert [path for path in files if f'"{version}"' in path.read_text("utf-8")] == []


def test_the_citation_is_one():
    """The keys that the schema of CFF 1.2.0 requires, and no others than it knows."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    known = {"type", "license", "version", "preferred-citation", "cff-version", "message", "title"}
    assert set(citation) <= known | {"authors", "url", "repository-code", "date-released"}
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= set(paper)
    for author in (*citation["authors"], *paper["authors"]):
        assert set(author) in ({"name"}, {"family-names", "given-names"})


def test_the_changelog_keeps_its_form():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    releases = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    for release in releases[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", release)
    for part in text.split("\n## ")[1:]:
        kinds = re.findall(r"^### (.*)$", part, re.MULTILINE)
        assert kinds
        assert len(set(kinds)) == len(kinds)
        assert set(kinds) <= set(KINDS)


def test_hosted_ci_calls_targets_of_the_makefile_and_tests_what_is_supported():
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    called, pythons, systems = set(), set(), set()
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text("utf-8"))
        assert workflow["permissions"] == {"contents": "read"}
        for job in workflow["jobs"].values():
            steps = [step["run"] for step in job["steps"] if "run" in step]
            called |= {step.split()[1] for step in steps if step.startswith("make ")}
            assert all(step.startswith(("make ", "git diff ")) for step in steps)
            matrix = job.get("strategy", {}).get("matrix", {})
            pythons |= set(matrix.get("python", ()))
            systems |= {name.partition("-")[0] for name in matrix.get("os", ())}
    assert called >= {"lint", "test", "docs", "wheel", "test-lowest"}
    assert called <= set(phony[1].split())
    classifiers = settings()["metadata"]["classifiers"]
    assert set(re.findall(r"Python :: (3\.\d+)", classifiers)) == pythons
    assert systems == {"ubuntu", "macos"}
    assert set(re.findall(r"Operating System :: (.*)", classifiers)) == {
        "MacOS", "POSIX :: Linux",
    }  # fmt: skip


def tracked() -> list[str]:
    """Return the files of the checkout that are under version control."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no checkout of git")
    return [name for name in listed.stdout.decode().split("\0") if name]


def build(source: Path, out: Path) -> tuple[Path, Path]:
    """Build an sdist and a wheel of a folder, and return their paths."""
    words = [sys.executable, "-c", BUILD.format(out)]
    done = subprocess.run(words, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as opened:
        return {name for name in opened.namelist() if ".dist-info/" not in name}


@pytest.mark.slow
def test_wheel_and_sdist_are_whole_and_work_outside_the_checkout(tmp_path):
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    own = set()
    for name in tracked():
        if name.startswith(tuple(f"{package}/" for package in PACKAGES)):
            own.add(name)
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    sdist, wheel = build(source, tmp_path / "dist")
    assert contents(wheel) == own
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert contents(build(unpacked, tmp_path / "again")[1]) == own

    away = tmp_path / "away"
    away.mkdir()
    (away / "data.py").write_text("raise RuntimeError('the wrong file')\n")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    install = [venv / "bin" / "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    # what Heliograph needs comes from here; Heliograph itself does not, since no .pth is read there
    needed = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {**os.environ, "PYTHONPATH": needed, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(*words: object) -> str:
        command = [str(venv / "bin" / str(words[0])), *map(str, words[1:])]
        done = subprocess.run(command, cwd=away, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    version = settings()["metadata"]["version"]
    assert run("heliograph", "--version") == f"heliograph, version {version}\n"
    where = "import heliograph, sys; print(heliograph.__file__, heliograph.load_cache.__module__)"
    assert run("python", "-P", "-c", where).startswith(str(venv))
    run("heliograph", "simulate", "ramp", "-o", "clips", "--per-cell", 1)
    run("heliograph", "extract", "clips/manifest.jsonl", "-o", "a.h5", "--backbone", "pixels")
    run("heliograph", "train", "a.h5", "-o", "run", "--seeds", 1, "--epochs", 2)
    run("heliograph", "report", "run")
    assert "claims" in run("heliograph", "experiment", "--list")
