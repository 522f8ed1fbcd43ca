import numpy as np
import pytest

from data.cache import CacheError, load, merge, save, verify
from tests.helpers.caches import features


class TestMerge:
    def test_parts_merged_are_the_whole(self, tmp_path):
        whole = features()
        save(whole.select([0, 1, 2]), tmp_path / "a.h5")
        save(whole.select([3, 4, 5, 6]), tmp_path / "b.h5")
        merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "ab.h5")
        assert load(tmp_path / "ab.h5").differences(whole) == []
        assert verify(tmp_path / "ab.h5") == []

    def test_a_clip_in_both_is_taken_once(self, tmp_path):
        whole = features()
        save(whole.select([0, 1, 2, 3]), tmp_path / "a.h5")
        save(whole.select([3, 2, 4, 5, 6]), tmp_path / "b.h5")
        merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "ab.h5")
        assert load(tmp_path / "ab.h5").differences(whole) == []

    def test_labels_that_only_one_knows(self, tmp_path):
        save(features(2, prefix="a", labels={"mass": np.ones(2)}), tmp_path / "a.h5")
        save(features(1, prefix="b", labels={"size": np.ones(1)}), tmp_path / "b.h5")
        merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "ab.h5")
        labels = load(tmp_path / "ab.h5").labels
        np.testing.assert_array_equal(labels["mass"], [1, 1, np.nan])
        np.testing.assert_array_equal(labels["size"], [np.nan, np.nan, 1])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"fingerprint": {"name": "fake", "weights": {"sha256": "cd", "revision": 1}}},
                "fingerprint.weights.sha256 is 'ab' in one and 'cd' in the other",
            ),
            ({"sampler": {"name": "uniform", "frames": 8}}, "sampler.frames is 6 in one and 8"),
            ({"decoder": {"name": "pyav"}}, "decoder.ffmpeg is '8.0' in one and None"),
            (
                {"features": np.zeros((7, 3, 4), np.float16)},
                r"float16 \(3, 5\) in one and float16 \(3, 4\) in the other",
            ),
        ],
    )
    def test_what_differs_does_not_mix_and_the_field_is_named(self, tmp_path, change, message):
        save(features(prefix="a"), tmp_path / "a.h5")
        save(features(prefix="b", **change), tmp_path / "b.h5")
        with pytest.raises(CacheError, match=message) as error:
            merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "ab.h5")
        assert "a.h5" in str(error.value)
        assert not (tmp_path / "ab.h5").exists()

    def test_two_clips_of_one_id_are_refused(self, tmp_path):
        save(features(seed=0), tmp_path / "a.h5")
        save(features(seed=1), tmp_path / "b.h5")
        with pytest.raises(CacheError, match=r"a\.h5 and .*b\.h5 both have a clip c/é 0\.mp4"):
            merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "ab.h5")

    def test_into_one_of_its_sources(self, tmp_path):
        save(features(prefix="a"), tmp_path / "a.h5")
        save(features(prefix="b"), tmp_path / "b.h5")
        merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "a.h5")
        assert len(load(tmp_path / "a.h5")) == 14
        assert verify(tmp_path / "a.h5") == []
