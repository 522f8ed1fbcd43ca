"""What symbols mean: for each position and symbol a word, and the evidence for it.

The lexicon is learnt from the training clips of the run's chosen seed and from their labels, which
are in `messages.jsonl`, so it needs neither cache nor videos. Held-out clips, which nothing was
trained or chosen on, only check it. `train` writes it to `lexicon.json`, `message` and `report`
read it there.

A position is about the property with which it shares most information above chance: by how many
standard deviations its mutual information exceeds that of labels permuted across objects. The null
takes the largest excess over all positions and properties in each permutation (Westfall and Young
1993), so one p-value holds for the whole table. A position that does not beat it is about nothing.

A symbol means low, middle or high (thirds of the training clips) where at least half of its clips
are in that third. How surprising that is, given the objects of its clips, has its own p-value: one
heavy object is little evidence for "heavy".

Agents remember what they were trained on, noise too. A word is therefore sure only where it holds
on held-out clips: at least half of those with its symbol are in its third, and the words of its
position are right about more held-out clips than they are when the labels are permuted across
objects. That null takes the largest excess over all positions in each permutation, so that one
p-value holds for the whole lexicon.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import HeliographError
from pipeline.message.matching import MatchedWord, matched_words
from pipeline.message.wording import BANDS, wording_for
from pipeline.metrics import (
    bin_property,
    joint_counts,
    mutual_information,
    p_value,
    permutation_null,
    permutations,
)
from pipeline.runs import BROKEN, Run, reason_of, without_nan

BINS = 5
PERMUTATIONS = 999  # of labels across objects
ALPHA = 0.05
LEAST_SHARE = 0.5  # of a symbol's clips in the third that names it
QUANTILES = (0.1, 0.5, 0.9)  # the range of a symbol, and its median

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What one symbol means at one position; the key of a message is its symbol.

    Attributes:
        symbol: The symbol.
        clips: Training clips with it.
        objects: Their objects.
        frequency: Of all training clips.
        band: "low", "middle" or "high"; None where no half of its clips agrees.
        share: Of its clips that are in that band; NaN without one.
        p_value: Of so large a share; NaN without one.
        low: Lower end of the middle 80 % of its clips, in the property's unit.
        median: Of its clips.
        high: Upper end of the middle 80 %.
        held_out_clips: Clips with it that were not trained on.
        held_out_share: Of these in the band; NaN without any.
    """

    symbol: int
    clips: int
    objects: int
    frequency: float
    band: str | None
    share: float
    p_value: float
    low: float
    median: float
    high: float
    held_out_clips: int
    held_out_share: float

    @property
    def holds(self) -> bool:
        """Whether its band beats chance at 5 %, and half of the held-out clips agree."""
        return self.p_value <= ALPHA and self.held_out_share >= LEAST_SHARE

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Meaning:
        """Return what `Lexicon.to_json` wrote."""
        counts = ("symbol", "clips", "objects", "held_out_clips")
        fields: dict[str, Any] = {
            name: (_whole if name in counts else _number)(stored[name])
            for name in cls.__dataclass_fields__
            if name != "band"
        }
        return cls(**fields, band=_one_of(BANDS, stored["band"]))


