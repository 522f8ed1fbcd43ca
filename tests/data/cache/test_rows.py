import numpy as np
import pytest

from data.cache import CacheError, load, read_metadata, save
from data.cache.rows import cache_rows, stack_rows, write_rows
from tests.helpers.caches import features


def stacked(rows, cache):
    return stack_rows(
        rows,
        cache.features.shape[1:],
        cache.features.dtype,
        identity=cache.identity,
        failures=cache.failures,
        versions=cache.versions,
    )


def test_rows_in_another_order_are_a_selection(tmp_path):
    whole = features()
    save(whole, tmp_path / "c.h5")
    rows = list(cache_rows(tmp_path / "c.h5", read_metadata(tmp_path / "c.h5")))
    chosen = [rows[4], rows[1], rows[2]]
    write_rows(tmp_path / "d.h5", stacked(chosen, whole), [row.content for row in chosen])
    assert load(tmp_path / "d.h5").differences(whole.select([4, 1, 2])) == []


def test_rows_with_fewer_frames_are_padded(tmp_path):
    for name, count in (("a", 6), ("b", 4)):
        part = features(1, prefix=name)
        save(features(
            1, prefix=name, frame_index=part.frame_index[:, :count],
            pts_seconds=part.pts_seconds[:, :count],
        ), tmp_path / f"{name}.h5")  # fmt: skip
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    rows = [row for path in paths for row in cache_rows(path, read_metadata(path))]
    both = stacked(rows, features())
    assert both.frame_index.shape == both.pts_seconds.shape == (2, 6)
    assert both.frame_index[1, 4:].tolist() == [-1, -1]
    assert np.isnan(both.pts_seconds[1, 4:]).all()


def test_a_damaged_row_is_named(tmp_path):
    whole = features()
    save(whole, tmp_path / "c.h5")
    cache = cache_rows(tmp_path / "c.h5", read_metadata(tmp_path / "c.h5"))
    rows = [row.content for row in cache]
    content = bytearray((tmp_path / "c.h5").read_bytes())
    content[rows[3].features.offset] ^= 1
    (tmp_path / "c.h5").write_bytes(content)
    assert rows[2].read().tobytes() == whole.features[2].tobytes()
    with pytest.raises(CacheError, match=r"c\.h5: the features of c/é 3\.mp4 are damaged"):
        rows[3].read()
