"""Adam for stacked nets: every seed has its own steps, its own clipping, and its own failures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adam import adam as functional_adam

from pipeline.agents import Stack

BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's, which the paper leaves as they are


class Optimiser:
    """One Adam per net: `lead` leading axes of a stack number the nets that step by themselves.

    A net that sits a batch out keeps its weights, its moments and its count of steps, as if the
    batch had never been. `stack` has the weights as they are.
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

    def parameters(self) -> Stack:
        """Return the stack to compute with, whose gradients are stepped with."""
        return self.stack

    def clip(self, lead: int, largest: float) -> None:
        """Scales gradients to at most this norm, as `clip_each`."""
        clip_each(self.stack, lead, largest)

    def step(self, good: Tensor) -> None:
        """Steps the seeds where `good` (S,) holds with the stack's gradients, and clears them."""
        raise NotImplementedError

    def restart(self, net: int | None = None) -> None:
        """Forgets the moments and steps of one net of every seed (needs `lead` = 2), or of all."""
        nets = slice(None) if net is None else (slice(None), net)
        self.steps[nets] = 0
        for moments in (self.means, self.squares):
            for value in moments.values():
                value[nets] = 0

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
    """Adam for a GPU: nobody waits, and a step is a score of kernels, whatever the number of nets.

    The tensors of a stack become parts of one tensor (of a few, where agents are of several kinds),
    whose gradient is whole as well. A net that sits out takes the first row of a table of
    coefficients, with which a step changes nothing.
    """

    def __init__(
        self, stack: Stack, *, lr: float, weight_decay: float = 0.0, lead: int = 1
    ) -> None:
        blocks: dict[torch.Size, dict[str, Tensor]] = {}
        for name, value in stack.items():
            blocks.setdefault(value.shape[:2], {})[name] = value.detach()
        self._blocks = [_Block(tensors) for tensors in blocks.values()]
        super().__init__(self._joined(stack, "values"), lr=lr, weight_decay=weight_decay, lead=lead)
        device = self.steps.device
        self.steps = self.steps.long()
        self.means, self.squares = (self._joined(stack, name) for name in ("mean", "square"))
        self._coefficients = torch.from_numpy(_coefficients(lr)).to(device)  # (steps, 4)
        self._zero = torch.zeros((), device=device)

    def parameters(self) -> Stack:
        """Return the stack to compute with, whose gradients are stepped with; it has none yet."""
        for block in self._blocks:
            block.values.grad = None
        return {name: part for block in self._blocks for name, part in block.parts("values")}

    @torch.no_grad()
    def clip(self, lead: int, largest: float) -> None:
        """Scales gradients to at most this norm, as `clip_each`."""
        gradients = [block.values.grad for block in self._blocks if block.values.grad is not None]
        dims = list(range(lead, 3))
        norms = [torch.linalg.vector_norm(gradient, dim=dims) for gradient in gradients]
        norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms), dim=0)
        bound = norm + 1e-6
        if largest != 1:
            bound = bound / largest
        for gradient in gradients:
            gradient.div_(_beside(bound.clamp(min=1.0)))

    @torch.no_grad()
    def step(self, good: Tensor) -> None:
        """Steps the seeds where `good` (S,) holds with the stack's gradients, and clears them."""
        good = good.view(-1, *[1] * (self.lead - 1)).expand_as(self.steps)
        self.steps += good
        row = (self.steps * good).clamp(max=len(self._coefficients) - 1)
        weight, decay, root, rest = map(_beside, self._coefficients[row].unbind(-1))
        goes = _beside(good)
        for block in self._blocks:
            gradient = block.values.grad
            assert gradient is not None
            if self.weight_decay:
                gradient = gradient.add(block.values, alpha=self.weight_decay)
            gradient = torch.where(goes, gradient, self._zero)
            block.mean.lerp_(gradient, weight)
            block.square.mul_(decay).addcmul_(gradient, gradient, value=1 - BETAS[1])
            divisor = torch.sqrt(block.square, out=gradient)
            divisor = torch.addcmul(rest, divisor, root, out=divisor)
            block.values.addcdiv_(block.mean, divisor, value=-1)
            block.values.grad = None

    def _joined(self, stack: Stack, of: str) -> Stack:
        parts = dict(pair for block in self._blocks for pair in block.parts(of))
        return {name: parts[name].detach() for name in stack}


class _Block:
    """Tensors (S, A, ...) of a stack, their moments and gradients, as parts of one row a net.

    Attributes:
        values: float32 (S, A, numbers), a leaf.
        mean, square: The same of the moments.
    """

    def __init__(self, tensors: Stack) -> None:
        # weights before biases, and rows that begin where a product reads four numbers at once
        ordered = sorted(tensors, key=lambda name: -tensors[name].dim())
        self._shapes = {name: tensors[name].shape[2:] for name in ordered}
        self._sizes = [shape.numel() for shape in self._shapes.values()]
        self._sizes += [-sum(self._sizes) % 4] if sum(self._sizes) % 4 else []
        first = tensors[ordered[0]]
        self.values = first.new_zeros((*first.shape[:2], sum(self._sizes)))
        self.mean, self.square = torch.zeros_like(self.values), torch.zeros_like(self.values)
        for name, part in self.parts("values"):
            part.copy_(tensors[name])
        self.values.requires_grad_()

    def parts(self, of: str) -> Iterator[tuple[str, Tensor]]:
        """Yield views of `values`, `mean` or `square` in the shapes of the stack."""
        pieces = getattr(self, of).split(self._sizes, dim=-1)
        for (name, shape), piece in zip(self._shapes.items(), pieces, strict=False):
            yield name, piece.unflatten(-1, shape)


def _beside(of_nets: Tensor) -> Tensor:
    """Return numbers of nets, (S,) or (S, R), as they stand beside (S, R, numbers)."""
    return of_nets.view(*of_nets.shape, *[1] * (3 - of_nets.dim()))


@cache
def _coefficients(lr: float) -> NDArray[np.float32]:
    """Return what a step takes by the number of steps so far: (steps, 4).

    The weight of the gradient in the mean, what stays of the square, and two numbers of which the
    divisor of the mean is made: root of the square * the third + the fourth. Row 0 changes nothing;
    after the last the numbers stay as they are.
    """
    taken = np.arange(1, 20_001)
    corrections = [1 - beta**taken for beta in BETAS]
    with np.errstate(divide="ignore"):
        inverse = corrections[0] / np.float64(lr)  # of the size of a step; where it is 0, infinite
    root = np.where(np.isinf(inverse), 0, inverse / np.sqrt(corrections[1]))
    rows = np.broadcast_arrays(1 - BETAS[0], BETAS[1], root, EPSILON * inverse)
    return np.vstack([[0, 1, 0, np.inf], np.stack(rows, axis=1)]).astype(np.float32)


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


def backward(loss: Tensor, active: Tensor) -> Tensor:
    """Back-propagates the losses (S,) of the active seeds; returns where they are finite, (S,).

    The gradients of the others are worthless: they must not be stepped with.
    """
    good = active & (loss.detach().abs() < math.inf)
    loss.backward(good.to(loss.dtype))
    return good
