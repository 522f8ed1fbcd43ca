import os

import numpy as np
import pytest

from data import memory
from data.cache import CacheError, MappedRows, hdf5_reader, load, save
from data.errors import OutOfMemoryError
from tests.helpers.caches import features

SHAPE = (11, 16, 32_768)  # one row is 1 MiB: every row is a block


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float16)


@pytest.fixture
def path(tmp_path, whole):
    save(features(11, features=whole), tmp_path / "c.h5")
    return tmp_path / "c.h5"


def damage(path, row: np.ndarray) -> None:
    with open(path, "r+b") as file:
        place = file.read().find(row.tobytes()) + 9
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 64]))


@pytest.mark.parametrize(
    "where",
    [
        3, -1, slice(2, 5), slice(None, None, -2), [4, 4, 0], np.arange(11) < 2,
        (slice(1, 3), 5), (slice(None), slice(2, 4)), (7, slice(None), 1), ([1, 9], 2),
        (Ellipsis, 0), None, np.array([[0, 1], [2, 3]]), np.array([], int),
    ],
    ids=repr,
)  # fmt: skip
def test_rows_are_taken_as_numpy_takes_them(path, whole, where):
    mapped = load(path, mapped=True).features
    np.testing.assert_array_equal(mapped[where], whole[where])


def test_it_is_used_as_an_array_is(path, whole):
    mapped = load(path, mapped=True).features
    assert (mapped.shape, mapped.dtype, mapped.ndim) == (SHAPE, np.float16, 3)
    assert (len(mapped), mapped.size, mapped.nbytes) == (11, whole.size, whole.nbytes)
    np.testing.assert_array_equal(np.asarray(mapped, np.float32), whole.astype(np.float32))
    np.testing.assert_array_equal(np.stack(list(mapped)), whole)
    assert not mapped[0].flags.writeable
    with pytest.raises(IndexError):
        mapped[11]


def test_it_is_the_same_as_one_in_memory(path):
    assert load(path, mapped=True).differences(load(path)) == []
    assert load(path, mapped=True).content_sha256 == load(path).content_sha256
    assert load(path, mapped=True).select([3, 1]).differences(load(path).select([3, 1])) == []


def test_large_features_stay_in_their_file_where_it_may_be_either(path, monkeypatch):
    assert isinstance(load(path, mapped=None).features, np.ndarray)
    monkeypatch.setattr(hdf5_reader, "LARGE", 11 * (1 << 20) - 1)
    stays = load(path, mapped=None)
    assert isinstance(stays.features, MappedRows)
    assert stays.content_sha256 == load(path).content_sha256


def test_features_that_do_not_fit_into_memory_are_a_sentence(path, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10 << 20)
    load(path, mapped=True)
    with pytest.raises(OutOfMemoryError, match=r"c\.h5 takes 0\.0 GiB of memory, and 0\.0 GiB are"):
        load(path)


def test_a_block_is_checked_when_its_rows_are_first_used(path, whole):
    damage(path, whole[6])
    mapped = load(path, mapped=True).features
    np.testing.assert_array_equal(mapped[:6], whole[:6])
    np.testing.assert_array_equal(mapped[7:], whole[7:])
    for use in (lambda: mapped[6], lambda: mapped[5:8], lambda: np.asarray(mapped)):
        with pytest.raises(CacheError, match=r"c\.h5: the features of c/é 6\.mp4 are damaged"):
            use()


def test_a_file_that_was_cut_short_since_is_an_error_and_not_a_signal(path):
    mapped = load(path, mapped=True).features
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CacheError, match=r"c\.h5 ends before its features do"):
        mapped[10]


def test_a_file_that_was_replaced_since_gives_the_old_rows(path, whole):
    mapped = load(path, mapped=True).features
    save(features(3), path)
    np.testing.assert_array_equal(mapped[2:9], whole[2:9])
