"""Adam for stacked nets: every seed has its own steps, its own clipping, and its own failures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam as functional_adam

from pipeline.agents import Stack

BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's, which the paper leaves as they are


class Optimiser:
    """One Adam per net: `lead` leading axes of a stack number the nets that step by themselves.

    A net that sits a batch out keeps its weights, its moments and its count of steps, as if the
    batch had never been.
    """

    def __init__(
        self, stack: Stack, *, lr: float, weight_decay: float = 0.0, lead: int = 1
    ) -> None:
        self.stack = stack
        self.lr, self.weight_decay, self.lead = lr, weight_decay, lead
        first = next(iter(stack.values()))
        self.steps = torch.zeros(first.shape[:lead], device=first.device)  # (S,) or (S, R)
        self.means = {name: torch.zeros_like(value.detach()) for name, value in stack.items()}
        self.squares = {name: torch.zeros_like(value.detach()) for name, value in stack.items()}

    def step(self, good: Tensor) -> None:
        """Steps the seeds where `good` (S,) holds with the stack's gradients, and clears them."""
        raise NotImplementedError

    def restart(self, net: int) -> None:
        """Forgets the moments and steps of one net of every seed (needs `lead` = 2)."""
        self.steps[:, net] = 0
        for moments in (self.means, self.squares):
            for value in moments.values():
                value[:, net] = 0

    def state(self) -> dict[str, Any]:
        """All that `load` needs to go on to the bit: steps and moments."""
        return {"steps": self.steps, "means": self.means, "squares": self.squares}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken."""
        self.steps.copy_(state["steps"])
        for moments, stored in ((self.means, state["means"]), (self.squares, state["squares"])):
            for name, value in moments.items():
                value.copy_(stored[name])


def adam(stack: Stack, *, lr: float, weight_decay: float = 0.0, lead: int = 1) -> Optimiser:
    """The Adam that suits the stack's device."""
    kind = SeedAdam if next(iter(stack.values())).device.type == "cpu" else MaskedAdam
    return kind(stack, lr=lr, weight_decay=weight_decay, lead=lead)


class SeedAdam(Optimiser):
    """torch's fused Adam over each net's slices: the fastest on a CPU, where a flag costs nothing.

    Its function, not its class, which takes three seconds to import a compiler it does not use.
    """

    def step(self, good: Tensor) -> None:
        """Steps the seeds where `good` (S,) holds with the stack's gradients, and clears them."""
        stepping = good.tolist()
        nets = [net for net in np.ndindex(*self.steps.shape) if stepping[net[0]]]
        gradients = {
            name: value.grad for name, value in self.stack.items() if value.grad is not None
        }

        def each(stack: Stack) -> list[Tensor]:
            return [stack[name].detach()[net] for net in nets for name in gradients]

        if nets:
            functional_adam(
                each(self.stack),
                each(gradients),
                each(self.means),
                each(self.squares),
                [],
                [self.steps[net].clone() for net in nets for _ in gradients],  # counted up each
                fused=True,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=self.lr,
                weight_decay=self.weight_decay,
                eps=EPSILON,
                maximize=False,
            )
        self.steps += good.view(-1, *[1] * (self.lead - 1))
        for value in self.stack.values():
            value.grad = None


class MaskedAdam(Optimiser):
    """Adam for a GPU: all tensors of a stack as one row for each net, and nobody waits.

    A net that does not step is masked out. So a step is a score of kernels, and one more for each
    tensor, whose numbers are elsewhere.
    """

    def __init__(
        self, stack: Stack, *, lr: float, weight_decay: float = 0.0, lead: int = 1
    ) -> None:
        super().__init__(stack, lr=lr, weight_decay=weight_decay, lead=lead)
        self._mean, self._square = (
            self._rows([moments[name] for name in stack]) for moments in (self.means, self.squares)
        )
        self.means, self.squares = (
            dict(zip(stack, self._parts(rows), strict=True)) for rows in (self._mean, self._square)
        )

    @torch.no_grad()
    def step(self, good: Tensor) -> None:
        """Steps the seeds where `good` (S,) holds with the stack's gradients, and clears them."""
        good = good.view(-1, *[1] * (self.lead - 1)).expand_as(self.steps)
        self.steps += good
        taken = self.steps.clamp(min=1)  # where none was, nothing is stepped either
        step_size = self.lr / (1 - BETAS[0] ** taken).unsqueeze(-1)
        correction = (1 - BETAS[1] ** taken).sqrt().unsqueeze(-1)
        goes, values = good.unsqueeze(-1), list(self.stack.values())
        gradient = self._rows(
            [torch.zeros_like(value) if value.grad is None else value.grad for value in values]
        )
        gradient = torch.where(goes, gradient, 0.0)
        if self.weight_decay:
            decayed = [torch.zeros_like(value) if value.grad is None else value for value in values]
            gradient = gradient.add(self._rows(decayed), alpha=self.weight_decay)
        mean = self._mean.lerp(gradient, 1 - BETAS[0])
        square = (self._square * BETAS[1]).addcmul(gradient, gradient, value=1 - BETAS[1])
        change = mean / (square.sqrt() / correction + EPSILON)
        change = torch.where(goes, change * step_size, 0.0)
        self._mean.copy_(torch.where(goes, mean, self._mean))
        self._square.copy_(torch.where(goes, square, self._square))
        for value, part in zip(values, self._parts(change), strict=True):
            if value.grad is not None:
                value.sub_(part)
                value.grad = None

    def _rows(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return tensors of the stack's shapes as one row for each net: (S, numbers)."""
        return torch.cat([tensor.flatten(self.lead) for tensor in tensors], dim=-1)

    def _parts(self, rows: Tensor) -> list[Tensor]:
        """Return views of such rows in the stack's shapes."""
        shapes = [value.shape[self.lead :] for value in self.stack.values()]
        parts = rows.split([shape.numel() for shape in shapes], dim=-1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]


def clip_each(stack: Stack, lead: int, largest: float) -> None:
    """Scales gradients to at most this norm, each of the nets in the stack by itself.

    `lead` leading axes number the nets: 1 for a seed's senders taken together, 2 for each receiver
    by itself. The rule is that of `torch.nn.utils.clip_grad_norm_`.
    """
    gradients = [value.grad for value in stack.values() if value.grad is not None]
    squares = [gradient.flatten(lead).square().sum(dim=-1) for gradient in gradients]
    norm = torch.stack(squares).sum(dim=0).sqrt()
    scale = (largest / (norm + 1e-6)).clamp(max=1.0)
    if scale.device.type != "cpu" or bool((scale < 1).any()):  # asking would make a GPU wait
        for gradient in gradients:
            gradient.mul_(scale.view(*scale.shape, *[1] * (gradient.dim() - lead)))


def backward(loss: Tensor, active: Tensor) -> Tensor:
    """Back-propagates the losses (S,) of the active seeds; returns where they are finite, (S,).

    The gradients of the others are worthless: they must not be stepped with.
    """
    good = active & loss.detach().isfinite()
    torch.where(good, loss, torch.zeros_like(loss)).sum().backward()
    return good
