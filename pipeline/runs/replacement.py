"""A new run takes the place of the one in a folder: whole, or not at all.

OUT/.new/          the new run while it is written: whoever is killed then has changed nothing
OUT/.incoming/     the same once it is whole: from now on it is the run of this folder
OUT/.replacing/    what is in its place, while that is put aside
OUT/.replaced/     the same once all of it is aside, while the new run is moved in

While `.incoming` is there, readers are told so. The next command that writes into the folder
finishes the move: a training, or `report` and `evaluate`, which need no other words. Nothing but
the names of a run is touched, so that other files in the folder stay.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data.errors import HeliographError
from data.files import make_folder, sweep_temporaries, sync_folder, write_error
from data.lock import BusyError, Lock
from pipeline.runs.manifest import (
    CONTROL,
    INCOMING,
    MANIFEST,
    MANIFEST_LOCK,
    NULL,
    PAGE,
    UNFINISHED,
    wait_for_lock,
)

NEW, REPLACING, REPLACED = ".new", ".replacing", ".replaced"
LOCK = "lock"
FILES = (
    "config.json",
    "model.safetensors",
    "model.pt",
    "metrics.json",
    "history.csv",
    "messages.jsonl",
    "lexicon.json",
    "readout.json",
)
"""The files of a run and of its seeds, but for its page."""
NAMES = (*FILES, PAGE, "seeds", NULL, CONTROL, UNFINISHED, MANIFEST)
"""What a run puts into its folder; the manifest comes last."""


def refuse_existing(out: Path) -> None:
    """Raise HeliographError where a folder holds a run, or files in the place of one."""
    if (out / "metrics.json").exists():
        if (out / UNFINISHED).exists():
            raise HeliographError(
                f"{out} holds a run already, and an unfinished training that was to replace it: "
                "choose another folder, or `train` with --resume, which goes on with it, or "
                "--overwrite"
            )
        raise HeliographError(f"{out} holds a run already: choose another folder, or --overwrite")
    taken = [name for name in NAMES if name != UNFINISHED and os.path.lexists(out / name)]
    if taken and not (out / UNFINISHED).exists():
        raise HeliographError(
            f"{out} holds {taken[0]}, whose place the run would take: choose another folder, or "
            "--overwrite"
        )


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold the right to put a run into a folder, and finish what a killed process began there.

    Raises:
        BusyError: Another process has it.
        WriteError: The folder cannot be written.
    """
    lock = Lock(out / LOCK, out)
    try:
        finish(out)
        yield
    finally:
        lock.release()


def is_unsettled(out: Path) -> bool:
    """Return whether a process was killed while it wrote or moved a run."""
    names = (NEW, INCOMING, REPLACING, REPLACED, LOCK, MANIFEST_LOCK)
    return any(os.path.lexists(out / name) for name in names)


def finish_move(out: Path) -> None:
    """Finish the move of a whole run to its place, where a killed process began one.

    Raises:
        BusyError: Another process is at it.
        WriteError: The folder cannot be written.
    """
    if os.path.lexists(out / INCOMING):
        with held(out):
            pass


def finish(out: Path) -> None:
    """Move a whole run to its place, and remove what else a killed process has left.

    Raises:
        WriteError: It cannot be moved; what is there stays, for the next start.
    """
    try:
        if (out / INCOMING).is_dir():
            _move_in(out)
        for name in (NEW, REPLACED):
            if (out / name).is_dir():
                shutil.rmtree(out / name)
        sweep_temporaries(out)
        if os.path.lexists(out / MANIFEST_LOCK):
            with suppress(BusyError):  # somebody changes the run
                Lock(out / MANIFEST_LOCK, out).release()
    except OSError as error:
        raise write_error(out, error) from error


@contextmanager
def new_run(out: Path) -> Iterator[Path]:
    """Yield a folder to write a run into; it takes the place of the run in `out` at the end.

    The caller holds `out`. After an error `out` is as it was.

    Raises:
        WriteError: It cannot be written or moved.
    """
    new = out / NEW
    make_folder(new)
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    try:
        os.rename(new, out / INCOMING)
        sync_folder(out)
    except OSError as error:
        raise write_error(out, error) from error
    finish(out)


def _move_in(out: Path) -> None:
    """Move the run in `.incoming` to its place; begun again, it goes on."""
    incoming, replacing, replaced = out / INCOMING, out / REPLACING, out / REPLACED
    lock = wait_for_lock(out)
    try:
        if not replaced.is_dir():
            replacing.mkdir(exist_ok=True)
            for name in filter(lambda name: _is_of_a_run(out, name), NAMES):
                os.rename(out / name, replacing / name)
            sync_folder(out)
            os.rename(replacing, replaced)
        for name in sorted(os.listdir(incoming), key=lambda name: (name == MANIFEST, name)):
            os.rename(incoming / name, out / name)
        sync_folder(out)
        incoming.rmdir()
        sync_folder(out)
    finally:
        lock.release()


def _is_of_a_run(out: Path, name: str) -> bool:
    """Return whether what has a run's name in `out` has to make room."""
    if name == CONTROL and not (out / INCOMING / name).exists():
        return any((out / name / part).exists() for part in ("config.json", UNFINISHED))
    return os.path.lexists(out / name)
