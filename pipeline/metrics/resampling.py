"""Permutations of clips (chance) and bootstrap draws of objects (uncertainty).

Clips of one object are not independent: they look alike and share their properties. Where the
objects are known, whole objects are therefore permuted and drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pipeline.metrics.information import Floats, Integers


def permutations(clips: int, *, n: int, seed: int = 0, groups: ArrayLike | None = None) -> Integers:
    """Return `n` permutations that give each clip the attributes of another: int64 (n, clips).

    Clips of one object are alike in their messages and in their properties whatever the protocol
    means. Where their objects are given, whole objects are therefore exchanged: the clips of an
    object get the attributes of the clips of one other object, in random order and, where that has
    fewer clips, again from the first.

    Args:
        clips: The number of clips.
        n: The number of permutations.
        seed: Of the random numbers.
        groups: The object of each clip, (clips,); None permutes single clips.

    Raises:
        ValueError: `groups` names another number of clips.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        return rng.permuted(np.tile(np.arange(clips), (n, 1)), axis=1)
    objects = number_objects(groups, clips)
    turn = rng.random((n, clips))
    donor = rng.permuted(np.tile(np.arange(objects.max() + 1), (n, 1)), axis=1)
    return _given(objects, donor, turn)


def permutations_within(
    objects: Integers, parts: Sequence[Integers], *, n: int, seed: int = 0
) -> list[Integers]:
    """Return `n` permutations of each part of the clips, as `permutations` of it, but alike.

    In a draw each object has a place among those that receive and one among those that give, which
    are the same in every part; so parts of the same objects have the same permutation.

    Args:
        objects: The number of each clip's object, (N,).
        parts: Clips of each part.
        n: The number of permutations.
        seed: Of the random numbers.

    Returns:
        For each part (n, its clips): positions in the part.
    """
    rng = np.random.default_rng(seed)
    clips = np.unique(np.concatenate(parts))
    names = np.unique(objects[clips])
    receiving, giving = (_drawn(rng, n, int(objects.max()) + 1, names) for _ in range(2))
    turn = _drawn(rng, n, len(objects), clips)
    found = []
    for part in parts:
        own_names, own = np.unique(objects[part], return_inverse=True)
        donor = np.empty((n, len(own_names)), np.int64)
        columns = np.searchsorted(names, own_names)
        receivers, givers = (np.argsort(key[:, columns], axis=1) for key in (receiving, giving))
        np.put_along_axis(donor, receivers, givers, axis=1)
        found.append(_given(own.ravel(), donor, turn[:, np.searchsorted(clips, part)]))
    return found


def _drawn(rng: np.random.Generator, n: int, count: int, kept: Integers) -> Floats:
    """Return some columns of random numbers (n, count), without holding the others."""
    drawn = np.empty((n, len(kept)))
    for row in drawn:
        row[:] = rng.random(count)[kept]
    return drawn


def _given(objects: Integers, donor: Integers, turn: Floats) -> Integers:
    """The clip from which each clip gets its attributes: (n, clips).

    Args:
        objects: The number of each clip's object, (clips,).
        donor: The object that gives to each object, (n, G).
        turn: Random numbers below 1, (n, clips), that order the clips of an object.
    """
    sizes = np.bincount(objects)
    starts = np.cumsum(sizes) - sizes
    index = np.empty(len(objects), dtype=np.int64)  # of each clip within its own object
    index[np.argsort(objects, kind="stable")] = np.arange(len(objects)) - np.repeat(starts, sizes)
    given = np.empty(turn.shape, dtype=np.int64)
    block = max(1, 2**18 // max(1, len(objects)))  # of draws: copies of all take much memory
    for start in range(0, len(turn), block):
        some = slice(start, start + block)
        shuffled = np.argsort(objects + turn[some], axis=1)  # (draws, clips), object by object
        giver = donor[some, objects]
        given[some] = np.take_along_axis(shuffled, starts[giver] + index % sizes[giver], axis=1)
    return given


def number_objects(groups: ArrayLike | None, clips: int) -> Integers:
    """Return the number of each clip's object, from 0: int64 (clips,).

    Without `groups` each clip is an object of its own.

    Raises:
        ValueError: `groups` names another number of clips.

    >>> number_objects(["pot", "cup", "pot"], 3).tolist()
    [1, 0, 1]
    """
    if groups is None:
        return np.arange(clips)
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    if len(numbers) != clips:
        raise ValueError(f"groups name {len(numbers)} clips, but there are {clips}")
    return numbers.astype(np.int64)


def draw_objects(objects: Integers, *, n: int, seed: int = 0) -> Integers:
    """Return how often each of G objects is in each of `n` bootstrap samples of G: (n, G)."""
    number = int(objects.max()) + 1
    rng = np.random.default_rng(seed)
    return rng.multinomial(number, np.full(number, 1 / number), size=n).astype(np.int64)


def pairs_of_objects(first: Integers, second: Integers) -> tuple[Integers, Integers]:
    """Return the number of each clip pair's object pair, (pairs,), and the object pairs, (K, 2)."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    base = int(high.max()) + 1
    known, number = np.unique(low * base + high, return_inverse=True)
    return number.ravel(), np.stack(np.divmod(known, base), axis=1)


def object_pair_weights(draws: Integers, ends: Integers) -> Integers:
    """Return how often each pair of objects is in each draw: (n, K).

    A pair of two objects counts once for each pair of their copies, a pair within one object once
    for each copy: clips are never paired across copies of their object, because no new sample of
    objects contains the same one twice.
    """
    left, right = draws[:, ends[:, 0]], draws[:, ends[:, 1]]
    return np.where(ends[:, 0] == ends[:, 1], left, left * right)
