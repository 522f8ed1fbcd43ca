import math
from dataclasses import replace
from pathlib import Path

import pytest

from data.clips import Clip
from data.datasets.dataset import Dataset, DatasetError, count_unknown
from data.datasets.physics101 import DATASET, index
from data.errors import InvalidValueError
from tests.helpers.trees import make_physics101_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_physics101_tree(tmp_path)


def test_a_condition_of_digits_and_a_line_is_no_number():
    dataset = replace(DATASET, conditions={"a": {"run": "10_01"}, "b": {"run": "2"}}.__getitem__)
    clips = [Clip(id=name, path=Path(name)) for name in ("a", "b")]
    assert dataset.with_factors(clips)[1] == {"run": {"10_01": 0.0, "2": 1.0}}


def test_factors_become_labels(tree):
    clips, codes = DATASET.with_factors(index(tree, scenario="all"))
    assert codes == {
        "surface": {"foam": 0.0, "foam-2": 1.0, "table": 2.0},
        "condition_1": {"10": 10.0},
        "condition_2": {"rug": 0.0},
    }
    fall, ramp = clips[0], clips[3]
    assert (fall.scenario, ramp.scenario) == ("fall", "ramp")
    assert fall.labels["surface"] == 0.0
    assert math.isnan(fall.labels["condition_1"])
    assert (ramp.labels["condition_1"], ramp.labels["condition_2"]) == (10.0, 0.0)
    assert math.isnan(ramp.labels["surface"])
    assert fall.labels["mass"] == 14.0
    with pytest.raises(DatasetError, match="has a label surface already"):
        DATASET.with_factors(clips[:3])


def test_factors_can_be_held_out(tree):
    clips = DATASET.held_out_by(index(tree, scenario="fall"), "surface")
    assert [clip.object for clip in clips] == ["surface=foam", "surface=foam-2", "surface=table"]
    with pytest.raises(InvalidValueError, match=r"no factor 'incline'; its factors are surface"):
        DATASET.held_out_by(index(tree, scenario="fall"), "incline")
    with pytest.raises(InvalidValueError, match=r"has no factor 'surface'; its factors are none"):
        DATASET.held_out_by(index(tree), "surface")


def test_a_dataset_without_conditions_has_none_to_hold_out():
    clips = [Clip(id="a.mp4", path=Path("a.mp4"))]
    plain = Dataset(name="plain", summary="", description="", index=lambda root: clips)
    assert plain.with_factors(clips) == (clips, {})
    with pytest.raises(InvalidValueError, match=r"a\.mp4 has no factor 'x'; its factors are none"):
        plain.held_out_by(clips, "x")


def test_unknown_labels_are_counted():
    clips = [
        Clip(id="a", path=Path("a"), labels={"mass": 1.0, "size": math.nan}),
        Clip(id="b", path=Path("b"), labels={"mass": math.nan}),
    ]
    assert count_unknown(clips) == {"mass": 1, "size": 2}
