"""What stands in the way of Heliograph is said in one sentence, with the way out."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from heliograph.preconditions import ROOT, obstacle

SENTENCE = (
    "{path} has the name of Heliograph's package `{name}`, and Python finds it first: rename it, "
    "or take its folder off Python's path (sys.path)"
)
USES = {
    "heliograph": "from heliograph.__main__ import main; sys.argv[1:] = ['--help']; main()",
    "import": "import heliograph; heliograph.load_cache",
    "from": "from heliograph import load_cache",
}


def use(how: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Use Heliograph while Python searches a folder of the user's before its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-c", f"import sys; {USES[how]}"]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True)


@pytest.mark.parametrize("how", USES)
@pytest.mark.parametrize("name", ["data.py", "pipeline.py", "data/__init__.py"])
def test_a_file_with_the_name_of_a_package_is_named(how, name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise RuntimeError('the wrong file')\n")
    shown = use(how, tmp_path)
    found = path.parent if path.name == "__init__.py" else path
    sentence = SENTENCE.format(path=found, name=found.stem)
    assert shown.returncode == 1
    if how == "heliograph":
        assert shown.stderr == f"Error: {sentence}\n"
    else:
        assert shown.stderr.splitlines()[-1] == f"ImportError: {sentence}"


@pytest.mark.parametrize("how", USES)
def test_a_folder_without_an_init_does_not_matter(how, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clips.csv").write_text("path\n")
    assert use(how, tmp_path).returncode == 0


def test_files_where_the_user_is_do_not_matter_to_python_m(tmp_path):
    for name in ("data.py", "pipeline.py", "backbones.py"):
        (tmp_path / name).write_text("raise RuntimeError('the wrong file')\n")
    command = [sys.executable, "-m", "heliograph", "--help"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "simulate" in shown.stdout


def test_a_module_that_is_loaded_already_counts(monkeypatch):
    monkeypatch.setitem(sys.modules, "data", ModuleType("data"))
    assert obstacle().startswith("a module without a file has the name of")


def test_windows_is_refused(monkeypatch):
    assert obstacle() == ""
    monkeypatch.setattr(sys, "platform", "win32")
    assert "not on Windows: there, install it in WSL" in obstacle()
