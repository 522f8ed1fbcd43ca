"""The number formats of a computation: which one is used, and the settings of torch for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from backbones.devices import has_bfloat16
from backbones.errors import BackboneValueError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16", "fp16")

_SETTINGS_LOCK = threading.RLock()


def resolve_precision(precision: str, device: torch.device, *, motion: bool = False) -> str:
    """Return the precision for a name that the user gives: `fp32`, `bf16` or `fp16`.

    Args:
        precision: one of these, or `auto`: bfloat16 on a GPU that computes in it, else float32.
        device: where the backbone will run.
        motion: whether differences of maps are among the output, for which `auto` is float32:
            successive maps are nearly alike, and what rounding adds is not.

    Raises:
        BackboneValueError: an unknown name, or half precision on an Apple GPU.
    """
    if precision not in PRECISIONS:
        raise BackboneValueError(
            f"no precision {precision!r}: choose one of {', '.join(PRECISIONS)}"
        )
    if device.type == "mps" and precision not in ("auto", "fp32"):
        raise BackboneValueError(f"on an Apple GPU (mps) the precision is fp32, not {precision}")
    if precision != "auto":
        return precision
    return "bf16" if not motion and device.type == "cuda" and has_bfloat16(device) else "fp32"


@contextmanager
def forward_precision(device: torch.device, precision: str) -> Iterator[None]:
    """Run a forward pass in a precision, whatever the process has set, then restore its settings.

    float32 stays float32 (no TF32, and no rounding to bfloat16 on a CPU); bf16 and fp16 are
    autocast. Several threads may be inside, in any precision: the settings that are global to the
    process are the same for all, and come back when the last one leaves.

    Args:
        device: where the pass runs.
        precision: `fp32`, `bf16` or `fp16`.
    """
    import torch

    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with (
        _float32_on(device.type),
        torch.inference_mode(),
        torch.autocast(device.type, dtype=half or torch.bfloat16, enabled=half is not None),
    ):
        yield


@contextmanager
def fast_float32(device: torch.device) -> Iterator[None]:
    """Compute float32 matrix products on a CPU through oneDNN if that costs no accuracy.

    torch takes MKL by default. On AMD CPUs with AVX-512, oneDNN was measured 1.6 to 5 times as
    fast at the same error; see `cpu_matmul_setting`. On a GPU nothing changes.
    """
    import torch

    on: Any = torch.backends
    with _float32_precision(
        {on.mkldnn.matmul: cpu_matmul_setting()} if device.type == "cpu" else {}
    ):
        yield


_passes: dict[str, int] = {}  # kind of device -> passes that run there
_settings: dict[str, ExitStack] = {}  # kind of device -> what ends its settings


@contextmanager
def _float32_on(kind: str) -> Iterator[None]:
    """Keep the settings for float32 on one kind of device while any pass runs there."""
    import torch

    on: Any = torch.backends
    with _SETTINGS_LOCK:
        if not _passes.get(kind):
            settings = {}
            if kind == "cuda":
                settings = {on.cuda.matmul: "ieee", on.cudnn.conv: "ieee", on.cudnn.rnn: "ieee"}
            elif kind == "cpu":
                settings = {on.mkldnn.matmul: cpu_matmul_setting(), on.mkldnn.conv: "ieee"}
            _settings[kind] = stack = ExitStack()
            if kind == "cuda":
                stack.enter_context(_without_tf32_in_cudnn())
            stack.enter_context(_float32_precision(settings))
        _passes[kind] = _passes.get(kind, 0) + 1
    try:
        yield
    finally:
        with _SETTINGS_LOCK:
            _passes[kind] -= 1
            if not _passes[kind]:
                _settings.pop(kind).close()


@contextmanager
def _without_tf32_in_cudnn() -> Iterator[None]:
    """Clear torch's older flag, too: `torch.backends.cudnn.flags` raises where the two differ.

    Where the process has made them differ, they stay so.
    """
    import torch

    on: Any = torch.backends
    before = {part: part.fp32_precision for part in (on.cudnn.conv, on.cudnn.rnn)}
    try:
        flag = on.cudnn.allow_tf32
    except RuntimeError:
        yield
        return
    on.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        on.cudnn.allow_tf32 = flag
        for part, setting in before.items():
            part.fp32_precision = setting


@contextmanager
def _float32_precision(settings: dict[Any, str]) -> Iterator[None]:
    """Set `fp32_precision` of torch's backends, then restore it."""
    before = {backend: backend.fp32_precision for backend in settings}
    try:
        for backend, setting in settings.items():
            backend.fp32_precision = setting
        yield
    finally:
        for backend, setting in before.items():
            backend.fp32_precision = setting


def cpu_matmul_setting() -> str:
    """Return how to ask for float32 products on this CPU: `bf16` if that is faster float32.

    The setting (torch's `set_float32_matmul_precision("medium")`) lets torch hand float32 products
    to oneDNN. On CPUs with AVX-512 and no bfloat16 units that is exact to rounding, and faster than
    MKL on some. With such units oneDNN does round the factors to bfloat16, and without AVX-512 the
    setting changes nothing. A small product shows which CPU this is; in the last two cases the
    answer is `ieee`, which is torch's own way.
    """
    with _SETTINGS_LOCK:  # no pass begins meanwhile
        return _measured_matmul_setting()


@cache
def _measured_matmul_setting() -> str:
    import torch

    on: Any = torch.backends
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 512, generator=generator, device="cpu", dtype=torch.float32)
    w = torch.randn(64, 512, generator=generator, device="cpu", dtype=torch.float32)
    products = {}
    for setting in ("ieee", "bf16"):
        with (
            _float32_precision({on.mkldnn.matmul: setting}),
            torch.inference_mode(),
            torch.autocast("cpu", enabled=False),
        ):
            products[setting] = torch.nn.functional.linear(x, w)
    exact = x.double() @ w.double().T
    error = float((products["bf16"] - exact).norm() / exact.norm())
    takes_effect = not torch.equal(products["bf16"], products["ieee"])
    return "bf16" if takes_effect and error < 1e-6 else "ieee"


def freeze(model: torch.nn.Module, *, device: torch.device, precision: str) -> torch.nn.Module:
    """Return the model in evaluation mode on its device, its matrix weights cast to a precision.

    Autocast casts float32 weights again at each call; casting them once gives the same numbers.

    Args:
        model: changed in place.
        device: where it will run.
        precision: `fp32`, `bf16` or `fp16`.
    """
    import torch

    model.eval().requires_grad_(False).to(device)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    if half is not None:
        for layer in model.modules():
            if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Conv3d)):
                layer.to(half)
    return model
