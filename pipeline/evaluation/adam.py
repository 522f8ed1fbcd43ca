"""Adam for the brief trainings of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """The steps of `torch.optim.Adam` to the bit; with `decay` those of `torch.optim.AdamW`.

    By torch's function, not its class, which takes seconds to import a compiler that is not used.
    """

    def __init__(self, weights: Iterable[Tensor], *, lr: float, decay: float = 0.0) -> None:
        """Prepare to step some weights, leaves that require gradients."""
        self.weights, self.lr, self.decay = list(weights), lr, decay
        self._means = [torch.zeros_like(weight) for weight in self.weights]
        self._squares = [torch.zeros_like(weight) for weight in self.weights]
        self._steps = [torch.zeros(()) for _ in self.weights]

    @torch.no_grad()
    def step(self) -> None:
        """Step the weights that have a gradient, and clear it."""
        known = [number for number, weight in enumerate(self.weights) if weight.grad is not None]
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        adam(
            [self.weights[number] for number in known],
            gradients,
            [self._means[number] for number in known],
            [self._squares[number] for number in known],
            [],
            [self._steps[number] for number in known],
            foreach=False,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.lr,
            weight_decay=self.decay,
            eps=1e-8,
            maximize=False,
            decoupled_weight_decay=self.decay > 0,
        )
        for weight in self.weights:
            weight.grad = None
