"""What is damaged outside the features of a cache, and how much of it comes back."""

import hashlib

import pytest
import xxhash

from data.cache import CacheError, ShardStore, load, restore, save, verify
from data.cache.parts import files_of_index
from data.cache.seal import COPY, USER_BLOCK
from tests.helpers.caches import MADE_WITH, clips, extract, features, full
from tests.helpers.version_1 import save_version_1


def flip(path, *places):
    """Turn a bit at each offset of a file, or in the first place where some bytes are."""
    content = bytearray(path.read_bytes())
    for place in places:
        offset = place if isinstance(place, int) else content.find(place)
        assert offset >= 0
        content[offset] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("places", [[20], [COPY + 1], [130, COPY + 140], [5, 30, COPY + 200]])
def test_the_seal_is_written_again_to_the_byte(tmp_path, places):
    path = full(tmp_path / "c.h5")
    sound = path.read_bytes()
    flip(path, *places)
    assert len(verify(path)) == 1
    (done,) = restore(path)
    assert "of its seal" in done
    assert "written again" in done
    assert path.read_bytes() == sound


@pytest.mark.parametrize(
    ("place", "row_hashes"),
    [(3, True), (30, True), (30, False), (100, True), (150, False), (USER_BLOCK - 1, False)],
)
def test_the_seal_of_version_1_is_written_again(tmp_path, place, row_hashes):
    path = save_version_1(features(), tmp_path / "c.h5", row_hashes=row_hashes)
    sound = path.read_bytes()
    flip(path, place)
    (problem,) = verify(path)
    if place in (3, 100, USER_BLOCK - 1):
        assert str(problem) == f"{path} is damaged in its seal"
        with pytest.raises(CacheError, match=f"heliograph cache verify --repair {path} "):
            load(path)
    assert len(restore(path)) == 1
    assert path.read_bytes() == sound


def test_a_seal_that_does_not_fit_the_bytes_is_not_made_up(tmp_path):
    path = save_version_1(features(), tmp_path / "c.h5")
    flip(path, 30, "é 5".encode())
    damaged = path.read_bytes()
    with pytest.raises(CacheError, match=r"shows what was there; move it away \(mv .*c\.h5"):
        restore(path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("what", ["hash of a row", "hash of a block", "created", "identity"])
def test_what_the_identity_of_the_content_shows_to_be_sound(tmp_path, what):
    path = full(tmp_path / "c.h5")
    whole = load(path)
    places = {
        "hash of a row": hashlib.sha256(whole.features[3].tobytes()).hexdigest().encode(),
        "hash of a block": xxhash.xxh3_128_digest(whole.features.tobytes()),
        "created": whole.created.encode(),
        "identity": whole.content_sha256.encode(),
    }
    flip(path, places[what])
    assert "damaged outside its features" in str(verify(path)[0])
    (done,) = restore(path)
    assert "with 11 of 11 clips" in done
    assert verify(path) == []
    assert load(path).content_sha256 == whole.content_sha256


@pytest.mark.parametrize("what", [b"fall/004.mp4", b"object 3", b"fall", "mass", "key", "source"])
def test_what_the_ledger_knows_comes_back(tmp_path, what):
    path = full(tmp_path / "c.h5")
    whole = load(path)
    places = {
        "mass": whole.labels["mass"].tobytes(),
        "key": whole.key[2].encode(),
        "source": whole.source_sha256[2].encode(),
    }
    flip(path, places.get(what, what))
    restore(path)
    assert verify(path) == []
    assert load(path).differences(whole) == []


def test_clips_with_damaged_features_are_left_to_the_ledger(tmp_path):
    path = full(tmp_path / "c.h5")
    whole = load(path)
    flip(path, b"fall/004.mp4", whole.features[2].tobytes())
    (done,) = restore(path)
    assert "with 10 of 11 clips" in done
    assert [str(problem) for problem in verify(path)] == ["fall/002.mp4: its shard is missing"]
    assert dict(load(path).failures)["fall/002.mp4"] == "its features were damaged"


@pytest.mark.parametrize("what", ["frames", "truncated", "structure"])
def test_what_nothing_shows_is_refused_with_what_to_do(tmp_path, what):
    path = full(tmp_path / "c.h5")
    if what == "frames":
        flip(path, load(path).pts_seconds[3].tobytes())
    elif what == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        flip(path, USER_BLOCK)
    damaged = path.read_bytes()
    with pytest.raises(CacheError, match=rf"move it away \(mv {path} {path}\.damaged\)"):
        restore(path)
    assert path.read_bytes() == damaged


def test_in_a_folder_of_parts_seals_are_mended(tmp_path):
    folder = tmp_path / "c"
    save(features(), folder, clips_per_part=3)
    for part in files_of_index(folder):
        flip(part, 300)
    assert len(verify(folder)) == 3
    assert len(restore(folder)) == 3
    assert verify(folder) == []


def test_a_sound_cache_and_an_interrupted_extraction_are_left_alone(tmp_path):
    path = full(tmp_path / "c.h5")
    before = path.stat()
    assert restore(path) == []
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    with ShardStore(tmp_path / "d.h5", **MADE_WITH) as store:
        extract(store, clips(2))
    assert restore(tmp_path / "d.h5") == []
