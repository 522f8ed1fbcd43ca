"""What messages cause: one position of them is changed, and the receiver that knows them asked.

Each seed's own receiver compares its test clips, first as the messages are, then with one position
changed in both messages of a pair:

- `zero`: nothing is heard there (a one-hot of zeros, which no receiver met in training);
- `resample`: each clip says there what another test clip says, so the symbols stay as frequent;
- `scramble`: each clip says there a symbol drawn uniformly from the vocabulary;
- `swap`: the two clips of a pair trade their symbols there, which turns round whatever that
  position alone decides.

`drop` is by how much fewer answers are right. The causal matrix is the drop of each position and
property. Further: one symbol of one message edited to each other symbol (`edits`), whole agents
silenced (`agents`), and every symbol replaced by a random one with some probability (`noise`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.baselines import add_ranking
from pipeline.evaluation.context import MessageContext, compare_clips, compare_messages, win_rates
from pipeline.evaluation.pair_scores import PairCounts, Resampler, Scores, count_pairs, score_pairs
from pipeline.metrics import bin_property, mutual_information, p_value

Numbers = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

MAX_CLIPS = 80
"""Of more test clips, this many are drawn with a fixed seed."""
BINS = 5
KINDS = ("zero", "resample", "scramble", "swap")
NOISE = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Changed:
    """One position of the messages of n clips, changed in every way that is needed.

    `says[r, i, v, j, w]` would be what receiver r says of clip i saying v against clip j saying w;
    it is stored once for each distinct rest of a message: `table` bool (R, K, K, properties),
    where clip i saying v is row `rest[i] * (vocab + 1) + v`, and v = vocab is silence.
    """

    table: Bools
    rest: Numbers
    said: Numbers
    vocab: int

    @classmethod
    def of(cls, receivers: Any, words: Numbers, position: int, vocab: int) -> Changed:
        """Asks the receivers of one seed about words (n, positions), `position` open."""
        others = np.delete(words, position, axis=1)
        distinct, rest = np.unique(others, axis=0, return_inverse=True)
        spoken = np.repeat(distinct, vocab + 1, axis=0)
        every = np.tile(np.arange(vocab + 1), len(distinct))
        open_words = np.insert(spoken, position, every, axis=1)
        return cls(
            compare_messages(receivers, open_words, vocab), rest.ravel(), words[:, position], vocab
        )

    def says(self, first: Numbers, second: Numbers) -> Bools:
        """Verdicts (R, ..., n, n, properties) when in pair (i, j) the clips say these symbols.

        `first` and `second` broadcast to (..., n, n).
        """
        rows = self.rest * (self.vocab + 1)
        return self.table[:, rows[:, None] + first, rows + second]


@dataclass(frozen=True)
class _SeedOutcome:
    """One seed: counts before and after, by kind and position, and what goes with them."""

    intact: PairCounts
    changed: Mapping[str, Sequence[PairCounts]]
    null: Floats  # (positions, draws, columns), accuracies of the resampled messages
    flips: Floats  # (positions, properties)


def intervene(context: MessageContext, *, draws: int = 100, seed: int = 0) -> dict[str, Any]:
    """Every intervention on every seed's messages; keys as `pipeline.schema` describes them.

    `draws` is the number of resampled and scrambled messages; those of `resample` are at the same
    time the null of its p-value: the symbols of that position dealt to other test clips.
    """
    rng = np.random.default_rng(seed)
    clips = context.some_test_clips(MAX_CLIPS)
    resampler = Resampler(context.objects, clips)
    outcomes = [
        _one_seed(context, number, own, resampler.objects[own], draws, rng)
        for number, own in enumerate(clips)
    ]
    before = resampler.score([one.intact for one in outcomes])
    carries = designated(context)
    properties = context.config.properties
    found: dict[str, Any] = {
        "positions": [list(place) for place in context.positions],
        "accuracy_intact": before.by_property(properties),
        "carries": [[properties[own] for own in seed] for seed in carries],
    }
    for kind in KINDS:
        drops = [
            before - resampler.score([one.changed[kind][position] for one in outcomes])
            for position in range(context.tokens.shape[2])
        ]
        found[kind] = _matrix(drops) | {"targeted": _targeted(drops, carries, rng)}
    chance = np.mean([one.null for one in outcomes], axis=0)  # (positions, draws, columns)
    p_values = np.stack([p_value(before.mean, one) for one in chance])
    found["resample"]["p_value"] = p_values[:, :-1].tolist()
    flips = np.stack([one.flips for one in outcomes])  # (S, positions, properties)
    found["edits"] = {"flip_rate": flips.mean(0).tolist(), "per_seed": flips.tolist()}
    return found


def _one_seed(
    context: MessageContext,
    number: int,
    clips: Numbers,
    objects: Numbers,
    draws: int,
    rng: np.random.Generator,
) -> _SeedOutcome:
    vocab, margins = context.config.vocab, context.config.tie_margins
    words, labels, receiver = (
        context.tokens[number, clips],
        context.labels[clips],
        context.receiver(number),
    )
    right, asked = score_pairs(compare_clips(receiver, words, vocab), labels, margins)
    changed: dict[str, list[PairCounts]] = {kind: [] for kind in KINDS}
    null, flips = [], []
    for position in range(words.shape[1]):
        heard = Changed.of(receiver, words, position, vocab)
        said = _verdicts(heard, rng, draws)
        for kind, verdict in said.items():
            changed[kind].append(
                count_pairs(score_pairs(verdict, labels, margins)[0], asked, objects)
            )
        null.append(_each_draw(said["resample"], labels, margins))
        flips.append(_flips(heard))
    return _SeedOutcome(
        count_pairs(right, asked, objects), changed, np.stack(null), np.stack(flips)
    )


def _verdicts(heard: Changed, rng: np.random.Generator, draws: int) -> dict[str, Bools]:
    """What is said after each kind of change: (R, n, n, properties), or (R, draws, n, n, ...)."""
    said, shape = heard.said, (draws, len(heard.said))
    silence = np.array(heard.vocab)
    dealt = rng.permuted(np.broadcast_to(said, shape), axis=1)
    uniform = rng.integers(heard.vocab, size=shape)
    return {
        "zero": heard.says(silence, silence),
        "resample": heard.says(dealt[:, :, None], dealt[:, None]),
        "scramble": heard.says(uniform[:, :, None], uniform[:, None]),
        "swap": heard.says(said[None, :], said[:, None]),
    }


def _each_draw(says: Bools, labels: Floats, margins: Sequence[float]) -> Floats:
    """The accuracy of each draw, pooled over pairs and receivers: (draws, columns)."""
    found = []
    for verdict in np.moveaxis(says, 1, 0):
        right, asked = score_pairs(verdict, labels, margins)
        found.append((right * asked).sum((0, 1)) / np.maximum(1, asked.sum((0, 1))))
    return np.stack(found)


def _flips(heard: Changed) -> Floats:
    """How often an answer turns when one clip says another symbol: (properties,).

    Over ordered pairs of different clips and the symbols that the first of them does not say.
    """
    said, count = heard.said, len(heard.said)
    edits = np.arange(heard.vocab)[:, None, None]  # (vocab, 1, 1)
    after = heard.says(edits, said)  # (R, vocab, n, n, P)
    before = heard.says(said[:, None], said)[:, None]
    counted = (edits != said[:, None]) & ~np.eye(count, dtype=bool)  # (vocab, n, n)
    turned = ((after != before) & counted[..., None]).sum((0, 1, 2, 3))
    return np.asarray(turned / max(1, len(after) * int(counted.sum())))


def designated(context: MessageContext) -> Numbers:
    """The property that each position carries, (S, positions): most mutual information with it.

    Over the training clips, so that the choice and the drops it predicts are of different clips.
    """
    found = []
    for number, split in enumerate(context.splits):
        labels = context.labels[split.train]
        bins = np.stack([bin_property(column, bins=BINS) for column in labels.T], axis=1)
        shared = mutual_information(context.tokens[number, split.train], bins)
        found.append(shared.argmax(1))
    return np.stack(found)


def _matrix(drops: Sequence[Scores]) -> dict[str, Any]:
    """The causal matrix, positions x properties, and the drop of all at once."""
    means = np.stack([one.mean for one in drops])
    ends = np.stack([one.interval() for one in drops])  # (positions, columns, 2)
    per_seed = np.stack([one.per_seed for one in drops], axis=1)  # (S, positions, columns)
    return {
        "drop": means[:, :-1].tolist(),
        "interval": ends[:, :-1].tolist(),
        "per_seed": per_seed[:, :, :-1].tolist(),
        "drop_together": means[:, -1].tolist(),
        "interval_together": ends[:, -1].tolist(),
    }


def _targeted(
    drops: Sequence[Scores], carries: Numbers, rng: np.random.Generator, *, n: int = 2000
) -> dict[str, Any] | None:
    """The drop of the property that a position carries, against that of the others.

    None for one property. The p-value is one-sided: the share of `n` random assignments of
    properties to positions that part the drops as well as `carries` does.
    """
    count = drops[0].per_seed.shape[1] - 1
    if count < 2:
        return None
    per_seed = np.stack([one.per_seed[:, :-1] for one in drops], axis=-2)  # (S, positions, P)
    drawn = np.stack([one.drawn[:, :, :-1] for one in drops], axis=-2)  # (n, S, positions, P)

    def parted(values: Floats, own: Bools) -> tuple[Floats, Floats]:
        inside = (values * own).sum(-1).mean(-1)
        return inside, (values * ~own).sum(-1).mean(-1) / (count - 1)

    own = carries[:, :, None] == np.arange(count)
    (targeted, elsewhere), boot = parted(per_seed, own), parted(drawn, own)
    columns = [np.stack([a, b, a - b], axis=-1) for a, b in ((targeted, elsewhere), boot)]
    scores = Scores(columns[0], columns[1], drops[0].weights, (-1.0, 1.0))
    assigned = rng.integers(count, size=(n, *carries.shape))[..., None] == np.arange(count)
    chance = np.subtract(*parted(per_seed, assigned)).mean(-1)
    told = {
        name: scores.to_json(k) for k, name in enumerate(("targeted", "elsewhere", "difference"))
    }
    told["difference"]["p_value"] = p_value(float(scores.mean[2]), chance)
    return told


def listen(context: MessageContext) -> dict[str, Any]:
    """What the kept receivers make of the messages as they are: an entry like a baseline's."""
    says = [
        compare_clips(context.receiver(number), context.tokens[number, own], context.config.vocab)
        for number, own in enumerate(context.tests)
    ]
    config = context.config
    graded = context.resampler.score_pairs(says, context.labels, context.tests, config.tie_margins)
    told = graded.by_property(config.properties)
    told["properties"] = add_ranking(told["properties"], [win_rates(own) for own in says], context)
    return told


