"""PosDis and BosDis against other people's code, their definitions, and themselves."""

import doctest
import importlib
import math

import numpy as np
import pytest

from pipeline import metrics
from tests.helpers.codes import STRUCTURAL, random_code
from tests.pipeline.metrics.make_metric_references import REFERENCES, cases

DISENTANGLEMENT = STRUCTURAL[:4]


@pytest.fixture(params=list(cases()))
def case(request):
    """Tokens, attributes, vocabulary and the reference values of one shared input."""
    return *cases()[request.param], REFERENCES["cases"][request.param]


def test_doctests():
    result = doctest.testmod(importlib.import_module("pipeline.metrics.language"))
    assert result.attempted > 0
    assert result.failed == 0


class TestReferences:
    def test_with_the_paper(self, case):
        tokens, attributes, _, values = case
        paper = values["paper"]
        assert metrics.posdis_wmcp(tokens, attributes) == pytest.approx(paper["posdis"], abs=1e-12)
        assert metrics.bosdis_wmcp(tokens, attributes) == pytest.approx(paper["bosdis"], abs=1e-12)

    def test_with_egg(self, case):
        tokens, attributes, _, values = case
        egg = values["egg"]  # in float32
        posdis = metrics.posdis_chaabouni2020(tokens, attributes)
        bosdis = metrics.bosdis_chaabouni2020(tokens, attributes)
        assert posdis == pytest.approx(egg["posdis"], abs=2e-6)
        assert bosdis == pytest.approx(egg["bosdis_shifted"], abs=2e-6)


class TestMeaning:
    GRID = np.array([[i, j] for i in range(5) for j in range(5)])

    def test_a_compositional_code_scores_one(self):
        for name in ("posdis_wmcp", "posdis_chaabouni2020"):
            assert metrics.METRICS[name](self.GRID, self.GRID) == pytest.approx(1.0)
        apart = self.GRID + np.array([0, 5])  # no symbol in two positions
        for name in ("bosdis_wmcp", "bosdis_chaabouni2020"):
            assert metrics.METRICS[name](apart, self.GRID) == pytest.approx(1.0)

    @pytest.mark.parametrize("name", DISENTANGLEMENT)
    def test_constant_messages_score_nothing(self, name):
        assert metrics.METRICS[name](np.zeros((25, 3), dtype=int), self.GRID) == 0.0

    def test_random_messages_flatter_the_papers_posdis_and_not_chaabounis(self):
        tokens, attributes = random_code(1, seeds=100, clips=300, bins=5)
        assert 0.25 < metrics.posdis_wmcp(tokens, attributes).mean() < 0.5
        assert metrics.posdis_chaabouni2020(tokens, attributes).mean() < 0.02

    @pytest.mark.parametrize("name", DISENTANGLEMENT)
    def test_disentanglement_of_one_attribute_is_undefined(self, name):
        tokens, attributes = random_code()
        assert np.isnan(metrics.METRICS[name](tokens, attributes[:, :1])).all()
        assert math.isnan(metrics.METRICS[name](tokens[0], attributes[:, 0]))
