"""Ways to deal clips anew: permutations for chance, bootstrap draws for uncertainty.

Clips of one object are not independent: they look alike and share their properties. Both are
therefore made of whole objects where the objects are known.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pipeline.metrics.information import Integers


def permutations(clips: int, *, n: int, seed: int = 0, groups: ArrayLike | None = None) -> Integers:
    """`n` ways to hand each clip the attributes of another: int64 (n, clips).

    Without `groups` every clip is dealt alone. Clips of one object are alike in their messages and
    in their properties whatever the protocol means, so where `groups` (clips,) names their
    objects, whole objects trade places: clip k of an object gets the attributes of a clip of the
    one object it trades with, each of that object's clips in random order and, where it has fewer,
    again from the first.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        return rng.permuted(np.tile(np.arange(clips), (n, 1)), axis=1)
    named = number_objects(groups, clips)
    sizes = np.bincount(named)
    starts = np.cumsum(sizes) - sizes
    place = np.empty(clips, dtype=np.int64)  # of each clip within its own object
    place[np.argsort(named, kind="stable")] = np.arange(clips) - np.repeat(starts, sizes)
    shuffled = np.argsort(named + rng.random((n, clips)), axis=1)  # (n, clips), object by object
    donor = rng.permuted(np.tile(np.arange(len(sizes)), (n, 1)), axis=1)[:, named]  # (n, clips)
    return np.take_along_axis(shuffled, starts[donor] + place % sizes[donor], axis=1)


def number_objects(groups: ArrayLike | None, clips: int) -> Integers:
    """The number of each clip's object, from 0: int64 (clips,); each clip its own without groups.

    >>> number_objects(["pot", "cup", "pot"], 3).tolist()
    [1, 0, 1]
    """
    if groups is None:
        return np.arange(clips)
    named = np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    if len(named) != clips:
        raise ValueError(f"groups name {len(named)} clips, but there are {clips}")
    return named.astype(np.int64)


def draw_objects(objects: Integers, *, n: int, seed: int = 0) -> Integers:
    """How often each of G objects is in each of `n` bootstrap samples of G objects: (n, G)."""
    number = int(objects.max()) + 1
    rng = np.random.default_rng(seed)
    return rng.multinomial(number, np.full(number, 1 / number), size=n).astype(np.int64)


def pairs_of_objects(first: Integers, second: Integers) -> tuple[Integers, Integers]:
    """For pairs of clips: the number of their pair of objects (pairs,), and those pairs (K, 2)."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    base = int(high.max()) + 1
    known, number = np.unique(low * base + high, return_inverse=True)
    return number.ravel(), np.stack(np.divmod(known, base), axis=1)


def object_pair_weights(draws: Integers, ends: Integers) -> Integers:
    """How often each pair of objects is in each draw: (n, K).

    A pair of two objects counts once for each pair of their copies, a pair within one object once
    for each copy: clips are never paired across copies of their object, because no new sample of
    objects contains the same one twice.
    """
    left, right = draws[:, ends[:, 0]], draws[:, ends[:, 1]]
    return np.where(ends[:, 0] == ends[:, 1], left, left * right)
