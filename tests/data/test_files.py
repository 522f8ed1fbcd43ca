import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.files import WriteError, atomic_write, replacing, sha256_file, sweep_temporaries

ROOT = Path(__file__).resolve().parents[2]


def test_text_and_bytes(tmp_path):
    atomic_write(tmp_path / "deep/er/x.txt", "é")
    atomic_write(tmp_path / "deep/er/x.bin", b"\0")
    assert (tmp_path / "deep/er/x.txt").read_bytes() == "é".encode()
    assert sha256_file(tmp_path / "deep/er/x.bin") == hashlib.sha256(b"\0").hexdigest()


def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path):
    atomic_write(tmp_path / "x", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "x") as file:
        file.write(bytes(1 // len(file.name[:0])))
    assert (tmp_path / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_target_that_is_a_folder(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(WriteError, match=r"/x cannot be written: Is a directory"):
        atomic_write(tmp_path / "x", "")
    assert os.listdir(tmp_path) == ["x"]


def test_another_files_error_stays_its_own(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"), replacing(tmp_path / "x"):
        (tmp_path / "gone").read_bytes()


def test_only_what_killed_writers_left_is_swept(tmp_path):
    code = """
import os, sys
from pathlib import Path
from data.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), 9)
"""
    for name in ("a.h5", "b.h5"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], cwd=ROOT)
    for name in (".notes.tmp", "x.tmp", ".a.h5.swp"):
        (tmp_path / name).write_text("mine")
    assert len(os.listdir(tmp_path)) == 5
    (swept,) = sweep_temporaries(tmp_path, of="a.h5")
    assert swept.name.startswith(".a.h5.")
    assert len(sweep_temporaries(tmp_path)) == 1
    assert sorted(os.listdir(tmp_path)) == [".a.h5.swp", ".notes.tmp", "x.tmp"]
