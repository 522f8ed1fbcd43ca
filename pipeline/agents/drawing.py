"""New weights: drawn from a seed, of many nets at once as if each of them had been built."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
"""A net's tensors by their names in its state dict; those of S nets have a leading axis S."""
_Built = TypeVar("_Built")
_GAIN = nn.init.calculate_gain("leaky_relu", math.sqrt(5))  # of `reset_parameters` of torch


def seeded(seed: int, build: Callable[[], _Built]) -> _Built:
    """Return what `build` makes with torch's generator seeded, and leave the generator as it was.

    >>> torch.equal(seeded(3, lambda: torch.rand(2)), seeded(3, lambda: torch.rand(2)))
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not those of GPUs, which build nothing
        return build()


def drawn_states(
    build: Callable[[], Sequence[nn.Module]], seeds: Sequence[int], device: torch.device
) -> list[State]:
    """Return the weights of nets that are built anew from each of S seeds.

    To the bit they are those of `seeded(seed, build)` for each seed. Only the first seed's nets are
    built: linear layers and convolutions are drawn as torch draws them. Nets whose weights come
    about in another way, which the first seed's show, are built for every seed.

    Args:
        build: Returns one or several nets.
        seeds: At least one.
        device: Where the weights are wanted.

    Returns:
        The parameters of each net, (S, ...); they may be views of one tensor.
    """
    first = seeded(seeds[0], build)
    numbers = _draw(first, seeds)
    if numbers is not None:
        states = _cut(first, numbers.to(device))
        drawn = _cut(first, numbers[:1])
        if all(
            torch.equal(own[name][0], value)
            for own, net in zip(drawn, first, strict=True)
            for name, value in net.named_parameters()
        ):
            return states
    return stacked_states([first, *(seeded(seed, build) for seed in seeds[1:])], device)


def stacked_states(nets: Sequence[Sequence[nn.Module]], device: torch.device) -> list[State]:
    """Return the parameters of A nets of each of S seeds: of each of the A, (S, ...)."""
    return [
        {
            name: torch.stack([own.get_parameter(name).detach() for own in alike]).to(device)
            for name, _ in alike[0].named_parameters()
        }
        for alike in zip(*nets, strict=True)
    ]


def _draw(nets: Sequence[nn.Module], seeds: Sequence[int]) -> Tensor | None:
    """Return the numbers of all layers in the order in which they are drawn, (S, numbers).

    None where a layer is of a kind that torch draws otherwise.
    """
    layers = [layer for net in nets for layer in _layers(net)]
    if not all(isinstance(layer, nn.Linear | nn.Conv1d) for layer in layers):
        return None
    sizes, bounds = [], []
    for layer in layers:
        for name, value in layer.named_parameters(recurse=False):
            root = math.sqrt(layer.get_parameter("weight")[0].numel())
            sizes.append(value.numel())
            bounds.append(math.sqrt(3.0) * (_GAIN / root) if name == "weight" else 1 / root)
    numbers = torch.empty(len(seeds), sum(sizes))
    for row, seed in zip(numbers, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        for piece, bound in zip(row.split(sizes), bounds, strict=True):
            piece.uniform_(-bound, bound, generator=generator)
    return numbers


def _layers(net: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that have parameters of their own, in the order in which they are built."""
    for layer in net.modules():
        if next(layer.parameters(recurse=False), None) is not None:
            yield layer


def _cut(nets: Sequence[nn.Module], numbers: Tensor) -> list[State]:
    """Return numbers (S, numbers) as the parameters of nets, each (S, ...)."""
    parameters = [[*net.named_parameters()] for net in nets]
    sizes = [value.numel() for of_net in parameters for _, value in of_net]
    pieces = iter(numbers.split(sizes, dim=1))
    return [
        {name: next(pieces).unflatten(1, value.shape) for name, value in of_net}
        for of_net in parameters
    ]
