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


def find_decoder(name: str) -> Backend:
    """Return the record of a decoder.

    Raises:
        ValueError: There is no such decoder; the error lists those there are.
    """
    if name not in DECODERS:
        raise ValueError(f"no decoder {name!r}: choose one of {', '.join(DECODERS)}")
    return DECODERS[name]


def decoder_record(name: str) -> dict[str, Any]:
    """Return what a cache records about a decoder: its name, version and FFmpeg libraries.

    Raises:
        InvalidValueError: There is no such decoder.
        HeliographError: It is not installed.
    """
    try:
        return {"name": name, **find_decoder(name).versions()}
    except ValueError as error:
        raise InvalidValueError(str(error)) from None
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise HeliographError(f"the decoder {name} cannot be used here: {reason}") from error
