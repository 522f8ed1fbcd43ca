"""Agents removed one by one: what accuracy is left when fewer and fewer of them send.

Agents leave in a random order, each seed in several. The receiver then reads zeros in their place
(`silent`), which it never met in training, or symbols that they sent of other clips (`replaced`);
or new receivers learn the messages of those who are left (`relearned`): what these still say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import HeliographError
from pipeline.evaluation.claims.retest import Retest, RetestInputs, Table, cell, share_text
from pipeline.evaluation.context import MessageContext, compare_clips, one_thread
from pipeline.evaluation.fresh_receivers import score_messages
from pipeline.evaluation.interventions import MAX_CLIPS
from pipeline.evaluation.pair_scores import PairScorer, Scores

Numbers = NDArray[np.int64]
Change = Callable[[int, Numbers, NDArray[np.bool_]], Numbers]
"""A seed's place in the run, its messages (n, positions) and which positions are of agents that
have left -> what is read."""

ORDERS = 6
FORMULA = 0.08
"""What the paper's script takes off for each agent in place of a measurement."""


def remove_agents(
    context: MessageContext, *, orders: int = ORDERS, seed: int = 0
) -> dict[str, Any]:
    """Score each seed's receiver with fewer and fewer of its agents.

    Args:
        context: Messages and receivers of a run.
        orders: In which agents leave, drawn for each seed; `relearned` follows the first.
        seed: Of the random numbers.

    Returns:
        `curve`: for each number of agents `removed`, the accuracies `silent`, `replaced` and
        `relearned`, and `drop`, of `silent` below that of all agents.

    Raises:
        HeliographError: The run has one agent.
    """
    if context.config.agents < 2:
        raise HeliographError("agents are removed one by one where there are two at least")
    generators = context.generators(seed)
    agents, properties = context.config.agents, context.config.properties
    clips = context.some_test_clips(MAX_CLIPS)
    scorer = PairScorer(context.objects, clips)
    leaving = np.stack(
        [[rng.permutation(agents) for _ in range(orders)] for rng in generators]
    )  # (S, orders, agents)

    def silenced(_: int, messages: Numbers, left: NDArray[np.bool_]) -> Numbers:
        return np.where(left, context.config.vocab, messages)

    def replaced(number: int, messages: Numbers, left: NDArray[np.bool_]) -> Numbers:
        order = generators[number].permutation(len(messages))
        return np.where(left, messages[order], messages)

    curve, everybody = [], None
    for removed in range(agents + 1):
        gone = _positions_of(context, leaving[:, :, :removed])  # (S, orders, positions)
        silent, changed = (
            _score(context, clips, scorer, gone, change) for change in (silenced, replaced)
        )
        everybody = everybody or silent
        left = np.stack([silenced(n, own, gone[n, 0]) for n, own in enumerate(context.tokens)])
        curve.append(
            {
                "removed": removed,
                "silent": silent.by_property(properties),
                "drop": (everybody - silent).by_property(properties),
                "replaced": changed.by_property(properties),
                "relearned": score_messages(context, left, seed=seed).by_property(properties),
            }
        )
    return {"curve": curve, "orders": orders}


def _positions_of(context: MessageContext, gone: Numbers) -> NDArray[np.bool_]:
    """Return which positions are of agents (..., count): bool (..., positions)."""
    owners = np.array([agent for agent, _ in context.positions])
    return (gone[..., None] == owners).any(axis=-2)


def _score(
    context: MessageContext,
    clips: Sequence[Numbers],
    scorer: PairScorer,
    gone: NDArray[np.bool_],
    change: Change,
) -> Scores:
    answers = []
    for number, own in enumerate(clips):
        receiver, messages = context.receiver(number), context.tokens[number, own]
        heard = [change(number, messages, left) for left in gone[number]]
        answers.append(
            np.concatenate([compare_clips(receiver, each, context.config.vocab) for each in heard])
        )
    return scorer.score_pairs(answers, context.labels, clips, context.config.tie_margins)


def _compute(inputs: RetestInputs) -> dict[str, Any]:
    with one_thread():
        return remove_agents(inputs.messages)


def _sentence(entry: dict[str, Any]) -> str:
    every, one = entry["curve"][:2]
    drops = [100 * row["drop"]["mean"] for row in entry["curve"][1:]]
    steps = np.diff([0.0, *drops])
    return (
        f"{share_text(every['silent'])} with all agents; the first to leave costs "
        f"{steps[0]:z.1f} points, the next ones {', '.join(f'{step:z.1f}' for step in steps[1:])}; "
        f"new receivers have {share_text(one['relearned'])} without one agent"
    )


def _table(entry: dict[str, Any]) -> Table:
    columns = ["agents removed", "silent, %", "points less", "of other clips, %", "relearned, %"]
    columns.append(f"formula, {100 * FORMULA:g} % each")
    full = entry["curve"][0]["silent"]["mean"]
    return columns, [
        [
            str(row["removed"]),
            *(cell(row[name]) for name in ("silent", "drop", "replaced", "relearned")),
            f"{100 * full * (1 - FORMULA * row['removed']):.1f}",
        ]
        for row in entry["curve"]
    ]


REMOVAL = Retest(name="removal", compute=_compute, sentence=_sentence, table=_table)
