"""Count tables of symbols and properties, and the information in them.

Shapes, in all modules of `pipeline.metrics`:

- `tokens`: int (N, P), the symbol at each of the P positions of N messages (the heads of all agents
  next to each other), or (S, N, P) for S training seeds; symbols count from 0.
- `attributes`: int (N, A), the bin of each of A properties (`bin_property`), or (N,) for one.
- `weights`: int (..., N), how often each clip counts (a bootstrap draw); once each by default.

Leading axes broadcast as in NumPy: tokens (S, N, P) with attributes (D, 1, N, A) give (D, S, ...).
Counts are integers, so a sum does not depend on the order of clips, seeds or draws. Information is
in nats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.levels import snapped
from pipeline.metrics.metric import Metric

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


# Properties into bins


def bin_property(values: ArrayLike, *, bins: int = 5) -> Integers:
    """Return the bin of each value of a continuous property.

    Up to `bins` distinct values are a bin each (a grid of levels keeps its levels). Otherwise the
    edges are the quantiles 1/bins, 2/bins, ... over clips, and a value on an edge belongs to the
    bin above: the rule of the paper's code, `numpy.digitize` of `numpy.quantile`. Equal values
    always share a bin, and so do values that are equal but for rounding (`data.levels`). Empty bins
    are left out, so the numbers have no gaps.

    Args:
        values: The property of each clip, (N,).
        bins: The largest number of bins, at least 2.

    Returns:
        int64 (N,), from 0.

    Raises:
        ValueError: A value is NaN (leave clips with an unknown property out first), `values` has
            another shape, or `bins` is too small.

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
    numbers = snapped(numbers)
    if len(np.unique(numbers)) > bins:
        edges = np.quantile(numbers, np.arange(1, bins) / bins)
        numbers = np.digitize(numbers, edges).astype(np.float64)
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


# Tables of counts


def integers(array: ArrayLike, name: str) -> Integers:
    """Return an array of integers from 0 as int64; raise ValueError for any other."""
    numbers = np.asarray(array)
    if numbers.dtype.kind not in "iub":
        hint = "; see bin_property" if name == "attributes" else ""
        raise ValueError(f"{name} must be integers from 0, not {numbers.dtype}{hint}")
    if numbers.size and numbers.min() < 0:
        raise ValueError(f"{name} must be integers from 0, and one is {numbers.min()}")
    return numbers.astype(np.int64, copy=False)


def check_tokens(tokens: ArrayLike) -> Integers:
    """Return tokens (..., N, positions) as int64; raise ValueError for any other array."""
    messages = integers(tokens, "tokens")
    if messages.ndim < 2 or 0 in messages.shape:
        raise ValueError(f"tokens must be (..., N, positions), not {messages.shape}")
    return messages


def check(tokens: ArrayLike, attributes: ArrayLike) -> tuple[Integers, Integers]:
    """Return tokens (..., N, P) and attributes (..., N, A) as int64.

    Raises:
        ValueError: They are not integers from 0, or not of the same N clips.
    """
    messages, bins = check_tokens(tokens), integers(attributes, "attributes")
    if bins.ndim == 1:
        bins = bins[:, None]
    if bins.ndim < 2 or messages.shape[-2] != bins.shape[-2] or 0 in bins.shape:
        raise ValueError(
            f"tokens {messages.shape} and attributes {bins.shape} must be (N, positions) "
            "and (N, attributes) of the same N clips"
        )
    return messages, bins


def one_hot(codes: Integers) -> NDArray[np.float32]:
    """Return the one-hot form of numbers from 0: (..., N, K) to (..., N, K * levels)."""
    hot = codes[..., None] == np.arange(codes.max() + 1)
    return hot.reshape(*codes.shape[:-1], -1).astype(np.float32)


def joint_counts(
    variables: Integers,
    attributes: Integers,
    weights: ArrayLike | None = None,
) -> Integers:
    """Return how often variable k is v where attribute a is b: int64 (..., K, A, V, B).

    A product of one-hot matrices, exact in float32 below 2**24 clips.

    Args:
        variables: (..., N, K), numbers from 0.
        attributes: (..., N, A), numbers from 0.
        weights: (..., N), how often each clip counts.
    """
    left, right = one_hot(variables), one_hot(attributes)  # (..., N, K*V), (..., N, A*B)
    if weights is not None:
        right = right * np.asarray(weights, dtype=np.float32)[..., None]
    counts = np.swapaxes(left, -1, -2) @ right  # (..., K*V, A*B)
    split = (variables.shape[-1], variables.max() + 1, attributes.shape[-1], attributes.max() + 1)
    return np.swapaxes(counts.reshape(*counts.shape[:-2], *split), -2, -3).astype(np.int64)


