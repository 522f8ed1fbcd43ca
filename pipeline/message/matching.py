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
        fields = {name: stored[name] for name in cls.__dataclass_fields__}
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
