"""Pairs: as the paper draws them, of one batch or many at once, and the messages of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.game.rounds import Clips

PUBLISHED_DRAWS = 30
PUBLISHED_PAIRS = 32


def draw_pairs(generator: np.random.RandomState, clips: Clips, count: int) -> tuple[Clips, Clips]:
    """Draw pairs with replacement, a clip never paired with itself, as the paper's `sample_pairs`.

    >>> a, b = draw_pairs(np.random.RandomState(0), np.array([3, 5]), 4)
    >>> sorted({(int(x), int(y)) for x, y in zip(a, b)})
    [(3, 5), (5, 3)]
    """
    a, b = generator.choice(clips, count), generator.choice(clips, count)
    same = a == b
    while same.any():
        b[same] = generator.choice(clips, same.sum())
        same = a == b
    return a, b


def draw_batches(
    generator: np.random.RandomState, clips: Clips, count: int, batches: int
) -> tuple[Clips, Clips]:
    """Draw the pairs of many batches, (batches, count) each: to the bit `draw_pairs` for each.

    A generator gives the same clips one by one or many at once, and is left as if they had been
    drawn one by one.
    """
    parts: list[tuple[Clips, Clips]] = []
    drawn, needed = clips[:0], 2 * count * batches  # as many are taken at least
    while batches:
        drawn = np.concatenate([drawn, generator.choice(clips, needed - len(drawn))])
        a, b, taken, first = _pairs_of(drawn, count, batches)
        parts.append((a, b))
        drawn, batches = drawn[taken:], batches - len(a)
        needed = first + 2 * count * (batches - 1)
    a, b = (np.concatenate(sides) for sides in zip(*parts, strict=True))
    return a, b


def _pairs_of(drawn: Clips, count: int, batches: int) -> tuple[Clips, Clips, int, int]:
    """Take the pairs of batches from clips as a generator gives them, as many as there are.

    Returns:
        Both sides (batches, count), how many clips were taken, and how many at least the next batch
        takes.
    """
    meets = drawn[:-count] == drawn[count:]  # a pair of which either is at that place
    before = np.concatenate([[0], np.cumsum(meets)])
    has_meeting = (before[count:] > before[:-count]).tobytes()  # a batch that starts there
    starts: list[int] = []
    redrawn: list[tuple[int, Clips, Clips]] = []
    start = 0
    for batch in range(batches):
        taken, again = start + 2 * count, []
        if taken <= len(drawn) and has_meeting[start]:
            (pairs,) = np.nonzero(meets[start : start + count])
            while len(pairs):
                others = drawn[taken : taken + len(pairs)]
                taken += len(pairs)
                if taken > len(drawn):
                    break
                again.append((batch, pairs, others))
                pairs = pairs[others == drawn[start + pairs]]
        if taken > len(drawn):
            break
        starts.append(start)
        redrawn += again
        start = taken
    places = np.array(starts, np.int64)[:, None] + np.arange(count)
    a, b = drawn[places], drawn[places + count]
    for batch, pairs, others in redrawn:
        b[batch, pairs] = others
    return a, b, start, taken - start


@cache
def published_pairs(clips: int) -> tuple[Clips, Clips]:
    """Return the pairs of the paper's test of so many clips, as positions among them: (pairs,)."""
    generator, positions = np.random.RandomState(999), np.arange(clips)
    a, b = draw_batches(generator, positions, min(PUBLISHED_PAIRS, clips), PUBLISHED_DRAWS)
    return a.ravel(), b.ravel()


def paired(a: Tensor, b: Tensor, pairings: int) -> Tensor:
    """Return the messages of the two sides of a batch, (S, B, size) each, in all its pairings.

    They are end to end, (S, pairings * B, 2 * size): each a next to its own b, then next to the
    next pair's b, and so on. Senders send once, however often their messages are compared.
    """
    return torch.cat([a, b], dim=-1) if pairings == 1 else _Pairings.apply(a, b, pairings)


class _Pairings(torch.autograd.Function):
    """The pairings of a batch, in few kernels."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, pairings: int) -> Tensor:
        """Put each a next to each of its b."""
        ctx.pairings, rounds = pairings, a.shape[1]
        again = torch.cat([b, b[:, : pairings - 1]], dim=1)
        turned = again.unfold(1, rounds, 1).transpose(2, 3)  # (S, pairings, B, size)
        sides = [a.unsqueeze(1).expand_as(turned), turned]
        return torch.cat(sides, dim=-1).flatten(1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Sum what comes back to each message; on a CPU in the order of a sum written out."""
        first, second = gradient.unflatten(1, (ctx.pairings, -1)).chunk(2, dim=-1)
        return *summed_back(first, second, in_order=gradient.device.type == "cpu"), None


def summed_back(first: Tensor, second: Tensor, *, in_order: bool) -> tuple[Tensor, Tensor]:
    """Sum over pairings what comes back to a and to its turned b.

    Args:
        first: (S, pairings, B, size).
        second: The same of b, whose row i in pairing n is of b's row i + n, and so around.
        in_order: Whether one after the other, those of b from the last, or in one kernel each.

    Returns:
        (S, B, size) each.
    """
    _, pairings, rounds, size = first.shape
    twice = torch.cat([second, second], dim=2)  # (S, pairings, 2B, size)
    strides = (pairings * 2 * rounds * size, (2 * rounds - 1) * size, size, 1)
    back = twice.as_strided(first.shape, strides, rounds * size)  # a row further back each
    if not in_order:
        return first.sum(dim=1), back.sum(dim=1)
    return _added(first.unbind(1)), _added(back.unbind(1)[::-1])


def _added(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total
