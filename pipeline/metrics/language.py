"""What messages say about properties: pure functions of tokens and attributes.

Shapes, everywhere in this module:

- `tokens`: int (N, P), the symbol at each of P positions of N messages (the heads of all agents
  side by side), or (S, N, P) for S training seeds; symbols count from 0.
- `attributes`: int (N, A), the bin of each of A properties (`bin_property`), or (N,) for one.
- A metric gives one float for (N, P) and an array (S,) for (S, N, P). Leading axes broadcast as in
  NumPy: tokens (S, N, P) against attributes (D, 1, N, A) give (D, S).
- `weights`: int (..., N), how often each clip counts (a bootstrap draw); once each by default.

Information is in nats. A question that cannot be asked is NaN: PosDis and BosDis compare the best
attribute with the second best, so they need two. A protocol that says nothing scores 0.

`permutation_null` says what a metric gives by chance; read no metric without it, and see
`pipeline.uncertainty` for intervals and verdicts. Definitions: `wmcp` is the code of the paper
(github.com/TomekKaszynski/emergent-physics-comm, `wmcp/metrics.py`), `chaabouni2020` is Chaabouni
et al., "Compositionality and Generalization in Emergent Languages" (ACL 2020), as EGG computes it
(github.com/facebookresearch/EGG, `egg/core/language_analysis.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from pipeline.metrics.information import (
    Floats,
    Integers,
    bin_property,
    check,
    check_tokens,
    entropy_of,
    expected_information_of,
    information_of,
    joint_counts,
    one_hot,
    rank_correlation_of,
    ratio,
    scalar,
)
from pipeline.metrics.resampling import permutations
from pipeline.metrics.topsim import topsim, topsim_sampled

__all__ = [
    "METRICS",
    "accuracy",
    "adjusted_mutual_information",
    "auc",
    "bin_property",
    "bin_sensitivity",
    "bosdis_chaabouni2020",
    "bosdis_wmcp",
    "effective_vocabulary",
    "entropy",
    "message_entropy",
    "message_ids",
    "message_uniqueness",
    "monotonicity",
    "mutual_information",
    "permutation_null",
    "permutations",
    "posdis_chaabouni2020",
    "posdis_wmcp",
    "symbols_in_use",
    "topsim",
    "topsim_sampled",
]

Metric = Callable[..., Any]
Weights = ArrayLike | None

NEGLIGIBLE_NATS = 1e-10
"""The wmcp definitions treat a mutual information up to this as none."""


def _counts(tokens: ArrayLike, attributes: ArrayLike, weights: Weights) -> Integers:
    """(..., P, A, V, B)."""
    messages, bins = check(tokens, attributes)
    return joint_counts(messages, bins, weights)


# Information


def mutual_information(tokens: ArrayLike, attributes: ArrayLike, *, weights: Weights = None) -> Any:
    """Mutual information of each position with each attribute, in nats: float64 (..., P, A).

    Two vectors, (N,) and (N,), give a float. The plug-in estimate of the paper's code: it is above
    zero by chance, by about (V - 1) (B - 1) / 2N.

    >>> mutual_information([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 0, 1, 1]).round(4).tolist()
    [[0.6931], [0.0]]
    """
    if np.ndim(tokens) == 1:
        column = np.asarray(tokens)[:, None]
        return float(mutual_information(column, attributes, weights=weights)[0, 0])
    return information_of(_counts(tokens, attributes, weights))


def adjusted_mutual_information(
    tokens: ArrayLike, attributes: ArrayLike, *, weights: Weights = None
) -> Floats:
    """Mutual information above chance, each position with each attribute: float64 (..., P, A).

    (I - E[I]) / ((H(symbol) + H(attribute)) / 2 - E[I]): about 0 by chance, 1 for a code that is
    the attribute. Vinh, Epps and Bailey 2010, with the arithmetic mean, as scikit-learn's
    `adjusted_mutual_info_score`; 0 where one of the two is constant (scikit-learn: 1 if both are).

    >>> adjusted_mutual_information([[0], [0], [1], [1]], [1, 1, 0, 0]).round(6).tolist()
    [[1.0]]
    """
    counts = _counts(tokens, attributes, weights)
    expected = expected_information_of(counts)
    above = information_of(counts) - expected
    rows, columns = entropy_of(counts.sum(-1)), entropy_of(counts.sum(-2))
    return ratio(above, (rows + columns) / 2 - expected, (rows > 0) & (columns > 0))


def monotonicity(tokens: ArrayLike, attributes: ArrayLike, *, weights: Weights = None) -> Floats:
    """Spearman of the symbol's number with the attribute, mid-ranks: float64 (..., P, A), -1 .. 1.

    The paper's `mass_symbol_rho` is the entry of largest size. Symbols are names, so only the size
    means something, and a code may mean much in an order of its own (see `mutual_information`).
    For unbinned values pass `numpy.unique(values, return_inverse=True)[1]`. 0 where one is
    constant.

    >>> monotonicity([[2], [1], [0]], [0, 1, 2]).tolist()
    [[-1.0]]
    """
    return rank_correlation_of(_counts(tokens, attributes, weights))


# Messages alone


def entropy(tokens: ArrayLike) -> Floats:
    """Entropy of the symbols at each position, in nats: (..., P).

    The paper's code reports it over log(vocabulary).

    >>> entropy([[0, 2], [1, 2]]).round(4).tolist()
    [0.6931, 0.0]
    """
    return entropy_of(_symbol_counts(tokens))


def _symbol_counts(tokens: ArrayLike) -> Integers:
    """(..., P, V)."""
    messages = check_tokens(tokens)
    counts = one_hot(messages).sum(-2).astype(np.int64)  # (..., P * V)
    return counts.reshape(*counts.shape[:-1], messages.shape[-1], -1)


def effective_vocabulary(tokens: ArrayLike) -> Floats:
    """exp(entropy) of each position, (..., P): as many symbols, used equally, would say as much.

    >>> effective_vocabulary([[0, 2], [1, 2]]).round(4).tolist()
    [2.0, 1.0]
    """
    return np.exp(entropy(tokens))


def symbols_in_use(tokens: ArrayLike, *, above: float = 0.05) -> Integers:
    """How many symbols each position uses in more than a share `above` of messages: (..., P).

    The paper's `eff_vocab` (`_phase59_emergent_structure.py`).

    >>> symbols_in_use([[0, 2], [1, 2]]).tolist()
    [2, 1]
    """
    counts = _symbol_counts(tokens)
    return (counts > above * counts.sum(-1, keepdims=True)).sum(-1)


def message_ids(tokens: ArrayLike) -> Integers:
    """A number for each distinct message of a seed: (..., N), from 0 in order of symbols.

    >>> message_ids([[1, 0], [0, 3], [1, 0]]).tolist()
    [1, 0, 1]
    """
    messages = check_tokens(tokens)
    seeds = messages.reshape(-1, *messages.shape[-2:])
    named = [np.unique(one, axis=0, return_inverse=True)[1].ravel() for one in seeds]
    return np.stack(named).reshape(messages.shape[:-1])


def message_uniqueness(tokens: ArrayLike) -> Any:
    """Distinct messages over clips, (...): 1 where no two clips share a message.

    >>> message_uniqueness([[1, 0], [0, 3], [1, 0], [1, 0]])
    0.5
    """
    ids = message_ids(tokens)
    return scalar((ids.max(-1) + 1) / ids.shape[-1])


def message_entropy(tokens: ArrayLike) -> Any:
    """Entropy of whole messages, in nats: (...). At most log(N), so compare equal N only.

    EGG's `calc_entropy` is the same in bits.

    >>> round(message_entropy([[1, 0], [0, 3], [1, 0], [0, 3]]), 4)
    0.6931
    """
    return scalar(entropy(message_ids(tokens)[..., None])[..., 0])


# Disentanglement


def _lead(information: Floats) -> tuple[Floats, Floats]:
    """(..., K, A) -> the largest over attributes (..., K), and by how much it leads."""
    if information.shape[-1] < 2:
        undefined = np.full(information.shape[:-1], np.nan)
        return undefined, undefined
    ordered = np.sort(information, axis=-1)
    return ordered[..., -1], ordered[..., -1] - ordered[..., -2]


def _wmcp(counts: Integers, *, only_informative: bool) -> Floats:
    best, lead = _lead(information_of(counts))
    informative = ~(best <= NEGLIGIBLE_NATS)  # true for NaN: one attribute stays NaN
    share = ratio(lead, best, informative)
    if not only_informative:
        return share.mean(-1)
    number = informative.sum(-1)
    return ratio(share.sum(-1), number, number > 0)


def _chaabouni2020(counts: Integers) -> Floats:
    _, lead = _lead(information_of(counts))
    uncertainty = entropy_of(counts[..., 0, :, :].sum(-1))
    varied = uncertainty > 0
    number = varied.sum(-1)
    score = ratio(ratio(lead, uncertainty, varied).sum(-1), number, number > 0)
    return np.where(np.isnan(lead).any(-1), np.nan, score)


def posdis_wmcp(tokens: ArrayLike, attributes: ArrayLike, *, weights: Weights = None) -> Any:
    """Positional disentanglement by the paper's code: the gap over the larger information.

    For each position (I1 - I2) / I1, with I1 and I2 the largest and second largest mutual
    information with an attribute (0 where I1 is at most 1e-10); the mean over positions. 0 for
    messages of one position, NaN for one attribute. The ratio does not ask how large I1 is, so
    uniformly random messages score 0.25 (8 symbols), 0.3 (5), 0.4 (3) or 0.5 (2) against 5 bins:
    compare with `permutation_null`.

    >>> posdis_wmcp([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    counts = _counts(tokens, attributes, weights)
    several_positions = counts.shape[-4] > 1
    return scalar(_wmcp(counts, only_informative=False) * several_positions)


def posdis_chaabouni2020(
    tokens: ArrayLike, attributes: ArrayLike, *, weights: Weights = None
) -> Any:
    """Positional disentanglement of Chaabouni et al. 2020: the gap over the symbols' entropy.

    For each position (I1 - I2) / H, with H its entropy; the mean over positions that vary. NaN for
    one attribute; 0 where no position varies (EGG divides 0 by 0 there).

    >>> posdis_chaabouni2020([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    return scalar(_chaabouni2020(_counts(tokens, attributes, weights)))


def bosdis_wmcp(tokens: ArrayLike, attributes: ArrayLike, *, weights: Weights = None) -> Any:
    """Bag-of-symbols disentanglement by the paper's code: does a symbol's presence mean one thing?

    For each symbol that is in some messages and not in others, the variable is "the message has
    it, anywhere"; (I1 - I2) / I1 as in `posdis_wmcp`, the mean over symbols with I1 above 1e-10.
    NaN for one attribute, 0 where no symbol informs.

    >>> bosdis_wmcp([[0, 2], [0, 3], [1, 2], [1, 3]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    messages, bins = check(tokens, attributes)
    present = np.minimum(_bags(messages), 1)
    return scalar(_wmcp(joint_counts(present, bins, weights), only_informative=True))


def bosdis_chaabouni2020(
    tokens: ArrayLike, attributes: ArrayLike, *, weights: Weights = None
) -> Any:
    """Bag-of-symbols disentanglement of Chaabouni et al. 2020: gap over entropy of symbol counts.

    For each symbol the variable is how often the message has it; (I1 - I2) / H, the mean over
    symbols whose count varies. Every symbol counts: EGG leaves out symbol 0, its end of message,
    so EGG's number for `tokens + 1` is the same. NaN for one attribute, 0 where nothing varies.

    >>> bosdis_chaabouni2020([[0, 2], [0, 3], [1, 2], [1, 3]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    messages, bins = check(tokens, attributes)
    return scalar(_chaabouni2020(joint_counts(_bags(messages), bins, weights)))


def _bags(messages: Integers) -> Integers:
    """(..., N, P) -> (..., N, V): how often each symbol is in the message."""
    hot = one_hot(messages).reshape(*messages.shape, -1)  # (..., N, P, V)
    return hot.sum(-2).astype(np.int64)


METRICS: dict[str, Metric] = {
    "posdis_wmcp": posdis_wmcp,
    "posdis_chaabouni2020": posdis_chaabouni2020,
    "bosdis_wmcp": bosdis_wmcp,
    "bosdis_chaabouni2020": bosdis_chaabouni2020,
    "topsim": topsim,
    "mutual_information": mutual_information,
    "adjusted_mutual_information": adjusted_mutual_information,
    "monotonicity": monotonicity,
}
"""The metrics of tokens and attributes, by name; the last three are matrices (..., P, A)."""


def bin_sensitivity(
    metric: Metric, tokens: ArrayLike, values: ArrayLike, *, bins: Iterable[int] = (3, 4, 5, 6, 8)
) -> dict[int, Any]:
    """`metric` with the properties `values` (N, A) or (N,) cut into each number of bins.

    >>> by_bins = bin_sensitivity(topsim, [[0], [0], [1], [1]], [1.0, 1.5, 7.0, 9.0], bins=(2, 4))
    >>> {bins: round(value, 6) for bins, value in by_bins.items()}
    {2: 1.0, 4: 0.67082}
    """
    columns = np.asarray(values, dtype=np.float64).reshape(np.shape(values)[0], -1).T
    return {
        number: metric(tokens, np.stack([bin_property(c, bins=number) for c in columns], axis=1))
        for number in bins
    }


# Answers


def accuracy(right: ArrayLike, *, counted: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """The share of right answers for each property (..., A), and of all properties at once (...).

    `right` is bool (..., pairs, A); `counted`, of the same shape, leaves ties out: a pair counts
    for "all at once" where it counts for every property. NaN where nothing counts.

    >>> each, both = accuracy([[True, True], [True, False]])
    >>> each.tolist(), float(both)
    ([1.0, 0.5], 0.5)
    """
    answers = np.asarray(right, dtype=bool)
    kept = np.broadcast_to(True if counted is None else np.asarray(counted), answers.shape)
    all_right, all_kept = answers.all(-1), kept.all(-1)
    with np.errstate(invalid="ignore"):
        each = (answers & kept).sum(-2) / kept.sum(-2)
        return each, np.asarray((all_right & all_kept).sum(-1) / all_kept.sum(-1))


def auc(scores: ArrayLike, labels: ArrayLike) -> Any:
    """Area under the ROC curve, (..., N) -> (...): P(a positive scores above a negative).

    Equal scores count half (Mann and Whitney). NaN where all labels are alike.

    >>> auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """
    numbers, positive = np.broadcast_arrays(np.asarray(scores, np.float64), np.asarray(labels) > 0)
    if np.isnan(numbers).any():
        raise ValueError("a score is NaN")
    positives, negatives = positive.sum(-1), (~positive).sum(-1)
    above = (rankdata(numbers, axis=-1) * positive).sum(-1) - positives * (positives + 1) / 2
    with np.errstate(invalid="ignore"):
        return scalar(above / (positives * negatives))


# Chance


def permutation_null(
    metric: Metric,
    tokens: ArrayLike,
    attributes: ArrayLike,
    *,
    n: int = 1000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Floats:
    """What `metric` gives when messages and attributes have nothing to do with each other.

    Float64 (n,) for tokens (N, P); (n, S) for (S, N, P), where a draw deals the same attributes to
    every seed, so that a mean over seeds has its null too; (n, P, A) for a metric that is a matrix.
    `groups` (N,) deals them by whole objects (`permutations`). The metrics in METRICS run in
    batches; any other `metric(tokens, attributes)` is called once a draw.

    >>> null = permutation_null(topsim, [[0], [0], [1], [1]], [0, 0, 1, 1], n=20)
    >>> null.shape, bool(null.max() <= 1)
    ((20,), True)
    """
    messages, bins = check(tokens, attributes)
    clips = messages.shape[-2]
    deals = permutations(clips, n=n, seed=seed, groups=groups)
    if metric not in METRICS.values():
        return np.stack([np.asarray(metric(messages, bins[deal])) for deal in deals])
    batch = max(1, 2**24 // clips**2)
    seeds = (None,) * (messages.ndim - 2)
    dealt = (bins[deals[start : start + batch]] for start in range(0, n, batch))
    return np.concatenate([metric(messages, some[(slice(None), *seeds)]) for some in dealt])
