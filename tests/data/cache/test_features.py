import dataclasses

import numpy as np
import pytest

from data.cache import CacheError
from tests.helpers.caches import features
from tests.helpers.features import make_features


class TestFeatures:
    def test_shapes_stand_in_the_repr(self):
        text = "Features(7 clips x 3 steps x 5 float16, 3 objects, labels mass, size, 1 failures)"
        assert repr(features()) == text

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"features": np.zeros((7, 3))}, r"must be float16 or float32 .*not float64 \(7, 3\)"),
            ({"features": np.zeros((7, 3, 5), np.int32)}, "not int32"),
            ({"clip_id": ["a"] * 7}, "'a' appears twice"),
            ({"clip_id": ["a"]}, "1 clip_id for 7 clips"),
            ({"object": ["a"] * 8}, "8 object for 7 clips"),
            ({"labels": {"mass": np.zeros(6)}}, r"label 'mass' has shape \(6,\) for 7 clips"),
            ({"frame_index": np.zeros((7, 4))}, r"\(7, 4\) but pts_seconds \(7, 6\)"),
            ({"frame_index": np.zeros((3, 6))}, r"frame_index has shape \(3, 6\) for 7 clips"),
        ],
    )
    def test_refuses(self, change, message):
        with pytest.raises(CacheError, match=message):
            features(**change)

    def test_select_twice_is_select_of_selection(self):
        whole = features()
        assert not whole.select([4, 2, 1]).select([2, 0]).differences(whole.select([1, 4]))


def test_features_show_in_a_notebook_and_as_a_data_frame():
    made = dataclasses.replace(make_features(), scenario=["<script>"] * 56)
    shown = made._repr_html_()
    assert "<script>" not in shown
    assert shown.count("<tr>") == 11
    assert "and 46 more" in shown
    assert "<th>mass</th><th>volume</th>" in shown
    pytest.importorskip("pandas")
    frame = made.to_pandas()
    assert list(frame.columns) == ["clip", "object", "scenario", "start", "end", "mass", "volume"]
    assert frame["clip"].tolist() == made.clip_id
    assert np.array_equal(frame["mass"], made.labels["mass"], equal_nan=True)
    clash = dataclasses.replace(made, labels={"object": made.labels["mass"]})
    assert list(clash.to_pandas().columns)[-1] == "label object"
