"""Topographic similarity (TopSim): do clips with similar properties get similar messages?

Shapes as in `pipeline.metrics.information`: tokens (..., N, P), attributes (..., N, A).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.metrics.information import Floats, Integers, check, ratio, scalar
from pipeline.metrics.metric import Metric
from pipeline.metrics.ranking import centred_ranks, rank_correlation_of
from pipeline.metrics.resampling import object_pair_weights, pairs_of_objects

MAX_PAIRS = 500_000
"""Every pair of up to 1,000 clips is compared; of more clips, this many pairs drawn."""

WEIGHTS_AT_ONCE = 1 << 22  # of pairs of objects in bootstrap draws: some 100 MB


def pairs_of(clips: int) -> tuple[Integers, Integers]:
    """Return every pair of different clips; beyond MAX_PAIRS, that many drawn with a fixed seed."""
    if clips * (clips - 1) // 2 <= MAX_PAIRS:
        first, second = np.triu_indices(clips, 1)
        return first, second
    rng = np.random.default_rng(0)
    first, step = rng.integers(clips, size=MAX_PAIRS), rng.integers(1, clips, size=MAX_PAIRS)
    return first, (first + step) % clips


def pair_distances(
    messages: Integers, bins: Integers, first: Integers, second: Integers
) -> tuple[Integers, Integers]:
    """Return the Hamming distance of messages and the L1 distance of bins, each (..., pairs)."""
    hamming, manhattan = np.uint16(0), np.uint32(0)
    for symbol in np.moveaxis(messages.astype(np.min_scalar_type(messages.max())), -1, 0):
        hamming = hamming + (symbol[..., first] != symbol[..., second])
    for level in np.moveaxis(bins.astype(np.int32), -1, 0):
        manhattan = manhattan + np.abs(level[..., first] - level[..., second]).astype(np.uint32)
    return np.asarray(hamming), np.asarray(manhattan)


def _unit_ranks(distances: Integers) -> Floats:
    """Return mid-ranks of small integers (..., pairs), centred, of length 1; 0 for equal ones."""
    levels, pairs = int(distances.max()) + 1, distances.shape[-1]
    flat = distances.reshape(-1, pairs)
    keys = flat + levels * np.arange(len(flat))[:, None]
    counts = np.bincount(keys.ravel(), minlength=levels * len(flat)).reshape(-1, levels)
    ranks = centred_ranks(counts)  # (rows, levels)
    length = np.sqrt((counts * ranks**2).sum(-1, keepdims=True))
    ranks = ratio(ranks, length, np.broadcast_to(length > 0, ranks.shape))
    return ranks.ravel()[keys].reshape(distances.shape)


def topsim(tokens: ArrayLike, attributes: ArrayLike) -> Any:
    """Return the topographic similarity, in -1 .. 1; see `TOPSIM`.

    >>> round(topsim([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0], [0, 1], [1, 0], [1, 1]]), 6)
    1.0
    """
    messages, bins = check(tokens, attributes)
    distances = pair_distances(messages, bins, *pairs_of(messages.shape[-2]))
    hamming, manhattan = (_unit_ranks(values) for values in distances)
    if hamming.ndim == 2 and manhattan.ndim == 3 and manhattan.shape[1] == 1:
        # one product for all seeds and draws: (S, pairs), (D, 1, pairs)
        return np.clip(manhattan[:, 0] @ hamming.T, -1.0, 1.0)
    correlation = (hamming[..., None, :] @ manhattan[..., :, None])[..., 0, 0]
    return scalar(np.clip(correlation, -1.0, 1.0))


def topsim_resampled(
    tokens: ArrayLike, attributes: ArrayLike, *, objects: Integers, draws: Integers
) -> Floats:
    """Return TopSim of each bootstrap draw: (n,) for tokens (N, P), (n, S) for (S, N, P).

    Pairs of clips count as `object_pair_weights` says.

    Args:
        tokens: int (N, P) or (S, N, P).
        attributes: int (N, A).
        objects: The number of each clip's object, (N,).
        draws: How often each of G objects was drawn, (n, G).
    """
    messages, bins = check(tokens, attributes)
    seeds = messages.reshape(-1, *messages.shape[-2:])
    first, second = pairs_of(messages.shape[-2])
    pair, ends = pairs_of_objects(objects[first], objects[second])
    step = max(1, WEIGHTS_AT_ONCE // len(ends))
    values = np.empty((len(draws), len(seeds)))
    for seed, own in enumerate(seeds):
        hamming, manhattan = pair_distances(own, bins, first, second)
        shape = (len(ends), int(hamming.max()) + 1, int(manhattan.max()) + 1)
        cells = np.ravel_multi_index((pair, hamming, manhattan), shape)
        counts = np.bincount(cells, minlength=int(np.prod(shape))).reshape(len(ends), -1)
        counted = counts.astype(np.float32)
        for start in range(0, len(draws), step):
            some = slice(start, start + step)
            weights = object_pair_weights(draws[some], ends).astype(np.float32)
            drawn = weights @ counted  # exact: whole numbers below 2**24
            values[some, seed] = rank_correlation_of(drawn.reshape(-1, *shape[1:]))
    return values.reshape(len(draws), *messages.shape[:-2])


def topsim_recoded(
    words: Integers, word_of_clip: Integers, attributes: Integers, *, draws: Integers
) -> Floats:
    """Return TopSim of one seed after its distinct messages were exchanged: (n,).

    Pairs of clips are first summed by their pair of messages.

    Args:
        words: The distinct messages, (W, P).
        word_of_clip: The message of each clip, (N,).
        attributes: int (N, A).
        draws: The message that takes the place of each message, (n, W).
    """
    first, second = pairs_of(len(word_of_clip))
    levels = words.shape[1] + 1
    hamming = (words[:, None] != words).sum(-1)  # (W, W)
    manhattan = pair_distances(words[word_of_clip], attributes, first, second)[1]
    cell, ends = pairs_of_objects(word_of_clip[first], word_of_clip[second])  # (pairs,), (K, 2)
    number, similarity = np.bincount(cell), np.bincount(cell, _unit_ranks(manhattan))  # (K,)
    counts, sums = np.empty((2, len(draws), levels))
    for index, draw in enumerate(draws):
        distance = hamming[draw[ends[:, 0]], draw[ends[:, 1]]]  # (K,)
        counts[index] = np.bincount(distance, number, levels)
        sums[index] = np.bincount(distance, similarity, levels)
    ranks = centred_ranks(counts)
    length = np.sqrt((counts * ranks**2).sum(1))
    return np.clip(ratio((ranks * sums).sum(1), length, length > 0), -1.0, 1.0)


TOPSIM = Metric(
    name="topsim",
    title="TopSim",
    function=topsim,
    definition="Spearman's correlation between the L1 distance of binned properties and the "
    "Hamming distance of messages, over every pair of clips; of more than 1,000 clips over "
    "500,000 pairs drawn with a fixed seed. 0 where all messages or all properties are the same.",
    chance="0",
    source="Brighton and Kirby 2006; distances as in the paper's code, wmcp/metrics.py, which "
    "always samples pairs",
    range=(-1.0, 1.0),
    structural=True,
    lies="It asks for likeness, not for parts: one symbol for each region of the properties has "
    "nearly as much as a position for each property. Agents that are trained on noise have "
    "positive values on their training clips.",
    liked="positional",
    fooled="quarters",
    vectorised=True,
    bootstrap=topsim_resampled,
    recode=topsim_recoded,
)
