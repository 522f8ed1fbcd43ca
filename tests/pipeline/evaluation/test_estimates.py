"""How far estimates from messages err, and whether their intervals and confidences hold."""

import math

import numpy as np
import pytest

from data import cache
from pipeline.evaluation.estimates import calibration_error, score_estimates
from pipeline.runs.metrics_schema import MessageEstimate


def test_the_calibration_error_is_the_distance_of_shares_from_confidences():
    confidence = np.array([0.95] * 10 + [0.55] * 10)
    right = np.array([1.0] * 9 + [0.0] + [1.0] * 2 + [0.0] * 8)
    assert calibration_error(confidence, right) == pytest.approx((0.05 + 0.35) / 2)
    assert calibration_error(np.array([1.0]), np.array([1.0])) == 0
    assert math.isnan(calibration_error(np.array([math.nan]), np.array([math.nan])))


def test_estimates_are_scored_on_objects_that_other_objects_calibrate(spoken_run):
    run = spoken_run
    scores = score_estimates(run, [cache.load(run.source.path).features])
    assert set(scores) == {"mass", "size"}
    for score in scores.values():
        MessageEstimate.model_validate(score)
        assert score["objects"] >= 12
        assert 0.8 <= score["coverage"] <= 1
    mass = scores["mass"]
    assert mass["error"] < 0.6 * mass["error_of_median"]
    assert mass["right"] > 0.6
    assert mass["calibration_error"] < 0.25
    # of one seed too few objects are held out to judge each by the others
    few = score_estimates(run.of_seed(0), [cache.load(run.source.path).features])
    assert math.isnan(few["mass"]["coverage"])
    assert math.isnan(few["mass"]["calibration_error"])
