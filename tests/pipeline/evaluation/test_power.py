"""What a training can show, before it, against the tests that users get of made-up runs."""

import json

import numpy as np
import pytest
from scipy.special import ndtri

from benchmarks.coverage import Case, sample
from data.errors import HeliographError
from pipeline.config import build_config
from pipeline.dataset import Examples, Split
from pipeline.evaluation.compare_runs import paired_difference
from pipeline.evaluation.power import NOISE, POWER, power, shown_mean
from tests.helpers.command import run

SAMPLES = 80
CASES = [
    Case(12, 12, 8, 2, alike=True),
    pytest.param(Case(26, 5, 20, 4, alike=False), marks=pytest.mark.slow),
]


def plan(case, *, properties=("mass",), game="comparison"):
    rng = np.random.default_rng(1)
    objects = np.repeat(np.arange(case.objects), case.clips)
    labels = np.stack([rng.permutation(case.objects)[objects] for _ in properties], axis=1)
    same = rng.permutation(case.objects)[: case.tested]
    splits = []
    for _ in range(case.seeds):
        chosen = same if case.alike else rng.permutation(case.objects)[: case.tested]
        is_test = np.isin(objects, chosen)
        empty = np.zeros(0, np.int64)
        parts = np.flatnonzero(~is_test), empty, np.flatnonzero(is_test)
        splits.append(Split(*parts, np.random.RandomState(0)))
    examples = Examples(
        (np.zeros((len(objects), 1, 1), np.float32),),
        labels.astype(float),
        tuple(map(str, objects)),
    )
    return build_config("default", properties, game=game), range(case.seeds), examples, splits


def samples(case, accuracy):
    """Return runs of `benchmarks.coverage` by twos, with noise that gives them an accuracy."""
    value = ndtri((np.arange(case.objects) + 0.5) / case.objects)

    def drawn(scale, numbers):
        noise = tuple(scale * part for part in NOISE)
        return [sample(case, noise, number, value=value) for number in numbers]

    low, high = 0.05, 50.0
    for _ in range(8):
        scale = np.sqrt(low * high)
        mean = np.mean([first.mean[0] for first, _ in drawn(scale, range(900, 920))])
        low, high = (scale, high) if mean > accuracy else (low, scale)
    return drawn(scale, range(SAMPLES))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_said_to_be_shown_is_shown_four_times_in_five(case):
    found = power(*plan(case))["properties"]["mass"]
    assert found["chance"] == 0.5
    shown = [first.interval()[0, 0] > 0.5 for first, _ in samples(case, found["above_chance"])]
    assert np.mean(shown) == pytest.approx(POWER, abs=0.13)
    gaps = [
        first.per_seed[:, 0] - second.per_seed[:, 0] + found["differences"]["0.8"]
        for first, second in samples(case, 0.8)
    ]
    shown = [paired_difference(np.zeros(case.seeds), gap)["p_value"] <= 0.05 for gap in gaps]
    assert np.mean(shown) == pytest.approx(POWER, abs=0.13)


@pytest.mark.parametrize("count", [6, 7, 9])
def test_so_large_a_mean_is_shown_by_the_test_of_signs_four_times_in_five(count):
    rng = np.random.default_rng(0)
    gaps = rng.standard_normal((400, count)) + shown_mean(count)
    shown = [paired_difference(np.zeros(count), gap)["p_value"] <= 0.05 for gap in gaps]
    assert np.mean(shown) == pytest.approx(POWER, abs=0.08)
    assert paired_difference(np.zeros(5), np.full(5, 9.0))["p_value"] > 0.05
    assert shown_mean(5) is None


def test_more_objects_and_seeds_show_more_and_few_show_nothing():
    few, many = (power(*plan(Case(60, tested, 8, 1, alike=True))) for tested in (8, 40))
    few, many = few["properties"]["mass"], many["properties"]["mass"]
    assert 0.5 < many["above_chance"] < few["above_chance"] < 1
    assert few["differences"]["0.7"] > many["differences"]["0.7"] > many["differences"]["0.9"] > 0
    one = power(*plan(Case(9, 2, 5, 3, alike=True)))["properties"]["mass"]
    assert one == {
        "chance": 0.5,
        "above_chance": None,
        "differences": {"0.7": None, "0.8": None, "0.9": None},
    }


def test_of_two_properties_all_at_once_has_a_chance_of_its_own():
    found = power(*plan(Case(20, 8, 6, 2, alike=False), properties=("mass", "volume")))
    assert set(found["properties"]) == {"mass", "volume"}
    assert found["together"]["chance"] == 0.25
    assert found["together"]["above_chance"] < found["properties"]["mass"]["above_chance"]
    assert found["seeds"] == 6
    assert (found["objects_per_seed"], found["clips_per_seed"]) == (8, 16)


def test_a_game_that_is_not_about_pairs_is_refused():
    with pytest.raises(HeliographError, match="known of the game comparison, not of referential"):
        power(*plan(Case(9, 3, 2, 3, alike=True), game="referential"))


def test_train_says_it_and_trains_nothing(cache_path, tmp_path):
    words = ["train", cache_path, "-o", tmp_path / "run", "--property", "mass", "--seeds", 6]
    shown = run(*words, "--power")
    assert shown.exit_code == 0
    assert "6 seeds, each tested on 4 of" in shown.stdout
    assert "50 %: from" in shown.stdout
    assert set(json.loads(run(*words, "--power", "--json").stdout)["properties"]) == {"mass"}
    assert not (tmp_path / "run").exists()
    swept = run(*words, "--power", "--sweep", "vocab=2,3")
    assert swept.exit_code == 2
    assert "--power is about one training" in swept.stderr
