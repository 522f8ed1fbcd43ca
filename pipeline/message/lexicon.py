"""What symbols mean: for each position and symbol the words, and the evidence for them.

Everything is learnt from the training clips of the run's kept seed and from their labels, which
stand in `messages.jsonl`, so a run needs neither its cache nor its videos for it. Clips that were
held out only check it.

A position is about the property with which it shares most information beyond chance: by how many
standard deviations its mutual information exceeds that of labels dealt to other objects. Chance is
given all positions and properties to be lucky with (Westfall and Young 1993, the largest excess of
each deal), so one p-value holds for the whole table. A position that does not beat it says nothing.

A symbol means low, middle or high (thirds of the training clips) where at least half of its clips
are in that third. How surprising that is, given the objects that say it, is its own p-value: a
symbol of one heavy object has no more right to "heavy" than one object can give it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.message.wording import BANDS, words_for
from pipeline.metrics import (
    bin_property,
    joint_counts,
    mutual_information,
    p_value,
    permutation_null,
    permutations,
)
from pipeline.runs import Run

BINS = 5
DEALS = 999  # of labels to other objects
ALPHA = 0.05
LEAST_SHARE = 0.5  # of a symbol's clips in the third that names it
SPREAD = (0.1, 0.5, 0.9)  # quantiles that stand for the range of a symbol

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What one symbol says at one position; `low` to `high` is the middle 80 % of its clips."""

    symbol: int
    clips: int  # training clips that say it
    objects: int
    frequency: float  # of all training clips
    band: str | None  # "low", "middle", "high"; None: no half of its clips agrees
    share: float  # of its clips that are in that band; NaN where there is none
    p_value: float  # of so large a share; NaN where there is none
    low: float  # in the property's unit, as the next two
    median: float
    high: float
    held_out_clips: int  # clips that were not trained on and say it
    held_out_share: float  # of these in the band; NaN without any

    @property
    def sure(self) -> bool:
        """Whether its band beats chance at 5 %."""
        return self.p_value <= ALPHA


