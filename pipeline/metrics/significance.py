"""Chance and bootstrap intervals of metrics.

Three questions, kept apart:

- Do the messages inform about the properties? The permutation null gives the properties to other
  objects (`permutation_null`).
- Is their structure compositional? The codebook null keeps which clips share a message and gives
  the messages to other meanings (`codebook_null`): a code without structure beats the first null,
  never this one.
- How much depends on these objects? Objects, not clips, are drawn again (`bootstrap`).

None of them sees what training can make of noise: verdicts need null seeds (`verdicts.py`).

Shapes as in `pipeline.metrics.information`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.metrics.information import Floats, Integers, check, message_ids, scalar
from pipeline.metrics.metric import Metric, record_of
from pipeline.metrics.resampling import (
    draw_objects,
    number_objects,
    permutations,
    permutations_within,
)

COVERAGE = (
    "In simulations with 25 objects (with 60) the 95 % interval holds the true value so many "
    "times in 100: of mutual information 74 to 97 (93 to 100), TopSim 88 to 100 (90 to 100), "
    "Chaabouni's PosDis 76 to 90 (88 to 100) and BosDis 65 to 98 (82 to 98), tree "
    "reconstruction error 82 to 92 (80 to 98), context independence 80 to 98 (72 to 90), "
    "concept best matching 20 to 92 (22 to 82), residual entropy 8 to 88 (35 to 85), the "
    "paper's two ratios (*_wmcp) 11 to 71 (25 to 98): with 60 objects the first three can be "
    "read as 95 % intervals, the others not."
)
"""How often `interval` holds, as it is said wherever intervals of metrics are shown."""


def permutation_null(
    metric: Metric | Callable[..., Any],
    tokens: ArrayLike,
    attributes: ArrayLike,
    *,
    n: int = 1000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Floats:
    """Return what `metric` gives when messages and attributes are unrelated.

    A draw gives every seed the same permuted attributes, so that a mean over seeds has its null
    too. Vectorised metrics run in batches; any other `metric(tokens, attributes)` is called once
    for each draw.

    Args:
        metric: A record, or a function of tokens and attributes.
        tokens: int (N, P) or (S, N, P).
        attributes: int (N, A) or (N,).
        n: The number of draws.
        seed: Of the random numbers.
        groups: The object of each clip, (N,), to permute whole objects; see `permutations`.

    Returns:
        float64 (n,) for tokens (N, P), (n, S) for (S, N, P); then (P, A) for a metric of positions.

    >>> from pipeline.metrics import topsim
    >>> null = permutation_null(topsim, [[0], [0], [1], [1]], [0, 0, 1, 1], n=20)
    >>> null.shape, bool(null.max() <= 1)
    ((20,), True)
    """
    messages, bins = check(tokens, attributes)
    clips = messages.shape[-2]
    return _of_permutations(
        metric, messages, bins, permutations(clips, n=n, seed=seed, groups=groups)
    )


def _of_permutations(
    metric: Metric | Callable[..., Any], messages: Integers, bins: Integers, draws: Integers
) -> Floats:
    """The metric with the bins (N, A) of each draw of clips (n, N)."""
    record = record_of(metric)
    if record is None or not record.vectorised:
        return np.stack([np.asarray(metric(messages, bins[draw])) for draw in draws])
    batch = max(1, 2**24 // len(bins) ** 2)
    seeds = (None,) * (messages.ndim - 2)
    permuted = (bins[draws[start : start + batch]] for start in range(0, len(draws), batch))
    return np.concatenate([record(messages, some[(slice(None), *seeds)]) for some in permuted])


def permuted_values(
    metric: Metric,
    tokens: ArrayLike,
    attributes: ArrayLike,
    *,
    clips: Sequence[Integers] | None = None,
    groups: ArrayLike | None = None,
    n: int = 1000,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Return a metric of each seed on clips of its own, and its permutation null.

    The attributes of a seed's clips are permuted among these clips. What a draw does to an object
    is the same for every seed that has it, as far as it can be, so that a mean over seeds has its
    null too.

    Args:
        metric: A record of a metric that is one number.
        tokens: int (S, N, P).
        attributes: int (N, A).
        clips: Of each seed; None: all N.
        groups: The object of each clip, (N,).
        n: The number of permutations.
        seed: Of the random numbers.

    Returns:
        float64 (S,) and (n, S).
    """
    messages, bins = check(tokens, attributes)
    parts = _of_each_seed(messages, clips)
    objects = number_objects(groups, len(bins))
    orders = permutations_within(objects, parts, n=n, seed=seed)
    values = [float(metric(m[own], bins[own])) for m, own in zip(messages, parts, strict=True)]
    null = [
        _of_permutations(metric, m[own], bins[own], order)
        for m, own, order in zip(messages, parts, orders, strict=True)
    ]
    return np.array(values), np.stack(null, axis=1)


