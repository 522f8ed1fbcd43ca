import json
from dataclasses import replace

import numpy as np
import pytest

from data.cache import info, load, save, verify
from tests.helpers.caches import features


class TestRoundTrip:
    def test_everything_comes_back(self, tmp_path):
        written = features()
        save(written, tmp_path / "c.h5")
        read = load(tmp_path / "c.h5")
        assert read.differences(written) == []
        assert read.created.endswith("+00:00")
        assert read.failures == [("c/short.mp4", "7 of 8 frames")]

    @pytest.mark.parametrize("count", [0, 1])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    def test_none_and_one(self, tmp_path, count, dtype):
        written = features().select(range(count))
        written = replace(written, features=written.features.astype(dtype), failures=[])
        save(written, tmp_path / "c.h5")
        assert load(tmp_path / "c.h5").differences(written) == []
        assert verify(tmp_path / "c.h5") == []

    def test_two_writes_differ_in_nothing_but_their_time(self, tmp_path):
        for name in ("a.h5", "b.h5"):
            save(features(), tmp_path / name)
        assert load(tmp_path / "a.h5").differences(load(tmp_path / "b.h5")) == []

    def test_info_is_json(self, tmp_path):
        save(features(), tmp_path / "c.h5")
        told = json.loads(json.dumps(info(tmp_path / "c.h5"), allow_nan=False))
        assert (told["clips"], told["steps"], told["dimensions"]) == (7, 3, 5)
        assert told["labels"]["mass"] == {"known": 7, "unknown": 0, "min": 0.0, "max": 2.0}
        assert told["labels"]["size"] == {"known": 0, "unknown": 7, "min": None, "max": None}
        assert told["failures"] == [{"clip": "c/short.mp4", "reason": "7 of 8 frames"}]
