"""Permutations of clips and of whole objects."""

import doctest
import importlib

import numpy as np
import pytest

from pipeline.metrics import draw_objects, permutations
from pipeline.metrics.resampling import object_pair_weights, pairs_of_objects


def test_doctests():
    result = doctest.testmod(importlib.import_module("pipeline.metrics.resampling"))
    assert result.attempted > 0
    assert result.failed == 0


class TestPermutations:
    def test_every_clip_is_used_once(self):
        deals = permutations(30, n=50)
        assert (np.sort(deals, axis=1) == np.arange(30)).all()
        assert len(np.unique(deals, axis=0)) == 50

    def test_objects_stay_whole(self):
        group = np.array([0, 1, 0, 2, 2, 2, 1])
        deals = permutations(7, n=200, groups=group)
        donors = group[deals]  # (200, 7)
        for name in range(3):
            theirs = donors[:, group == name]
            assert (theirs == theirs[:, :1]).all()
        trades = {tuple(row[[0, 1, 3]]) for row in donors}
        assert len(trades) == 6

    def test_clips_of_the_donor_are_used_evenly(self):
        group = np.repeat([0, 1], [6, 3])
        deals = permutations(9, n=100, groups=group)
        traded = deals[group[deals[:, 0]] == 1]
        assert len(traded) > 20
        for deal in traded:
            assert np.bincount(deal[:6], minlength=9)[6:].tolist() == [2, 2, 2]
            assert len(set(deal[6:])) == 3

    def test_groups_of_other_clips(self):
        with pytest.raises(ValueError, match="groups name 3 clips, but there are 4"):
            permutations(4, n=1, groups=["a", "b", "a"])


class TestObjects:
    def test_a_draw_has_as_many_objects_as_there_are(self):
        draws = draw_objects(np.array([0, 0, 1, 2]), n=50)
        assert draws.shape == (50, 3)
        assert (draws.sum(1) == 3).all()

    def test_pairs_within_an_object_count_once_for_each_copy(self):
        number, ends = pairs_of_objects(np.array([0, 1, 0]), np.array([0, 0, 1]))
        assert ends[number].tolist() == [[0, 0], [0, 1], [0, 1]]
        assert object_pair_weights(np.array([[2, 3]]), ends).tolist() == [[2, 6]]
