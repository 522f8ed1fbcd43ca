import hashlib
import json
import os
import random
import resource
import shutil
import signal

import h5py
import numpy as np
import pytest
import xxhash

from data.cache import (
    CacheError,
    save,
)
from data.files import WriteError
from tests.helpers.caches import features


class TestSchema:
    def test_plain_h5py_reads_the_schema(self, tmp_path):
        written = features()
        save(written, tmp_path / "c.h5")
        with h5py.File(tmp_path / "c.h5") as file:
            assert file.userblock_size == 512
            assert file.attrs["schema_version"] == 2
            assert json.loads(file.attrs["fingerprint"]) == written.fingerprint
            assert file["clip_id"].asstr()[:].tolist() == written.clip_id
            np.testing.assert_array_equal(file["features"][()], written.features)
            np.testing.assert_array_equal(file["labels/mass"][()], written.labels["mass"])
            assert file["failures"]["reason"].tolist() == [b"7 of 8 frames"]
            for name in ("features", "clip_id", "frame_index", "pts_seconds", "labels/mass"):
                assert file[name].chunks is None, name

    def test_the_user_block_holds_the_hash_of_all_but_the_features_twice(self, tmp_path):
        save(features(), tmp_path / "c.h5")
        content = (tmp_path / "c.h5").read_bytes()
        start = content.find(features().features.tobytes())
        stop = start + features().features.nbytes
        rest = hashlib.sha256(content[512:start] + content[stop:]).hexdigest()
        text = (
            f"heliograph cache 2 bytes={len(content) - 512} features={start}-{stop} "
            f"thumbnails=512-512 rest_sha256={rest} "
        ).encode()
        line = text + f"xxh3={xxhash.xxh3_128_hexdigest(text)}\n".encode()
        assert content[:256] == content[256:512] == line.ljust(256, b"\0")

    def test_blocks_of_about_a_mebibyte_are_hashed(self, tmp_path):
        values = np.random.default_rng(0).normal(size=(11, 16, 4096)).astype(np.float16)
        save(features(11, features=values), tmp_path / "c.h5")
        with h5py.File(tmp_path / "c.h5") as file:
            assert file.attrs["rows_per_block"] == 8
            assert [bytes(row) for row in file["block_xxh3"][()]] == [
                xxhash.xxh3_128_digest(values[:8].tobytes()),
                xxhash.xxh3_128_digest(values[8:].tobytes()),
            ]
            assert file["features_sha256"][10] == hashlib.sha256(values[10]).hexdigest().encode()

    def test_an_impossible_name_is_refused(self, tmp_path):
        with pytest.raises(CacheError, match="'a/b' cannot be the name of a label"):
            save(features(labels={"a/b": np.zeros(7)}), tmp_path / "c.h5")
        with pytest.raises(CacheError, match="holds a NUL"):
            save(features(object=["a\0"] * 7), tmp_path / "c.h5")
        with pytest.raises(CacheError, match=r"object 'a\\ud800' is not text"):
            save(features(object=["a\ud800"] * 7), tmp_path / "c.h5")
        with pytest.raises(CacheError, match="fingerprint takes more than"):
            save(features(fingerprint={"x": "y" * 70_000}), tmp_path / "c.h5")
        assert list(tmp_path.iterdir()) == []


class TestFullDisk:
    """RLIMIT_FSIZE makes a write fail as a full disk does, at whatever byte the test chooses."""

    @pytest.fixture
    def limit(self):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        def set_limit(size: int) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

        yield set_limit
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    def test_at_any_byte_the_error_names_the_file_and_the_old_one_stays(self, tmp_path, limit):
        path = tmp_path / "c.h5"
        save(features(seed=1), path)
        old = path.read_bytes()
        for size in sorted({0, 1, 511, 512, *random.Random(0).choices(range(len(old)), k=25)}):
            limit(size)
            with pytest.raises(WriteError, match=r"c\.h5 cannot be written: File too large"):
                save(features(seed=2), path)
            limit(len(old) * 2)
            assert path.read_bytes() == old
            assert os.listdir(tmp_path) == ["c.h5"]

    def test_free_space_is_looked_at_first(self, tmp_path, monkeypatch):
        usage = type("usage", (), {"free": 1000})
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
        with pytest.raises(
            WriteError, match=r"c\.h5 cannot be written: it needs [\d,]+ bytes, and 1,000 are"
        ):
            save(features(), tmp_path / "c.h5")
        assert os.listdir(tmp_path) == []

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(WriteError, match="file cannot be written: something else is in"):
            save(features(), tmp_path / "file" / "c.h5")


def test_too_little_room_is_said_with_what_to_do(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(WriteError, match=r"100 are free; make room and start again, or choose an"):
        save(features(), tmp_path / "c.h5")
    assert os.listdir(tmp_path) == []
