"""Trainings that outlive their process: the state of each chunk of seeds in a folder.

    OUT/unfinished/identity.json    what is being trained: nothing else may go on from here
    OUT/unfinished/chunk-000.pt     the state of the first chunk, and so on

Each file appears whole or not at all. They are read as data, never as code, and swept once the run
folder is written.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from data.differences import first_difference
from data.errors import HeliographError
from data.files import atomic_write, replacing, sweep_temporaries

FOLDER = "unfinished"
SHARE_OF_TIME = 0.05  # that keeping states may take


class TrainingCheckpointer:
    """Keeps the states of one training, and finds them again for the same one only.

    `identity` is JSON of everything that the result depends on, to the bit.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        self.out = out
        self.folder = out / FOLDER
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
        before = self._stored_identity()
        if before is not None and overwrite:
            self.sweep()
        elif before is not None and not resume:
            raise HeliographError(
                f"{self.out} holds an unfinished training: --resume goes on with it, "
                "--overwrite starts again"
            )
        elif before is not None and before != self.identity:
            raise HeliographError(
                f"{self.out} holds an unfinished training of something else: "
                f"{difference(before, self.identity)}; --overwrite starts again"
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
            stored = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
        except FileNotFoundError:
            return None
        except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
            raise HeliographError(
                f"{path} is damaged, so the training cannot go on from it: --overwrite starts again"
            ) from error
        if stored["identity"] != self._digest:
            raise HeliographError(
                f"{path} is of another training: remove it, or start again with --overwrite"
            )
        state: dict[str, Any] = stored["state"]
        return state

    def due(self) -> bool:
        """Whether keeping a state now takes no more than its share of the time."""
        return time.monotonic() >= self._due

    def save(self, chunk: int, state: Mapping[str, Any]) -> None:
        """Writes the state of a chunk over the one before."""
        start = time.monotonic()
        if self._stored_identity() is None:
            atomic_write(self._identity_path, json.dumps(self.identity, indent=1) + "\n")
        with replacing(self._path(chunk)) as file:
            torch.save({"identity": self._digest, "state": dict(state)}, file)
        end = time.monotonic()
        self._due = end + (end - start) / SHARE_OF_TIME

    def sweep(self) -> None:
        """Removes every state, the identity last."""
        for path in [*sorted(self.folder.glob("chunk-*.pt")), self._identity_path]:
            path.unlink(missing_ok=True)
        if self.folder.is_dir():
            sweep_temporaries(self.folder)
            self.folder.rmdir()

    @property
    def _identity_path(self) -> Path:
        return self.folder / "identity.json"

    def _path(self, chunk: int) -> Path:
        return self.folder / f"chunk-{chunk:03d}.pt"

    def _stored_identity(self) -> Any:
        try:
            return json.loads(self._identity_path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            return "unreadable"


def difference(before: Any, now: Any) -> str:
    """Return the first setting in which two identities differ, in words.

    >>> difference({"config": {"vocab": 5}}, {"config": {"vocab": 8}})
    'its vocab is 5, now 8'
    """
    found = first_difference(before, now)
    if found is None or not found.path:
        return f"its identity is {before}, now {now}"
    name = f"cache {found.path[-1]}" if found.path[0] == "caches" else found.path[-1]
    return f"its {name} is {found.left}, now {found.right}"
