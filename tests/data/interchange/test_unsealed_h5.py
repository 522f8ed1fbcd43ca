"""HDF5 files of other programs: what is imported, and what is refused."""

import json
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data.cache import CacheError, load, save
from data.interchange import InterchangeError, import_features
from data.interchange.unsealed_h5 import read_h5
from tests.helpers.caches import features

FEATURES = np.arange(24, dtype=np.float32).reshape(3, 2, 4)


def make_h5(path: Path, **members: Any) -> Path:
    """Write a file as a program of somebody else would, with h5py's defaults."""
    content = {"features": FEATURES, "clip_id": ["a", "b", "é"]} | members
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            if values is not None:
                file[name] = values
    return path


def test_a_file_of_another_program_becomes_a_cache(tmp_path):
    path = make_h5(
        tmp_path / "theirs.h5",
        object=np.array([b"x", b"y", b"y"]),
        scenario=["fall"] * 3,
        frame_index=np.arange(6, dtype=np.int32).reshape(3, 2),
        pts_seconds=np.arange(6, dtype=np.float32).reshape(3, 2),
        **{"labels/mass": np.array([1, 2, 3]), "labels/drag": np.array([0.5, np.nan, 1])},
    )
    with h5py.File(path, "a") as file:
        file.attrs["fingerprint"] = json.dumps({"name": "theirs"})
        file.attrs["sampler"] = json.dumps({"frames": 2})
    save(import_features(path, backbone="x", frames=2), tmp_path / "c.h5")
    cache = load(tmp_path / "c.h5")
    np.testing.assert_array_equal(cache.features, FEATURES)
    assert cache.clip_id == ["a", "b", "é"]
    assert cache.object == ["x", "y", "y"]
    assert cache.scenario == ["fall"] * 3
    np.testing.assert_array_equal(cache.labels["mass"], [1, 2, 3])
    np.testing.assert_array_equal(cache.labels["drag"], [0.5, np.nan, 1])
    np.testing.assert_array_equal(cache.frame_index, np.arange(6).reshape(3, 2))
    assert cache.sampler == {}
    made = dict(cache.fingerprint)
    assert len(made.pop("sha256")) == 64
    assert made == {
        "imported": True,
        "source": "theirs.h5",
        "backbone": "x",
        "frames": 2,
        "declared": {"fingerprint": {"name": "theirs"}, "sampler": {"frames": 2}},
    }


def test_compressed_features_of_doubles_are_read(tmp_path):
    path = make_h5(tmp_path / "theirs.h5", features=None)
    with h5py.File(path, "a") as file:
        values = np.zeros((3, 4))
        file.create_dataset("features", data=values, chunks=(1, 4), compression="gzip")
    cache = import_features(path)
    assert cache.features.shape == (3, 1, 4)
    assert cache.fingerprint["converted"] == "float64 to float32"
    assert list(cache.object) == [""] * 3


def test_a_cache_that_lost_its_seal_is_refused_and_imported(tmp_path):
    save(features(), tmp_path / "c.h5")
    content = bytearray((tmp_path / "c.h5").read_bytes())
    content[:512] = bytes(512)
    (tmp_path / "c.h5").write_bytes(content)
    with pytest.raises(CacheError, match="cache import"):
        load(tmp_path / "c.h5")
    again = import_features(tmp_path / "c.h5")
    np.testing.assert_array_equal(again.features, features().features)
    assert again.fingerprint["declared"]["fingerprint"] == features().fingerprint


def _link(file: h5py.File) -> None:
    file["object"] = h5py.ExternalLink("other.h5", "clip_id")


def _soft_link(file: h5py.File) -> None:
    file["object"] = h5py.SoftLink("/clip_id")


def _external(file: h5py.File) -> None:
    file.create_dataset("object", (3,), "S4", external=[("/etc/passwd", 0, 12)])


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "S4")
    layout[:] = h5py.VirtualSource("other.h5", "clip_id", (3,))
    file.create_virtual_dataset("object", layout)


def _huge(file: h5py.File) -> None:
    file.create_dataset("frame_index", (3, 1 << 36), "i8", chunks=(3, 1 << 10))


def _reference(file: h5py.File) -> None:
    file.create_dataset("object", (3,), h5py.ref_dtype)


def _group(file: h5py.File) -> None:
    file.create_group("object")


def _text_of_two_axes(file: h5py.File) -> None:
    file["object"] = np.array([[b"a"], [b"b"], [b"c"]])


def _numbers_for_text(file: h5py.File) -> None:
    file["object"] = np.arange(3)


def _text_for_numbers(file: h5py.File) -> None:
    file["labels/mass"] = ["a", "b", "c"]


def _short(file: h5py.File) -> None:
    file["labels/mass"] = np.arange(2.0)


def _labels_as_data(file: h5py.File) -> None:
    file["labels"] = np.arange(3.0)


def _not_json(file: h5py.File) -> None:
    file.attrs["fingerprint"] = "{"


def _not_text(file: h5py.File) -> None:
    file.attrs["sampler"] = 3


def _twice(file: h5py.File) -> None:
    file["clip_id"][1] = "a"


def _infinite(file: h5py.File) -> None:
    file["features"][1, 1, 1] = np.inf


def _gone(file: h5py.File) -> None:
    del file["clip_id"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_link, "object is a link, perhaps to another file"),
        (_soft_link, "object is a link"),
        (_external, "object is stored in another file"),
        (_virtual, "object is stored in another file"),
        (_huge, "frame_index claims 1649267441664 bytes, which the file does not hold"),
        (_reference, "neither numbers nor text"),
        (_group, "object is not a dataset"),
        (_text_of_two_axes, "not one text a clip"),
        (_numbers_for_text, "object is int64, not text"),
        (_text_for_numbers, "mass is <U1"),
        (_short, "2 values of mass for 3 clips"),
        (_labels_as_data, "labels is not a group"),
        (_not_json, "the attribute fingerprint is not JSON"),
        (_not_text, "the attribute sampler is not text"),
        (_twice, "clip id 'a' appears twice"),
        (_infinite, "features of 1 clip are not finite"),
        (_gone, "no datasets features and clip_id, but features"),
    ],
)
def test_what_is_refused_is_named(change, reason, tmp_path, monkeypatch):
    monkeypatch.setattr("data.interchange.unsealed_h5.require_screened", lambda *_, **__: None)
    path = make_h5(tmp_path / "theirs.h5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(InterchangeError, match=reason) as error:
        import_features(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_such_file_is_named(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InterchangeError, match="is no HDF5 file, or a damaged one"):
        read_h5(tmp_path / "text.h5", screened=True)
    with pytest.raises(InterchangeError, match=r"has no files \*\.npy"):
        import_features(tmp_path)
    with pytest.raises(InterchangeError, match="does not exist"):
        import_features(tmp_path / "gone.h5")
    save(features(), tmp_path / "c.h5")
    with pytest.raises(InterchangeError, match="is a cache already, and needs no import"):
        import_features(tmp_path / "c.h5")


def test_a_file_from_elsewhere_is_read_in_another_process_first(tmp_path, no_record, monkeypatch):
    path = make_h5(tmp_path / "theirs.h5")
    import_features(path)

    def start(*words: object, **options: object) -> None:
        raise AssertionError("a process is started")

    monkeypatch.setattr(subprocess, "Popen", start)
    import_features(path)
    with h5py.File(path, "a") as file:
        file["features"][0, 0, 0] = 7
    with pytest.raises(AssertionError, match="a process is started"):
        import_features(path)
