"""What is missing, equal or odd among the labels of a run is said before it trains."""

import dataclasses

import numpy as np
import pytest

from data import cache
from data.errors import HeliographError
from pipeline.config import build_config
from pipeline.dataset import build_examples, is_grid, read_inputs
from pipeline.evaluation import evaluate
from pipeline.training import train
from pipeline.training.labels import describe_labels
from tests.helpers.features import make_features

QUICK = {"epochs": 2, "seeds": 1, "vocab": 3}


def saved(path, **labels):
    """A cache of 60 clips of 15 objects with these labels."""
    features = make_features(objects=15)
    arrays = {name: np.asarray(values, dtype=float) for name, values in labels.items()}
    cache.save(dataclasses.replace(features, labels=arrays), path)
    return path


def test_clips_that_lack_a_property_are_counted_in_log_and_record(tmp_path):
    values = np.repeat(np.arange(15.0), 4)
    mass, friction = values.copy(), values[::-1] / 15
    mass[:1], friction[2:10] = np.nan, np.nan
    path = saved(tmp_path / "c.h5", mass=mass, friction=friction)
    said = []
    run = train(path, tmp_path / "run", log=said.append, split="objects", oracle_epochs=0, **QUICK)
    sentence = "51 of 60 clips have both friction and mass; 8 lack friction, 1 lacks mass"
    assert any(line.startswith(sentence) for line in said)
    assert any(note.startswith(sentence) for note in run.metrics().notes)
    assert cache.info(path)["labels"]["friction"]["known"] == 52


def test_labels_that_all_clips_have_need_no_words(tmp_path):
    path = saved(tmp_path / "c.h5", mass=np.repeat(np.arange(15.0), 4))
    assert describe_labels(read_inputs({"c": path}), build_config("default", ("mass",))) == []


def test_sentinels_mixed_units_and_rounding_are_named(tmp_path):
    mass = np.repeat(np.arange(1.0, 16), 4)
    mass[5] = -999
    other = np.repeat(np.arange(1.0, 16) / 10, 4)
    other[::2] = other[::2].astype(np.float32)
    path = saved(tmp_path / "c.h5", mass=mass, friction=other)
    inputs = read_inputs({"c": path})
    said = describe_labels(inputs, build_config("default", ("mass", "friction")))
    assert any("mass is -999 in 1 clip" in line for line in said)
    assert any(line.startswith("friction: ") and "rounding" in line for line in said)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({"mass": np.arange(60.0), "age": np.full(60, np.nan)}, "has a value of age: name another"),
        (
            {
                "mass": np.where(np.arange(60) < 30, 1.0, np.nan),
                "age": np.where(np.arange(60) < 30, np.nan, 1.0),
            },
            "(of 60 clips, 30 have age, 30 have mass): name those that clips have together",
        ),
        (
            {"density": np.arange(1, 61) / 7 / (np.arange(1, 61) / 7 * 1.3)},
            "the 60 clips with known labels all have the same density: nothing to compare",
        ),
    ],
)
def test_nothing_to_learn_is_one_sentence_with_a_way_out(tmp_path, labels, sentence):
    path = saved(tmp_path / "c.h5", **labels)
    with pytest.raises(HeliographError) as error:
        train(path, tmp_path / "run", **QUICK)
    assert sentence in str(error.value)
    assert str(path) in str(error.value)
    assert "--property" in str(error.value)


def test_a_grid_of_two_writers_is_the_grid(tmp_path):
    number = np.repeat(np.arange(25), 6)
    elasticity = np.array([0.1, 0.3, 0.5, 0.7, 0.9])[number // 5]
    friction = np.array([0.05, 0.15, 0.25, 0.35, 0.45])[number % 5]
    features = dataclasses.replace(
        make_features(objects=25, each=6), labels={"elasticity": elasticity, "friction": friction}
    )
    half = np.arange(150) % 2 == 1
    single = np.where(half, elasticity.astype(np.float32).astype(float), elasticity)
    other = dataclasses.replace(features, labels={"elasticity": single, "friction": friction})
    names = ("elasticity", "friction")
    grid, two_writers = (build_examples(each, names) for each in (features, other))
    assert is_grid(two_writers.labels)
    for part in ("train", "validation", "test"):
        one, two = (getattr(each.split("auto", 0), part) for each in (grid, two_writers))
        assert one.tolist() == two.tolist()


@pytest.mark.parametrize("scale", [1e19, 1e-30])
def test_features_of_extreme_scale_train_on_axes_and_are_refused_without(tmp_path, scale):
    features = make_features(objects=15)
    scaled = dataclasses.replace(features, features=features.features * np.float32(scale))
    cache.save(scaled, tmp_path / "c.h5")
    options = QUICK | {"properties": ["mass"], "log": None}
    with pytest.raises(HeliographError, match="a size that no network learns from: give --axes 64"):
        train(tmp_path / "c.h5", tmp_path / "run", axes=0, **options)
    run = train(tmp_path / "c.h5", tmp_path / "run", axes=4, **options)
    baseline = evaluate(run.folder, permutations=20).to_json()["baselines"]["ridge"]
    assert baseline["mean"] > 0.8
