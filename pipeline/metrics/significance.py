"""How far to trust a metric: chance, intervals over objects, spread over seeds, and a verdict.

Three questions, kept apart:

- Does the message say anything? The null deals the properties to other objects
  (`metrics.permutation_null`).
- Is it said compositionally? The null keeps what is said and to whom, and deals the code words to
  other meanings (`codebook_null`): a code without structure beats the first null, never this one.
- How much hangs on these objects? Objects, not clips, are drawn again (`bootstrap`).

Shapes as in `pipeline.metrics`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.metrics.information import Floats, check, scalar
from pipeline.metrics.language import METRICS, Metric, message_ids, permutation_null, topsim
from pipeline.metrics.resampling import draw_objects, number_objects
from pipeline.metrics.topsim import topsim_recoded, topsim_resampled


def codebook_null(
    metric: Metric, tokens: ArrayLike, attributes: ArrayLike, *, n: int = 200, seed: int = 0
) -> Floats:
    """What `metric` gives when the same messages say the same things in a code without structure.

    Float64 (n,) for tokens (N, P), (n, S) for (S, N, P). In each draw the distinct messages of a
    seed trade places: clips that shared a message still do, so the whole message informs as
    before, but which symbols it consists of is arbitrary. Only for metrics in METRICS.

    >>> square = [[i, j] for i in range(3) for j in range(3)]
    >>> bool((codebook_null(topsim, square, square, n=20) < topsim(square, square)).all())
    True
    """
    messages, bins = check(tokens, attributes)
    seeds = messages.reshape(-1, *messages.shape[-2:])
    ids = message_ids(seeds)  # (S, N)
    rng = np.random.default_rng(seed)
    values = []
    for one, names in zip(seeds, ids, strict=True):
        words = one[np.unique(names, return_index=True)[1]]  # (W, P)
        deals = rng.permuted(np.tile(np.arange(len(words)), (n, 1)), axis=1)  # (n, W)
        if metric is topsim:
            values.append(topsim_recoded(words, names, bins, deals=deals))
        else:
            values.append(metric(words[deals[:, names]], bins))  # tokens (n, N, P)
    stacked = np.stack(values, axis=1)  # (n, S, ...)
    return stacked.reshape(n, *messages.shape[:-2], *stacked.shape[2:])


def p_value(observed: ArrayLike, null: ArrayLike) -> Any:
    """The share of the null that is at least as large, with the observed one: (1 + k) / (1 + n).

    `null` is (n, ...), `observed` (...). One-sided: large is surprising; give sizes for a metric
    with a sign. Never 0, and NaN where the observed value or the null is.

    >>> p_value(0.9, [0.1, 0.2, 0.9])
    0.5
    """
    value, chance = np.asarray(observed, np.float64), np.asarray(null, np.float64)
    reached = (chance >= value - 1e-12).sum(0)  # equal but for rounding is equal
    unknown = np.isnan(value) | np.isnan(chance).any(0)
    p = np.where(unknown, np.nan, (1 + reached) / (1 + len(chance)))
    return float(p) if p.ndim == 0 else p


def bootstrap(
    metric: Metric,
    tokens: ArrayLike,
    attributes: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n: int = 1000,
    seed: int = 0,
) -> Floats:
    """`metric` on `n` samples of as many objects, drawn with replacement with all their clips.

    Float64 (n,) for tokens (N, P), (n, S) for (S, N, P): one draw is the same objects for every
    seed. `groups` (N,) names the object of each clip; without it every clip is its own. The
    metrics in METRICS run in batches; any other is called once a draw, on the rows drawn.
    """
    messages, bins = check(tokens, attributes)
    objects = number_objects(groups, messages.shape[-2])
    draws = draw_objects(objects, n=n, seed=seed)  # (n, G)
    if metric is topsim:
        return topsim_resampled(messages, bins, objects=objects, draws=draws)
    weights = draws[:, objects]  # (n, N)
    if metric not in METRICS.values():
        rows = (np.repeat(np.arange(len(objects)), often) for often in weights)
        return np.stack([np.asarray(metric(messages[..., r, :], bins[r])) for r in rows])
    seeds = (slice(None), *(None,) * (messages.ndim - 2))
    parts = np.array_split(weights, -(-n // 200))
    return np.concatenate([metric(messages, bins, weights=part[seeds]) for part in parts])


def interval(
    value: ArrayLike,
    draws: ArrayLike,
    *,
    level: float = 0.95,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[Any, Any]:
    """Both ends, each (...), of the pivotal bootstrap interval from `draws` (n, ...).

    `2 value - q`, with q the upper and lower quantile of the draws (Davison and Hinkley 1997,
    section 5.2), cut to the values that are possible, `within`. Not the percentile interval: a
    sample with repeats inflates information once more, by about as much as the first one did, and
    with 60 objects the 95 % percentile interval of a mutual information of 0 never contained 0,
    where the pivotal one did in 98 % of samples. For a mean, such as an accuracy, both agree.

    Where small samples push a metric off by more than its spread (a PosDis of few objects is too
    low), that correction goes past the value itself; the interval then reaches from one to the
    other. Draws that are NaN are left out; NaN where all are.

    >>> interval(0.5, [0.25, 0.5, 0.75, 1.25], level=0.5)
    (0.125, 0.5625)
    >>> interval(0.5, [0.25, 0.25, 0.25])
    (0.5, 0.75)
    """
    tail = (1 - level) / 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered")
        low, high = np.nanquantile(np.asarray(draws, np.float64), [tail, 1 - tail], axis=0)
    found = np.asarray(value, np.float64)
    low, high = np.clip([2 * found - high, 2 * found - low], *within)
    return scalar(np.minimum(low, found)), scalar(np.maximum(high, found))


def verdict(p_chance: float, p_codebook: float, *, alpha: float = 0.05) -> str:
    """What a structural metric's two p-values allow to be said.

    "compositional" only where the metric beats both nulls: what it gives when messages and
    properties are unrelated, and what it gives for the same content in an arbitrary code.

    >>> verdict(0.001, 0.005), verdict(0.001, 0.4), verdict(0.3, 0.3)
    ('compositional', 'informative, not compositional', 'no better than chance')
    """
    if np.isnan(p_chance) or np.isnan(p_codebook):
        return "undefined"
    if p_chance > alpha:
        return "no better than chance"
    return "compositional" if p_codebook <= alpha else "informative, not compositional"


STRUCTURAL = (
    "posdis_wmcp",
    "posdis_chaabouni2020",
    "bosdis_wmcp",
    "bosdis_chaabouni2020",
    "topsim",
)
"""The metrics of METRICS that ask how something is said, one number each."""

RANGES = {
    "topsim": (-1.0, 1.0),
    "mutual_information": (0.0, np.inf),
    "adjusted_mutual_information": (-1.0, 1.0),
}
"""The values a metric of METRICS can take; 0 to 1 for the rest."""


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """A metric with everything needed to believe it. Arrays (...) are () or, for a matrix, (P, A).

    `null_*`, `p_value` and `low`, `high` are of the mean over seeds, so they allow for seeds being
    alike because they saw the same clips; `std` is the spread over seeds.
    """

    metric: str
    per_seed: Floats  # (S, ...)
    mean: Any  # (...)
    std: Any  # over seeds, with S - 1; 0 for one seed
    null_mean: Any
    null_low: Any  # 2.5 % of the permutation null
    null_high: Any  # 97.5 %
    p_value: Any
    p_per_seed: Floats  # (S, ...)
    low: Any  # 95 % bootstrap interval over objects
    high: Any
    codebook_mean: float | None  # of the codebook null; None for a matrix
    p_codebook: float | None
    verdict: str | None  # None for a matrix

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values: arrays as lists, NaN as null, both ends as `interval`.

        The name of the metric is left out: it is the key of the entry.
        """
        values = vars(self) | {"interval": np.stack([self.low, self.high], axis=-1)}
        left_out = ("metric", "low", "high")
        return {name: _plain(value) for name, value in values.items() if name not in left_out}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def assess(
    name: str,
    tokens: ArrayLike,
    attributes: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n: int = 1000,
    n_codebook: int = 200,
    seed: int = 0,
) -> Assessment:
    """The metric `name` of METRICS for tokens (S, N, P) or (N, P), with chance and uncertainty.

    `groups` (N,) names the object of each clip, for the permutations and for the bootstrap. Of
    "monotonicity" the size is assessed, because the sign of a symbol's number means nothing. One
    attribute leaves nothing to compose: the verdict is "undefined", also where TopSim has a value.
    Five structural metrics are five chances to be lucky, so each must reach p <= 0.05 / 5.
    Raises ValueError for an unknown `name`.

    >>> square = [[i, j] for i in range(4) for j in range(4)]
    >>> assess("posdis_chaabouni2020", square, square, n=99, n_codebook=99).verdict
    'compositional'
    """
    if name not in METRICS:
        raise ValueError(f"no metric is called {name!r}: choose from {', '.join(METRICS)}")
    messages, bins = check(tokens, attributes)
    messages = messages.reshape(-1, *messages.shape[-2:])  # (S, N, P)
    metric = METRICS[name]
    size = np.abs if name == "monotonicity" else np.asarray
    null = size(permutation_null(metric, messages, bins, n=n, seed=seed, groups=groups))
    draws = size(bootstrap(metric, messages, bins, n=n, seed=seed, groups=groups))
    per_seed = size(metric(messages, bins))
    mean, null_mean = per_seed.mean(0), null.mean(1)  # (...), (n, ...)
    null_low, null_high = np.quantile(null_mean, [0.025, 0.975], axis=0)
    low, high = interval(mean, draws.mean(1), within=RANGES.get(name, (0.0, 1.0)))
    p = p_value(mean, null_mean)
    codebook_mean = p_codebook = said = None
    if name in STRUCTURAL:
        codebook = codebook_null(metric, messages, bins, n=n_codebook, seed=seed).mean(1)
        codebook_mean, p_codebook = float(codebook.mean()), p_value(mean, codebook)
        alpha = 0.05 / len(STRUCTURAL)
        said = verdict(p, p_codebook, alpha=alpha) if bins.shape[-1] > 1 else "undefined"
    return Assessment(
        metric=name,
        per_seed=per_seed,
        mean=scalar(mean),
        std=scalar(per_seed.std(0, ddof=1) if len(per_seed) > 1 else np.zeros(mean.shape)),
        null_mean=scalar(null_mean.mean(0)),
        null_low=scalar(null_low),
        null_high=scalar(null_high),
        p_value=p,
        p_per_seed=np.asarray(p_value(per_seed, null)),
        low=low,
        high=high,
        codebook_mean=codebook_mean,
        p_codebook=p_codebook,
        verdict=said,
    )
