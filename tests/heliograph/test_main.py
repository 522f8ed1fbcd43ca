"""`python -m heliograph` is the command."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import heliograph

ROOT = Path(heliograph.__file__).parents[1]


def test_python_m_is_the_command():
    words = [sys.executable, "-m", "heliograph"]
    shown = subprocess.run([*words, "--version"], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout == f"python -m heliograph, version {version('heliograph')}\n"
    wrong = subprocess.run([*words, "sing"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "there is no command 'sing'" in wrong.stderr
