"""The type of `metrics.json`: what it reads, what it refuses, and what older files call things."""

import copy
import json
import math

import pytest
from pydantic import ValidationError

from pipeline.runs import RunMetrics, Spread, has_key
from pipeline.runs.metrics_schema import Range

HALF = {"mean": 0.5, "std": 0.1, "per_seed": [0.4, 0.6]}
ESTIMATE = HALF | {"interval": [0.3, 0.7]}
BY_PROPERTY = ESTIMATE | {"properties": {"mass": ESTIMATE}}
MINIMAL = {
    "schema_version": 2,
    "seeds": [0, 1],
    "accuracy_test": None,
    "accuracy_last_epoch": HALF,
    "accuracy_published_protocol": HALF | {"selected_on_test": True},
    "properties": {
        "mass": {
            "accuracy_test": None,
            "accuracy_last_epoch": HALF,
            "accuracy_published_protocol": HALF,
        }
    },
}


def read(stored: object) -> RunMetrics:
    return RunMetrics.read(stored, properties=["mass"], seeds=2)


def test_what_is_read_is_written_again():
    stored = MINIMAL | {"baselines": {"ridge": BY_PROPERTY, "volume": None}, "notes": ["a"]}
    assert json.loads(json.dumps(read(stored).to_json())) == stored


def test_numbers_over_seeds_become_the_rows_of_a_table():
    metrics = read(MINIMAL | {"baselines": {"<b>": BY_PROPERTY, "volume": None}, "notes": ["<i>"]})
    shown = metrics._repr_html_()
    assert "<td>baselines.&lt;b&gt;</td><td>0.5</td><td>0.1</td><td>0.3</td><td>0.7</td>" in shown
    assert "<p>&lt;i&gt;</p>" in shown
    pytest.importorskip("pandas")
    frame = metrics.to_pandas().set_index("key")
    assert list(frame.index) == [
        "accuracy_last_epoch", "accuracy_published_protocol", "properties.mass.accuracy_last_epoch",
        "properties.mass.accuracy_published_protocol", "baselines.<b>",
        "baselines.<b>.properties.mass",
    ]  # fmt: skip
    assert frame.loc["baselines.<b>"].tolist() == [0.5, 0.1, 0.3, 0.7]
    assert math.isnan(frame.loc["accuracy_last_epoch", "low"])


def test_a_key_that_is_absent_stays_absent():
    assert read(MINIMAL).to_json().keys() == MINIMAL.keys()
    assert read(MINIMAL).baselines is None


def test_nan_becomes_null():
    stored = MINIMAL | {"accuracy_last_epoch": HALF | {"mean": math.nan}}
    assert read(stored).accuracy_last_epoch.mean is None


