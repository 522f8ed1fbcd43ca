"""Views that are made from others: steps in another order or averaged, a label without another."""

from dataclasses import replace

import numpy as np
import pytest

from data import cache
from data.errors import HeliographError
from pipeline.experiments.derived import derive, residual, step_order
from pipeline.experiments.recipe import AgentView
from tests.helpers.features import make_features


@pytest.fixture
def source(tmp_path):
    features = make_features()  # (56, 4, 12)
    volume = np.random.default_rng(0).permutation(56.0 + np.arange(56))
    labels = {"mass": 3 * volume + np.tile([1.0, -1.0], 28), "volume": volume, "same": volume * 0}
    cache.save(replace(features, labels=labels, label_units={}, label_tables={}), tmp_path / "a.h5")
    return tmp_path / "a.h5"


def derived(source, **view):
    return derive(AgentView(name="new", of="old", **view), source, source.parent / "made")


def test_steps_are_in_the_order_of_the_number(source):
    before, path = cache.load(source), derived(source, order=3)
    assert path.name == "a-order3.h5"
    after = cache.load(path)
    order = step_order(4, 3)
    assert order.tolist() != [0, 1, 2, 3]
    assert (after.features == before.features[:, order]).all()
    assert after.clip_id == before.clip_id
    assert after.fingerprint["imported"]  # no backbone makes them
    assert derived(source, order=4) != path


def test_steps_are_averaged(source):
    before, after = cache.load(source), cache.load(derived(source, averaged=3))
    assert after.features.shape == (56, 1, 12)
    means = before.features[:, :3].astype(np.float64).mean(1)
    assert after.features[:, 0] == pytest.approx(means, abs=1e-3)


def test_a_label_without_what_another_tells(source):
    after = cache.load(derived(source, without=["mass", "volume"]))
    column, volume = after.labels["mass_without_volume"], after.labels["volume"]
    assert abs(np.corrcoef(column, volume)[0, 1]) < 1e-9
    assert np.sign(column).tolist() == np.tile([1.0, -1.0], 28).tolist()
    unknown = residual(np.array([1.0, 2.0, np.nan]), np.array([1.0, 2.0, 3.0]))
    assert np.isnan(unknown).tolist() == [False, False, True]


def test_what_was_made_is_kept_until_its_source_changes(source):
    path = derived(source, order=1)
    first = path.stat().st_mtime_ns
    assert derived(source, order=1).stat().st_mtime_ns == first
    features = cache.load(source)
    cache.save(replace(features, features=features.features + 1), source)
    derived(source, order=1)
    assert (cache.load(path).features == cache.load(source).features[:, step_order(4, 1)]).all()


@pytest.mark.parametrize(
    ("view", "sentence"),
    [
        ({"averaged": 5}, "it has 4 steps, not 5"),
        ({"without": ["mass", "density"]}, "it has no label 'density': its labels are mass"),
        ({"without": ["mass", "same"]}, "the label that is taken away does not vary"),
    ],
)
def test_what_cannot_be_made_is_said(source, view, sentence):
    with pytest.raises(HeliographError) as refused:
        derived(source, **view)
    assert sentence in str(refused.value)
    assert str(refused.value).startswith(f"the view 'new' of {source}: ")
