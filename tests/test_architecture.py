"""Imports go the way that they should, and tests are where one looks for them."""

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.doors import broken_doors, imports, modules

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("backbones", "data", "heliograph", "pipeline")
TESTS = sorted(path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py"))

WITHOUT_SOURCE = {
    "backbones/test_gpu.py": "every backbone on a GPU",
    "backbones/test_parity.py": "every backbone against another implementation",
    "backbones/test_real_weights.py": "every backbone with its published weights",
    "data/cache/test_thumbnails.py": "thumbnails through everything that copies a cache",
    "pipeline/test_addresses.py": "from videos in a bucket to a page, by the commands",
    "pipeline/runs/test_addresses.py": "runs and their caches at addresses, from the command down",
    "pipeline/extraction/test_addresses.py": "clips at addresses, from the server to the cache",
    "pipeline/extraction/test_duplicates.py": "clips of equal content in an extraction",
    "pipeline/extraction/test_outputs.py": "outputs of backbones in every command",
    "pipeline/extraction/test_join.py": "processes that extract the same clips at once",
    "pipeline/extraction/test_part.py": "parts of a list of clips, and what they are once merged",
    "pipeline/extraction/test_windows.py": "windows of long videos, from the command to the cache",
    "data/video/test_mutations.py": "files of many containers, mutated",
    "data/video/test_nasty.py": "every decoder on hostile files",
    "data/video/test_random_places.py": "every decoder on real videos and recordings",
    "heliograph/test_init.py": "heliograph/__init__.py",
    "heliograph/test_main.py": "heliograph/__main__.py",
    "test_fake_gpu.py": "the paths of a GPU in every package",
    "pipeline/cli/test_wording.py": "what a user who goes wrong is told",
    "pipeline/cli/test_wrong_values.py": "every option, with a wrong value",
    "pipeline/extraction/test_extract_faults.py": "extract.py, killed and interrupted",
    "pipeline/metrics/test_main.py": "pipeline/metrics/__main__.py",
    "robustness/test_cache_flips.py": "every kind of cache, with a bit flipped",
    "robustness/test_disk_errors.py": "every command that writes, on a disk that fails",
    "robustness/test_flips.py": "everything that is kept, with a bit flipped",
    "robustness/test_hostile_files.py": "every kind of file, mutated",
    "robustness/test_kills.py": "every command that writes, killed",
    "robustness/test_planted.py": "every command that writes, with something planted at each name",
    "test_architecture.py": "this file",
    "test_docs.py": "docs/",
    "test_lowest_versions.py": "tests/helpers/lowest_versions.py",
    "test_doctests.py": "every docstring",
    "test_release.py": "setup.cfg, CHANGELOG.md, CITATION.cff, Makefile, .github/",
    "test_pages.py": "README.md, the pages of docs/ and the notebooks, as a reader runs them",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the sources and of the lint configuration."""
    copy = tmp_path_factory.mktemp("house")
    for folder in (*PACKAGES, "tests/helpers"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests" / "__init__.py", copy / "tests")
    shutil.copy(ROOT / "setup.cfg", copy)
    return copy


def lint(house: Path) -> str:
    """Return what import-linter prints."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(house)}
    done = subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.stdout


def test_the_contracts_hold(house):
    assert "6 kept, 0 broken" in lint(house)


@pytest.mark.parametrize(
    ("contract", "path", "line"),
    [
        ("Packages are imported", "pipeline/runs/run.py", "from data.cache.operations import load"),
        ("Packages are imported", "pipeline/runs/run.py", "import data.cache.operations"),
        ("Packages are imported", "pipeline/runs/run.py", "from data.cache import operations"),
        ("Packages are imported", "data/video/reader.py", "from data.video.pyav.seek import av"),
        ("heliograph, pipeline, backbones", "data/errors.py", "import pipeline.metrics"),
        ("heliograph, pipeline, backbones", "data/errors.py", "import backbones.errors"),
        ("heliograph, pipeline, backbones", "pipeline/doctor.py", "from heliograph import train"),
        ("backbones imports the basics", "backbones/errors.py", "import data.clips"),
        ("backbones imports the basics", "backbones/errors.py", "from data.video import read"),
        ("The stages", "pipeline/metrics/topsim.py", "import pipeline.game"),
        ("The stages", "pipeline/another.py", ""),
        ("The layers of data", "data/errors.py", "import data.files"),
        ("The layers of data", "data/another.py", ""),
        ("No circle", "pipeline/metrics/information.py", "import pipeline.metrics.topsim"),
        ("No circle", "data/video/pyav/packets.py", "import data.video.pyav.session"),
    ],
)
def test_each_contract_is_broken_by_a_wrong_import(house, contract, path, line):
    file = house / path
    before = file.read_text() if file.exists() else None
    file.write_text(f"{before or ''}\n{line}\n")
    try:
        shown = lint(house)
    finally:
        file.unlink() if before is None else file.write_text(before)
    assert [row for row in shown.splitlines() if contract in row and row.endswith("BROKEN")], shown


def test_benchmarks_use_the_doors_unless_they_measure_what_is_behind_them():
    files, scripts = modules(ROOT, *PACKAGES), modules(ROOT, "benchmarks")
    measured = (
        "backbone_speed",
        "carry_over",
        "coverage",
        "decode",
        "hub_parity",
        "load",
        "many_clips",
        "scaling",
        "simulate",
    )
    behind = {f"benchmarks.{name}" for name in measured}
    closed = {name: path for name, path in scripts.items() if name not in behind}
    assert len(closed) + len(behind) == len(scripts)
    assert broken_doors(closed, files) == []


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_every_test_file_has_its_source_file(path):
    source = ROOT / path.with_name(path.name.removeprefix("test_"))
    assert source.is_file() != (path.as_posix() in WITHOUT_SOURCE)


def test_tests_of_data_and_backbones_import_nothing_of_pipeline():
    for path in modules(ROOT / "tests", "data", "backbones").values():
        imported = {found.module for found in imports(path)}
        assert "pipeline" not in {module.partition(".")[0] for module in imported}, path
        assert "tests.helpers.command" not in imported, path


def test_every_package_is_installed():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    folders = [path.parent for name in PACKAGES for path in (ROOT / name).rglob("__init__.py")]
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(settings["options"]["packages"].split()) == packages
