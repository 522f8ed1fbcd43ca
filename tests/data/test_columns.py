import errno
import os
import tempfile

import numpy as np
import pytest

from data import columns
from data.columns import Columns, column_of, ranges, temporary_folder
from data.files import WriteError


@pytest.fixture(params=["in memory", "in a file"])
def limit(request, monkeypatch):
    monkeypatch.setattr(columns, "_IN_MEMORY", 10**6 if request.param == "in memory" else 100)


def test_columns_are_their_blocks(limit):
    kind = np.dtype([("a", "i4"), ("text", "S3")])
    numbers = np.arange(300, dtype=np.uint64) << np.uint64(40)
    records = np.array([(n, str(n)) for n in range(300)], kind)
    own = Columns("u8", kind, most=400)
    for some in (slice(0, 7), slice(7, 7), slice(7, 300)):
        own.add(numbers[some], records[some])
    assert len(own) == 300
    first, second = own.finish()
    assert first.tolist() == numbers.tolist()
    assert second.tolist() == records.tolist()
    assert int(first.searchsorted(numbers[77])) == 77
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_no_rows_are_empty_columns(limit):
    assert [column.shape for column in Columns("u8", "i4", most=9).finish()] == [(0,), (0,)]
    assert column_of("i8", []).dtype == np.int64


def test_pieces_are_the_whole(monkeypatch):
    monkeypatch.setattr(columns, "BLOCK", 4)
    assert [[some.start, some.stop] for some in ranges(9)] == [[0, 4], [4, 8], [8, 9]]
    assert list(ranges(0)) == []


def test_the_file_has_no_name_and_none_is_left_open(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = len(os.listdir("/dev/fd"))
    own = Columns("u8")
    own.add(np.arange(1 << 18, dtype=np.uint64))
    assert list(tmp_path.iterdir()) == []
    (array,) = own.finish()
    assert list(tmp_path.iterdir()) == []
    assert array[-1] == (1 << 18) - 1
    del array
    assert len(os.listdir("/dev/fd")) == before


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    own = Columns("u8")
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", full)
    with pytest.raises(WriteError) as error:
        own.add(np.arange(3, dtype=np.uint64))
    assert str(error.value) == (
        f"{tmp_path} cannot be written: the disk is full (No space left on device); make room and "
        "start again (TMPDIR names another folder)"
    )


def test_the_folder_is_the_one_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert temporary_folder() == tmp_path
    monkeypatch.delenv("TMPDIR")
    assert str(temporary_folder()) in ("/var/tmp", tempfile.gettempdir())