def words_by_concepts(counts: Integers) -> Integers:
    """Return tables (..., P, A, V, B) as one of words and concepts: (..., P V, A B).

    A word is a symbol at a position, position by position; a concept is a bin of a property,
    property by property.
    """
    *axes, positions, properties, symbols, bins = counts.shape
    paired = np.swapaxes(counts, -2, -3)
    return paired.reshape(*axes, positions * symbols, properties * bins)


def _x_log_x(counts: Integers) -> Floats:
    table = np.arange(counts.max() + 1, dtype=np.float64)
    table[1:] *= np.log(table[1:])
    return table[counts]


def entropy_of(counts: Integers) -> Floats:
    """Return the entropy, in nats, of counts (..., V): (...), exactly 0 where one value has all."""
    total = counts.sum(-1)
    return (_x_log_x(total) - _x_log_x(counts).sum(-1)) / total


def information_of(counts: Integers) -> Floats:
    """Return the mutual information, in nats, of count tables (..., V, B): (...)."""
    joint = entropy_of(counts.reshape(*counts.shape[:-2], -1))
    return np.maximum(entropy_of(counts.sum(-1)) + entropy_of(counts.sum(-2)) - joint, 0.0)


def ratio(over: NDArray[Any], under: NDArray[Any], where: NDArray[np.bool_]) -> Floats:
    """Return `over / under` where `where` is true, 0 elsewhere."""
    shape = np.broadcast_shapes(over.shape, under.shape)
    return np.divide(over, under, out=np.zeros(shape), where=where)


def expected_information_of(counts: Integers) -> Floats:
    """Return the mean information, in nats, over all tables with the same margins.

    Of count tables (..., V, B): (...). The hypergeometric model of Vinh, Epps and Bailey 2010
    (JMLR 11, eq. 24a). The expectation is a sum over cells of a function of the two margins and the
    total alone, so it is computed once for each triple that occurs.
    """
    rows, columns = counts.sum(-1), counts.sum(-2)  # (..., V), (..., B)
    total = rows.sum(-1)
    expected = np.zeros(total.shape)
    for size in np.unique(total):
        tables = total == size
        row_sums, column_sums = rows[tables], columns[tables]  # (tables, V), (tables, B)
        row_levels, column_levels = np.unique(row_sums), np.unique(column_sums)
        cells = _expected_cells(row_levels, column_levels, int(size))
        row_index = np.searchsorted(row_levels, row_sums)[:, :, None]
        column_index = np.searchsorted(column_levels, column_sums)[:, None, :]
        expected[tables] = cells[row_index, column_index].sum((-1, -2))
    return expected


