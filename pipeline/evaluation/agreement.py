"""Agreement of messages between agents, seeds and runs, up to a renaming of symbols."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.metrics import adjusted_mutual_information, joint_counts, message_ids, p_value

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

PERMUTATIONS = 50
MAX_PAIRS = 45
"""Of more pairs of seeds, about this many are compared, evenly spaced."""


def agreement(first: Numbers, second: Numbers, *, seed: int = 0) -> dict[str, Any]:
    """Compare two protocols on the same N clips, up to a renaming of symbols.

    Args:
        first: Messages (N, P) of one protocol.
        second: Messages (N, Q) of the other.
        seed: Of the permutations of clips.

    Returns:
        `adjusted_mutual_information` of whole messages (0 by chance, 1 for the same code);
        `relabelled` (P, Q), see `relabelled_agreement`; `matched`, its mean over the best
        one-to-one match of positions; `matched_by_chance`, the same with the clips of one
        permuted; and the `p_value` of `matched`.
    """
    ids = message_ids(first), message_ids(second)
    information = adjusted_mutual_information(ids[0][:, None], ids[1])
    table = relabelled_agreement(first, second)
    rng = np.random.default_rng(seed)
    null = [
        _matched(relabelled_agreement(first, rng.permutation(second))) for _ in range(PERMUTATIONS)
    ]
    return {
        "adjusted_mutual_information": float(information[0, 0]),
        "relabelled": table.tolist(),
        "matched": _matched(table),
        "matched_by_chance": float(np.mean(null)),
        "p_value": p_value(_matched(table), null),
    }


def relabelled_agreement(first: Numbers, second: Numbers) -> Floats:
    """Return the share of clips on which two positions agree after the best renaming of symbols.

    Symbols are renamed one to one.

    Args:
        first: (N, P).
        second: (N, Q).

    Returns:
        float64 (P, Q).

    >>> first, second = np.array([[0], [0], [1], [2]]), np.array([[5], [5], [3], [3]])
    >>> relabelled_agreement(first, second).tolist()
    [[0.75]]
    """
    counts = joint_counts(first, second)  # (P, Q, V, W)
    best = np.empty(counts.shape[:2])
    for index in np.ndindex(*best.shape):
        rows, columns = linear_sum_assignment(counts[index], maximize=True)
        best[index] = counts[index][rows, columns].sum() / len(first)
    return best


def _matched(table: Floats) -> float:
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].mean())


def agent_agreement(tokens: Numbers) -> list[dict[str, Any]]:
    """Return the mean `agreement` over seeds of each two agents.

    Agents are numbered from 1.

    Args:
        tokens: (S, N, agents, heads).
    """
    entries = []
    for first, second in combinations(range(tokens.shape[2]), 2):
        per_seed = [agreement(seed[:, first], seed[:, second]) for seed in tokens]
        entries.append({"agents": [first + 1, second + 1]} | mean_agreement(per_seed))
    return entries


def seed_agreement(tokens: Numbers) -> dict[str, Any] | None:
    """Return the mean `agreement` of two seeds of a run; None for one seed.

    Args:
        tokens: (S, N, agents, heads).
    """
    messages = tokens.reshape(*tokens.shape[:2], -1)
    pairs = list(combinations(messages, 2))
    step = -(-len(pairs) // MAX_PAIRS) or 1
    agreements = [agreement(*pair) for pair in pairs[::step]]
    return mean_agreement(agreements) if agreements else None


def mean_agreement(agreements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of each number of several agreements."""
    names = ("adjusted_mutual_information", "matched", "matched_by_chance")
    return {name: float(np.mean([entry[name] for entry in agreements])) for name in names}
