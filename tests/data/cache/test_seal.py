import pytest

from data.cache import CacheError, save
from data.cache.seal import COPY, USER_BLOCK, Seal, check_structure
from data.cache.verification import is_intact
from tests.helpers.caches import features


@pytest.fixture
def cache(tmp_path):
    save(features(), tmp_path / "c.h5")
    return tmp_path / "c.h5"


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_what_is_written_is_read_again(cache):
    with open(cache, "rb", buffering=0) as file:
        seal = Seal.read(file)
        assert seal is not None
        assert seal.user_block() == cache.read_bytes()[:USER_BLOCK]
        assert seal.byte_count == cache.stat().st_size - USER_BLOCK
        assert check_structure(cache, file) == seal
    assert is_intact(cache)


@pytest.mark.parametrize("offset", [0, 30, 200, COPY, USER_BLOCK - 1])
def test_a_damaged_copy_of_the_seal_is_noticed_and_the_other_serves(cache, offset):
    with open(cache, "rb", buffering=0) as file:
        seal = Seal.read(file)
    flip(cache, offset)
    assert not is_intact(cache)
    with open(cache, "rb", buffering=0) as file:
        assert check_structure(cache, file) == seal


def test_with_both_copies_damaged_there_is_no_seal(cache):
    flip(cache, 30)
    flip(cache, COPY + 30)
    with open(cache, "rb", buffering=0) as file:
        assert Seal.read(file) is None
        with pytest.raises(CacheError, match=r"is damaged in its seal; .* verify --repair .*c\.h5"):
            check_structure(cache, file)


def test_without_a_trace_of_a_seal_it_is_a_file_of_another_program(cache):
    cache.write_bytes(bytes(USER_BLOCK) + cache.read_bytes()[USER_BLOCK:])
    with (
        open(cache, "rb", buffering=0) as file,
        pytest.raises(CacheError, match=r"has no seal .*heliograph cache import reads"),
    ):
        check_structure(cache, file)


def test_damage_in_the_features_leaves_the_structure_intact(cache):
    with open(cache, "rb", buffering=0) as file:
        seal = Seal.read(file)
    assert seal is not None
    flip(cache, seal.features[0] + 3)
    assert not is_intact(cache)
    with open(cache, "rb", buffering=0) as file:
        assert check_structure(cache, file) == seal


def test_damage_elsewhere_is_refused(cache):
    flip(cache, USER_BLOCK + 20)
    with open(cache, "rb", buffering=0) as file, pytest.raises(CacheError, match="is damaged"):
        check_structure(cache, file)


def test_a_file_of_another_kind_is_no_hdf5_file(tmp_path):
    (tmp_path / "x.h5").write_text("hello")
    with (
        open(tmp_path / "x.h5", "rb", buffering=0) as file,
        pytest.raises(CacheError, match=r"x\.h5 is not an HDF5 file"),
    ):
        check_structure(tmp_path / "x.h5", file)
