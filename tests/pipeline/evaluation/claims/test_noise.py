"""Gaussian noise on planted codes: what is lost can be counted."""

import numpy as np
import pytest
from scipy.stats import norm

from pipeline.evaluation.claims.noise import NOISE, SIGMAS, add_gaussian_noise


def test_accuracy_falls_to_chance_and_rounding_saves_some_of_it(compositional):
    curve = add_gaussian_noise(compositional)["curve"]
    assert [row["sigma"] for row in curve] == list(SIGMAS)
    read = [row["accuracy"]["properties"]["alpha"]["mean"] for row in curve]
    rounded = [row["rounded"]["properties"]["alpha"]["mean"] for row in curve]
    assert read[0] == rounded[0] == 1
    assert curve[0]["symbols_wrong"] == 0
    assert all(np.diff(read) < 0.05)
    assert read[-1] < 0.75
    assert rounded[2] == 1 > read[5]  # noise of 0.2 turns no symbol
    drop = curve[5]["drop"]
    assert drop["mean"] == pytest.approx(1 - curve[5]["accuracy"]["mean"])
    assert drop["interval"][0] > 0


def test_symbols_turn_as_often_as_normal_numbers_say(random_code):
    """The symbol stands where 1 + noise is above every other noise."""
    curve = add_gaussian_noise(random_code, (0.0, 0.7), draws=20)["curve"]
    grid = np.linspace(-6, 6, 4001)
    stands = np.trapezoid(norm.pdf(grid) * norm.cdf(grid + 1 / 0.7) ** 4, grid)
    assert curve[1]["symbols_wrong"] == pytest.approx(1 - stands, abs=0.02)


def test_a_code_without_meaning_has_nothing_to_lose(random_code):
    curve = add_gaussian_noise(random_code, (0.0, 0.5))["curve"]
    low, high = curve[1]["drop"]["interval"]
    assert low < 0.06
    assert high > -0.06


def test_it_is_said_in_a_sentence_and_shown_whole(compositional):
    entry = add_gaussian_noise(compositional)
    told = NOISE.sentence(entry)
    assert told.startswith("100.0 % [")
    assert "with sigma 0.5" in told
    columns, rows = NOISE.table(entry)
    assert len(rows) == len(SIGMAS)
    assert all(len(row) == len(columns) for row in rows)
