"""The device that a name stands for, and what it can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from backbones.errors import BackboneError, BackboneValueError

if TYPE_CHECKING:
    import torch


KNOWN = "choose one of auto, cpu, cuda, cuda:1, ..., mps"


def resolve_device(name: str, *, auto: Sequence[str] = ("cuda", "mps")) -> torch.device:
    """Return the device for a name that the user gives.

    Args:
        name: `auto`, `cpu`, `cuda`, one of several GPUs (`cuda:1`), or `mps`, the GPU of an Apple
            computer.
        auto: kinds of GPUs of which `auto` is the first that is there; it is the CPU without one.

    Raises:
        BackboneValueError: an unknown or unsupported name.
        BackboneError: a GPU that torch does not see.
    """
    import torch

    available: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    if name == "auto":
        return torch.device(next((kind for kind in auto if available[kind]()), "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackboneValueError(f"no device {name!r}: {KNOWN}") from error
    if device.type not in ("cpu", *available):
        raise BackboneValueError(f"device {name!r} is not supported: {KNOWN}")
    if device.type == "mps" and not available["mps"]():
        raise BackboneError(f"device {name!r} was asked for, but torch sees no Apple GPU here")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackboneError(f"device {name!r} was asked for, but torch sees no CUDA GPU here")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise BackboneError(
            f"device {name!r} was asked for, but torch sees {count} here, counted from cuda:0"
        )
    return device


def resolve_devices(names: str) -> list[str]:
    """Return the names of the devices that a name stands for, each for `resolve_device`.

    Args:
        names: the name of a device, `cuda:all`, which is every GPU, or several, parted by commas.

    Raises:
        BackboneValueError: as for `resolve_device`; or devices of several kinds, on which features
            are not the same.
        BackboneError: as for `resolve_device`.
    """
    import torch

    found: list[str] = []
    for name in names.split(","):
        if name == "cuda:all":
            if not torch.cuda.is_available():
                raise BackboneError(
                    f"device {name!r} was asked for, but torch sees no CUDA GPU here"
                )
            found += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        else:
            resolve_device(name)
            found.append(name)
    kinds = {resolve_device(name).type for name in found}
    if len(kinds) > 1:
        raise BackboneValueError(
            f"devices {names!r}: the features of a cache are made on devices of one kind, not of "
            f"{' and '.join(sorted(kinds))}"
        )
    return found


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a GPU computes in bfloat16 (Ampere and later).

    `torch.cuda.is_bf16_supported()` is also true for older GPUs, where torch emulates it slowly.
    """
    import torch

    return torch.cuda.get_device_capability(device)[0] >= 8