@dataclass(frozen=True, kw_only=True)
class Position:
    """What one head of one agent is about; agents and heads count from 0, as in tokens.

    Attributes:
        agent: Its number.
        head: Its number.
        information: Shared with each property of the run, in nats.
        chance: The same of permuted labels, on average.
        p_values: Of the information, by property.
        held_out_information: As `information`, on held-out clips; NaN without any.
        held_out_p: Of how many held-out clips its words are right about; NaN without any.
        about: The property; None where nothing is above chance.
        meanings: Of the symbols that training clips have, ascending.
    """

    agent: int
    head: int
    information: tuple[float, ...]
    chance: tuple[float, ...]
    p_values: tuple[float, ...]
    held_out_information: tuple[float, ...]
    held_out_p: float
    about: str | None
    meanings: tuple[Meaning, ...]

    def is_sure(self, meaning: Meaning) -> bool:
        """Whether the word of a symbol is more than chance, also on held-out clips."""
        return meaning.holds and self.held_out_p <= ALPHA

    @property
    def name(self) -> str:
        """Its name for people, who count from 1."""
        return f"agent {self.agent + 1}, position {self.head + 1}"

    def meaning(self, symbol: int) -> Meaning | None:
        """Return the meaning of a symbol; None for one that no training clip has."""
        return next((meaning for meaning in self.meanings if meaning.symbol == symbol), None)

    def gloss(self, symbol: int) -> str:
        """Return a word or two for a symbol; with "perhaps" where it is not sure."""
        meaning = self.meaning(symbol)
        if meaning is None:
            return "never sent in training"
        if self.about is None:
            return "–"
        wording = wording_for(self.about)
        if meaning.band is None:
            return f"any {wording.name}"
        word = wording.adjective(meaning.band)
        return word if self.is_sure(meaning) else f"perhaps {word}"

    def sentence(self, symbol: int) -> str:
        """Return the gloss of a symbol with its evidence."""
        meaning = self.meaning(symbol)
        start = f"{self.name} = {symbol}:"
        if meaning is None or self.about is None:
            nothing = "carries nothing above chance" if meaning else "never sent in training"
            return f"{start} {nothing}"
        span = wording_for(self.about).span(meaning.low, meaning.high)
        counts = f"{_count(meaning.clips, 'clip')} of {_count(meaning.objects, 'object')}"
        if meaning.band is None:
            return f"{start} {self.gloss(symbol)}, {span}, {counts}"
        share = f"{100 * meaning.share:.0f} % of training clips with it"
        return f"{start} {self.gloss(symbol)}, {share}, {span}, {counts}"

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Position:
        """Return what `Lexicon.to_json` wrote."""
        rows = {
            name: tuple(map(_number, stored[name]))
            for name in ("information", "chance", "p_values", "held_out_information")
        }
        return cls(
            agent=_whole(stored["agent"]),
            head=_whole(stored["head"]),
            held_out_p=_number(stored["held_out_p"]),
            about=stored["about"],
            meanings=tuple(Meaning.from_json(meaning) for meaning in stored["meanings"]),
            **rows,
        )


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """The meaning of every position and symbol of a run's chosen seed.

    Attributes:
        properties: Of the run.
        positions: Agent by agent.
        clips: Training clips with every label.
        objects: Their objects.
        thirds: By property two values: up to the first is low, from the second on high.
        dictionary: Words matched one to one to thirds; empty in older lexicons.
    """

    properties: tuple[str, ...]
    positions: tuple[Position, ...]
    clips: int
    objects: int
    thirds: Mapping[str, tuple[float, float]]
    dictionary: tuple[MatchedWord, ...] = ()

    def __repr__(self) -> str:
        about = ", ".join(position.about or "nothing" for position in self.positions)
        return f"Lexicon({self.clips} clips, {self.objects} objects; positions about {about})"

    @cached_property
    def _by_head(self) -> dict[tuple[int, int], Position]:
        return {(position.agent, position.head): position for position in self.positions}

    def position(self, agent: int, head: int) -> Position:
        """Return the position of an agent's head; both count from 0."""
        return self._by_head[agent, head]

    def match(self, agent: int, head: int, symbol: int) -> MatchedWord | None:
        """Return what a symbol is matched to; None for one that is left over."""
        word = (agent, head, symbol)
        words = (one for one in self.dictionary if (one.agent, one.head, one.symbol) == word)
        return next(words, None)

    def gloss(self, tokens: Sequence[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
        """Return a word or two for every symbol of a message (agents, heads)."""
        return tuple(
            tuple(self.position(agent, head).gloss(symbol) for head, symbol in enumerate(symbols))
            for agent, symbols in enumerate(tokens)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of `lexicon.json`: each symbol also has its gloss and sentence."""
        stored = asdict(self)
        for position, entry in zip(self.positions, stored["positions"], strict=True):
            for meaning in entry["meanings"]:
                symbol = meaning["symbol"]
                meaning |= {
                    "gloss": position.gloss(symbol),
                    "sentence": position.sentence(symbol),
                }
        plain: dict[str, Any] = without_nan(stored)
        return plain

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Lexicon:
        """Return what `to_json` wrote.

        Raises:
            KeyError, TypeError or ValueError: for anything else.
        """
        properties = tuple(stored["properties"])
        positions = tuple(Position.from_json(entry) for entry in stored["positions"])
        for position in positions:
            _one_of(properties, position.about)
            rows = (
                position.information,
                position.chance,
                position.p_values,
                position.held_out_information,
            )
            if any(len(row) != len(properties) for row in rows):
                raise ValueError("a position has not a number for each property")
        thirds = {name: tuple(map(_number, stored["thirds"][name])) for name in properties}
        return cls(
            properties=properties,
            positions=positions,
            clips=_whole(stored["clips"]),
            objects=_whole(stored["objects"]),
            thirds={name: (low, high) for name, (low, high) in thirds.items()},
            dictionary=tuple(
                MatchedWord.from_json(entry, properties) for entry in stored.get("dictionary", ())
            ),
        )


def load_lexicon(run: Run) -> Lexicon | None:
    """Return the lexicon of a run's chosen seed: from `lexicon.json`, or learnt anew without one.

    None where no training clip has every label, as of an imported checkpoint with messages for
    clips without labels.

    Raises:
        HeliographError: for a run with a continuous channel, and for a damaged file.
    """
    stored = run.lexicon()
    if stored is None:
        return learn_lexicon(run)
    config = run.config
    heads = [(agent, head) for agent in range(config.agents) for head in range(config.heads)]
    try:
        if any("held_out_p" not in entry for entry in stored["positions"]):
            return learn_lexicon(run)  # of an older run, whose sure words were not checked
        lexicon = Lexicon.from_json(stored)
        if [(one.agent, one.head) for one in lexicon.positions] != heads:
            raise ValueError("its positions are not those of the run's agents")
        if lexicon.properties != config.properties:
            raise ValueError("its properties are not those of the run")
    except BROKEN as error:
        path = run.folder / "lexicon.json"
        raise HeliographError(f"{path} is damaged: {reason_of(error)}") from error
    return lexicon


def write_lexicon(run: Run) -> Lexicon | None:
    """Learn the lexicon of a run and write `lexicon.json`; None where there is none to learn."""
    lexicon = learn_lexicon(run) if run.has_symbols else None
    if lexicon is not None:
        text = json.dumps(lexicon.to_json(), indent=1, ensure_ascii=False)
        run.write("lexicon.json", text + "\n")
    return lexicon


def learn_lexicon(run: Run) -> Lexicon | None:
    """Return the lexicon of a run's chosen seed: a pure function of its `messages.jsonl`.

    None where no training clip has every label.

    Raises:
        HeliographError: for a run with a continuous channel.
    """
    tokens, lines = run.tokens(), run.messages()
    properties = run.config.properties
    labels = np.array(
        [[_number(line["labels"][name]) for name in properties] for line in lines],
        dtype=np.float64,
    )
    objects = [line["object"] or line["clip"] for line in lines]
    known = ~np.isnan(labels).any(axis=1)
    is_train = np.array([line["part"] == "train" for line in lines])
    is_unseen = np.array([line["part"] in ("test", "structure") for line in lines])
    train, held_out = np.flatnonzero(is_train & known), np.flatnonzero(is_unseen & known)
    if not len(train):
        return None
    return build_lexicon(
        tokens[train],
        labels[train],
        [objects[clip] for clip in train],
        properties,
        held_out=(tokens[held_out], labels[held_out], [objects[clip] for clip in held_out]),
    )


def _number(value: float | None) -> float:
    if value is not None and type(value) not in (int, float):
        raise ValueError(f"{value!r} is no number"[:200])
    return math.nan if value is None else float(value)


def _whole(value: int) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no whole number"[:200])
    return value


def _one_of(names: Sequence[str], value: str | None) -> str | None:
    if value is not None and (type(value) is not str or value not in names):
        raise ValueError(f"{value!r} is none of {', '.join(map(str, names))}"[:200])
    return value


def build_lexicon(
    tokens: Integers,
    labels: Floats,
    objects: Sequence[str],
    properties: Sequence[str],
    *,
    held_out: tuple[Integers, Floats, Sequence[str]] | None = None,
) -> Lexicon:
    """Return the lexicon of messages.

    Args:
        tokens: (N, agents, heads) of the training clips.
        labels: (N, properties), without NaN.
        objects: Of each clip, (N,): the null permutes labels across objects.
        properties: Their names.
        held_out: Tokens, labels and objects of clips that nothing was trained or chosen on.
    """
    heads = tokens.shape[2]
    symbols = tokens.reshape(len(tokens), -1)  # (N, P)
    thirds = [_thirds(column) for column in labels.T]
    bands = np.stack([_bands(c, t) for c, t in zip(labels.T, thirds, strict=True)], axis=1)
    check: tuple[Integers, Integers] | None = None
    unseen = np.full((symbols.shape[1], len(properties)), np.nan)
    bins = np.stack([bin_property(column, bins=BINS) for column in labels.T], axis=1)
    if held_out is not None and len(held_out[0]):
        held_out_bands = [_bands(c, t) for c, t in zip(held_out[1].T, thirds, strict=True)]
        check = held_out[0].reshape(len(held_out[0]), -1), np.stack(held_out_bands, axis=1)
        held_out_bins = [bin_property(column, bins=BINS) for column in held_out[1].T]
        unseen = np.asarray(mutual_information(check[0], np.stack(held_out_bins, axis=1)))
    information, chance, excess, p_values = _above_chance(symbols, bins, objects)
    best = excess.argmax(1)  # (P,)
    informs = p_values[np.arange(len(best)), best] <= ALPHA
    meanings = [
        _meanings(
            symbols[:, number],
            labels[:, own] if informs[number] else np.full(len(labels), np.nan),
            bands[:, own],
            objects,
            check and (check[0][:, number], check[1][:, own]),
        )
        for number, own in enumerate(best.tolist())
    ]
    held_out_p = np.full(len(best), np.nan)
    if held_out is not None and check is not None:
        held_out_p = _held_out_p(meanings, check[0], check[1][:, best], held_out[2])
    positions = [
        Position(
            agent=number // heads,
            head=number % heads,
            information=tuple(information[number].tolist()),
            chance=tuple(chance[number].tolist()),
            p_values=tuple(p_values[number].tolist()),
            held_out_information=tuple(unseen[number].tolist()),
            held_out_p=float(held_out_p[number]),
            about=properties[own] if informs[number] else None,
            meanings=meanings[number],
        )
        for number, own in enumerate(best.tolist())
    ]
    return Lexicon(
        properties=tuple(properties),
        positions=tuple(positions),
        clips=len(tokens),
        objects=len(set(objects)),
        thirds=dict(zip(properties, thirds, strict=True)),
        dictionary=matched_words(symbols, bands, properties, heads=heads),
    )


def _held_out_p(
    meanings: Sequence[tuple[Meaning, ...]],
    symbols: Integers,
    bands: Integers,
    objects: Sequence[str],
) -> Floats:
    """Of the number of held-out clips that the words of each position are right about: p, (P,).

    Args:
        meanings: Of each position, learnt on training clips.
        symbols: Of held-out clips, (N, P).
        bands: Of the property that each position is about, (N, P).
        objects: Of each clip, (N,).
    """
    said = np.full(symbols.shape, -1)  # the band that the word of each clip's symbol names
    for number, of_position in enumerate(meanings):
        for meaning in of_position:
            if meaning.band is not None:
                said[symbols[:, number] == meaning.symbol, number] = BANDS.index(meaning.band)
    orders = permutations(len(symbols), n=PERMUTATIONS, groups=np.asarray(objects))
    right = (said == bands).sum(0)  # (P,)
    null = np.stack([(said == bands[order]).sum(0) for order in orders])  # (n, P)
    deviation = null.std(0)
    scale = np.where(deviation > 0, deviation, np.inf)
    largest = ((null - null.mean(0)) / scale).max(1)
    p_values = p_value((right - null.mean(0)) / scale, np.tile(largest[:, None], len(right)))
    return np.where(deviation > 0, np.asarray(p_values), 1.0)


def _above_chance(
    symbols: Integers, bins: Integers, objects: Sequence[str]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Information and its mean by chance, in nats, the excess in deviations, p: each (P, A)."""
    groups = np.asarray(objects)
    information = mutual_information(symbols, bins)
    null = permutation_null(
        mutual_information, symbols, bins, n=PERMUTATIONS, groups=groups
    )  # (n, P, A)
    mean, deviation = null.mean(0), null.std(0)
    scale = np.where(deviation > 0, deviation, np.inf)
    largest = ((null - mean) / scale).max((1, 2))  # (n,)
    excess = (information - mean) / scale
    p_values = np.asarray(p_value(excess, np.broadcast_to(largest[:, None, None], null.shape)))
    return information, mean, excess, np.where(deviation > 0, p_values, 1.0)


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
    symbols: Integers,
    values: Floats,
    bands: Integers,
    objects: Sequence[str],
    check: tuple[Integers, Integers] | None,
) -> tuple[Meaning, ...]:
    """What each symbol of one position means; `check` has symbols and bands of held-out clips.

    Values that are NaN are those of a position that is about nothing: its symbols have no band.
    """
    names = np.asarray(objects)
    orders = permutations(len(symbols), n=PERMUTATIONS, groups=names)
    shares = _shares(symbols, bands)  # (V, 3)
    null = np.concatenate([_shares(symbols, bands[some]) for some in np.array_split(orders, 10)])
    p_values = np.asarray(p_value(shares.max(-1), null.max(-1)))  # (V,)
    meanings = []
    for symbol in np.unique(symbols).tolist():
        has_symbol = symbols == symbol
        band = int(shares[symbol].argmax())
        clear = shares[symbol, band] >= LEAST_SHARE and not np.isnan(values[has_symbol]).any()
        low, median, high = np.quantile(values[has_symbol], QUANTILES, method="nearest").tolist()
        held_out = check[1][check[0] == symbol] if check else np.zeros(0, np.int64)
        meanings.append(
            Meaning(
                symbol=symbol,
                clips=int(has_symbol.sum()),
                objects=len(np.unique(names[has_symbol])),
                frequency=float(has_symbol.mean()),
                band=BANDS[band] if clear else None,
                share=float(shares[symbol, band]) if clear else math.nan,
                p_value=float(p_values[symbol]) if clear else math.nan,
                low=low,
                median=median,
                high=high,
                held_out_clips=len(held_out),
                held_out_share=float((held_out == band).mean())
                if clear and len(held_out)
                else math.nan,
            )
        )
    return tuple(meanings)


def _shares(symbols: Integers, bands: Integers) -> Floats:
    """Of the clips with each symbol, the share in each band: (..., V, 3) for bands (..., N)."""
    levels = np.concatenate([bands, np.full((*bands.shape[:-1], 1), len(BANDS) - 1)], axis=-1)
    padded = np.append(symbols, symbols.max() + 1)  # one more row, so that every band has a column
    counts = joint_counts(padded[:, None], levels[..., None])[..., 0, 0, :-1, :]
    return counts / np.maximum(counts.sum(-1, keepdims=True), 1)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
