"""Reading weight files: as data, never as code, checked against what was published."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import is_zipfile

from backbones.base import BackboneError

if TYPE_CHECKING:
    import torch


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Refuse a file that is not the published one."""
    found = file_sha256(path)
    if found != expected:
        raise BackboneError(
            f"{path} is not the published file: its sha256 is {found}, not {expected}"
        )


def read(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a `.safetensors` or a torch file; nothing in the file is executed.

    Raises:
        BackboneError: the file is missing, unreadable, or holds more than tensors.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise BackboneError(f"the weights {path} are not a file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise BackboneError(f"the weights {path} cannot be read as tensors: {reason}") from error
    return state


def state_sha256(state: dict[str, torch.Tensor]) -> str:
    """The SHA-256 of a state dict: each name, type, shape and bytes, in the order of names.

    The same weights give the same digest from any file format and under any key map that ends
    in the same names. Counters of batch normalisation are left out: they change no feature.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        if name.endswith("num_batches_tracked"):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_strictly(model: torch.nn.Module, state: dict[str, torch.Tensor], path: Path | str) -> None:
    """Load a state dict of which every name and shape must fit.

    Raises:
        BackboneError: a sentence with the first names that do not fit.
    """
    own = model.state_dict()
    wrong = {
        "missing": [name for name in own if name not in state],
        "unknown": [name for name in state if name not in own],
        "misshapen": [n for n in own if n in state and own[n].shape != state[n].shape],
    }
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in wrong.items()
        if names
    ]
    if faults:
        raise BackboneError(f"the weights {path} do not fit this model: {'; '.join(faults)}")
    model.load_state_dict(state, strict=True, assign=True)
