"""Senders swapped, nothing trained: does a receiver understand the senders of another training?

The receiver of a seed reads what the senders of every other seed say of its own test clips, or
those of its own seed in another run (of another backbone, say): all of the message, or one agent's
part in the message of its own senders. As a third way the symbols of the other senders are renamed,
position by position, to those that its own senders use for the same training clips, one to one:
what is lost then is not a matter of names.

Other seeds may have been trained on the clips that a seed tests. So what a swap loses is not for
want of having seen them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from data.errors import HeliographError
from pipeline.dataset import match
from pipeline.evaluation.agreement import relabelled_agreement
from pipeline.evaluation.claims.retest import Retest, RetestInputs, Table, cell, share_text
from pipeline.evaluation.context import MessageContext, compare_clips, one_thread
from pipeline.evaluation.pair_scores import Scores
from pipeline.metrics import joint_counts
from pipeline.runs import Run, load_inputs

Numbers = NDArray[np.int64]
Mixing = Callable[[int, int], Numbers]
"""Messages (N, positions) that the receiver of one seed reads when those of another send."""

MOST_OTHERS = 9
"""A receiver meets the senders of so many other seeds at most, the next ones in order."""


def swap_senders(context: MessageContext, tokens: Numbers | None = None) -> dict[str, Any]:
    """Score the receiver of each seed with the senders of other seeds, or of another run.

    Args:
        context: Messages and receivers of a run.
        tokens: What the senders of the same seeds say of the same clips in another run, (S, N,
            positions); None: the senders of other seeds are swapped in.

    Returns:
        The accuracy with its `own` senders, with the others (`swapped`), the same after a renaming
        of symbols (`renamed`), and with one agent of the others (`one_agent`, a list by agent);
        `drop` is `own` minus `swapped`, `drop_renamed` and `drop_one_agent` alike.

    Raises:
        HeliographError: There is nobody to swap with: the run has one seed.
    """
    count = len(context.seeds)
    if tokens is None and count < 2:
        raise HeliographError(
            "swapping senders needs two seeds at least: train with --seeds 5, for example"
        )
    properties, agents = context.config.properties, context.config.agents
    said = context.tokens if tokens is None else tokens
    myself = [[mine] for mine in range(count)]
    others = [
        [(mine + step) % count for step in range(1, count)][:MOST_OTHERS] for [mine] in myself
    ]
    senders = others if tokens is None else myself

    def whole(mine: int, other: int) -> Numbers:
        return said[other]

    def renamed(mine: int, other: int) -> Numbers:
        return rename(said[other], context.tokens[mine], context.splits[mine].train)

    def one_agent(agent: int) -> Mixing:
        taken = np.array([owner == agent for owner, _ in context.positions])
        return lambda mine, other: np.where(taken, said[other], context.tokens[mine])

    own = _score(context, lambda mine, _: context.tokens[mine], myself)
    swapped, relabelled = (_score(context, mixing, senders) for mixing in (whole, renamed))
    singles = [_score(context, one_agent(agent), senders) for agent in range(agents)]
    return {
        "of": "another seed" if tokens is None else "another run",
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


def _score(context: MessageContext, mixing: Mixing, senders: Sequence[Sequence[int]]) -> Scores:
    """Return the accuracy of each seed's receiver with these seeds' senders, pooled."""
    answers = []
    for mine, clips in enumerate(context.tests):
        receiver, vocab = context.receiver(mine), context.config.vocab
        heard = [mixing(mine, other)[clips] for other in senders[mine]]
        answers.append(np.concatenate([compare_clips(receiver, each, vocab) for each in heard]))
    return context.scorer.score_pairs(
        answers, context.labels, context.tests, context.config.tie_margins
    )


def _tokens_of(inputs: RetestInputs, other: Run) -> Numbers:
    """Return what another run says of the clips, (S, N, positions).

    Raises:
        HeliographError: Its messages are of another shape, or of other clips or seeds.
    """
    mine, theirs = inputs.run.config, other.config
    for name in ("agents", "heads", "vocab", "properties"):
        if getattr(mine, name) != getattr(theirs, name):
            raise HeliographError(
                f"{other.folder} cannot send to the receivers of {inputs.run.folder}, which are "
                f"for {name} {getattr(mine, name)!r}, not {getattr(theirs, name)!r}"
            )
    if not set(inputs.run.seeds) <= set(other.seeds):
        raise HeliographError(f"{other.folder} lacks seeds of {inputs.run.folder}")
    clips = load_inputs(other).clips
    rows = match(inputs.clips, clips, "the run's cache", str(other.folder))
    if (rows < 0).any():
        raise HeliographError(f"{other.folder} is about other clips than {inputs.run.folder}")
    tokens = np.stack([other.tokens(seed)[rows] for seed in inputs.run.seeds])
    return tokens.reshape(*tokens.shape[:2], -1)


def _compute(inputs: RetestInputs) -> dict[str, Any]:
    other = inputs.options.get("other")
    tokens = None if other is None else _tokens_of(inputs, Run.open(other))
    with one_thread():
        return swap_senders(inputs.messages, tokens)


def _sentence(entry: dict[str, Any]) -> str:
    lost = [100 * drop["mean"] for drop in entry["drop_one_agent"]]
    one = f"; one agent of {entry['of']} costs {min(lost):.1f} to {max(lost):.1f} points"
    return (
        f"{share_text(entry['own'])} with a receiver's own senders, "
        f"{share_text(entry['swapped'])} with those of {entry['of']}, "
        f"{100 * entry['drop']['mean']:.1f} points less; {share_text(entry['renamed'])} once their "
        f"symbols are renamed by training clips{one if len(lost) > 1 else ''}"
    )


def _table(entry: dict[str, Any]) -> Table:
    rows = [
        ["its own senders", cell(entry["own"]), "-"],
        [f"those of {entry['of']}", cell(entry["swapped"]), cell(entry["drop"])],
        ["the same, symbols renamed", cell(entry["renamed"]), cell(entry["drop_renamed"])],
    ]
    parts = list(zip(entry["one_agent"], entry["drop_one_agent"], strict=True))
    for number, (single, drop) in enumerate(parts if len(parts) > 1 else [], 1):
        rows.append([f"agent {number} of {entry['of']}", cell(single), cell(drop)])
    return ["the receiver reads", "accuracy, %", "points less"], rows


SWAPS = Retest(name="swaps", compute=_compute, sentence=_sentence, table=_table, has_other_run=True)
