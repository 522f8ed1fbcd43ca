"""Senders swapped between seeds: codes that are the same, renamed, or different."""

import dataclasses

import numpy as np
import pytest

from data.errors import HeliographError
from pipeline.evaluation import retest
from pipeline.evaluation.claims.swaps import SWAPS, rename, swap_senders
from pipeline.training import train


def with_tokens(context, tokens):
    return dataclasses.replace(context, tokens=tokens)


def test_seeds_of_one_code_understand_each_other(compositional):
    found = swap_senders(compositional)
    assert found["own"]["mean"] == found["swapped"]["mean"] == found["renamed"]["mean"] == 1
    assert found["drop"]["mean"] == 0
    assert [entry["mean"] for entry in found["one_agent"]] == [1, 1]


def test_seeds_with_names_of_their_own_do_not_until_these_are_renamed(compositional):
    """The senders of each seed shuffle symbols and positions; its receivers are those of all.

    So own accuracy is bad too, but what is renamed to a seed that is understood is.
    """
    tokens = compositional.tokens.copy()
    names = np.array([3, 0, 4, 1, 2])
    tokens[1] = names[tokens[1]][:, ::-1]
    found = swap_senders(with_tokens(compositional, tokens))
    own, swapped, renamed = (found[name]["per_seed"] for name in ("own", "swapped", "renamed"))
    assert own[0] == own[2] == 1
    assert max(swapped[0], swapped[2]) < 0.85  # one of the two others is understood
    assert renamed[0] == renamed[2] == 1
    assert own[1] < 0.75
    assert swapped[1] == 1


def test_one_agent_of_another_seed_costs_its_own_property(compositional):
    tokens = compositional.tokens.copy()
    tokens[:, :, 0] = (tokens[:, :, 0] + np.arange(3)[:, None]) % 5  # each seed turns alpha
    meaningful = with_tokens(compositional, tokens)
    found = swap_senders(meaningful)
    first, second = found["one_agent"]
    assert second == found["own"]  # beta is said alike by all
    assert first["properties"]["alpha"]["mean"] == pytest.approx(
        found["swapped"]["properties"]["alpha"]["mean"]
    )
    assert first["properties"]["beta"]["mean"] == 1


def test_senders_of_another_run_are_those_of_the_same_seed(compositional):
    tokens = compositional.tokens.copy()
    tokens[1] = tokens[1][:, ::-1]
    found = swap_senders(compositional, tokens)
    assert found["of"] == "another run"
    swapped = found["swapped"]["per_seed"]
    assert swapped[0] == swapped[2] == 1 > swapped[1]
    assert found["renamed"]["mean"] == 1


def test_renaming_goes_by_the_clips_that_are_compared():
    said = np.array([[0, 1], [1, 1], [2, 0], [0, 0]])
    names = np.array([2, 0, 1])
    known = names[said][:, ::-1]
    assert rename(said, known, np.arange(4)).tolist() == known.tolist()
    assert rename(said, known, np.arange(3)).tolist() == known.tolist()


def test_a_single_seed_has_nobody_to_swap_with(context_of, compositional):
    one = context_of(compositional.tokens[0], np.zeros((2, 5, 2)), seeds=1)
    with pytest.raises(HeliographError, match="needs two seeds"):
        swap_senders(one)


def test_it_is_said_in_a_sentence_and_shown_whole(compositional):
    entry = swap_senders(compositional)
    assert "with those of another seed, 0.0 points less" in SWAPS.sentence(entry)
    columns, rows = SWAPS.table(entry)
    assert rows[-1][0] == "agent 2 of another seed"
    assert all(len(row) == len(columns) for row in rows)


def test_another_run_must_send_such_messages(spoken_run, tmp_path):
    same = retest("swaps", spoken_run, other=spoken_run)
    assert same["drop"]["mean"] == same["drop_renamed"]["mean"] == 0
    made = spoken_run.folder.parent / "made.h5"
    others = {"properties": ["mass"], "preset": "ridge", "split": "objects"}
    other = train(made, tmp_path / "mass", seeds=4, epochs=1, **others)
    with pytest.raises(HeliographError, match="for properties"):
        retest("swaps", spoken_run, other=other)
    one = train(
        made, tmp_path / "one", seeds=1, epochs=1, **others | {"properties": ["mass", "size"]}
    )
    with pytest.raises(HeliographError, match="lacks seeds of"):
        retest("swaps", spoken_run, other=one)
