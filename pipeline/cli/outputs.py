"""What is at `--out` is never replaced by accident."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from data.errors import HeliographError
from data.files import Address, open_regular, require_own_file
from pipeline.cli.options import CACHE_SUFFIXES, Addresses, UserPath
from pipeline.console import log

overwrite = click.option("--overwrite", is_flag=True, help="Replace what is at --out.")

PAGE_SUFFIXES = (".html", ".htm")


class CachePath(UserPath):
    """The path of a cache that is written: it does not have the name of another format."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; a usage error for `features.npz`."""
        path = super().convert(value, param, ctx)
        if path.suffix.lower() not in ("", *CACHE_SUFFIXES):
            self.fail(
                f"a cache is an HDF5 file, so call {path} {path.with_suffix('.h5').name}; "
                "`heliograph cache export` makes .npz, .parquet and others of it",
                param,
                ctx,
            )
        return path


def cache_out(what: str, *, parts: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Return the option --out of a command that writes a cache, perhaps to an address.

    Args:
        what: It is.
        parts: Whether a large one becomes a folder of parts.
    """
    kind = CachePath(Addresses.KEPT)
    folder = "; a folder of parts if larger than --part-size" if parts else ""
    return click.option("-o", "--out", type=kind, required=True, help=f"{what} (.h5{folder}).")


@contextmanager
def written(path: Path, *, exists: bool = False, damaged: bool = False) -> Iterator[Path]:
    """Give the path on this machine of a cache that is written; an address gets it at the end.

    Args:
        path: The cache, or its address.
        exists: Whether it has to be there.
        damaged: Whether it may be damaged, and is to be mended.

    Raises:
        HeliographError: It cannot be had or written (`data.cache.staged`).
    """
    if not isinstance(path, Address):
        yield path
        return
    from data.cache import staged
    from data.remote import FolderError, look_up

    if exists:
        with suppress(FolderError):  # perhaps one of parts
            look_up(path)
    with staged(path, damaged=damaged) as here:
        yield here


def is_there(
    path: Path, overwrite: bool, is_equal: Callable[[], bool], *, name: Path | None = None
) -> bool:
    """Return whether the output is there already, so that nothing has to be written.

    Args:
        path: The output.
        overwrite: Whether the user insists on replacing what is there.
        is_equal: Whether what is there has the content that would be written; called only where
            something is there. What cannot be read is not equal.
        name: What the user calls the output, if not `path`.

    Raises:
        HeliographError: Something else is there.
    """
    if overwrite or not os.path.lexists(path):
        return False
    try:
        equal = is_equal()
    except (HeliographError, OSError):
        equal = False
    require_free(path, equal, name=name)
    log(f"{name or path}: already there")
    return True


def require_free(
    path: Path,
    may_replace: bool,
    *,
    option: str = "--out",
    insist: str = "--overwrite",
    name: Path | None = None,
) -> None:
    """Check that writing an output loses nothing.

    Args:
        path: The output.
        may_replace: Whether what is there may be lost.
        option: Which one named it.
        insist: Which option replaces whatever is there; "": none does.
        name: What the user calls the output, if not `path`.

    Raises:
        HeliographError: Something is there that may not.
        UnsafeFileError: It is a link, FIFO, device or folder, or a file with several names.
    """
    if os.path.lexists(path) and not may_replace:
        require_own_file(path)  # what is no file cannot be insisted on
        insisting = f", or insist with {insist}" if insist else ""
        raise HeliographError(
            f"{name or path} exists, and is something else: choose another {option}{insisting}"
        )


def require_page(path: Path, option: str = "--out") -> None:
    """Check that a page will have the name of one.

    Raises:
        click.UsageError: It does not.
    """
    if path.suffix.lower() not in PAGE_SUFFIXES:
        raise click.UsageError(f"{option} writes a page, so {path} must end in .html")


def has_content(path: Path, content: bytes | memoryview) -> bool:
    """Return whether a regular file holds exactly these bytes."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) or status.st_size != len(content):
        return False
    with open_regular(path, follow_links=True) as file:
        return file.read(len(content) + 1) == content
