"""Parts of messages that are asked, where it is known what each says."""

import numpy as np
import pytest

from pipeline.evaluation.actions import ActedClips
from pipeline.evaluation.queries import ask_parts
from tests.pipeline.evaluation.conftest import (
    compositional_meaning,
    grid_labels,
    make_message_context,
)

ACTION = np.add.outer(np.arange(25), [0, 2]).ravel() % 5 + 1.0


def asked(context):
    labels = {"moved": grid_labels()[0][:, 1] * ACTION, "force": ACTION}
    return ask_parts(context, ActedClips.of(context, labels, "moved", "force"))


@pytest.mark.parametrize("agents", [1, 2])
def test_the_part_that_knows_is_asked(agents):
    """Of two agents each says a property; of one agent each position."""
    tokens = grid_labels()[0].astype(int)
    context = make_message_context(tokens, compositional_meaning(), agents=agents)
    found = asked(context)
    assert set(found) == {"alpha", "beta", "moved"}
    for question, part in (("alpha", 1), ("beta", 2), ("moved", 2)):
        entry = found[question]
        assert entry["asked"] == [part] * 3
        assert entry["from_asked"]["mean"] > (0.7 if question == "moved" else 0.99)
        assert entry["from_another"]["mean"] < 0.5  # test cells lack what training cells have
        assert entry["gap"]["mean"] == pytest.approx(
            entry["from_asked"]["mean"] - entry["from_another"]["mean"]
        )
        assert question == "moved" or entry["gap"]["interval"][0] > 0
        assert entry["from_all"]["mean"] == pytest.approx(entry["from_asked"]["mean"], abs=0.1)


def test_where_no_part_knows_more_the_choice_gains_nothing(random_code):
    found = asked(random_code)
    for entry in (found["alpha"], found["beta"]):
        low, high = entry["gap"]["interval"]
        assert low < 0 < high
        assert set(entry["asked"]) == {1, 2}


def test_a_message_of_one_symbol_has_no_parts():
    levels = grid_labels()[0][:, :1].astype(int)
    meaning = compositional_meaning()[:1]
    assert asked(make_message_context(levels, meaning)) is None
