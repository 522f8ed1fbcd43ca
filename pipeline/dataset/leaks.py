"""Leaks of a split: clips of different objects with the same, or nearly the same, content.

A split by object is only as good as the names of the objects. Clips that share bytes and stretch
have one object here (`unite_objects`); copies of a clip that were encoded or cut again are found by
their features (`Lookalikes`): by their cosine, centred on the training mean. How high that is for
unlike clips depends on along how many dimensions the features vary, so the bound does, too: as many
clips at random on a sphere of so many dimensions reach it once in `ONE_IN` data sets. Measured, the
largest of two clips of different objects over 20 splits by object, and of one object:

    features                                clips  dimensions  bound  different  same  plain cosine
    ramp, simulated (efficientnet_lite0)      200          21  0.875      0.701  0.62        0.8960
    spring (V-JEPA 2, 8 steps)                206          13  0.955      0.865  0.95        0.9890
    spring (DINOv2, middle frame)             206          10  0.979      0.896  0.94        0.9945
    ramp of the paper (V-JEPA 2, pooled)      300           9  0.992      0.968  0.94        0.9994

Of 24 clips of that ramp, copies encoded again (CRF 23) and copies that begin one or three frames
later are all found; of strongly compressed copies (CRF 35) and of those of half the size, whose
features are no nearer than those of other clips, none. RESULTS.md says how to measure again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaincinv

from data.cache import Features
from data.duplicates import SharedObjects, share_objects
from data.memory import require_memory
from data.splits import Split
from pipeline.dataset.blocks import clip_blocks
from pipeline.dataset.examples import Examples
from pipeline.dataset.sources import RunInputs

ONE_IN = 1000
"""In one of so many data sets of unlike clips any two of them reach the bound."""
HIGHEST_BOUND = 0.9999
"""Rounding may move a cosine by more than what is above."""
FEWEST_DIMENSIONS = 4.0
"""Features that vary along fewer dimensions have high cosines by chance, and are not compared."""
SLACK = 0.1
"""How far a cosine may move when the mean of all clips gives way to that of the training clips."""
SAMPLE = 2048  # clips of which the number of dimensions is measured
BLOCK = 1024  # clips whose cosines with all others are in memory at once
MOST_NUMBERS = 1 << 24  # of the rows that are compared, as they are: 64 MiB
SHORTENED = 1024  # numbers of a clip where there are more than these in all
NUMBERS_AT_ONCE = 1 << 22
MOST_COMPARED = 16_384
"""Of more clips each is compared with those that are near the same ones of some drawn clips."""
NEAREST = 8  # of the drawn clips
MOST_PAIRS = 100_000  # more are not needed to see that something is wrong


@dataclass(frozen=True)
class Lookalike:
    """Two clips of different objects in different parts of a split, and how alike they are."""

    clip: int
    other: int
    cosine: float


@dataclass(frozen=True, repr=False)
class Lookalikes:
    """Pairs of clips of different objects that may be near-duplicates, once for all splits.

    Attributes:
        pairs: int64 (P, 2), the first the smaller.
        known: bool (P,), equal whatever their features say.
        bound: The cosine from which on two clips count as near-duplicates.
        caches: Features (N, T, D) of each cache.
    """

    pairs: np.ndarray
    known: np.ndarray
    bound: float
    caches: tuple[np.ndarray, ...]

    def __repr__(self) -> str:
        return f"Lookalikes({len(self.pairs)} pairs)"

    @classmethod
    def of(cls, examples: Examples, clips: Features | None = None) -> Lookalikes:
        """Find the pairs; of several caches, the mean of their cosines counts.

        Args:
            examples: The features and objects.
            clips: The same clips with the hashes of their files and their thumbnails, if any.
        """
        objects = np.unique(np.asarray(examples.objects), return_inverse=True)[1]
        rows = unit_rows(examples.caches)
        bound = chance_bound(rows)
        alike = _alike(rows, objects, bound - SLACK)
        equal = set() if clips is None else _equal(clips, objects)
        equal_pairs = np.array(sorted(equal), np.int64).reshape(-1, 2)
        unequal = [pair for pair in map(tuple, alike.tolist()) if pair not in equal]
        pairs = np.concatenate([equal_pairs, np.array(unequal, np.int64).reshape(-1, 2)])
        return cls(pairs, np.arange(len(pairs)) < len(equal_pairs), bound, examples.caches)

    def across(self, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """Return the near-duplicates in different parts of a split, and their cosines.

        Returns:
            int64 (Q, 2) and float32 (Q,).
        """
        part = np.zeros(len(self.caches[0]), np.int8)
        for number, own in enumerate(split.parts().values(), 1):
            part[own] = number
        parts = part[self.pairs]  # (P, 2)
        asked = np.flatnonzero((parts > 0).all(axis=1) & (parts[:, 0] != parts[:, 1]))
        if not len(asked):
            return self.pairs[:0], np.zeros(0, np.float32)
        cosines = np.zeros(len(asked), np.float32)
        for cache in self.caches:
            mean = _mean(cache, split.train)
            for where, left in clip_blocks(cache, self.pairs[asked, 0], NUMBERS_AT_ONCE):
                right = cache[self.pairs[asked[where], 1]]
                left, right = (_unit(_flat(side) - mean) for side in (left, right))
                cosines[where] += (left * right).sum(axis=1) / len(self.caches)
        near = (cosines >= self.bound) | self.known[asked]
        cosines[self.known[asked]] = 1.0
        return self.pairs[asked[near]], cosines[near]

    def across_all(self, splits: Sequence[Split]) -> list[Lookalike]:
        """Return each near-duplicate of any split once, the most alike first."""
        largest: dict[tuple[int, int], float] = {}
        for split in splits:
            pairs, cosines = self.across(split)
            for pair, cosine in zip(map(tuple, pairs.tolist()), cosines.tolist(), strict=True):
                largest[pair] = max(cosine, largest.get(pair, -1.0))
        found = [Lookalike(*pair, cosine) for pair, cosine in largest.items()]
        return sorted(found, key=lambda pair: (-round(pair.cosine, 4), pair.clip, pair.other))

    def without(self, split: Split) -> Split:
        """Return a split without the test clips that are near-duplicates of training clips."""
        pairs, _ = self.across(split)
        of_training = np.isin(pairs, split.train)
        copies = pairs[of_training.any(axis=1)][~of_training[of_training.any(axis=1)]]
        return dataclasses.replace(split, test=np.setdiff1d(split.test, copies))


def unite_objects(inputs: RunInputs) -> tuple[RunInputs, SharedObjects]:
    """Give clips of equal content one object, where no two that were given differ.

    Returns:
        The inputs, and what was found; clips whose objects contradict each other keep them.
    """
    clips = inputs.clips
    objects = [name or clip for name, clip in zip(clips.object, clips.clip_id, strict=True)]
    found = SharedObjects(tuple(objects))
    for cache in inputs.caches:
        if not any(cache.source_sha256):
            continue
        named = dataclasses.replace(cache, object=found.objects)
        shared = share_objects(named.stretches())
        found = SharedObjects(
            shared.objects,
            (*found.contradictions, *shared.contradictions),
            (*found.united, *shared.united),
        )
    if not found.united:
        return inputs, found
    names = [
        before if (before or clip) == name else name
        for before, clip, name in zip(clips.object, clips.clip_id, found.objects, strict=True)
    ]
    first = dataclasses.replace(clips, object=names)
    return dataclasses.replace(inputs, caches=(first, *inputs.caches[1:])), found


def dimensions_of(rows: np.ndarray) -> float:
    """Return along how many dimensions unit rows (N, values) vary: 1 / the mean squared cosine."""
    some = rows[:: -(-len(rows) // SAMPLE)]
    cosines = some @ some.T
    return cosines.size / max(float(np.vdot(cosines, cosines)), 1e-12)


def chance_bound(rows: np.ndarray) -> float:
    """Return the cosine that no two of N unlike clips reach but in one of `ONE_IN` data sets.

    Args:
        rows: float32 (N, values) of length one.

    Returns:
        That of N points at random on a sphere; infinity where the features say too little.
    """
    dimensions = dimensions_of(rows)
    if dimensions < FEWEST_DIMENSIONS:
        return np.inf
    share = 1 / (ONE_IN * len(rows) ** 2 / 2)  # of the pairs
    bound = np.sqrt(1 - betaincinv((dimensions - 1) / 2, 0.5, 2 * share))
    return min(float(bound), HIGHEST_BOUND)


def _alike(rows: np.ndarray, objects: np.ndarray, bound: float) -> np.ndarray:
    """Return pairs of clips of different objects whose cosine reaches a bound, int64 (P, 2)."""
    found = [np.empty((0, 2), np.int64)]
    if np.isinf(bound):
        return found[0]
    numbers = np.arange(len(rows))
    compared: Iterable[tuple[Any, Any]]
    compared = _all_pairs(len(rows)) if len(rows) <= MOST_COMPARED else _near_pairs(rows)
    for some, others in compared:
        cosines = rows[some] @ rows[others].T
        left, right = np.nonzero(cosines >= bound)
        pairs = np.stack([numbers[some][left], numbers[others][right]], axis=1)
        found.append(pairs[objects[pairs[:, 0]] != objects[pairs[:, 1]]])
        if sum(map(len, found)) > 2 * MOST_PAIRS:  # each may be there twice
            break
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)[:MOST_PAIRS]


def _all_pairs(count: int) -> Iterator[tuple[slice, slice]]:
    """Yield a block of clips, and those that come after its first."""
    for start in range(0, count, BLOCK):
        yield slice(start, start + BLOCK), slice(start, None)


def _near_pairs(rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield clips, a block at a time, and the clips to compare them with.

    Twice the root of N clips are drawn. Clips with the same nearest drawn one are a group, and each
    group is compared with the clips that have its drawn one among their `NEAREST`, which
    near-duplicates have in common: work grows with N to the power of 1.5.
    """
    count = 2 * math.isqrt(len(rows))
    drawn = rows[np.random.default_rng(0).choice(len(rows), count, replace=False)]
    nearest = np.empty((len(rows), NEAREST), np.int32)
    own = np.empty(len(rows), np.int32)
    for start in range(0, len(rows), BLOCK):
        some = slice(start, start + BLOCK)
        cosines = rows[some] @ drawn.T
        nearest[some] = np.argpartition(cosines, -NEAREST, axis=1)[:, -NEAREST:]
        own[some] = cosines.argmax(axis=1)
    order = np.argsort(nearest, axis=None, kind="stable")  # clips by each of their groups
    stops = np.cumsum(np.bincount(nearest.ravel(), minlength=count))
    for number, group in enumerate(np.split(order // NEAREST, stops[:-1])):
        members = group[own[group] == number]
        for start in range(0, len(members), BLOCK):
            yield members[start : start + BLOCK], group


def unit_rows(caches: Sequence[np.ndarray]) -> np.ndarray:
    """Return float32 (N, values) whose products are the mean of the caches' centred cosines.

    Where that is more than `MOST_NUMBERS`, the features of each cache are shortened to `SHORTENED`
    numbers a clip by random directions, which keeps a cosine c but for about (1 - c^2) / 32: less
    than `SLACK` allows for.

    Raises:
        OutOfMemoryError: The rows do not fit into memory.
    """
    widths = [int(np.prod(cache.shape[1:])) for cache in caches]
    if len(caches[0]) * sum(widths) <= MOST_NUMBERS:
        lengths = widths
    else:
        lengths = [min(width, SHORTENED) for width in widths]
    require_memory(
        4 * len(caches[0]) * sum(lengths) + 4 * SHORTENED * max(widths),
        f"looking for near-duplicates among {len(caches[0]):,} clips",
        "take fewer clips",
    )
    rows = np.empty((len(caches[0]), sum(lengths)), np.float32)
    for cache, width, length, stop in zip(caches, widths, lengths, np.cumsum(lengths), strict=True):
        mean = _mean(cache, None)
        directions = None if length == width else _directions(width, length)
        for where, block in clip_blocks(cache, numbers=NUMBERS_AT_ONCE):
            unit = _unit(_flat(block) - mean)
            rows[where, stop - length : stop] = (
                unit if directions is None else _unit(unit @ directions)
            )
    rows /= np.float32(np.sqrt(len(caches)))
    return rows


def _directions(width: int, length: int) -> np.ndarray:
    """Return random directions, float32 (width, length), the same at any time."""
    return np.random.default_rng(0).standard_normal((width, length), dtype=np.float32)


def _equal(clips: Features, objects: np.ndarray) -> set[tuple[int, int]]:
    """Return pairs of different objects with the same bytes, or the same thumbnails.

    Thumbnails of a clip in which nothing moves say nothing: scenes begin alike, and black is black.
    """
    pairs = {_ordered(*one.numbers) for one in share_objects(clips.stretches()).contradictions}
    if clips.thumbnails.size:
        rows: dict[bytes, list[int]] = {}
        for start in range(0, len(clips), BLOCK):
            frames = clips.thumbnails[start : start + BLOCK]  # (block, F, h, w)
            moves = (frames != frames[:, :1]).any(axis=(1, 2, 3))
            moves &= clips.has_thumbnails[start : start + BLOCK]
            for number in np.flatnonzero(moves).tolist():
                digest = hashlib.sha256(frames[number].tobytes()).digest()
                rows.setdefault(digest, []).append(start + number)
        for equal in rows.values():
            pairs |= {_ordered(equal[0], other) for other in equal[1:]}
    return {pair for pair in pairs if objects[pair[0]] != objects[pair[1]]}


def _ordered(one: int, two: int) -> tuple[int, int]:
    return min(one, two), max(one, two)


def _flat(features: np.ndarray) -> np.ndarray:
    """Return the features of clips as float32 (n, values)."""
    return features.reshape(len(features), -1).astype(np.float32)


def _mean(cache: np.ndarray, clips: np.ndarray | None) -> np.ndarray:
    """Return the mean features of clips, float32 (values,)."""
    blocks = (block.sum(axis=0, dtype=np.float64) for _, block in clip_blocks(cache, clips))
    total = sum(blocks, np.zeros(cache.shape[1:]))
    count = len(cache) if clips is None else len(clips)
    return (total / count).astype(np.float32).ravel()


def _unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of length one; one without a direction stays zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
