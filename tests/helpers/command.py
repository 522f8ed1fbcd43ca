"""The command line: inside this process, or as a process of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from pipeline.cli import main

HELIOGRAPH = Path(sys.executable).with_name("heliograph")
"""The installed command, for tests that start, kill and wait for it themselves."""


def run(*words: object, **options: Any) -> Result:
    """Run `heliograph WORDS...` in this process.

    Args:
        words: the command's words, each turned into text.
        options: of click's `invoke`, for example `terminal_width`.

    Returns:
        click's result: `exit_code`, `stdout`, `stderr` and `output`, which is both. An exception
        that is a fault of the program is raised.
    """
    return CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False, **options)


def run_process(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `heliograph WORDS...` as a process of its own, with its output captured as text.

    Args:
        words: the command's words, each turned into text.
        options: of `subprocess.run`, for example `cwd`, `env` or `timeout`.
    """
    options = {"capture_output": True, "text": True, "timeout": 300, **options}
    return subprocess.run([HELIOGRAPH, *map(str, words)], **options)
