"""Adam for stacked nets: every seed has its own steps, its own clipping, and its own failures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from pipeline.population import Stack


class SeedAdam:
    """One Adam per seed over its slice of a stack.

    The slices are views, so a step changes the stack in place; a seed that sits a batch out keeps
    its weights, its moments and its count of steps, as if the batch had never been.
    """

    def __init__(self, stack: Stack, *, lr: float, weight_decay: float = 0.0) -> None:
        self.stack = stack
        self.slices = [
            [value.detach()[seed] for value in stack.values()]
            for seed in range(len(next(iter(stack.values()))))
        ]
        self.optimisers = [
            torch.optim.Adam(own, lr=lr, weight_decay=weight_decay, fused=True)
            for own in self.slices
        ]

    def step(self, seeds: Sequence[int]) -> None:
        """Steps the named seeds with the gradients that stand in the stack, and clears them all."""
        gradients = [value.grad for value in self.stack.values()]
        for seed in seeds:
            for own, gradient in zip(self.slices[seed], gradients, strict=True):
                own.grad = None if gradient is None else gradient[seed]
            self.optimisers[seed].step()
        for value in self.stack.values():
            value.grad = None


def clip_each(stack: Stack, lead: int, largest: float) -> None:
    """Scales gradients to at most this norm, each of the nets in the stack by itself.

    `lead` leading axes number the nets: 1 for a seed's senders taken together, 2 for each receiver
    by itself. The rule is that of `torch.nn.utils.clip_grad_norm_`.
    """
    gradients = [value.grad for value in stack.values() if value.grad is not None]
    squares = [gradient.flatten(lead).square().sum(dim=-1) for gradient in gradients]
    norm = torch.stack(squares).sum(dim=0).sqrt()
    scale = (largest / (norm + 1e-6)).clamp(max=1.0)
    if bool((scale < 1).any()):
        for gradient in gradients:
            gradient.mul_(scale.view(*scale.shape, *[1] * (gradient.dim() - lead)))


def backward(loss: Tensor, active: Tensor) -> list[int]:
    """Back-propagates the losses (S,) of the active seeds; returns those whose loss is finite.

    The gradients of the others are worthless: they must not be stepped with.
    """
    good = active & loss.detach().isfinite()
    torch.where(good, loss, torch.zeros_like(loss)).sum().backward()
    return torch.nonzero(good).flatten().tolist()


@contextmanager
def fast_float32(device: torch.device) -> Iterator[None]:
    """Float32 matrix products through oneDNN on a CPU where that costs no accuracy.

    PyTorch takes MKL by default; oneDNN was measured 1.6 to 5 times faster on AMD CPUs at the same
    error. The same switch lets CPUs with bfloat16 units round to bfloat16, so it is thrown only
    where a small product shows that this one does not.
    """
    before = torch.get_float32_matmul_precision()
    try:
        if device.type == "cpu":
            torch.set_float32_matmul_precision("medium")
            if not _product_is_float32():
                torch.set_float32_matmul_precision(before)
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _product_is_float32() -> bool:
    x = torch.linspace(1, 2, 64 * 64, dtype=torch.float64).view(64, 64)
    exact = x @ x
    return bool(((x.float() @ x.float() - exact).abs() / exact).max() < 1e-6)
