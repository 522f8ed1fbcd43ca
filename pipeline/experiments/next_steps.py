"""What comes after a result on the screen: commands that can be pasted, a page that opens."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline.console import is_terminal

PROGRAM = "heliograph"
REMOTE = ("CI", "SSH_CONNECTION", "SSH_TTY", "SSH_CLIENT")
"""Variables of a machine at which nobody sits, or somebody else."""


def pasteable(*words: object) -> str:
    """Return a command of ours as the shell that began this one takes it, quoted.

    The program goes by its name where the shell finds it so, else by its path.
    """
    line = [own_program(), *map(str, words)]
    return subprocess.list2cmdline(line) if os.name == "nt" else shlex.join(line)


def own_program() -> str:
    """Return what to type for the program that runs, from this folder."""
    running = Path(sys.argv[0])
    if running.stem != PROGRAM or not running.is_file():
        return PROGRAM
    found = shutil.which(PROGRAM)
    return PROGRAM if found is not None and os.path.samefile(found, running) else str(running)


def opener(platform: str, environment: Mapping[str, str]) -> str | None:
    """Return the program that opens a file on the desktop of a person; None where there is none.

    Args:
        platform: As `sys.platform` names it.
        environment: Its variables.
    """
    if any(environment.get(name) for name in REMOTE):
        return None
    if platform == "darwin":
        return "open"
    if platform == "win32":
        return "explorer"
    shown = environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    return "xdg-open" if shown else None


def open_page(page: Path) -> bool:
    """Open a page in the browser of the person at a desktop; return whether one was asked to.

    Not without a display, over SSH, in CI, or where the output goes into a file or a pipe.
    """
    program = opener(sys.platform, os.environ)
    if program is None or not is_terminal(sys.stdout) or shutil.which(program) is None:
        return False
    try:
        subprocess.Popen(
            [program, str(page.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    return True
