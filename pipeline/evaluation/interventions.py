"""Interventions: accuracy drops when parts of the messages are changed.

Each seed's own receiver compares its test clips, first with the messages as they are, then with one
position changed in both messages of a pair:

- `zero`: the receiver reads zeros there, which no receiver met in training;
- `resample`: the symbols there are permuted across test clips, so they stay as frequent;
- `scramble`: each clip has a uniformly random symbol there;
- `swap`: the two clips of a pair exchange their symbols there, which reverses whatever that
  position alone decides.

`drop` is by how much accuracy falls. The causal matrix is the drop of each position and property.
Further: one symbol of one message edited to each other symbol (`edits`), whole agents silenced
(`silence_agents`), and every symbol replaced by a random one with some probability (`add_noise`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.baselines.predictors import add_rank_scores
from pipeline.evaluation.context import MessageContext, compare_clips, compare_messages, win_rates
from pipeline.evaluation.pair_scores import PairCounts, PairScorer, Scores, count_pairs, score_pairs
from pipeline.game import judge_pairs
from pipeline.metrics import bin_property, mutual_information, p_value

Numbers = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Change = Callable[[int, Numbers], Numbers]
"""Of a seed, by its place in the run, and its messages (n, positions): (draws, n, positions)."""

MAX_CLIPS = 80
"""Of more test clips, this many are drawn with a fixed seed."""
BINS = 5
KINDS = ("zero", "resample", "scramble", "swap")
NOISE = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class PositionAnswers:
    """A receiver's answers for n clips with every symbol at one position of their messages.

    The answers are stored once for each distinct rest of a message.

    Attributes:
        table: bool (R, K, K, properties), R receivers; clip i with symbol v is row
            `rest[i] * (vocab + 1) + v`, and v = vocab is silence.
        rest: The number of each clip's rest of the message, (n,).
        symbols: The symbol of each clip, (n,).
        vocab: The number of symbols.
    """

    table: Bools
    rest: Numbers
    symbols: Numbers
    vocab: int

    @classmethod
    def of(cls, receivers: Any, messages: Numbers, position: int, vocab: int) -> PositionAnswers:
        """Ask the receivers of one seed about messages (n, positions) with one position open."""
        others = np.delete(messages, position, axis=1)
        distinct, rest = np.unique(others, axis=0, return_inverse=True)
        repeated = np.repeat(distinct, vocab + 1, axis=0)
        symbols = np.tile(np.arange(vocab + 1), len(distinct))
        opened = np.insert(repeated, position, symbols, axis=1)
        table = compare_messages(receivers, opened, vocab)
        return cls(table, rest.ravel(), messages[:, position], vocab)

    def answers(self, first: Numbers, second: Numbers) -> Bools:
        """Return the answers when the clips i, j of pair (i, j) have these symbols.

        Args:
            first: Symbols of the first clip, broadcast to (..., n, n).
            second: Symbols of the second clip.

        Returns:
            bool (R, ..., n, n, properties).
        """
        rows = self.rest * (self.vocab + 1)
        return self.table[:, rows[:, None] + first, rows + second]


@dataclass(frozen=True)
class _SeedInterventions:
    """The counts of one seed before and after each change.

    Attributes:
        intact: Before any change.
        changed: By kind, of each position.
        null: Accuracies of the resampled messages, (positions, draws, columns).
        flips: Flip rates, (positions, properties).
    """

    intact: PairCounts
    changed: Mapping[str, Sequence[PairCounts]]
    null: Floats
    flips: Floats


def intervene(context: MessageContext, *, draws: int = 100, seed: int = 0) -> dict[str, Any]:
    """Change each position of every seed's messages; keys as in `docs/metrics_json.md`.

    Args:
        context: Messages and receivers of a run.
        draws: The number of resampled and of scrambled messages. The resampled ones are also the
            null of the p-value.
        seed: Of the random numbers.
    """
    clips = context.some_test_clips(MAX_CLIPS)
    scorer = PairScorer(context.objects, clips)
    seeds = [
        _intervene_on_seed(context, number, own, scorer.objects[own], draws, rng)
        for number, (own, rng) in enumerate(zip(clips, context.generators(seed), strict=True))
    ]
    rng = np.random.default_rng(seed)  # of permuted properties, the same for all seeds
    before = scorer.score([own.intact for own in seeds])
    carried = carried_properties(context)
    properties = context.config.properties
    entry: dict[str, Any] = {
        "positions": [[agent + 1, head + 1] for agent, head in context.positions],
        "accuracy_intact": before.by_property(properties),
        "carried_property": [[properties[number] for number in own] for own in carried],
    }
    for kind in KINDS:
        drops = [
            before - scorer.score([own.changed[kind][position] for own in seeds])
            for position in range(context.tokens.shape[2])
        ]
        entry[kind] = _causal_matrix(drops) | {"selectivity": _selectivity(drops, carried, rng)}
    null = np.mean([own.null for own in seeds], axis=0)  # (positions, draws, columns)
    p_values = np.stack([p_value(before.mean, values) for values in null])
    entry["resample"]["p_value"] = p_values[:, :-1].tolist()
    flips = np.stack([own.flips for own in seeds])  # (S, positions, properties)
    entry["edits"] = {"flip_rate": flips.mean(0).tolist(), "per_seed": flips.tolist()}
    return entry


def _intervene_on_seed(
    context: MessageContext,
    number: int,
    clips: Numbers,
    objects: Numbers,
    draws: int,
    rng: np.random.Generator,
) -> _SeedInterventions:
    vocab, margins = context.config.vocab, context.config.tie_margins
    messages, labels = context.tokens[number, clips], context.labels[clips]
    receiver = context.receiver(number)
    right, asked = score_pairs(compare_clips(receiver, messages, vocab), labels, margins)
    changed: dict[str, list[PairCounts]] = {kind: [] for kind in KINDS}
    null, flips = [], []
    for position in range(messages.shape[1]):
        table = PositionAnswers.of(receiver, messages, position, vocab)
        answers = _answers_after_change(table, rng, draws)
        for kind, answer in answers.items():
            after = judge_pairs(answer, labels[:, None], labels[None], margins)[0]
            pooled = after.reshape(-1, *right.shape).mean(0)
            changed[kind].append(count_pairs(pooled, asked, objects))
            if kind == "resample":
                null.append(_accuracy_of_draws(after, asked))
        flips.append(_flip_rates(table))
    intact = count_pairs(right, asked, objects)
    return _SeedInterventions(intact, changed, np.stack(null), np.stack(flips))


def _answers_after_change(
    table: PositionAnswers, rng: np.random.Generator, draws: int
) -> dict[str, Bools]:
    """Return the answers by kind of change: (R, n, n, properties), or (R, draws, n, n, ...)."""
    symbols, shape = table.symbols, (draws, len(table.symbols))
    silence = np.array(table.vocab)
    permuted = rng.permuted(np.broadcast_to(symbols, shape), axis=1)
    uniform = rng.integers(table.vocab, size=shape)
    return {
        "zero": table.answers(silence, silence),
        "resample": table.answers(permuted[:, :, None], permuted[:, None]),
        "scramble": table.answers(uniform[:, :, None], uniform[:, None]),
        "swap": table.answers(symbols[None, :], symbols[:, None]),
    }


def _accuracy_of_draws(right: Bools, asked: Bools) -> Floats:
    """Return the accuracy of each draw, pooled over pairs and receivers: (draws, columns).

    Args:
        right: Which answers are right, (R, draws, n, n, columns).
        asked: Which pairs count, (n, n, columns).
    """
    counted = (right.mean(0) * asked).sum((1, 2))
    return np.asarray(counted / np.maximum(1, asked.sum((0, 1))))


def _flip_rates(table: PositionAnswers) -> Floats:
    """Return how often an answer changes when one clip gets another symbol: (properties,).

    Over ordered pairs of different clips and the symbols that the first of them does not have.
    """
    symbols, count = table.symbols, len(table.symbols)
    edits = np.arange(table.vocab)[:, None, None]  # (vocab, 1, 1)
    after = table.answers(edits, symbols)  # (R, vocab, n, n, P)
    before = table.answers(symbols[:, None], symbols)[:, None]
    counted = (edits != symbols[:, None]) & ~np.eye(count, dtype=bool)  # (vocab, n, n)
    flipped = ((after != before) & counted[..., None]).sum((0, 1, 2, 3))
    return np.asarray(flipped / max(1, len(after) * int(counted.sum())))


def carried_properties(context: MessageContext) -> Numbers:
    """Return the property that each position carries, (S, positions).

    The one with most mutual information on the training clips, so that the choice and the drops it
    predicts are of different clips; the first of those that are equal up to rounding.
    """
    carried = []
    for number, split in enumerate(context.splits):
        labels = context.labels[split.train]
        bins = np.stack([bin_property(column, bins=BINS) for column in labels.T], axis=1)
        information = mutual_information(context.tokens[number, split.train], bins)
        carried.append(information.round(12).argmax(1))
    return np.stack(carried)


def _causal_matrix(drops: Sequence[Scores]) -> dict[str, Any]:
    """Return the drops, positions x properties, and those of all properties at once."""
    means = np.stack([drop.mean for drop in drops])
    ends = np.stack([drop.interval() for drop in drops])  # (positions, columns, 2)
    per_seed = np.stack([drop.per_seed for drop in drops], axis=1)  # (S, positions, columns)
    return {
        "drop": means[:, :-1].tolist(),
        "interval": ends[:, :-1].tolist(),
        "per_seed": per_seed[:, :, :-1].tolist(),
        "drop_together": means[:, -1].tolist(),
        "interval_together": ends[:, -1].tolist(),
    }


def _selectivity(
    drops: Sequence[Scores], carried: Numbers, rng: np.random.Generator, *, n: int = 2000
) -> dict[str, Any] | None:
    """Return the drop of the property that a position carries, and that of the others.

    None for one property. The p-value is one-sided: the share of `n` random assignments of
    properties to positions that separate the drops as well as `carried` does.
    """
    count = drops[0].per_seed.shape[1] - 1
    if count < 2:
        return None
    per_seed = np.stack([drop.per_seed[:, :-1] for drop in drops], axis=-2)  # (S, positions, P)
    influence = np.stack([drop.influence[:, :, :-1] for drop in drops], axis=-2)  # (G, S, ...)

    def separated(values: Floats, chosen: Bools) -> tuple[Floats, Floats]:
        inside = (values * chosen).sum(-1).mean(-1)
        return inside, (values * ~chosen).sum(-1).mean(-1) / (count - 1)

    chosen = carried[:, :, None] == np.arange(count)
    parts = [separated(values, chosen) for values in (per_seed, influence)]
    columns = [np.stack([inside, others, inside - others], axis=-1) for inside, others in parts]
    scores = Scores(columns[0], columns[1], (-1.0, 1.0))
    assigned = rng.integers(count, size=(n, *carried.shape))[..., None] == np.arange(count)
    null = np.subtract(*separated(per_seed, assigned)).mean(-1)
    names = ("carried_property", "other_properties", "difference")
    entry = {name: scores.to_json(column) for column, name in enumerate(names)}
    entry["difference"]["p_value"] = p_value(float(scores.mean[2]), null)
    return entry


def score_kept_receivers(context: MessageContext) -> dict[str, Any]:
    """Return the accuracy of each seed's receiver on the messages as they are.

    An entry like a baseline's; a clip's score is the share of other clips that it exceeds.
    """
    answers = [
        compare_clips(context.receiver(number), context.tokens[number, own], context.config.vocab)
        for number, own in enumerate(context.tests)
    ]
    config = context.config
    scores = context.scorer.score_pairs(answers, context.labels, context.tests, config.tie_margins)
    entry = scores.by_property(config.properties)
    rates = [win_rates(own) for own in answers]
    entry["properties"] = add_rank_scores(entry["properties"], rates, context)
    return entry


def silence_agents(context: MessageContext) -> list[dict[str, Any]]:
    """Return the drop of accuracy when an agent's part of the message is zeros, of each agent."""

    def silencer(agent: int) -> Change:
        silent = np.array([owner == agent for owner, _ in context.positions])
        return lambda _, messages: np.where(silent, context.config.vocab, messages)[None]

    intact = _score_changed(context, lambda _, messages: messages[None])
    return [
        (intact - _score_changed(context, silencer(agent))).by_property(context.config.properties)
        for agent in range(context.config.agents)
    ]


