import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.cache import CacheError, ShardStore, load, read_metadata, save, verification, verify
from data.cache.parts import files_of_index
from data.cache.verification import is_intact
from tests.helpers.caches import MADE_WITH, clips, extract, features, full

ROOT = Path(__file__).resolve().parents[3]


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 4
    path.write_bytes(content)


class TestVerify:
    def test_a_flipped_bit_anywhere_is_found(self, tmp_path):
        """Every 331st bit of a small file; in a process of its own, since HDF5 can crash."""
        save(features(3), tmp_path / "c.h5")
        code = """
import sys
from pathlib import Path
from data.cache import verify
path = Path(sys.argv[1])
content = bytearray(path.read_bytes())
missed = []
for bit in range(0, 8 * len(content), 331):
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    if not verify(path):
        missed.append(bit)
    content[bit // 8] ^= 1 << bit % 8
print(missed)
"""
        out = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "c.h5")],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert out.returncode == 0, out.stderr[-2000:]
        assert out.stdout.strip() == "[]"

    def test_the_clip_with_the_damage_is_named(self, tmp_path):
        path = tmp_path / "c.h5"
        save(features(), path)
        table = read_metadata(path)
        with open(path, "r+b") as file:
            file.seek(table.features.offset + 4 * table.features.row_bytes + 3)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        assert [str(problem) for problem in verify(path)] == ["c/é 4.mp4: its features are damaged"]
        assert not is_intact(path)
        with pytest.raises(CacheError, match=r"c\.h5: the features of c/é 4\.mp4 are damaged; "):
            load(path)

    def test_damage_outside_the_features(self, tmp_path):
        path = tmp_path / "c.h5"
        save(features(), path)
        content = path.read_bytes()
        path.write_bytes(content.replace("é 5".encode(), "é 6".encode().replace(b"6", b"x")))
        (problem,) = verify(path)
        assert problem.clip is None
        assert "damaged outside its features" in str(problem)
        with pytest.raises(CacheError, match=r"c\.h5 is damaged outside its features"):
            load(path)  # and HDF5, which can crash on such damage, never sees it

    @pytest.mark.parametrize(("offset", "copy"), [(30, "first"), (257, "second")])
    def test_a_damaged_copy_of_the_seal_is_named_and_the_content_called_sound(
        self, tmp_path, offset, copy
    ):
        path = tmp_path / "c.h5"
        save(features(), path)
        flip(path, offset)
        said = f"the {copy} of the two copies of its seal is damaged"
        assert [str(found) for found in verify(path)] == [f"{path}: {said}; its content is sound"]
        assert load(path).differences(features(created=load(path).created)) == []
        flip(path, read_metadata(path).features.offset)
        assert [str(found) for found in verify(path)] == [
            "c/é 0.mp4: its features are damaged",
            f"{path}: {said}",
        ]

    def test_each_damaged_part_of_a_folder_is_named(self, tmp_path):
        folder = tmp_path / "c"
        save(features(), folder, clips_per_part=2)
        first, second, third, fourth = files_of_index(folder)
        flip(first, 300)
        flip(second, second.stat().st_size - 1)
        flip(third, read_metadata(third).features.offset)
        assert [str(found) for found in verify(folder)] == [
            f"{first}: the second of the two copies of its seal is damaged; its content is sound",
            f"{second} is damaged outside its features: in names, labels or structure",
            f"c/é 4.mp4: its features are damaged (in {third})",
        ]
        with pytest.raises(CacheError, match=f"--repair {folder} saves what can be saved"):
            load(folder)
        shutil.copy(third, fourth)
        assert f"{fourth} is not the part that index.json names" in map(str, verify(folder))

    def test_the_shards_of_an_interrupted_extraction(self, tmp_path):
        path = tmp_path / "c.h5"
        with ShardStore(path, **MADE_WITH) as store:
            extract(store, clips(2))
            store.flush()
            extract(store, clips(3))
        ended = f"{path} is not written yet: its extraction ended after 3 clips"
        assert [str(found) for found in verify(path)] == [ended]
        assert verify(tmp_path / "c.h5.parts") == verify(path)
        shards = {len(load(one)): one for one in (tmp_path / "c.h5.parts").glob("[0-9a-f]*.h5")}
        flip(shards[2], shards[2].stat().st_size - 1)
        assert [str(found) for found in verify(path)] == [
            ended,
            f"fall/000.mp4: its shard is damaged ({shards[2]})",
            f"fall/001.mp4: its shard is damaged ({shards[2]})",
        ]

    def test_numbers_that_are_not_finite(self, tmp_path):
        values = features()
        values.features[2, 1, 1] = np.nan
        values.features[5, 0, 0] = np.inf
        save(values, tmp_path / "c.h5")
        assert [problem.clip for problem in verify(tmp_path / "c.h5")] == [
            "c/é 2.mp4",
            "c/é 5.mp4",
        ]

    def test_a_file_without_a_seal_is_a_problem(self, tmp_path):
        with pytest.raises(CacheError, match="does not exist"):
            verify(tmp_path / "c.h5")
        (tmp_path / "c.h5").write_text("hello")
        assert "c.h5 is not an HDF5 file" in str(verify(tmp_path / "c.h5")[0])

    def test_a_missing_shard_is_named(self, tmp_path):
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(3))
            store.consolidate(clips(2))
            extract(store, clips(2, start=3))
        assert verify(tmp_path / "c.h5") == []
        for shard in (tmp_path / "c.h5.parts").glob("*.h5"):
            shard.unlink()
        assert [str(problem) for problem in verify(tmp_path / "c.h5")] == [
            "fall/002.mp4: its shard is missing",
            "fall/003.mp4: its shard is missing",
            "fall/004.mp4: its shard is missing",
        ]

    def test_a_damaged_shard_is_named(self, tmp_path):
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(3))
            store.consolidate(clips(2))
        (shard,) = (tmp_path / "c.h5.parts").glob("*.h5")
        content = bytearray(shard.read_bytes())
        content[-1] ^= 1
        shard.write_bytes(content)
        assert [str(problem) for problem in verify(tmp_path / "c.h5")] == [
            "fall/002.mp4: its shard is damaged"
        ]

    def test_a_cache_that_is_replaced_while_it_is_verified_is_sound(self, tmp_path, monkeypatch):
        path, look = full(tmp_path / "c.h5", 6), verification._damage
        looked = []

        def meanwhile(*row):
            looked.append(row)
            if len(looked) == 3:
                full(path, 20)
            return look(*row)

        monkeypatch.setattr(verification, "_damage", meanwhile)
        assert verify(path) == []
        assert len(looked) == 6 + 18


def test_progress_is_told_clip_by_clip(tmp_path):
    save(features(), tmp_path / "c.h5")
    seen = []
    assert verify(tmp_path / "c.h5", lambda done, of: seen.append((done, of))) == []
    count = len(features())
    assert seen == [(done, count) for done in range(1, count + 1)]
