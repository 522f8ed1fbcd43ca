"""Trainings that outlive their process: the state of each chunk of seeds in a folder.

    OUT/unfinished/identity.json    what is being trained: nothing else may go on from here
    OUT/unfinished/chunk-000.pt     the state of the first chunk, and so on
    OUT/unfinished/control/         the same of the control that is trained with it

Each file appears whole or not at all, and a state begins with a line that holds the SHA-256 of the
rest. They are read as data, never as code, and are gone once the run is in its place.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from data import screening
from data.differences import first_difference
from data.errors import BROKEN, HeliographError
from data.files import (
    atomic_write,
    is_hollow,
    open_regular,
    replacing,
    sweep_temporaries,
    write_error,
)
from pipeline.config import TrainConfig
from pipeline.runs import UNFINISHED

CHECKER = "pipeline.training.checkpoints:check"
FORMAT = b"heliograph training state 1, SHA-256 of the rest: "
HEADER_BYTES = len(FORMAT) + 64 + 1
MOST_IDENTITY_BYTES = 64 << 20
SHARE_OF_TIME = 0.05  # that keeping states may take


class TrainingCheckpointer:
    """Keeps the states of one training, and finds them again for the same one only.

    `identity` is JSON of everything that the result depends on, to the bit; `part` is the name of
    one that is trained together with another.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any], *, part: str = "") -> None:
        self.out = out
        self.folder = out / UNFINISHED / part
        self.identity = json.loads(json.dumps(identity))
        self._digest = hashlib.sha256(
            json.dumps(self.identity, sort_keys=True).encode()
        ).hexdigest()
        self._due = 0.0  # time.monotonic() from which a state is worth its cost again

    def begin(self, *, resume: bool, overwrite: bool) -> None:
        """Make sure that what is in the folder is this training, or nothing.

        Raises HeliographError where an unfinished training is in the way, or is another one: then
        with the setting that differs.
        """
        if overwrite:
            self.sweep()
        before = self._stored_identity()
        if before is not None and not resume:
            raise HeliographError(
                f"{self.out} holds an unfinished training: --resume goes on with it, "
                "--overwrite starts again"
            )
        if before is not None and before != self.identity:
            found = first_difference(before, self.identity)
            is_ours = found is not None and found.path == ("noise",)
            way_out = "go on with the version that began it" if is_ours else "give it as before"
            raise HeliographError(
                f"{self.out} holds an unfinished training of something else: "
                f"{difference(before, self.identity)}; {way_out}, or start again with --overwrite"
            )
        if self.folder.is_dir():
            sweep_temporaries(self.folder)

    @property
    def unfinished(self) -> bool:
        """Whether a state of this training is there to go on from."""
        return self._stored_identity() is not None

    def load(self, chunk: int) -> dict[str, Any] | None:
        """The last state of a chunk, or None; raises HeliographError for a damaged file."""
        path = self._path(chunk)
        try:
            content, digest = _read_state(path)
            screening.require_screened(path, f"sha256:{digest}", CHECKER)
            stored = _parse_state(path, content)
        except FileNotFoundError:
            return None
        if (stored["identity"], stored["chunk"]) != (self._digest, chunk):
            raise HeliographError(
                f"{path} is of another training: remove it, or start again with --overwrite"
            )
        state: dict[str, Any] = stored["state"]
        return state

    @contextmanager
    def reading(self, chunk: int) -> Iterator[None]:
        """Raise HeliographError where a state turns out to be none of this training."""
        try:
            yield
        except (*BROKEN, RuntimeError) as error:
            raise _damaged(self._path(chunk)) from error

    def due(self) -> bool:
        """Whether keeping a state now takes no more than its share of the time."""
        return time.monotonic() >= self._due

    def save(self, chunk: int, state: Mapping[str, Any]) -> None:
        """Writes the state of a chunk over the one before."""
        start = time.monotonic()
        if self._stored_identity() is None:
            atomic_write(self._identity_path, self._text())
        written = io.BytesIO()
        torch.save({"identity": self._digest, "chunk": chunk, "state": dict(state)}, written)
        content = written.getbuffer()
        digest = hashlib.sha256(content).hexdigest()
        with replacing(self._path(chunk)) as file:
            file.write(FORMAT + digest.encode() + b"\n")
            file.write(content)
        screening.record(f"sha256:{digest}")
        end = time.monotonic()
        self._due = end + (end - start) / SHARE_OF_TIME

    def sweep(self) -> None:
        """Removes every state, the identity last."""
        try:
            for path in [*sorted(self.folder.glob("chunk-*.pt")), self._identity_path]:
                path.unlink(missing_ok=True)
            if os.path.lexists(self.folder):
                shutil.rmtree(self.folder)
        except OSError as error:
            raise write_error(self.folder, error) from error

    @property
    def _identity_path(self) -> Path:
        return self.folder / "identity.json"

    def _path(self, chunk: int) -> Path:
        return self.folder / f"chunk-{chunk:03d}.pt"

    def _stored_identity(self) -> Any:
        """What is stored, as JSON; None where nothing is.

        Raises HeliographError for a damaged file.
        """
        path = self._identity_path
        try:
            with open_regular(path) as file:
                content = file.read(MOST_IDENTITY_BYTES)
            stored = json.loads(content)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, RecursionError):
            raise _damaged(path) from None
        if stored == self.identity and content != self._text().encode():
            raise _damaged(path)
        return stored

    def _text(self) -> str:
        return json.dumps(self.identity, indent=1) + "\n"