def add_noise(context: MessageContext, *, draws: int = 5, seed: int = 0) -> dict[str, Any]:
    """Return the accuracy when each symbol is, with some probability, a uniformly random one.

    With probability p it is drawn from the whole vocabulary, so it stays as it was in
    1 / vocabulary of those cases. `accuracy` has an entry for each probability.
    """
    vocab, generators = context.config.vocab, context.generators(seed)

    def noise(probability: float) -> Change:
        def change(number: int, messages: Numbers) -> Numbers:
            rng, shape = generators[number], (draws, *messages.shape)
            random = rng.integers(vocab, size=shape)
            return np.where(rng.random(shape) < probability, random, messages)

        return change

    curve = [_score_changed(context, noise(probability)) for probability in NOISE]
    return {
        "probability": list(NOISE),
        "accuracy": [scores.by_property(context.config.properties) for scores in curve],
    }


def _score_changed(context: MessageContext, change: Change) -> Scores:
    """Return accuracies when receivers read what messages are changed into."""
    clips = context.some_test_clips(MAX_CLIPS)
    answers = [
        np.concatenate(
            [
                compare_clips(context.receiver(number), messages, context.config.vocab)
                for messages in change(number, context.tokens[number, own])
            ]
        )
        for number, own in enumerate(clips)
    ]
    scorer = PairScorer(context.objects, clips)
    return scorer.score_pairs(answers, context.labels, clips, context.config.tie_margins)