def silence_agents(context: MessageContext) -> list[dict[str, Any]]:
    """The drop of accuracy when an agent says nothing: an entry for each agent."""

    def muted(agent: int) -> Callable[[Numbers], Numbers]:
        silent = np.array([speaker == agent for speaker, _ in context.positions])
        return lambda words: np.where(silent, context.config.vocab, words)[None]

    intact = _heard(context, lambda words: words[None])
    return [
        (intact - _heard(context, muted(agent))).by_property(context.config.properties)
        for agent in range(context.config.agents)
    ]


def add_noise(context: MessageContext, *, draws: int = 5, seed: int = 0) -> dict[str, Any]:
    """Accuracy when each symbol is, with some probability, a uniformly random one.

    With probability p it is drawn from the whole vocabulary, so it stays as it was in
    1 / vocabulary of those cases. `accuracy` has an entry for each probability.
    """
    rng = np.random.default_rng(seed)
    vocab = context.config.vocab

    def distorted(probability: float) -> Callable[[Numbers], Numbers]:
        def change(words: Numbers) -> Numbers:
            shape = (draws, *words.shape)
            random = rng.integers(vocab, size=shape)
            return np.where(rng.random(shape) < probability, random, words)

        return change

    curve = [_heard(context, distorted(probability)) for probability in NOISE]
    return {
        "probability": list(NOISE),
        "accuracy": [scores.by_property(context.config.properties) for scores in curve],
    }


def _heard(context: MessageContext, change: Callable[[Numbers], Numbers]) -> Scores:
    """Accuracies when `change(words)` (draws, n, positions) is heard for words (n, positions)."""
    clips = context.some_test_clips(MAX_CLIPS)
    says = [
        np.concatenate(
            [
                compare_clips(context.receiver(number), words, context.config.vocab)
                for words in change(context.tokens[number, own])
            ]
        )
        for number, own in enumerate(clips)
    ]
    resampler = Resampler(context.objects, clips)
    return resampler.score_pairs(says, context.labels, clips, context.config.tie_margins)