def check(path: Path) -> str:
    """Read a state in a process that can be killed; return its identity for the record.

    Raises:
        HeliographError: for a damaged file.
    """
    content, digest = _read_state(path)
    _parse_state(path, content)
    return f"sha256:{digest}"


def _read_state(path: Path) -> tuple[memoryview, str]:
    """Return the content of a state and its SHA-256, checked against the first line.

    Raises:
        HeliographError: for a damaged file.
        FileNotFoundError: for none.
    """
    if is_hollow(path):
        raise _damaged(path)
    with open_regular(path) as file:
        content = memoryview(file.read())
    header = bytes(content[:HEADER_BYTES])
    digest = hashlib.sha256(content[HEADER_BYTES:]).hexdigest()
    if header != FORMAT + digest.encode() + b"\n":
        raise _damaged(path)
    return content[HEADER_BYTES:], digest


def _parse_state(path: Path, content: memoryview) -> dict[str, Any]:
    """Return what `TrainingCheckpointer.save` stored, on the CPU, wherever it was then."""
    try:
        stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if type(stored) is not dict or set(stored) != {"identity", "chunk", "state"}:
            raise ValueError("it is no state")
    except (*BROKEN, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise _damaged(path) from error
    return stored


def _damaged(path: Path) -> HeliographError:
    return HeliographError(
        f"{path} is damaged, so the training cannot go on from it: --overwrite starts again"
    )


def difference(before: Any, now: Any) -> str:
    """Return the first setting in which two identities differ, in words.

    >>> difference({"config": {"vocab": 5}}, {"config": {"vocab": 8}})
    'its vocab is 5, now 8'
    >>> difference({"config": {}}, {"config": {"kept_epoch": "last"}})
    'its kept_epoch is best, now last'
    >>> difference({}, {"noise": "philox"})
    "its noise is torch's generator, now philox"
    """
    found = first_difference(before, now)
    if found is None or not found.path:
        return f"its identity is {before}, now {now}"
    name = f"cache {found.path[-1]}" if found.path[0] == "caches" else found.path[-1]
    left, right = (_or_usual(value, found.path) for value in (found.left, found.right))
    return f"its {name} is {left}, now {right}"


def _or_usual(value: Any, path: tuple[str, ...]) -> Any:
    """Return a value of an identity; of one that it lacks the usual one, or the earlier one."""
    if value is None and path[0] == "config" and path[-1] in TrainConfig.model_fields:
        return TrainConfig.model_fields[path[-1]].default
    if value is None and path == ("noise",):
        return "torch's generator"
    return value
