"""Agents removed one by one from codes in which each has its own share of the meaning."""

import numpy as np
import pytest

from data.errors import HeliographError
from pipeline.evaluation import fresh_receivers
from pipeline.evaluation.claims.removal import REMOVAL, remove_agents
from tests.pipeline.evaluation.conftest import (
    compositional_meaning,
    grid_labels,
    make_message_context,
)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """New receivers learn for a third of their steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fresh_receivers, "STEPS", 100)
        yield


@pytest.fixture(scope="module")
def left():
    context = make_message_context(grid_labels()[0].astype(int), compositional_meaning(), agents=2)
    return remove_agents(context, orders=20)


def test_each_agent_takes_its_property_with_it(left):
    all_there, one_left, nobody = left["curve"]
    assert all_there["silent"]["mean"] == all_there["replaced"]["mean"] == 1
    assert all_there["drop"]["mean"] == 0
    for name in ("alpha", "beta"):  # gone in half of the orders, then answered "no"
        assert one_left["silent"]["properties"][name]["mean"] == pytest.approx(0.75, abs=0.1)
        assert nobody["silent"]["properties"][name]["mean"] == pytest.approx(0.5)
    assert one_left["drop"]["interval"][0] > 0
    assert nobody["silent"]["mean"] < one_left["silent"]["mean"] < 1


def test_new_receivers_learn_what_those_who_are_left_say(left):
    all_there, one_left, nobody = left["curve"]
    assert all_there["relearned"]["mean"] > 0.8
    assert nobody["relearned"]["mean"] < one_left["relearned"]["mean"] + 0.02
    assert one_left["relearned"]["mean"] < all_there["relearned"]["mean"]


def test_what_two_agents_both_say_outlives_one(context_of):
    levels = np.repeat(np.arange(5), 10)[:, None]
    meaning = np.repeat(np.arange(5.0)[None, :, None] - 2, 2, axis=0)
    both = context_of(np.repeat(levels, 2, axis=1), meaning, labels=levels.astype(float), agents=2)
    curve = remove_agents(both, orders=2)["curve"]
    assert curve[1]["silent"]["mean"] == curve[1]["relearned"]["mean"] == 1
    assert curve[2]["silent"]["mean"] == pytest.approx(0.5)


def test_one_agent_alone_cannot_leave(context_of, compositional):
    alone = context_of(compositional.tokens[0], np.zeros((2, 5, 2)))
    with pytest.raises(HeliographError, match="two at least"):
        remove_agents(alone)


def test_it_is_said_in_a_sentence_next_to_the_formula_of_the_paper(left):
    assert "with all agents; the first to leave costs" in REMOVAL.sentence(left)
    columns, rows = REMOVAL.table(left)
    assert columns[-1] == "formula, 8 % each"
    assert [row[-1] for row in rows] == ["100.0", "92.0", "84.0"]
    assert all(len(row) == len(columns) for row in rows)