@pytest.mark.parametrize(
    ("path", "value", "phrase"),
    [
        ((), [], "it is no object"),
        (("properties",), {}, "it has no 'mass'"),
        (("properties",), None, "it has no 'properties'"),
        (("accuracy_last_epoch",), None, "its accuracy_last_epoch cannot be None"),
        (("accuracy_last_epoch", "mean"), 1.5, "its accuracy_last_epoch.mean cannot be 1.5"),
        (("accuracy_last_epoch", "std"), -0.1, "its accuracy_last_epoch.std cannot be -0.1"),
        (
            ("accuracy_last_epoch", "per_seed"),
            [0.5],
            "its accuracy_last_epoch is no mean, std and per_seed of 2 seeds",
        ),
        (
            ("properties", "mass", "accuracy_last_epoch"),
            {"mean": 0.5},
            "its properties.mass.accuracy_last_epoch has no 'std'",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_phrase(path, value, phrase):
    stored = copy.deepcopy(MINIMAL)
    target = stored
    for part in path[:-1]:
        target = target[part]
    if path:
        target[path[-1]] = value
    else:
        stored = value
    with pytest.raises(ValueError, match=r".") as error:
        read(stored)
    assert str(error.value) == phrase


def test_unknown_keys_are_read_over_and_never_written():
    assert read(MINIMAL | {"luck": 1}) == read(MINIMAL)
    with pytest.raises(ValidationError):
        read(MINIMAL).with_keys({"luck": 1})


def test_older_names_are_understood():
    difference = HALF | {"interval": [-0.1, 0.1]}
    fresh = {"accuracy": BY_PROPERTY, "dealt": BY_PROPERTY}
    fresh |= {"above_dealt": difference, "loss_of_newcomers": difference}
    bits = {"bits_capacity": 4.0, "bits_used": HALF, "bits_symbols": HALF}
    older = MINIMAL | {
        "agents": BY_PROPERTY,
        "listeners": fresh,
        "silenced": [difference],
        "worth": {"compression": bits | {"bits_features": 8, "ratio": 2.0}, "probes": {}},
    }
    metrics = read(older)
    assert metrics.kept_receiver.mean == 0.5
    assert metrics.fresh_receivers.trained_minus_fresh.interval == (-0.1, 0.1)
    assert metrics.silenced_agents[0].mean == 0.5
    assert metrics.compression.bits_features == 8
    assert metrics.probes == {}
    names = metrics.to_json().keys() - MINIMAL.keys()
    assert names == {
        "kept_receiver", "fresh_receivers", "silenced_agents", "compression", "probes",
    }  # fmt: skip
    assert read(metrics.to_json()) == metrics


def version_1() -> dict:
    """Metrics as they were written before they had a version: agents and positions from 0."""
    agreement = {"adjusted_mutual_information": 0.1, "matched": 0.5, "matched_by_chance": 0.4}
    drops = {
        "drop": [[0.1], [0.2]],
        "interval": [[[0.0, 0.2]], [[0.1, 0.3]]],
        "per_seed": [[[0.1], [0.2]]] * 2,
        "drop_together": [0.1, 0.2],
        "interval_together": [[0.0, 0.2], [0.1, 0.3]],
        "targeted": None,
    }
    older = MINIMAL | {
        "baselines": {"ridge": BY_PROPERTY, "ridge_agent_0": BY_PROPERTY, "ridge_agent_1": None},
        "missing_baselines": {"ridge_agent_1": "no frames"},
        "agreement": {"agents": [agreement | {"agents": [0, 1]}], "seeds": None},
        "interventions": {
            "positions": [[0, 0], [0, 1]],
            "accuracy_intact": BY_PROPERTY,
            "carries": [["mass", "mass"]] * 2,
            **dict.fromkeys(("zero", "resample", "scramble", "swap"), drops),
            "edits": {"flip_rate": [[0.1], [0.2]], "per_seed": [[[0.1], [0.2]]] * 2},
        },
    }
    del older["schema_version"]
    sizes = {"folder": "control", "heads": 1, "vocab": 64}
    return older | {"control": older | sizes}


def test_agents_and_positions_of_an_older_file_are_numbered_from_1():
    older = version_1()
    metrics = read(copy.deepcopy(older))
    for own in (metrics, metrics.control):
        assert own.schema_version == 2
        assert list(own.baselines) == ["ridge", "ridge_agent_1", "ridge_agent_2"]
        assert own.missing_baselines == {"ridge_agent_2": "no frames"}
        assert own.interventions.positions == [(1, 1), (1, 2)]
        assert own.agreement.agents[0].agents == (1, 2)
    assert older == version_1()  # what was parsed is left as it is
    again = read(json.loads(json.dumps(metrics.to_json())))
    assert again == metrics
    assert again.with_keys({"notes": ["a"]}).interventions.positions == [(1, 1), (1, 2)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("agreement", {"agents": [[0, 1]], "seeds": None}),
        ("agreement", {"agents": [{"agents": "01"}], "seeds": None}),
        ("interventions", {"positions": [3]}),
        ("baselines", []),
        ("control", {}),
    ],
)
def test_an_older_file_of_other_types_is_refused_with_a_phrase(key, value):
    older = version_1() | {key: value}
    with pytest.raises(ValueError, match=rf"its {key}"):
        read(older)


@pytest.mark.parametrize("version", [3, 0, "2", True, None])
def test_a_newer_version_is_refused(version):
    with pytest.raises(ValueError, match=r"its schema version is .*, and this Heliograph reads 1"):
        read(MINIMAL | {"schema_version": version})


def test_a_path_leads_to_a_value_by_newer_and_older_names():
    metrics = read(MINIMAL | {"agents": BY_PROPERTY})
    for path in ("kept_receiver.properties.mass.mean", "agents.properties.mass.mean"):
        assert has_key(path)
        assert metrics.at(path) == 0.5
    assert metrics.at("baselines.ridge") is None
    assert metrics.at("seeds.0") is None
    assert has_key("worth.probes.mass.ridge.retained")
    assert has_key("outcome.above_median.messages")
    assert not has_key("seeds.0")
    assert not has_key("luck")
    assert not has_key("baselines.ridge.luck")


def test_a_range_allows_rounding():
    assert Range(0.0, 1.0)(1.0 + 1e-12) == 1.0 + 1e-12
    with pytest.raises(ValueError, match=r"1\.01 is not in 0 to 1"):
        Range(0.0, 1.0)(1.01)


def test_numbers_over_seeds():
    assert Spread.numbers([0.5, 1.0]) == {
        "mean": 0.75, "std": pytest.approx(0.353553, abs=1e-6), "per_seed": [0.5, 1.0],
    }  # fmt: skip
    assert Spread.numbers([0.5])["std"] == 0.0
    assert math.isnan(Spread.numbers([math.nan])["mean"])
