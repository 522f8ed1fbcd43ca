"""The number formats of a forward pass: set for the call alone, and the same whatever else runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_TURN = threading.RLock()  # a backbone may be made of others


@contextmanager
def forward_numerics(device: torch.device, precision: str) -> Iterator[None]:
    """Run a block under our own number settings, whatever the process has set, and put its back.

    float32 stays float32 (no TF32, and on a CPU no bfloat16 in disguise); bf16 and fp16 are
    autocast. The settings are global to the process, so blocks of several threads take turns.
    """
    import torch

    with _TURN:
        on: Any = torch.backends
        backends = [(on.cuda.matmul, "ieee"), (on.cudnn.conv, "ieee")]
        if device.type == "cpu":
            backends = [(on.mkldnn.matmul, cpu_matmul_setting()), (on.mkldnn.conv, "ieee")]
        before = [(backend, backend.fp32_precision) for backend, _ in backends]
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        try:
            for backend, setting in backends:
                backend.fp32_precision = setting
            with (
                torch.inference_mode(),
                torch.autocast(device.type, dtype=half or torch.bfloat16, enabled=half is not None),
            ):
                yield
        finally:
            for backend, setting in before:
                backend.fp32_precision = setting


@cache
def cpu_matmul_setting() -> str:
    """How float32 products are asked for on this CPU: `bf16` where that is faster float32.

    The setting (torch's `set_float32_matmul_precision("medium")`) lets torch hand float32 linear
    layers to oneDNN. On CPUs with AVX-512 and no bfloat16 units that is exact to rounding, and
    faster than MKL on some. With such units oneDNN takes it at its word and rounds the factors,
    and on CPUs without AVX-512 it changes nothing: there, as a small product shows, it stays
    `ieee`, which is torch's own way.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 512, generator=generator, device="cpu", dtype=torch.float32)
    w = torch.randn(64, 512, generator=generator, device="cpu", dtype=torch.float32)
    mkldnn: Any = torch.backends.mkldnn
    backend = mkldnn.matmul
    before = backend.fp32_precision
    products = {}
    try:
        for setting in ("ieee", "bf16"):
            backend.fp32_precision = setting
            with torch.inference_mode(), torch.autocast("cpu", enabled=False):
                products[setting] = torch.nn.functional.linear(x, w)
    finally:
        backend.fp32_precision = before
    exact = x.double() @ w.double().T
    error = float((products["bf16"] - exact).norm() / exact.norm())
    takes_effect = not torch.equal(products["bf16"], products["ieee"])
    return "bf16" if takes_effect and error < 1e-6 else "ieee"


def freeze(model: torch.nn.Module, *, device: torch.device, precision: str) -> torch.nn.Module:
    """Put a model into evaluation on its device, its matrix weights in the type they are used in.

    Autocast casts float32 weights again at each call; casting them once gives the same numbers.
    """
    import torch

    model.eval().requires_grad_(False).to(device)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    if half is not None:
        for layer in model.modules():
            if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Conv3d)):
                layer.to(half)
    return model