def _of_each_seed(messages: Integers, clips: Sequence[Integers] | None) -> Sequence[Integers]:
    return [np.arange(messages.shape[1])] * len(messages) if clips is None else clips


def codebook_null(
    metric: Metric | Callable[..., Any],
    tokens: ArrayLike,
    attributes: ArrayLike,
    *,
    n: int = 200,
    seed: int = 0,
) -> Floats:
    """Return what `metric` gives for the same content in a code without structure.

    In each draw the distinct messages of a seed are exchanged: clips that shared a message still
    do, so the whole message informs as before, but the symbols it consists of are arbitrary.

    Args:
        metric: A record, or a function of tokens (n, N, P) and attributes (N, A).
        tokens: int (N, P) or (S, N, P).
        attributes: int (N, A) or (N,).
        n: The number of draws.
        seed: Of the random numbers.

    Returns:
        float64 (n,) for tokens (N, P), (n, S) for (S, N, P).

    >>> from pipeline.metrics import topsim
    >>> square = [[i, j] for i in range(3) for j in range(3)]
    >>> bool((codebook_null(topsim, square, square, n=20) < topsim(square, square)).all())
    True
    """
    messages, bins = check(tokens, attributes)
    seeds = messages.reshape(-1, *messages.shape[-2:])
    record = record_of(metric)
    rng = np.random.default_rng(seed)
    values = []
    for own, word_of_clip in zip(seeds, message_ids(seeds), strict=True):
        words = own[np.unique(word_of_clip, return_index=True)[1]]  # (W, P)
        draws = rng.permuted(np.tile(np.arange(len(words)), (n, 1)), axis=1)  # (n, W)
        if record is not None and record.recode is not None:
            values.append(record.recode(words, word_of_clip, bins, draws=draws))
        else:
            values.append(metric(words[draws[:, word_of_clip]], bins))  # tokens (n, N, P)
    stacked = np.stack(values, axis=1)  # (n, S, ...)
    return stacked.reshape(n, *messages.shape[:-2], *stacked.shape[2:])


def p_value(observed: ArrayLike, null: ArrayLike) -> Any:
    """Return the share of the null that is at least as large as the observed value.

    (1 + k) / (1 + n), so never 0. One-sided: large is surprising. Values equal up to rounding
    count as equal.

    Args:
        observed: (...).
        null: (n, ...).

    Returns:
        (...), a float where no axes are left; NaN where the observed value or the null is NaN.

    >>> p_value(0.9, [0.1, 0.2, 0.9])
    0.5
    """
    value, chance = np.asarray(observed, np.float64), np.asarray(null, np.float64)
    reached = (chance >= value - 1e-12).sum(0)
    unknown = np.isnan(value) | np.isnan(chance).any(0)
    return scalar(np.where(unknown, np.nan, (1 + reached) / (1 + len(chance))))


