"""Parquet, Arrow and Lance hold the features, the labels and how they were made."""

import json
import sys

import numpy as np
import pytest

from data.errors import HeliographError
from data.interchange import InterchangeError, export
from tests.helpers.caches import features

FEATURES = features()


def check(table) -> None:
    told = json.loads(table.schema.metadata[b"heliograph"])
    assert told["fingerprint"] == FEATURES.fingerprint
    assert told["shapes"]["features"] == list(FEATURES.features.shape[1:])
    flat = FEATURES.features.reshape(len(FEATURES), -1)
    assert str(table.schema.field("features").type).startswith("fixed_size_list<")
    assert table.schema.field("features").type.list_size == flat.shape[1]
    stored = table["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    assert stored.dtype == FEATURES.features.dtype
    assert np.array_equal(stored.reshape(flat.shape), flat)
    assert table["clip_id"].to_pylist() == list(FEATURES.clip_id)
    for name, values in FEATURES.labels.items():
        assert np.array_equal(table[f"label_{name}"].to_numpy(), values, equal_nan=True)


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    export(FEATURES, tmp_path / "a.parquet")
    check(parquet.read_table(tmp_path / "a.parquet"))
    first = (tmp_path / "a.parquet").read_bytes()
    export(FEATURES, tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == first


def test_arrow(tmp_path):
    ipc = pytest.importorskip("pyarrow.ipc")
    export(FEATURES, tmp_path / "a.arrow")
    check(ipc.open_file(tmp_path / "a.arrow").read_all())


def test_lance_is_a_folder_that_is_not_replaced(tmp_path):
    lance = pytest.importorskip("lance")
    export(FEATURES, tmp_path / "a.lance")
    check(lance.dataset(tmp_path / "a.lance").to_table())
    assert [path.name for path in tmp_path.iterdir()] == ["a.lance"]
    with pytest.raises(
        InterchangeError, match=r"a\.lance exists, and a dataset of Lance is a folder"
    ):
        export(FEATURES, tmp_path / "a.lance")


@pytest.mark.parametrize(
    ("suffix", "package", "extra"),
    [
        (".parquet", "pyarrow", "arrow"),
        (".arrow", "pyarrow", "arrow"),
        (".lance", "lance", "lance"),
    ],
)
def test_a_package_that_lacks_is_named(suffix, package, extra, tmp_path, monkeypatch):
    if extra == "lance":
        pytest.importorskip("pyarrow")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(HeliographError, match=rf"pip install 'heliograph\[{extra}\]'"):
        export(FEATURES, tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())
