"""The dictionary of a code: its words matched one to one to what they may mean.

A word is a symbol at a position, a concept a third of a property. The matching is that of the
metric `concept_best_matching`: whole, so a word can be left over, and one that means little still
gets the concept that no other word fits better. The lexicon holds it beside what each symbol means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.message.wording import BANDS, wording_for
from pipeline.metrics import best_matches


@dataclass(frozen=True, kw_only=True)
class MatchedWord:
    """A word and the concept that it is matched to.

    Attributes:
        agent: Of the word, from 0.
        head: Of the agent, from 0.
        symbol: Of the word.
        about: The property of the concept.
        band: Of the property: "low", "middle" or "high".
        together: Training clips that have both.
        word_clips: Training clips that have the word.
        concept_clips: Training clips that have the concept.
    """

    agent: int
    head: int
    symbol: int
    about: str
    band: str
    together: int
    word_clips: int
    concept_clips: int

    @property
    def concept(self) -> str:
        """The concept in a word or two."""
        return wording_for(self.about).adjective(self.band)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], properties: Sequence[str]) -> MatchedWord:
        """Return what the lexicon wrote.

        Raises:
            KeyError, TypeError or ValueError: for anything else.
        """
        agent, head = place_of(stored)
        fields = {
            name: stored[name] for name in cls.__dataclass_fields__ if name not in ("agent", "head")
        } | {"agent": agent, "head": head}
        numbers = (fields[name] for name in fields if name not in ("about", "band"))
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a matched word has a count that is no whole number")
        if fields["about"] not in properties or fields["band"] not in BANDS:
            raise ValueError("a word is matched to nothing that the run knows")
        return cls(**fields)


def matched_words(
    symbols: NDArray[np.int64],
    bands: NDArray[np.int64],
    properties: Sequence[str],
    *,
    heads: int,
) -> tuple[MatchedWord, ...]:
    """Return the dictionary of the messages of training clips.

    Args:
        symbols: (N, agents x heads), agent by agent.
        bands: The number in `BANDS` of each clip's properties, (N, properties).
        properties: Their names.
        heads: Of each agent.
    """
    return tuple(
        MatchedWord(
            agent=one.position // heads,
            head=one.position % heads,
            symbol=one.symbol,
            about=properties[one.attribute],
            band=BANDS[one.bin],
            together=one.together,
            word_clips=one.word_clips,
            concept_clips=one.concept_clips,
        )
        for one in best_matches(symbols, bands)
    )


def number_place(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of `lexicon.json` with its agent and position from 1, for its indices.

    >>> number_place({"agent": 0, "head": 1, "symbol": 3})
    {'agent': 1, 'position': 2, 'symbol': 3}
    """
    rest = {name: value for name, value in entry.items() if name not in ("agent", "head")}
    return {"agent": entry["agent"] + 1, "position": entry["head"] + 1, **rest}


def place_of(entry: Mapping[str, Any]) -> tuple[int, int]:
    """Return the indices of agent and head of an entry of `lexicon.json`.

    Older files have the indices themselves, and call that of the position `head`.

    Raises:
        KeyError or ValueError: they are missing, or no numbers.

    >>> place_of({"agent": 1, "position": 2}), place_of({"agent": 0, "head": 1})
    ((0, 1), (0, 1))
    """
    first = 0 if "head" in entry else 1
    numbers = entry["agent"], entry["head" if "head" in entry else "position"]
    if not all(type(number) is int and number >= first for number in numbers):
        raise ValueError("an agent or a position has a number that there is not")
    agent, position = numbers
    return agent - first, position - first
