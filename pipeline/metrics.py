"""What messages say about properties: pure functions of tokens and attributes.

Shapes, everywhere in this module:

- `tokens`: int (N, P), the symbol at each of P positions of N messages (the heads of all agents
  side by side), or (S, N, P) for S training seeds; symbols count from 0.
- `attributes`: int (N, A), the bin of each of A properties (`bin_property`), or (N,) for one.
- A metric gives one float for (N, P) and an array (S,) for (S, N, P). Leading axes broadcast as in
  NumPy: tokens (S, N, P) against attributes (D, 1, N, A) give (D, S).

Information is in nats. A question that cannot be asked is NaN: PosDis and BosDis compare the best
attribute with the second best, so they need two. A protocol that says nothing scores 0.

`permutation_null` says what a metric gives by chance; read no metric without it. Definitions:
`wmcp` is the code of "Emergent physics communication" (github.com/TomekKaszynski/
emergent-physics-comm, `wmcp/metrics.py`), `chaabouni2020` is Chaabouni et al., "Compositionality
and Generalization in Emergent Languages" (ACL 2020), as EGG computes it
(github.com/facebookresearch/EGG, `egg/core/language_analysis.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Metric = Callable[[Any, Any], Any]

NEGLIGIBLE_NATS = 1e-10
"""The wmcp definitions treat a mutual information up to this as none."""

MAX_PAIRS = 500_000
"""TopSim compares every pair of up to 1,000 clips; of more clips, this many pairs drawn."""


# Properties into bins


def bin_property(values: ArrayLike, *, bins: int = 5) -> NDArray[np.int64]:
    """Bins of a continuous property: int64 (N,), numbered from 0 without gaps.

    Up to `bins` distinct values are a bin each (a grid of levels keeps its levels). Otherwise the
    edges are the quantiles 1/bins, 2/bins, ... over clips, and a value on an edge belongs to the
    bin above: the rule of the paper's code, `numpy.digitize` of `numpy.quantile`. Equal values
    always share a bin; where so many clips share a value that a bin stays empty, the bins close up.

    Raises ValueError for a NaN: leave clips with an unknown property out first.

    >>> bin_property([61.0, 214.0, 61.0, 90.0]).tolist()
    [0, 2, 0, 1]
    >>> bin_property(range(10), bins=2).tolist()
    [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise ValueError(f"a property has one value for each clip, (N,), not {numbers.shape}")
    if bins < 2:
        raise ValueError(f"a property needs at least 2 bins, not {bins}")
    if np.isnan(numbers).any():
        unknown = int(np.isnan(numbers).sum())
        raise ValueError(f"{unknown} of {len(numbers)} clips have no value of this property")
    if len(np.unique(numbers)) > bins:
        edges = np.quantile(numbers, np.arange(1, bins) / bins)
        numbers = np.digitize(numbers, edges).astype(np.float64)
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


# Tables of counts


def _integers(array: ArrayLike, name: str) -> NDArray[np.int64]:
    numbers = np.asarray(array)
    if numbers.dtype.kind not in "iub":
        hint = "; see bin_property" if name == "attributes" else ""
        raise ValueError(f"{name} must be integers from 0, not {numbers.dtype}{hint}")
    if numbers.size and numbers.min() < 0:
        raise ValueError(f"{name} must be integers from 0, and one is {numbers.min()}")
    return numbers.astype(np.int64, copy=False)


def _messages(tokens: ArrayLike) -> NDArray[np.int64]:
    messages = _integers(tokens, "tokens")
    if messages.ndim < 2 or 0 in messages.shape:
        raise ValueError(f"tokens must be (N, positions), with any axes before, not {messages.shape}")
    return messages


def _both(tokens: ArrayLike, attributes: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    messages, bins = _messages(tokens), _integers(attributes, "attributes")
    if bins.ndim == 1:
        bins = bins[:, None]
    if bins.ndim < 2 or messages.shape[-2] != bins.shape[-2] or 0 in bins.shape:
        raise ValueError(
            f"tokens {messages.shape} and attributes {bins.shape} must be (N, positions) "
            "and (N, attributes) of the same N clips"
        )
    return messages, bins


def _one_hot(codes: NDArray[np.int64]) -> NDArray[np.float32]:
    """(..., N, K) -> (..., N, K * levels)."""
    hot = codes[..., None] == np.arange(codes.max() + 1)
    return hot.reshape(*codes.shape[:-1], -1).astype(np.float32)


def joint_counts(
    variables: NDArray[np.int64],
    attributes: NDArray[np.int64],
    weights: NDArray[Any] | None = None,
) -> NDArray[np.int64]:
    """How often variable k is v where attribute a is b: (..., K, A, V, B).

    `variables` (..., N, K) and `attributes` (..., N, A) count from 0; `weights` (..., N) says how
    often each clip counts. A product of one-hot matrices: exact in float32 below 2**24 clips.
    """
    left, right = _one_hot(variables), _one_hot(attributes)  # (..., N, K*V), (..., N, A*B)
    if weights is not None:
        right = right * weights[..., None].astype(np.float32)
    counts = np.swapaxes(left, -1, -2) @ right  # (..., K*V, A*B)
    split = (variables.shape[-1], variables.max() + 1, attributes.shape[-1], attributes.max() + 1)
    return np.swapaxes(counts.reshape(*counts.shape[:-2], *split), -2, -3).astype(np.int64)


def _x_log_x(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    table = np.arange(counts.max() + 1, dtype=np.float64)
    table[1:] *= np.log(table[1:])
    return table[counts]


def _entropy_of(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(..., V) -> (...), in nats; exactly 0 where one value takes all."""
    total = counts.sum(-1)
    return (_x_log_x(total) - _x_log_x(counts).sum(-1)) / total


def _information_of(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(..., V, B) -> (...), in nats."""
    joint = _entropy_of(counts.reshape(*counts.shape[:-2], -1))
    return np.maximum(_entropy_of(counts.sum(-1)) + _entropy_of(counts.sum(-2)) - joint, 0.0)


def _scalar(values: NDArray[np.float64]) -> Any:
    return float(values) if np.ndim(values) == 0 else values


# Information


def mutual_information(tokens: ArrayLike, attributes: ArrayLike) -> Any:
    """Mutual information of each position with each attribute, in nats: float64 (..., P, A).

    Two vectors, (N,) and (N,), give a float. The plug-in estimate of the paper's code: it is above
    zero by chance, by about (V - 1) (B - 1) / 2N.

    >>> mutual_information([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 0, 1, 1]).round(4).tolist()
    [[0.6931], [0.0]]
    """
    if np.ndim(tokens) == 1:
        return float(mutual_information(np.asarray(tokens)[:, None], attributes)[0, 0])
    return _information_of(joint_counts(*_both(tokens, attributes)))


def entropy(tokens: ArrayLike) -> NDArray[np.float64]:
    """Entropy of the symbols at each position, in nats: (..., P).

    The paper's code reports it over log(vocabulary).

    >>> entropy([[0, 2], [1, 2]]).round(4).tolist()
    [0.6931, 0.0]
    """
    messages = _messages(tokens)
    hot = _one_hot(messages).sum(-2).astype(np.int64)  # (..., P*V)
    return _entropy_of(hot.reshape(*hot.shape[:-1], messages.shape[-1], -1))


# Disentanglement


def _gap(information: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(..., K, A) -> the largest over attributes (..., K), and by how much it leads."""
    if information.shape[-1] < 2:
        undefined = np.full(information.shape[:-1], np.nan)
        return undefined, undefined
    ordered = np.sort(information, axis=-1)
    return ordered[..., -1], ordered[..., -1] - ordered[..., -2]


def _ratio(over: NDArray[Any], under: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    shape = np.broadcast_shapes(over.shape, under.shape)
    return np.divide(over, under, out=np.zeros(shape), where=where)


def _wmcp(counts: NDArray[np.int64], *, only_informative: bool) -> NDArray[np.float64]:
    best, lead = _gap(_information_of(counts))
    informative = ~(best <= NEGLIGIBLE_NATS)  # true for NaN: one attribute stays NaN
    share = _ratio(lead, best, informative)
    if not only_informative:
        return share.mean(-1)
    number = informative.sum(-1)
    return _ratio(share.sum(-1), number, number > 0)


def _chaabouni2020(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    _, lead = _gap(_information_of(counts))
    uncertainty = _entropy_of(counts[..., 0, :, :].sum(-1))
    varied = np.broadcast_to(uncertainty > 0, lead.shape)
    gaps, number = _ratio(lead, uncertainty, varied), varied.sum(-1)
    score = _ratio(gaps.sum(-1), number, number > 0)
    return np.where(np.isnan(lead).any(-1), np.nan, score)


def _presence(messages: NDArray[np.int64]) -> NDArray[np.int64]:
    """(..., N, P) -> (..., N, V): 1 where the symbol is anywhere in the message."""
    return (_bags(messages) > 0).astype(np.int64)


def _bags(messages: NDArray[np.int64]) -> NDArray[np.int64]:
    """(..., N, P) -> (..., N, V): how often each symbol is in the message."""
    hot = _one_hot(messages).reshape(*messages.shape, -1)  # (..., N, P, V)
    return hot.sum(-2).astype(np.int64)


def posdis_wmcp(tokens: ArrayLike, attributes: ArrayLike) -> Any:
    """Positional disentanglement by the paper's code: the gap over the larger information.

    For each position (I1 - I2) / I1, with I1 and I2 the largest and second largest mutual
    information with an attribute (0 where I1 is at most 1e-10); the mean over positions. 0 for
    messages of one position, NaN for one attribute. The ratio does not ask how large I1 is, so
    uniformly random messages score about 0.4: compare with `permutation_null`.

    >>> posdis_wmcp([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    messages, bins = _both(tokens, attributes)
    score = _wmcp(joint_counts(messages, bins), only_informative=False)
    return _scalar(score * (messages.shape[-1] > 1))


def posdis_chaabouni2020(tokens: ArrayLike, attributes: ArrayLike) -> Any:
    """Positional disentanglement of Chaabouni et al. 2020: the gap over the symbols' entropy.

    For each position (I1 - I2) / H, with H its entropy; the mean over positions that vary. NaN for
    one attribute; 0 where no position varies (EGG divides 0 by 0 there).

    >>> posdis_chaabouni2020([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    return _scalar(_chaabouni2020(joint_counts(*_both(tokens, attributes))))


def bosdis_wmcp(tokens: ArrayLike, attributes: ArrayLike) -> Any:
    """Bag-of-symbols disentanglement by the paper's code: does a symbol's presence mean one thing?

    For each symbol that is in some messages and not in others, the variable is "the message has
    it, anywhere"; (I1 - I2) / I1 as in `posdis_wmcp`, the mean over symbols with I1 above 1e-10.
    NaN for one attribute, 0 where no symbol informs.

    >>> bosdis_wmcp([[0, 2], [0, 3], [1, 2], [1, 3]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    messages, bins = _both(tokens, attributes)
    return _scalar(_wmcp(joint_counts(_presence(messages), bins), only_informative=True))


def bosdis_chaabouni2020(tokens: ArrayLike, attributes: ArrayLike) -> Any:
    """Bag-of-symbols disentanglement of Chaabouni et al. 2020: gap over entropy of symbol counts.

    For each symbol the variable is how often the message has it; (I1 - I2) / H, the mean over
    symbols whose count varies. Every symbol counts: EGG leaves out symbol 0, its end of message,
    so EGG's number for `tokens + 1` is the same. NaN for one attribute, 0 where nothing varies.

    >>> bosdis_chaabouni2020([[0, 2], [0, 3], [1, 2], [1, 3]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    messages, bins = _both(tokens, attributes)
    return _scalar(_chaabouni2020(joint_counts(_bags(messages), bins)))


# Topographic similarity


class Estimate(NamedTuple):
    """A value and its standard error (0 where nothing was sampled)."""

    value: Any
    standard_error: Any


def _pairs(clips: int, limit: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of different clips, or `limit` drawn with replacement where there are more."""
    if clips * (clips - 1) // 2 <= limit:
        first, second = np.triu_indices(clips, 1)
        return first, second
    rng = np.random.default_rng(seed)
    first, step = rng.integers(clips, size=limit), rng.integers(1, clips, size=limit)
    return first, (first + step) % clips


def _unit_ranks(distances: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mid-ranks of small integers (..., pairs), centred, of length 1; 0 where all are equal."""
    levels, pairs = int(distances.max()) + 1, distances.shape[-1]
    flat = distances.reshape(-1, pairs)
    keys = flat + levels * np.arange(len(flat))[:, None]
    counts = np.bincount(keys.ravel(), minlength=levels * len(flat)).reshape(-1, levels)
    ranks = np.cumsum(counts, axis=-1) - (counts - 1) / 2 - (pairs + 1) / 2  # (rows, levels)
    length = np.sqrt((counts * ranks**2).sum(-1, keepdims=True))
    ranks = _ratio(ranks, length, np.broadcast_to(length > 0, ranks.shape))
    return ranks.ravel()[keys].reshape(distances.shape)


def _rank_correlation(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
    """Spearman over the last axis; leading axes broadcast."""
    left, right = _unit_ranks(one), _unit_ranks(other)
    if left.ndim == 2 and right.ndim == 3 and right.shape[1] == 1:  # (S, pairs), (D, 1, pairs)
        return np.clip(right[:, 0] @ left.T, -1.0, 1.0)
    return np.clip((left[..., None, :] @ right[..., :, None])[..., 0, 0], -1.0, 1.0)


def _distances(
    messages: NDArray[np.int64], bins: NDArray[np.int64], first: Any, second: Any
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hamming distance of messages and L1 distance of bins, each (..., pairs)."""
    hamming = sum(
        (column[..., first] != column[..., second]).astype(np.int64)
        for column in np.moveaxis(messages, -1, 0)
    )
    manhattan = sum(
        np.abs(column[..., first] - column[..., second]) for column in np.moveaxis(bins, -1, 0)
    )
    return np.asarray(hamming), np.asarray(manhattan)


def topsim(tokens: ArrayLike, attributes: ArrayLike) -> Any:
    """Topographic similarity: do clips with like properties get like messages? In -1 .. 1.

    Spearman between the L1 distance of binned properties and the Hamming distance of messages,
    over every pair of clips; of more than 1,000 clips over 500,000 pairs drawn with a fixed seed
    (`topsim_sampled` gives the error of that). Brighton and Kirby 2006; the distances are those of
    the paper's code, which always samples 5,000 pairs. 0 where all messages or all properties are
    the same.

    >>> round(topsim([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0], [0, 1], [1, 0], [1, 1]]), 6)
    1.0
    """
    messages, bins = _both(tokens, attributes)
    pairs = _pairs(messages.shape[-2], MAX_PAIRS, seed=0)
    return _scalar(_rank_correlation(*_distances(messages, bins, *pairs)))


METRICS: dict[str, Metric] = {
    "posdis_wmcp": posdis_wmcp,
    "posdis_chaabouni2020": posdis_chaabouni2020,
    "bosdis_wmcp": bosdis_wmcp,
    "bosdis_chaabouni2020": bosdis_chaabouni2020,
    "topsim": topsim,
    "mutual_information": mutual_information,
}
"""Metrics of tokens and attributes whose leading axes broadcast."""


# Chance


def permutations(
    clips: int, *, n: int, seed: int = 0, groups: ArrayLike | None = None
) -> NDArray[np.int64]:
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
    named = np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    if len(named) != clips:
        raise ValueError(f"groups name {len(named)} clips, but there are {clips}")
    sizes = np.bincount(named)
    starts = np.cumsum(sizes) - sizes
    place = np.empty(clips, dtype=np.int64)  # of each clip within its own object
    place[np.argsort(named, kind="stable")] = np.arange(clips) - np.repeat(starts, sizes)
    shuffled = np.argsort(named + rng.random((n, clips)), axis=1)  # (n, clips), object by object
    donor = rng.permuted(np.tile(np.arange(len(sizes)), (n, 1)), axis=1)[:, named]  # (n, clips)
    return np.take_along_axis(shuffled, starts[donor] + place % sizes[donor], axis=1)


def permutation_null(
    metric: Metric,
    tokens: ArrayLike,
    attributes: ArrayLike,
    *,
    n: int = 1000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """What `metric` gives when messages and attributes have nothing to do with each other.

    Float64 (n,) for tokens (N, P); (n, S) for (S, N, P), where a draw deals the same attributes to
    every seed, so that a mean over seeds has its null too; (n, P, A) for a metric that is a matrix.
    `groups` (N,) deals them by whole objects (`permutations`). The metrics in METRICS run in
    batches; any other `metric(tokens, attributes)` is called once a draw.

    >>> null = permutation_null(topsim, [[0], [0], [1], [1]], [0, 0, 1, 1], n=20)
    >>> null.shape, bool(null.max() <= 1)
    ((20,), True)
    """
    messages, bins = _both(tokens, attributes)
    clips = messages.shape[-2]
    deals = permutations(clips, n=n, seed=seed, groups=groups)
    if metric not in METRICS.values():
        return np.stack([np.asarray(metric(messages, bins[deal])) for deal in deals])
    batch = max(1, 2**24 // clips**2)
    seeds = (None,) * (messages.ndim - 2)
    dealt = (bins[deals[start : start + batch]] for start in range(0, n, batch))
    return np.concatenate([metric(messages, some[(slice(None), *seeds)]) for some in dealt])