def bootstrap(
    metric: Metric | Callable[..., Any],
    tokens: ArrayLike,
    attributes: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n: int = 1000,
    seed: int = 0,
) -> Floats:
    """Return `metric` on `n` samples of as many objects, drawn with replacement with their clips.

    One draw is the same objects for every seed. Vectorised metrics run in batches; any other is
    called once for each draw, on the rows drawn.

    Args:
        metric: A record, or a function of tokens and attributes.
        tokens: int (N, P) or (S, N, P).
        attributes: int (N, A) or (N,).
        groups: The object of each clip, (N,); None makes each clip an object of its own.
        n: The number of draws.
        seed: Of the random numbers.

    Returns:
        float64 (n,) for tokens (N, P), (n, S) for (S, N, P).
    """
    messages, bins = check(tokens, attributes)
    objects = number_objects(groups, messages.shape[-2])
    return _of_objects(metric, messages, bins, objects, draw_objects(objects, n=n, seed=seed))


def _of_objects(
    metric: Metric | Callable[..., Any],
    messages: Integers,
    bins: Integers,
    objects: Integers,
    draws: Integers,
) -> Floats:
    """The metric of the clips of each draw of objects (n, G); NaN where it has none."""
    record = record_of(metric)
    if record is not None and record.bootstrap is not None:
        return np.asarray(record.bootstrap(messages, bins, objects=objects, draws=draws))
    weights = draws[:, objects]  # (n, N)
    if record is None or not record.vectorised:
        rows = (np.repeat(np.arange(len(objects)), often) for often in weights)
        return np.stack([np.asarray(metric(messages[..., r, :], bins[r])) for r in rows])
    seeds = (slice(None), *(None,) * (messages.ndim - 2))
    parts = np.array_split(weights, -(-len(weights) // 200))
    return np.concatenate([record(messages, bins, weights=part[seeds]) for part in parts])


def interval(
    value: ArrayLike,
    draws: ArrayLike,
    *,
    level: float = 0.95,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[Any, Any]:
    """Return both ends of the pivotal bootstrap interval.

    `2 value - q`, with q the upper and lower quantile of the draws (Davison and Hinkley 1997,
    section 5.2). Not the percentile interval: a sample with repeats inflates information once more,
    by about as much as the first one did, and with 60 objects the 95 % percentile interval of a
    mutual information of 0 never contained 0, where the pivotal one did in 98 % of samples. For a
    mean, such as an accuracy, both agree.

    Where small samples bias a metric by more than its spread (a PosDis of few objects is too low),
    that correction goes past the value itself; the interval then reaches from one to the other.

    Args:
        value: (...).
        draws: Bootstrap draws of it, (n, ...); those that are NaN are left out.
        level: The share of draws between the two quantiles.
        within: The smallest and the largest possible value.

    Returns:
        Two arrays (...), floats where no axes are left; NaN where all draws are.

    >>> interval(0.5, [0.25, 0.5, 0.75, 1.25], level=0.5)
    (0.125, 0.5625)
    >>> interval(0.5, [0.25, 0.25, 0.25])
    (0.5, 0.75)
    """
    tail = (1 - level) / 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered")
        low, high = np.nanquantile(np.asarray(draws, np.float64), [tail, 1 - tail], axis=0)
    centre = np.asarray(value, np.float64)
    low, high = np.clip([2 * centre - high, 2 * centre - low], *within)
    return scalar(np.minimum(low, centre)), scalar(np.maximum(high, centre))


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """The value of a metric with its chance and uncertainty. All but lists over seeds are floats.

    `null_*`, `p_value` and `low`, `high` are of the mean over seeds, so they allow for seeds being
    alike because they saw the same clips; `std` is the spread over seeds.

    Attributes:
        metric: Its name.
        per_seed: The value for each seed, (S,).
        mean: Over seeds.
        std: Over seeds, with S - 1; 0 for one seed.
        null_mean: The mean of the permutation null.
        null_low: 2.5 % of the permutation null is below this.
        null_high: 2.5 % of the permutation null is above this.
        p_value: Of the mean, with the permutation null; of so small a value where smaller is
            better.
        p_per_seed: Of each seed, with the permutation null, (S,).
        low: The lower end of the 95 % bootstrap interval over objects.
        high: The upper end.
        codebook_mean: The mean of the codebook null; None for a metric that is not structural.
        p_codebook: Of the mean, with the codebook null; None likewise.
        codebook: The codebook null of each seed, (n, S); None likewise.
    """

    metric: str
    per_seed: Floats
    mean: float
    std: float
    null_mean: float
    null_low: float
    null_high: float
    p_value: float
    p_per_seed: Floats
    low: float
    high: float
    codebook_mean: float | None
    p_codebook: float | None
    codebook: Floats | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields, arrays as lists, and both ends as `interval`; NaN stays NaN.

        The name of the metric, which is the key of the entry, and single draws are left out.
        """
        values = vars(self) | {"interval": [self.low, self.high]}
        left_out = ("metric", "low", "high", "codebook")
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in values.items()
            if name not in left_out
        }


def assess(
    metric: Metric,
    tokens: ArrayLike,
    attributes: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    clips: Sequence[Integers] | None = None,
    n: int = 1000,
    n_codebook: int = 200,
    seed: int = 0,
) -> Assessment:
    """Return the value of a metric with its chance and uncertainty.

    Args:
        metric: A record of a metric that is one number (not `per_position`).
        tokens: int (S, N, P) or (N, P).
        attributes: int (N, A) or (N,).
        groups: The object of each clip, (N,), for permutations and bootstrap.
        clips: Of each seed, those that count, (S,) arrays; None: all of them.
        n: The number of permutations and of bootstrap draws.
        n_codebook: The number of draws of the codebook null.
        seed: Of the random numbers.

    Raises:
        ValueError: The metric is a table of positions.

    >>> from pipeline.metrics import METRICS
    >>> square = [[i, j] for i in range(4) for j in range(4)]
    >>> found = assess(METRICS["posdis_chaabouni2020"], square, square, n=99, n_codebook=99)
    >>> found.mean, found.p_value, found.p_codebook
    (1.0, 0.01, 0.01)
    """
    if metric.per_position:
        raise ValueError(f"{metric.name} is a table of positions, not one number")
    messages, bins = check(tokens, attributes)
    messages = messages.reshape(-1, *messages.shape[-2:])  # (S, N, P)
    parts, objects = _of_each_seed(messages, clips), number_objects(groups, len(bins))
    per_seed, null = permuted_values(
        metric, messages, bins, clips=parts, groups=objects, n=n, seed=seed
    )
    drawn = draw_objects(objects, n=n, seed=seed)  # (n, G)
    seeds = list(zip(messages, parts, strict=True))
    with warnings.catch_warnings():  # a draw may have no clip of a seed
        warnings.simplefilter("ignore", RuntimeWarning)
        draws = np.stack(
            [_of_objects(metric, m[own], bins[own], objects[own], drawn) for m, own in seeds], 1
        )
        for number, own in enumerate(parts):
            draws[drawn[:, np.unique(objects[own])].sum(1) == 0, number] = np.nan
        resampled = np.nanmean(draws, axis=1)  # (n,)
    mean, null_mean = float(per_seed.mean()), null.mean(1)
    null_low, null_high = np.quantile(null_mean, [0.025, 0.975]).tolist()
    low, high = interval(mean, resampled, within=metric.range)
    p = p_value(metric.sign * mean, metric.sign * null_mean)
    codebook = codebook_mean = p_codebook = None
    if metric.structural:
        codebook = np.stack(
            [
                codebook_null(metric, m[own], bins[own], n=n_codebook, seed=seed + number)
                for number, (m, own) in enumerate(seeds)
            ],
            axis=1,
        )  # (n, S)
        codebook_mean = float(codebook.mean())
        p_codebook = p_value(metric.sign * mean, metric.sign * codebook.mean(1))
    return Assessment(
        metric=metric.name,
        per_seed=per_seed,
        mean=mean,
        std=float(per_seed.std(ddof=1)) if len(per_seed) > 1 else 0.0,
        null_mean=float(null_mean.mean()),
        null_low=null_low,
        null_high=null_high,
        p_value=p,
        p_per_seed=np.asarray(p_value(metric.sign * per_seed, metric.sign * null)),
        low=low,
        high=high,
        codebook_mean=codebook_mean,
        p_codebook=p_codebook,
        codebook=codebook,
    )
