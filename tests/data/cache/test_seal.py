import pytest

from data.cache import CacheError, save
from data.cache.seal import USER_BLOCK, Seal, check_structure, has_seal, is_seal_intact
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
    assert is_seal_intact(cache)


@pytest.mark.parametrize("offset", [0, 30, 200, USER_BLOCK - 1])
def test_a_damaged_seal_is_none_or_does_not_match(cache, offset):
    flip(cache, offset)
    assert not is_seal_intact(cache)


def test_damage_in_the_features_leaves_the_structure_intact(cache):
    with open(cache, "rb", buffering=0) as file:
        seal = Seal.read(file)
    assert seal is not None
    flip(cache, seal.features_start + 3)
    assert has_seal(cache)
    assert not is_seal_intact(cache)
    with open(cache, "rb", buffering=0) as file:
        assert check_structure(cache, file) == seal


def test_damage_elsewhere_is_refused(cache):
    flip(cache, USER_BLOCK + 20)
    with open(cache, "rb", buffering=0) as file, pytest.raises(CacheError, match="is damaged"):
        check_structure(cache, file)


def test_a_file_without_a_seal_has_none_to_check(tmp_path):
    (tmp_path / "x.h5").write_text("hello")
    assert not has_seal(tmp_path / "x.h5")
    with open(tmp_path / "x.h5", "rb", buffering=0) as file:
        assert check_structure(tmp_path / "x.h5", file) is None
