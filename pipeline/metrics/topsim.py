"""Topographic similarity (TopSim): do clips with like properties get like messages?

Shapes as in `pipeline.metrics`: tokens (..., N, P), attributes (..., N, A).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pipeline.metrics.information import Floats, Integers, check, rank_correlation_of, ratio, scalar
from pipeline.metrics.resampling import object_pair_weights, pairs_of_objects

MAX_PAIRS = 500_000
"""Every pair of up to 1,000 clips is compared; of more clips, this many pairs drawn."""


class Estimate(NamedTuple):
    """A value and the standard error of drawing it (0 where nothing was drawn)."""

    value: Any
    standard_error: Any


def pairs_of(clips: int) -> tuple[Integers, Integers]:
    """Every pair of different clips; beyond MAX_PAIRS, that many drawn with a fixed seed."""
    if clips * (clips - 1) // 2 <= MAX_PAIRS:
        first, second = np.triu_indices(clips, 1)
        return first, second
    return _drawn_pairs(clips, MAX_PAIRS, seed=0)


def _drawn_pairs(clips: int, pairs: int, seed: int) -> tuple[Integers, Integers]:
    rng = np.random.default_rng(seed)
    first, step = rng.integers(clips, size=pairs), rng.integers(1, clips, size=pairs)
    return first, (first + step) % clips


def pair_distances(
    messages: Integers, bins: Integers, first: Integers, second: Integers
) -> tuple[Integers, Integers]:
    """Hamming distance of messages and L1 distance of bins, each (..., pairs)."""
    hamming, manhattan = np.uint16(0), np.uint32(0)
    for symbol in np.moveaxis(messages.astype(np.min_scalar_type(messages.max())), -1, 0):
        hamming = hamming + (symbol[..., first] != symbol[..., second])
    for level in np.moveaxis(bins.astype(np.int32), -1, 0):
        manhattan = manhattan + np.abs(level[..., first] - level[..., second]).astype(np.uint32)
    return np.asarray(hamming), np.asarray(manhattan)


def _unit_ranks(distances: Integers) -> Floats:
    """Mid-ranks of small integers (..., pairs), centred, of length 1; 0 where all are equal."""
    levels, pairs = int(distances.max()) + 1, distances.shape[-1]
    flat = distances.reshape(-1, pairs)
    keys = flat + levels * np.arange(len(flat))[:, None]
    counts = np.bincount(keys.ravel(), minlength=levels * len(flat)).reshape(-1, levels)
    ranks = np.cumsum(counts, axis=-1) - (counts - 1) / 2 - (pairs + 1) / 2  # (rows, levels)
    length = np.sqrt((counts * ranks**2).sum(-1, keepdims=True))
    ranks = ratio(ranks, length, np.broadcast_to(length > 0, ranks.shape))
    return ranks.ravel()[keys].reshape(distances.shape)


def _rank_correlation(one: Integers, other: Integers) -> Floats:
    """Spearman over the last axis; leading axes broadcast."""
    left, right = _unit_ranks(one), _unit_ranks(other)
    if left.ndim == 2 and right.ndim == 3 and right.shape[1] == 1:  # (S, pairs), (D, 1, pairs)
        return np.clip(right[:, 0] @ left.T, -1.0, 1.0)
    return np.clip((left[..., None, :] @ right[..., :, None])[..., 0, 0], -1.0, 1.0)


def topsim(tokens: ArrayLike, attributes: ArrayLike) -> Any:
    """Topographic similarity: do clips with like properties get like messages? In -1 .. 1.

    Spearman between the L1 distance of binned properties and the Hamming distance of messages,
    over every pair of clips; of more than 1,000 clips over 500,000 pairs drawn with a fixed seed
    (`topsim_sampled` gives the error of that). Brighton and Kirby 2006; the distances are those of
    the paper's code, which always samples up to 5,000 pairs. 0 where all messages or all
    properties are the same.

    >>> round(topsim([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0], [0, 1], [1, 0], [1, 1]]), 6)
    1.0
    """
    messages, bins = check(tokens, attributes)
    pairs = pairs_of(messages.shape[-2])
    return scalar(_rank_correlation(*pair_distances(messages, bins, *pairs)))


def topsim_sampled(
    tokens: ArrayLike, attributes: ArrayLike, *, pairs: int = MAX_PAIRS, seed: int = 0
) -> Estimate:
    """TopSim over `pairs` pairs drawn with replacement, and its standard error, each (...).

    The error is of the drawing alone (the clips are given), from the spread of 20 equal parts.
    Exact, with error 0, where the clips have no more than `pairs` pairs.

    >>> topsim_sampled([[0], [1], [2]], [0, 1, 2]).standard_error
    0.0
    """
    messages, bins = check(tokens, attributes)
    clips = messages.shape[-2]
    if clips * (clips - 1) // 2 <= pairs:
        value = _rank_correlation(*pair_distances(messages, bins, *np.triu_indices(clips, 1)))
        return Estimate(scalar(value), scalar(np.zeros_like(value)))
    distances = pair_distances(messages, bins, *_drawn_pairs(clips, pairs, seed))
    parts = zip(*(np.array_split(one, 20, axis=-1) for one in distances), strict=True)
    spread = np.std([_rank_correlation(*part) for part in parts], axis=0, ddof=1)
    return Estimate(scalar(_rank_correlation(*distances)), scalar(spread / np.sqrt(20)))


def topsim_resampled(
    tokens: ArrayLike, attributes: ArrayLike, *, objects: Integers, draws: Integers
) -> Floats:
    """TopSim of each bootstrap draw: (n,) for tokens (N, P), (n, S) for (S, N, P).

    `objects` (N,) numbers the object of each clip, `draws` (n, G) says how often each of G objects
    was drawn; how pairs count then: `object_pair_weights`.
    """
    messages, bins = check(tokens, attributes)
    seeds = messages.reshape(-1, *messages.shape[-2:])
    first, second = pairs_of(messages.shape[-2])
    pair, ends = pairs_of_objects(objects[first], objects[second])
    weights = object_pair_weights(draws, ends).astype(np.float32)  # (n, object pairs)
    values = np.empty((len(draws), len(seeds)))
    for place, one in enumerate(seeds):
        hamming, manhattan = pair_distances(one, bins, first, second)
        shape = (len(ends), int(hamming.max()) + 1, int(manhattan.max()) + 1)
        cells = np.ravel_multi_index((pair, hamming, manhattan), shape)
        counts = np.bincount(cells, minlength=int(np.prod(shape))).reshape(len(ends), -1)
        drawn = weights @ counts.astype(np.float32)  # exact: whole numbers below 2**24
        values[:, place] = rank_correlation_of(drawn.reshape(-1, *shape[1:]))
    return values.reshape(len(draws), *messages.shape[:-2])


def topsim_recoded(
    words: Integers, names: Integers, attributes: Integers, *, deals: Integers
) -> Floats:
    """TopSim after the words have traded places, (n,), for one seed.

    `words` (W, P) are its distinct messages, `names` (N,) the word of each clip, `attributes`
    (N, A), and `deals` (n, W) the word that each word is replaced by. Pairs of clips are first
    summed by their pair of words.
    """
    first, second = pairs_of(len(names))
    levels = words.shape[1] + 1
    hamming = (words[:, None] != words).sum(-1)  # (W, W)
    manhattan = _unit_ranks(pair_distances(words[names], attributes, first, second)[1])  # (pairs,)
    cell, ends = pairs_of_objects(names[first], names[second])  # (pairs,), (K, 2)
    number, likeness = np.bincount(cell), np.bincount(cell, manhattan)  # (K,)
    counts, sums = np.empty((2, len(deals), levels))
    for place, deal in enumerate(deals):
        far = hamming[deal[ends[:, 0]], deal[ends[:, 1]]]  # (K,)
        counts[place] = np.bincount(far, number, levels)
        sums[place] = np.bincount(far, likeness, levels)
    ranks = np.cumsum(counts, axis=1) - counts / 2 - len(first) / 2
    length = np.sqrt((counts * ranks**2).sum(1))
    return np.clip(ratio((ranks * sums).sum(1), length, length > 0), -1.0, 1.0)
