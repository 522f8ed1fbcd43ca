"""Senders swapped between seeds, nothing trained: does a receiver understand another's senders?

The receiver of a seed reads what the senders of every other seed say of its own test clips: all of
the message, or one agent's part in the message of its own senders. As a third way the symbols of
the other senders are renamed, position by position, to those that its own senders use for the same
training clips, one to one: what is lost then is not a matter of names.

Other seeds may have been trained on the clips that a seed tests. So what a swap loses is not for
want of having seen them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from data.errors import HeliographError
from pipeline.evaluation.agreement import relabelled_agreement
from pipeline.evaluation.claims.retest import Retest, RetestInputs, Table, cell, share_text
from pipeline.evaluation.context import MessageContext, compare_clips, one_thread
from pipeline.evaluation.pair_scores import Scores
from pipeline.metrics import joint_counts

Numbers = NDArray[np.int64]
Mixing = Callable[[int, int], Numbers]
"""Messages (N, positions) that the receiver of one seed reads when those of another send."""

MOST_OTHERS = 9
"""A receiver meets the senders of so many other seeds at most, the next ones in order."""


def swap_senders(context: MessageContext) -> dict[str, Any]:
    """Score the receiver of each seed with the senders of other seeds.

    Returns:
        The accuracy with its `own` senders, with those of other seeds (`swapped`), the same after
        a renaming of symbols (`renamed`), and with one agent of another seed (`one_agent`, a list
        by agent); `drop` is `own` minus `swapped`, `drop_renamed` and `drop_one_agent` alike.

    Raises:
        HeliographError: The run has one seed.
    """
    if len(context.seeds) < 2:
        raise HeliographError(
            "swapping senders needs two seeds at least: train with --seeds 5, for example"
        )
    properties, agents = context.config.properties, context.config.agents

    def whole(mine: int, other: int) -> Numbers:
        return context.tokens[other]

    def renamed(mine: int, other: int) -> Numbers:
        trained = context.splits[mine].train
        return rename(context.tokens[other], context.tokens[mine], trained)

    def one_agent(agent: int) -> Mixing:
        taken = np.array([owner == agent for owner, _ in context.positions])
        return lambda mine, other: np.where(taken, context.tokens[other], context.tokens[mine])

    own = _score(context, lambda mine, other: context.tokens[mine], others=0)
    swapped, relabelled = _score(context, whole), _score(context, renamed)
    singles = [_score(context, one_agent(agent)) for agent in range(agents)]
    return {
        "own": own.by_property(properties),
        "swapped": swapped.by_property(properties),
        "drop": (own - swapped).by_property(properties),
        "renamed": relabelled.by_property(properties),
        "drop_renamed": (own - relabelled).by_property(properties),
        "one_agent": [single.by_property(properties) for single in singles],
        "drop_one_agent": [(own - single).by_property(properties) for single in singles],
    }


def rename(said: Numbers, known: Numbers, clips: Numbers) -> Numbers:
    """Return messages with their positions and symbols renamed as another code has them.

    Positions are matched one to one, then the symbols of each, by how often they are said of the
    same clips. A symbol without a counterpart becomes one that is left over.

    Args:
        said: (N, positions), to rename.
        known: (N, positions), by which code.
        clips: On which clips the two are compared.

    >>> rename(np.array([[2], [2], [0]]), np.array([[0], [0], [1]]), np.arange(3)).ravel().tolist()
    [0, 0, 1]
    """
    table = relabelled_agreement(known[clips], said[clips])
    counts = joint_counts(known[clips], said[clips])  # (P, P, V, W)
    result = known.copy()
    for mine, theirs in zip(*linear_sum_assignment(table, maximize=True), strict=True):
        size = max(counts.shape[2:], default=0)
        size = max(size, int(said.max()) + 1, int(known.max()) + 1)
        square = np.zeros((size, size))
        of_pair = counts[mine, theirs]
        square[: of_pair.shape[0], : of_pair.shape[1]] = of_pair
        names, symbols = linear_sum_assignment(square, maximize=True)
        renamed = np.empty(size, np.int64)
        renamed[symbols] = names
        result[:, mine] = renamed[said[:, theirs]]
    return result


def _score(context: MessageContext, mixing: Mixing, *, others: int = MOST_OTHERS) -> Scores:
    """Return each receiver's accuracy, the seeds that send pooled; `others` 0: its own send."""
    count, vocab = len(context.seeds), context.config.vocab
    answers = []
    for mine, clips in enumerate(context.tests):
        senders = [(mine + step) % count for step in range(1, count)][:others] or [mine]
        answers.append(
            np.concatenate(
                [
                    compare_clips(context.receiver(mine), mixing(mine, other)[clips], vocab)
                    for other in senders
                ]
            )
        )
    return context.resampler.score_pairs(
        answers, context.labels, context.tests, context.config.tie_margins
    )


def _compute(inputs: RetestInputs) -> dict[str, Any]:
    with one_thread():
        return swap_senders(inputs.messages)


def _sentence(entry: dict[str, Any]) -> str:
    lost = [100 * drop["mean"] for drop in entry["drop_one_agent"]]
    one = f"; one agent of another seed costs {min(lost):.1f} to {max(lost):.1f} points"
    return (
        f"{share_text(entry['own'])} with a receiver's own senders, "
        f"{share_text(entry['swapped'])} with those of another seed, "
        f"{100 * entry['drop']['mean']:.1f} points less; {share_text(entry['renamed'])} once their "
        f"symbols are renamed by training clips{one if len(lost) > 1 else ''}"
    )


def _table(entry: dict[str, Any]) -> Table:
    rows = [
        ["its own senders", cell(entry["own"]), "-"],
        ["those of another seed", cell(entry["swapped"]), cell(entry["drop"])],
        ["the same, symbols renamed", cell(entry["renamed"]), cell(entry["drop_renamed"])],
    ]
    for number, (single, drop) in enumerate(
        zip(entry["one_agent"], entry["drop_one_agent"], strict=True), 1
    ):
        rows.append([f"agent {number} of another seed", cell(single), cell(drop)])
    return ["the receiver reads", "accuracy, %", "points less"], rows


SWAPS = Retest(name="swaps", compute=_compute, sentence=_sentence, table=_table)
