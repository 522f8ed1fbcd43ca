"""A lexicon as records: what each symbol at each position means, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from data.wording import counted
from pipeline.message.matching import MatchedWord, number_place, place_of
from pipeline.message.wording import BANDS, wording_for
from pipeline.runs import without_nan

ALPHA = 0.05
LEAST_SHARE = 0.5  # of a symbol's clips in the third that names it


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
    """What one head of one agent is about.

    Attributes:
        agent: Its index in tokens, from 0.
        head: Its index, from 0.
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
        counts = f"{counted(meaning.clips, 'clip')} of {counted(meaning.objects, 'object')}"
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
        agent, head = place_of(stored)
        return cls(
            agent=agent,
            head=head,
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
        """Return the position at an agent's and a head's index, from 0."""
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
        """Return the content of `lexicon.json`: each symbol also has its gloss and sentence.

        Agents and positions are numbered from 1.
        """
        stored = asdict(self)
        stored["positions"] = [number_place(entry) for entry in stored["positions"]]
        stored["dictionary"] = [number_place(entry) for entry in stored["dictionary"]]
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
