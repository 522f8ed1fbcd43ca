"""The dictionary of a code: planted words get their concepts, and the lexicon keeps it."""

import numpy as np
import pytest

from pipeline.message.lexicon import Lexicon, build_lexicon
from pipeline.message.matching import MatchedWord, matched_words, number_place
from tests.helpers.codes import GRID

PROPERTIES = ("elasticity", "friction")
BANDS = np.minimum(GRID, 2)  # (48, 2)


def planted() -> np.ndarray:
    """Messages of two agents of one head: the second property first, by other symbols."""
    return np.array([4, 1, 3])[BANDS[:, ::-1]]


def test_planted_words_are_matched_to_their_concepts():
    found = matched_words(planted(), BANDS, PROPERTIES, heads=1)
    words = {(one.agent, one.symbol): (one.about, one.band) for one in found}
    bands = {4: "low", 1: "middle", 3: "high"}
    assert words == {
        (1 - place, symbol): (name, band)
        for place, name in enumerate(PROPERTIES)
        for symbol, band in bands.items()
    }
    assert all(one.together == one.word_clips == one.concept_clips for one in found)
    rough = next(one for one in found if (one.about, one.band) == ("friction", "high"))
    assert rough.concept == "rough"


def test_positions_are_heads_of_agents():
    found = matched_words(np.tile(planted(), 2), BANDS, PROPERTIES, heads=2)
    assert {(one.agent, one.head) for one in found} <= {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert len(found) == 6  # a concept is matched once, however many words say it


def test_the_lexicon_keeps_its_dictionary():
    objects = [f"object_{number // 3}" for number in range(48)]
    lexicon = build_lexicon(planted()[:, :, None], GRID.astype(float), objects, PROPERTIES)
    assert {one.about for one in lexicon.dictionary} == set(PROPERTIES)
    assert lexicon.match(1, 0, lexicon.dictionary[-1].symbol) is not None
    assert lexicon.match(0, 0, 7) is None
    stored = lexicon.to_json()
    assert Lexicon.from_json(stored).dictionary == lexicon.dictionary
    places = {(entry["agent"], entry["position"]) for entry in stored["dictionary"]}
    assert places <= {(1, 1), (2, 1)}  # numbered from 1
    older = {key: value for key, value in stored.items() if key != "dictionary"}
    assert Lexicon.from_json(older).dictionary == ()


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": -1},
        {"together": "3"},
        {"position": True},
        {"position": 0},
        {"agent": 0},
        {"head": -1},
        {"about": "mass"},
        {"band": "huge"},
    ],
)
def test_other_entries_are_refused(change):
    entry = number_place(vars(matched_words(planted(), BANDS, PROPERTIES, heads=1)[0]))
    with pytest.raises(ValueError, match=r"matched|an agent or a position"):
        MatchedWord.from_json(entry | change, PROPERTIES)
