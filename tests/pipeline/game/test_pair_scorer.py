"""Accuracies of all seeds at once, against those of each seed by itself."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.agents import CompositionalReceiver, seeded, stack_receivers
from pipeline.config import build_config
from pipeline.game import ClipTable, base, build_game, comparison, pair_scorer
from pipeline.game.answer_tables import distinct_each, distinct_rows

CPU = torch.device("cpu")
SIZES = (9, 3, 0, 70, 1, 40)


def seeds_of(properties, *, symbols=True):
    """A game, and of each seed its clips, tables, what is read of them, and the receivers."""
    rng = np.random.default_rng(0)
    game = build_game(build_config("published", properties, tie_margin={properties[0]: 0.5}))
    labels = rng.integers(0, 5, (100, len(properties))) * 0.4
    labels[rng.random(labels.shape) < 0.1] = np.nan
    tables = [ClipTable(labels, np.arange(100))] * len(SIZES)
    tables[3] = ClipTable(rng.permutation(labels) + 0.1, tables[3].objects)
    clips = [np.sort(rng.choice(100, size, replace=False)) for size in SIZES]
    tokens = [torch.from_numpy(rng.integers(0, 3, (size, 4))) for size in SIZES]
    read = [F.one_hot(own, 3).flatten(1).float() for own in tokens]
    if not symbols:
        read = [torch.from_numpy(rng.normal(size=(size, 12)).astype(np.float32)) for size in SIZES]
    receivers = seeded(
        0, lambda: [[CompositionalReceiver(12, properties=properties)] * 2 for _ in SIZES]
    )
    return game, clips, tables, read, stack_receivers(receivers, CPU)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("most", [1 << 24, 100])
@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("properties", [("mass",), ("mass", "drag")])
def test_all_seeds_at_once_have_the_accuracies_of_each(
    properties, at_once, most, published, monkeypatch
):
    monkeypatch.setattr(pair_scorer, "SEEDS_AT_ONCE", {"cpu": at_once})
    monkeypatch.setattr(pair_scorer, "MOST_ANSWERS", most)
    for symbols in (True, False):
        game, clips, tables, read, receivers = seeds_of(properties, symbols=symbols)
        scorer = game.scorer(clips, tables, CPU, published=published)
        assert type(scorer) is pair_scorer.PairScorer
        found = scorer.scores(receivers, read, None)
        plain = base.PartScorer(game, clips, tables, CPU, published=published)
        assert repr(found) == repr(plain.scores(receivers, read, None))  # nan is nan
        assert {(one is None, two is None) for one, two in found} == {(False, not published)}
        right = [own.together for own, _ in found]
        assert 0 < right[3] < 1
        assert np.isnan([right[2], right[4]]).all()


@pytest.mark.parametrize("name", ["MOST_DISTINCT", "MOST_LEVELS"])
def test_many_clips_or_labels_are_scored_seed_by_seed(name, monkeypatch):
    monkeypatch.setattr(comparison, name, 4)
    game, clips, tables, _, _ = seeds_of(("mass",))
    assert type(game.scorer(clips, tables, CPU, published=True)) is base.PartScorer


def test_where_no_seed_has_clips_nothing_is_scored():
    game, _, tables, read, receivers = seeds_of(("mass", "drag"))
    nothing = [np.arange(0)] * len(SIZES)
    scorer = game.scorer(nothing, tables, CPU, published=True)
    for own, published in scorer.scores(receivers, [of[:0] for of in read], None):
        assert np.isnan([own.together, *own.each, published.together]).all()
        assert len(own.each) == 2


@pytest.mark.parametrize("values", [2, 3])
@pytest.mark.parametrize("size", [3, 70])
def test_the_distinct_rows_of_each_seed_are_those_of_it_alone(values, size):
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, values, (count, size)).astype(np.float32) for count in SIZES]
    rows[3][:, 1:] = 0
    distinct, numbers = distinct_each(np.concatenate(rows), SIZES)
    for own, found, number in zip(rows, distinct, numbers, strict=True):
        expected, of_each = distinct_rows(own)
        assert np.array_equal(found[: len(expected)], expected)
        assert not found[len(expected) :].any()
        assert np.array_equal(number[: len(own)], of_each)
