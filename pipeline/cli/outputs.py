"""What is at `--out` is never replaced by accident."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import click

from data.errors import HeliographError
from data.files import open_regular, require_own_file
from pipeline.console import log

overwrite = click.option("--overwrite", is_flag=True, help="Replace what is at --out.")


def is_there(path: Path, overwrite: bool, is_equal: Callable[[], bool]) -> bool:
    """Return whether the output is there already, so that nothing has to be written.

    Args:
        path: The output.
        overwrite: Whether the user insists on replacing what is there.
        is_equal: Whether what is there has the content that would be written; called only where
            something is there. What cannot be read is not equal.

    Raises:
        HeliographError: Something else is there.
    """
    if overwrite or not os.path.lexists(path):
        return False
    try:
        equal = is_equal()
    except (HeliographError, OSError):
        equal = False
    require_free(path, equal)
    log(f"{path}: already there")
    return True


def require_free(path: Path, may_replace: bool, *, option: str = "--out") -> None:
    """Check that writing an output loses nothing.

    Args:
        path: The output.
        may_replace: Whether what is there may be lost.
        option: Which one named it.

    Raises:
        HeliographError: Something is there that may not.
        UnsafeFileError: It is a link, FIFO, device or folder, or a file with several names.
    """
    if os.path.lexists(path) and not may_replace:
        require_own_file(path)  # what is no file cannot be insisted on
        raise HeliographError(
            f"{path} exists, and is something else: choose another {option}, or insist with "
            "--overwrite"
        )


def has_content(path: Path, content: bytes) -> bool:
    """Return whether a regular file holds exactly these bytes."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) or status.st_size != len(content):
        return False
    with open_regular(path, follow_links=True) as file:
        return file.read(len(content) + 1) == content