def _expected_cells(rows: Integers, columns: Integers, total: int) -> Floats:
    """Return a cell's part in the expected information for pairs of margins: (rows, columns)."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    n = np.arange(1, max(1, min(rows.max(), columns.max())) + 1)  # (cell counts,)
    column = columns[:, None]
    cells = np.empty((len(rows), len(columns)))
    for index, row in enumerate(rows):
        possible = (n <= row) & (n <= column) & (n >= row + column - total)
        others = row - n, column - n, total - row - column + n
        log_probability = (
            log_factorial[row]
            + log_factorial[total - row]
            + log_factorial[column]
            + log_factorial[total - column]
            - log_factorial[total]
            - log_factorial[n]
            - sum(log_factorial[np.where(possible, other, 0)] for other in others)
        )  # (columns, cell counts)
        probability = np.exp(np.where(possible, log_probability, -np.inf))
        gain = np.log(total * n / np.maximum(row * column, 1))
        cells[index] = (probability * n / total * gain).sum(-1)
    return cells


def scalar(values: Floats) -> Any:
    """Return a float where no axes are left, else the array."""
    return float(values) if np.ndim(values) == 0 else values


# Information between messages and properties


def mutual_information(
    tokens: ArrayLike, attributes: ArrayLike, *, weights: ArrayLike | None = None
) -> Any:
    """Return the mutual information of each position with each attribute, in nats.

    The plug-in estimate, as in the paper's code.

    Returns:
        float64 (..., P, A); a float for two vectors, (N,) and (N,).

    >>> mutual_information([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 0, 1, 1]).round(4).tolist()
    [[0.6931], [0.0]]
    """
    if np.ndim(tokens) == 1:
        column = np.asarray(tokens)[:, None]
        return float(mutual_information(column, attributes, weights=weights)[0, 0])
    return information_of(joint_counts(*check(tokens, attributes), weights))


def adjusted_mutual_information(
    tokens: ArrayLike, attributes: ArrayLike, *, weights: ArrayLike | None = None
) -> Floats:
    """Return the mutual information above chance of each position with each attribute.

    As scikit-learn's `adjusted_mutual_info_score`, but 0 where position and attribute are both
    constant (scikit-learn: 1).

    Returns:
        float64 (..., P, A).

    >>> adjusted_mutual_information([[0], [0], [1], [1]], [1, 1, 0, 0]).round(6).tolist()
    [[1.0]]
    """
    counts = joint_counts(*check(tokens, attributes), weights)
    expected = expected_information_of(counts)
    above = information_of(counts) - expected
    rows, columns = entropy_of(counts.sum(-1)), entropy_of(counts.sum(-2))
    return ratio(above, (rows + columns) / 2 - expected, (rows > 0) & (columns > 0))


# Messages alone


def entropy(tokens: ArrayLike) -> Floats:
    """Return the entropy of the symbols at each position, in nats: (..., P).

    The paper's code reports it over log(vocabulary).

    >>> entropy([[0, 2], [1, 2]]).round(4).tolist()
    [0.6931, 0.0]
    """
    messages = check_tokens(tokens)
    counts = one_hot(messages).sum(-2).astype(np.int64)  # (..., P * V)
    return entropy_of(counts.reshape(*counts.shape[:-1], messages.shape[-1], -1))


def message_ids(tokens: ArrayLike) -> Integers:
    """Return a number for each distinct message of a seed: (..., N), in the order of symbols.

    >>> message_ids([[1, 0], [0, 3], [1, 0]]).tolist()
    [1, 0, 1]
    """
    messages = check_tokens(tokens)
    seeds = messages.reshape(-1, *messages.shape[-2:])
    numbers = [np.unique(seed, axis=0, return_inverse=True)[1].ravel() for seed in seeds]
    return np.stack(numbers).reshape(messages.shape[:-1])


def message_entropy(tokens: ArrayLike) -> Any:
    """Return the entropy of whole messages, in nats: (...).

    At most log(N), so compare only values of the same N. EGG's `calc_entropy` is the same in bits.

    >>> round(message_entropy([[1, 0], [0, 3], [1, 0], [0, 3]]), 4)
    0.6931
    """
    return scalar(entropy(message_ids(tokens)[..., None])[..., 0])


MUTUAL_INFORMATION = Metric(
    name="mutual_information",
    title="Mutual information",
    function=mutual_information,
    definition="I = H(symbol) + H(property) - H(symbol, property), in nats, of each position with "
    "each binned property; the plug-in estimate from counts. The lexicon uses it to decide which "
    "property a position is about.",
    chance="above 0: about (V - 1) (B - 1) / 2N for V symbols, B bins and N clips",
    source="Shannon 1948; the paper's code, wmcp/metrics.py",
    range=(0.0, np.inf),
    per_position=True,
    lies="Few clips inflate it: symbols drawn at random share information with any property of "
    "25 clips.",
    liked="positional",
    fooled="names",
    vectorised=True,
)

ADJUSTED_MUTUAL_INFORMATION = Metric(
    name="adjusted_mutual_information",
    title="Adjusted mutual information",
    function=adjusted_mutual_information,
    definition="(I - E[I]) / ((H(symbol) + H(property)) / 2 - E[I]), with E[I] the mean of I over "
    "all tables with the same margins; 0 where one of the two is constant. `compare` and the "
    "agreement of seeds and agents use it on whole messages.",
    chance="0",
    source="Vinh, Epps and Bailey 2010 (JMLR 11), eq. 24a, with the arithmetic mean; "
    "scikit-learn's adjusted_mutual_info_score",
    range=(-1.0, 1.0),
    per_position=True,
    lies="It takes clips for independent: messages that name objects share information with "
    "every property of the objects. It asks about one position and one property at a time, "
    "and so finds some in a symbol that means a pair of levels.",
    liked="positional",
    fooled="quarters",
    vectorised=True,
)