@dataclass(frozen=True, kw_only=True)
class Position:
    """What a head of an agent talks about; agents and heads count from 0, as in tokens."""

    agent: int
    head: int
    information: tuple[float, ...]  # nats shared with each property of the run
    chance: tuple[float, ...]  # the same of dealt labels, on average
    p_values: tuple[float, ...]
    about: str | None  # the property; None: nothing above chance
    meanings: tuple[Meaning, ...]  # of the symbols that training clips say, ascending

    @property
    def name(self) -> str:
        """Counted from 1, as people do."""
        return f"agent {self.agent + 1}, position {self.head + 1}"

    def meaning(self, symbol: int) -> Meaning | None:
        """None for a symbol that no training clip says."""
        return next((one for one in self.meanings if one.symbol == symbol), None)

    def gloss(self, symbol: int) -> str:
        """A word or two for a symbol; "perhaps" where its evidence does not beat chance."""
        found = self.meaning(symbol)
        if found is None:
            return "never said in training"
        if self.about is None:
            return "–"
        words = words_for(self.about)
        if found.band is None:
            return f"any {words.name}"
        word = words.adjective(found.band)
        return word if found.sure else f"perhaps {word}"

    def sentence(self, symbol: int) -> str:
        """The gloss with its evidence."""
        found = self.meaning(symbol)
        start = f"{self.name} = {symbol}:"
        if found is None or self.about is None:
            nothing = "says nothing above chance" if found else "never said in training"
            return f"{start} {nothing}"
        span = words_for(self.about).span(found.low, found.high)
        counts = f"{_count(found.clips, 'clip')} of {_count(found.objects, 'object')}"
        if found.band is None:
            return f"{start} {self.gloss(symbol)}, {span}, {counts}"
        share = f"{100 * found.share:.0f} % of training clips with it"
        return f"{start} {self.gloss(symbol)}, {share}, {span}, {counts}"


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """The meaning of every position and symbol of a run's kept seed."""

    properties: tuple[str, ...]
    positions: tuple[Position, ...]  # agent by agent
    clips: int  # training clips with every label
    objects: int
    thirds: Mapping[str, tuple[float, float]]  # up to the first is low, from the second on high

    def __repr__(self) -> str:
        about = ", ".join(position.about or "nothing" for position in self.positions)
        return f"Lexicon({self.clips} clips, {self.objects} objects; positions about {about})"

    @cached_property
    def _places(self) -> dict[tuple[int, int], Position]:
        return {(one.agent, one.head): one for one in self.positions}

    def position(self, agent: int, head: int) -> Position:
        """Both count from 0."""
        return self._places[agent, head]

    def gloss(self, tokens: Sequence[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
        """A word or two for every symbol of a message (agents, heads)."""
        return tuple(
            tuple(self.position(agent, head).gloss(symbol) for head, symbol in enumerate(said))
            for agent, said in enumerate(tokens)
        )

    def to_json(self) -> dict[str, Any]:
        """What `lexicon.json` holds: the fields, each symbol with its gloss and its sentence."""
        stored = asdict(self)
        for position, place in zip(self.positions, stored["positions"], strict=True):
            for meaning in place["meanings"]:
                symbol = meaning["symbol"]
                meaning |= {
                    "gloss": position.gloss(symbol),
                    "sentence": position.sentence(symbol),
                }
        plain: dict[str, Any] = _without_nan(stored)
        return plain


def lexicon_of(run: Run) -> Lexicon | None:
    """The lexicon of a run's kept seed: a pure function of its `messages.jsonl`.

    None where no training clip has every label, as of an imported checkpoint that speaks of clips
    without labels. Raises HeliographError for a run that says real numbers.
    """
    tokens, lines = run.tokens(), run.messages()
    names = run.config.properties
    labels = np.array(
        [[_number(line["labels"][name]) for name in names] for line in lines], dtype=np.float64
    )
    objects = [line["object"] or line["clip"] for line in lines]
    known = ~np.isnan(labels).any(axis=1)
    is_train = np.array([line["part"] == "train" for line in lines])
    train, outside = np.flatnonzero(is_train & known), np.flatnonzero(~is_train & known)
    if not len(train):
        return None
    return build(
        tokens[train],
        labels[train],
        [objects[clip] for clip in train],
        names,
        held_out=(tokens[outside], labels[outside]),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def build(
    tokens: Integers,
    labels: Floats,
    objects: Sequence[str],
    properties: Sequence[str],
    *,
    held_out: tuple[Integers, Floats] | None = None,
) -> Lexicon:
    """The lexicon of messages.

    Args:
        tokens: (N, agents, heads) of the training clips.
        labels: (N, properties), without NaN.
        objects: of each clip, (N,): labels are dealt to other objects for chance.
        held_out: tokens and labels of clips that were not trained on.
    """
    _, agents, heads = tokens.shape
    said = tokens.reshape(len(tokens), -1)  # (N, P)
    thirds = [_thirds(column) for column in labels.T]
    bands = np.stack([_bands(c, t) for c, t in zip(labels.T, thirds, strict=True)], axis=1)
    outside = None
    if held_out is not None and len(held_out[0]):
        other = [_bands(c, t) for c, t in zip(held_out[1].T, thirds, strict=True)]
        outside = held_out[0].reshape(len(held_out[0]), -1), np.stack(other, axis=1)
    bins = np.stack([bin_property(column, bins=BINS) for column in labels.T], axis=1)
    information, chance, excess, p_values = _beyond_chance(said, bins, objects)
    positions = []
    for place in range(agents * heads):
        best = int(excess[place].argmax())
        informs = p_values[place, best] <= ALPHA
        positions.append(
            Position(
                agent=place // heads,
                head=place % heads,
                information=tuple(information[place].tolist()),
                chance=tuple(chance[place].tolist()),
                p_values=tuple(p_values[place].tolist()),
                about=properties[best] if informs else None,
                meanings=_meanings(
                    said[:, place],
                    labels[:, best] if informs else np.full(len(labels), np.nan),
                    bands[:, best],
                    objects,
                    outside and (outside[0][:, place], outside[1][:, best]),
                ),
            )
        )
    return Lexicon(
        properties=tuple(properties),
        positions=tuple(positions),
        clips=len(tokens),
        objects=len(set(objects)),
        thirds=dict(zip(properties, thirds, strict=True)),
    )


def _beyond_chance(
    said: Integers, bins: Integers, objects: Sequence[str]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Information and its mean by chance, in nats, the excess in deviations, p: each (P, A)."""
    groups = np.asarray(objects)
    information = mutual_information(said, bins)
    null = permutation_null(mutual_information, said, bins, n=DEALS, groups=groups)  # (n, P, A)
    mean, spread = null.mean(0), null.std(0)
    scale = np.where(spread > 0, spread, np.inf)
    largest = ((null - mean) / scale).max((1, 2))  # (n,)
    excess = (information - mean) / scale
    p_values = np.asarray(p_value(excess, np.broadcast_to(largest[:, None, None], null.shape)))
    return information, mean, excess, np.where(spread > 0, p_values, 1.0)


def _thirds(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return float(low), float(high)


def _bands(values: Floats, thirds: tuple[float, float]) -> Integers:
    """0, 1, 2 for low, middle, high; where both edges are one value, that value is the middle."""
    low, high = thirds
    if low == high:
        return (np.sign(values - low) + 1).astype(np.int64)
    return np.where(values <= low, 0, np.where(values >= high, 2, 1))


def _meanings(
    said: Integers,
    values: Floats,
    bands: Integers,
    objects: Sequence[str],
    outside: tuple[Integers, Integers] | None,
) -> tuple[Meaning, ...]:
    """What each symbol of one position means; `outside` is what held-out clips say, and are.

    Values that are NaN are those of a position that is about nothing: no symbol means a thing.
    """
    named = np.asarray(objects)
    deals = permutations(len(said), n=DEALS, groups=named)
    shares = _shares(said, bands)  # (V, 3)
    null = np.concatenate([_shares(said, bands[deal]) for deal in np.array_split(deals, 10)])
    surprise = np.asarray(p_value(shares.max(-1), null.max(-1)))  # (V,)
    found = []
    for symbol in np.unique(said).tolist():
        own = said == symbol
        band = int(shares[symbol].argmax())
        clear = shares[symbol, band] >= LEAST_SHARE and not np.isnan(values[own]).any()
        low, median, high = np.quantile(values[own], SPREAD, method="nearest").tolist()
        theirs = outside[1][outside[0] == symbol] if outside else np.zeros(0, np.int64)
        found.append(
            Meaning(
                symbol=symbol,
                clips=int(own.sum()),
                objects=len(np.unique(named[own])),
                frequency=float(own.mean()),
                band=BANDS[band] if clear else None,
                share=float(shares[symbol, band]) if clear else math.nan,
                p_value=float(surprise[symbol]) if clear else math.nan,
                low=low,
                median=median,
                high=high,
                held_out_clips=len(theirs),
                held_out_share=float((theirs == band).mean())
                if clear and len(theirs)
                else math.nan,
            )
        )
    return tuple(found)


def _shares(said: Integers, bands: Integers) -> Floats:
    """Of the clips that say each symbol, the share in each band: (..., V, 3) for bands (..., N)."""
    levels = np.concatenate([bands, np.full((*bands.shape[:-1], 1), len(BANDS) - 1)], axis=-1)
    symbols = np.append(said, said.max() + 1)  # one more row, so that every band has its column
    counts = joint_counts(symbols[:, None], levels[..., None])[..., 0, 0, :-1, :]
    return counts / np.maximum(counts.sum(-1, keepdims=True), 1)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
