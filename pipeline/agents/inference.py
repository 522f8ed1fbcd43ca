"""The agents of a run prepared for speaking: the same nets, several times quicker for one clip.

A convolution over a handful of time steps is one product of matrices, and that is how it is done
here: on a CPU `torch.nn.Conv1d` over 4 steps of 1024 features takes several times as long for one
clip (and 1.6 times as long for 256). Agents that were trained on a few axes of the features, which
were then folded into their first convolution, look at those axes again. The architecture is
`pipeline.agents`; only rounding differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.agents.modules import (
    CompositionalSender,
    MultiAgentSender,
    RidgeEncoder,
    Sender,
    TemporalEncoder,
    clamped,
)

CLIPS_AT_ONCE = 256
NEGLIGIBLE = 1e-5  # of the largest singular value: what folding in float32 leaves of a zero


@dataclass(frozen=True)
class _Convolution:
    """A Conv1d as a product: `weight` (kernel * inputs, outputs)."""

    weight: Tensor
    bias: Tensor
    kernel: int
    padding: int

    @classmethod
    def of(cls, layer: nn.Module, axes: Tensor | None = None) -> _Convolution:
        """The layer over its inputs, or over their projection on `axes` (inputs, rank)."""
        assert isinstance(layer, nn.Conv1d)
        assert layer.bias is not None
        assert isinstance(layer.padding, tuple)
        weight = layer.weight.detach().permute(2, 1, 0)  # (kernel, inputs, outputs)
        if axes is not None:
            weight = axes.T @ weight
        return cls(
            weight.reshape(-1, layer.out_channels).contiguous(),
            layer.bias.detach(),
            layer.kernel_size[0],
            layer.padding[0],
        )

    def __call__(self, x: Tensor) -> Tensor:
        """(N, T, inputs) -> (N, T + 2 padding - kernel + 1, outputs), none below zero."""
        padded = nn.functional.pad(x, (0, 0, self.padding, self.padding))
        windows = padded.unfold(1, self.kernel, 1).transpose(2, 3)  # (N, L, kernel, inputs)
        clips, steps = windows.shape[:2]
        rows = windows.reshape(clips * steps, -1)
        return torch.addmm(self.bias, rows, self.weight).relu_().view(clips, steps, -1)


def _axes(layer: nn.Module) -> Tensor | None:
    """The directions (inputs, rank) that a convolution looks at, where they are few; else None.

    Found with a random sketch of its weight (Halko, Martinsson and Tropp 2011), in milliseconds.
    """
    weight = layer.get_parameter("weight").detach().permute(1, 0, 2).flatten(1)  # (inputs, ...)
    most = len(weight) // 4
    if not most:  # so few inputs that there is nothing to save
        return None
    sketch = torch.randn(weight.shape[1], most, generator=torch.Generator().manual_seed(0))
    directions, sizes, _ = torch.linalg.svd(weight @ sketch, full_matrices=False)
    rank = int((sizes > NEGLIGIBLE * sizes[0]).sum())
    return directions[:, :rank].contiguous() if 0 < rank < most else None


def _prepared(
    encoder: TemporalEncoder | RidgeEncoder,
) -> tuple[Tensor | None, Callable[[Tensor], Tensor]]:
    """Return the axes that an encoder looks at, if any, and what it makes of features on them."""
    if isinstance(encoder, RidgeEncoder):
        return None, encoder
    layer, _, next_layer, *_ = encoder.temporal
    axes = _axes(layer)
    first, second = _Convolution.of(layer, axes), _Convolution.of(next_layer)
    return axes, lambda features: encoder.fc(second(first(features)).mean(1))


class _Agent:
    """One sender."""

    def __init__(self, sender: CompositionalSender, cache: int, window: range | None) -> None:
        self.cache, self.window = cache, window
        self.axes, self.encode = _prepared(sender.encoder)
        heads = nn.ModuleList([sender.head]) if sender.n_heads == 1 else sender.heads
        layers = [head for head in heads if isinstance(head, nn.Linear)]
        # (heads * vocab, hidden)
        self.weight = torch.cat([head.weight.detach() for head in layers])
        self.bias = torch.cat([head.bias.detach() for head in layers])
        self.heads, self.clamp = sender.n_heads, sender.logit_clamp

    def __call__(self, features: Tensor) -> Tensor:
        """(N, steps, dim) -> (N, heads, vocab)."""
        if self.window is not None:
            if features.shape[1] == 1:  # a static feature repeats over time
                features = features.expand(-1, self.window.stop, -1)
            features = features[:, self.window.start : self.window.stop]
        if self.axes is not None:
            features = features @ self.axes
        logits = nn.functional.linear(self.encode(features), self.weight, self.bias)
        return clamped(logits.view(len(features), self.heads, -1), self.clamp)


class FastSender:
    """All agents of a sender: features of each cache (N, steps, dim) -> (N, agents, heads, vocab).

    Takes the weights as they are; the sender must not be trained on.
    """

    def __init__(self, sender: Sender) -> None:
        if isinstance(sender, MultiAgentSender):
            pairs = zip(sender.senders, sender.views, strict=True)
            self._agents = [
                _Agent(agent, view.cache, view.window)
                for agent, view in pairs
                if isinstance(agent, CompositionalSender)
            ]
        else:
            self._agents = [_Agent(sender, 0, None)]

    def __repr__(self) -> str:
        return f"FastSender({len(self._agents)} agents)"

    @torch.inference_mode()
    def __call__(self, features: Sequence[Tensor]) -> Tensor:
        """The logits, float32; features are float32 and of the shapes that the agents know."""
        parts = zip(*(cache.split(CLIPS_AT_ONCE) for cache in features), strict=True)
        return torch.cat(
            [torch.stack([agent(part[agent.cache]) for agent in self._agents], 1) for part in parts]
        )
