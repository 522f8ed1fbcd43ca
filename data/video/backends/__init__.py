"""The decoders, one file each with a `Backend` record that is found by its file.

`pyav.py` is the reference. To add a decoder `foo`, write `foo.py` with `BACKEND = Backend(...)`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from data.errors import HeliographError, InvalidValueError
from data.video.backends.base import DEVICES, Backend
from data.video.backends.crosscheck import CannotAgree, agreement

__all__ = [
    "DECODERS",
    "DEVICES",
    "REFERENCE",
    "Backend",
    "CannotAgree",
    "agreement",
    "decoder_record",
    "discover",
    "find_decoder",
    "find_named",
    "name_on",
]

REFERENCE = "pyav"


def discover(folders: Iterable[str]) -> dict[str, Backend]:
    """Return the backends of the modules in `folders` by name, the reference first.

    Raises:
        ValueError: A record has another name than its file.
    """
    found = []
    for module in pkgutil.iter_modules(folders):
        backend = getattr(import_module(f"{__name__}.{module.name}"), "BACKEND", None)
        if backend is None:
            continue
        if backend.name != module.name:
            raise ValueError(f"the decoder of {module.name}.py is named {backend.name!r}")
        found.append(backend)
    found.sort(key=lambda backend: (backend.name != REFERENCE, backend.load_last, backend.name))
    return {backend.name: backend for backend in found}


DECODERS = discover(__path__)


def find_decoder(name: str, device: str = "auto") -> Backend:
    """Return the record of a decoder that decodes on a device.

    Raises:
        ValueError: There is no such decoder or device, and the error lists those there are; or the
            decoder does not decode there.
    """
    if name not in DECODERS:
        raise ValueError(f"no decoder {name!r}: choose one of {', '.join(DECODERS)}")
    backend = DECODERS[name]
    if device not in DEVICES:
        raise ValueError(f"no device {device!r}: choose one of {', '.join(DEVICES)}")
    if device != "auto" and device not in backend.devices:
        others = [other.name for other in DECODERS.values() if device in other.devices]
        raise ValueError(f"{name} does not decode on {device}; {', '.join(others)} does")
    return backend


def name_on(decoder: str, device: str) -> str:
    """Return what a decoder is called where it decodes on a device.

    >>> name_on("torchcodec", "cuda"), name_on("torchcodec", "cpu")
    ('torchcodec:cuda', 'torchcodec')
    """
    return decoder if device == "cpu" else f"{decoder}:{device}"


def find_named(name: str) -> tuple[Backend, str]:
    """Return the record of a decoder and its device, by what `name_on` calls it.

    Raises:
        ValueError: As `find_decoder` does.
    """
    decoder, _, device = name.partition(":")
    return find_decoder(decoder, device or "cpu"), device or "cpu"


def decoder_record(name: str) -> dict[str, Any]:
    """Return what a cache records about a decoder: its name, version and FFmpeg libraries.

    Args:
        name: As `name_on` has it.

    Raises:
        InvalidValueError: There is no such decoder, or it does not decode there.
        HeliographError: It is not installed, or there is no such device.
    """
    try:
        backend, device = find_named(name)
        record = {"name": name, **backend.versions()}
    except ValueError as error:
        raise InvalidValueError(str(error)) from None
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise HeliographError(f"the decoder {name} cannot be used here: {reason}") from error
    if device == "cuda":
        _require_cuda()
    return record


def _require_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise HeliographError(
            "there is no CUDA device to decode on: leave out --decode-device, or run `heliograph "
            "doctor`"
        )
