"""Files of tensors, `.safetensors` or torch's: read as data, screened before their first use.

A file whose hash this account has not recorded is first read in a process that can be killed
(`data.screening`): a pickle may loop for ever or take all memory without running any code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

from backbones.downloads import is_web_page
from backbones.errors import BackboneError
from data.files import open_regular, sha256_file, version_of
from data.screening import require_screened

if TYPE_CHECKING:
    import torch

CHECKER = "backbones.checker:check"
SECONDS = 60.0  # to read a hostile file, and more for its size:
BYTES_PER_SECOND = 20e6
MEMORY_BYTES = 4 << 30  # to read one, and thrice the size of the file
MOST_COPIES = 4  # how often a file's bytes may be claimed: tied weights are one tensor, two names
LONGEST_NAME = 60

_LFS_POINTER = b"version https://git-lfs"
_FORBIDDEN = re.compile(r"GLOBAL ([A-Za-z_][\w.]*)")  # in what torch's unpickler complains about


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file; one that did not change is hashed once.

    Raises:
        BackboneError: the file cannot be read.
    """
    try:
        return _sha256(path, version_of(path))
    except OSError as error:
        raise BackboneError(f"{path} cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=256)
def _sha256(path: Path, version: tuple[int, ...] | None) -> str:
    return sha256_file(path)


def identity(path: Path) -> str:
    """Return what this account's record of checked files calls a file of tensors."""
    return f"sha256:{sha256(path)}"


def fault(path: Path) -> str:
    """Return why a file cannot hold tensors, seen from its first bytes; empty if it may.

    Raises:
        BackboneError: the file is missing or cannot be read.
    """
    if not path.is_file():
        raise BackboneError(f"the weights {path} are not a file")
    try:
        with open_regular(path, follow_links=True) as file:
            head = file.read(1024)
    except OSError as error:
        raise BackboneError(f"{path} cannot be read: {error.strerror or error}") from error
    if not head:
        return "it is empty"
    if is_web_page(head):
        return "it is a web page (HTML), perhaps the login page of a network"
    if head.startswith(_LFS_POINTER):
        return "it is a pointer of Git LFS: `git lfs pull` brings the file"
    return ""


def read(path: Path) -> dict[str, torch.Tensor]:
    """Return the state dict of a `.safetensors` or torch file; nothing in it is executed.

    Raises:
        BackboneError: the file is missing, unreadable, hostile, or holds more than tensors.
    """
    reason = fault(path)
    if reason:
        raise BackboneError(f"the weights {path} cannot be read as tensors: {reason}")
    size = path.stat().st_size
    require_screened(
        path,
        identity(path),
        CHECKER,
        seconds=SECONDS + size / BYTES_PER_SECOND,
        memory_bytes=MEMORY_BYTES + 3 * size,
        error=BackboneError,
    )
    return parse(path)


def check(path: Path) -> str:
    """Read a file as `read` will, and return its identity: the checker of the screening.

    Raises:
        BackboneError: the file is refused.
    """
    found = identity(path)
    parse(path)
    return found


def parse(path: Path) -> dict[str, torch.Tensor]:
    """Return the state dict of a file in this process, whatever the file does to it.

    Raises:
        BackboneError: the file is unreadable, or holds more than tensors.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes torch's reader fail in a dozen ways
        raise BackboneError(
            f"the weights {path} cannot be read as tensors: {_reason(error, path)}"
        ) from error
    if not isinstance(state, dict):
        raise BackboneError(f"the weights {path} hold a {type(state).__name__}, not a state dict")
    reason = _unusable(state, path.stat().st_size)
    if reason:
        raise BackboneError(f"the weights {path} are refused: {reason}")
    return state


def _reason(error: Exception, path: Path) -> str:
    """Return our own sentence; torch's would advise to load the file without protection."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    if "weights_only" in text or "Weights only" in text:
        found = _FORBIDDEN.search(text)
        if found:
            return f"it would call {found[1]}, and a file of weights may hold tensors only"
        return "it is damaged, or holds more than tensors"
    kind = "a .safetensors file" if path.suffix == ".safetensors" else "a file of torch.save"
    return f"it is not {kind}, or is damaged or cut short"


def _unusable(state: Mapping[Any, Any], size: int) -> str:
    """Return what of a state dict could not be used, or would need more memory than its file."""
    claimed = 0
    for name, value in _entries(state):
        if not (isinstance(name, str) or (type(name) is int and abs(name) < 1 << 63)):
            return f"it has a name of type {type(name).__name__}"
        if _is_tensor(value):
            if not _is_plain(value):
                return f"{shorten(name)} is not a plain tensor"
            claimed += value.numel() * value.element_size()
    if claimed > MOST_COPIES * size:
        return f"its tensors claim {claimed:,} bytes in a file of {size:,}"
    return ""


def _entries(state: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield names and values of a state dict, and of those in it: a training checkpoint's."""
    for name, value in state.items():
        yield name, value
        if isinstance(value, Mapping):
            yield from value.items()


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is dense numbers in memory, of torch's own class."""
    import torch

    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and not tensor.is_complex()
    )


def shorten(name: object) -> str:
    """Return a name from a file as a sentence may have it: short, and without escapes.

    >>> shorten("blocks.0.attn.qkv.weight"), shorten("a" * 100)[-5:]
    ('blocks.0.attn.qkv.weight', 'aaa..')
    """
    text = str(name)
    text = text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 2]}.."
    return text if text.isprintable() and text.isascii() else ascii(text)
