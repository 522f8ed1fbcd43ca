"""What is found of a seed does not depend on which other seeds its run has."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.claims.noise import add_gaussian_noise
from pipeline.evaluation.claims.removal import remove_agents
from pipeline.evaluation.context import MessageContext
from pipeline.evaluation.fresh_receivers import score_fresh_receivers
from pipeline.evaluation.interventions import add_noise, intervene
from tests.pipeline.evaluation.conftest import make_message_context

MEASURES = [intervene, add_noise, score_fresh_receivers, add_gaussian_noise, remove_agents]


@pytest.fixture(scope="module")
def context() -> MessageContext:
    """Two agents of one symbol each, whose messages a receiver reads in part."""
    rng = np.random.default_rng(5)
    tokens = rng.integers(4, size=(3, 50, 2))
    return make_message_context(tokens, rng.normal(size=(2, 4, 2)), agents=2)


def alone(context: MessageContext, number: int) -> MessageContext:
    """Return the context of one of its seeds."""
    return replace(
        context,
        seeds=context.seeds[number : number + 1],
        splits=context.splits[number : number + 1],
        tokens=context.tokens[number : number + 1],
        receivers={name: value[number : number + 1] for name, value in context.receivers.items()},
    )


def per_seed(found: Any) -> Iterator[list[Any]]:
    """Yield every list of values of seeds in what was measured."""
    if isinstance(found, dict):
        for name, value in found.items():
            yield from [value] if name == "per_seed" else per_seed(value)
    elif isinstance(found, list):
        for value in found:
            yield from per_seed(value)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_seed_alone(
    measure: Callable[[MessageContext], Any],
    context: MessageContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.evaluation.fresh_receivers.STEPS", 20)
    of_all = list(per_seed(measure(context)))
    of_last = list(per_seed(measure(alone(context, 2))))
    assert len(of_all) == len(of_last) > 0
    assert [values[2:] for values in of_all] == of_last
