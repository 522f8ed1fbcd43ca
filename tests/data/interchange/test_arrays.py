"""Arrays of other programs: what is read, and what is refused in a sentence."""

import io
import json
from pathlib import Path

import numpy as np
import polars
import pytest

from data import screening
from data.cache import load, save
from data.clips import Clip
from data.interchange import (
    InterchangeError,
    export,
    from_arrays,
    has_numbered_ids,
    import_features,
)
from tests.helpers.features import make_features

FEATURES = make_features()
ROWS = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def screened_here(monkeypatch, request):
    """Read in this process alone; one test is about the other process."""
    if "another_process" not in request.node.name:
        monkeypatch.setattr("data.interchange.arrays.require_screened", lambda *_, **__: None)


def write_folder(folder: Path, **arrays: np.ndarray) -> Path:
    for name, array in arrays.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", array)
    return folder


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
def test_what_is_exported_is_imported_again(suffix, tmp_path):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"a{suffix}"
    export(FEATURES, path)
    found = import_features(path)
    assert found.features.dtype == FEATURES.features.dtype
    assert np.array_equal(found.features, FEATURES.features)
    for name in ("clip_id", "object", "scenario"):
        assert list(getattr(found, name)) == list(getattr(FEATURES, name))
    assert set(found.labels) == set(FEATURES.labels)
    for name, values in FEATURES.labels.items():
        assert np.array_equal(found.labels[name], values, equal_nan=True)
    assert found.fingerprint["declared"]["fingerprint"] == FEATURES.fingerprint
    assert found.fingerprint["source"] == path.name


def test_features_alone_are_numbered(tmp_path):
    np.savez(tmp_path / "x.npz", embeddings=ROWS)
    np.save(tmp_path / "y.npy", ROWS[:, 0])
    found = import_features(tmp_path / "x.npz")
    assert found.clip_id[:2] == ["x/000", "x/001"]
    assert has_numbered_ids(found)
    assert np.array_equal(found.features, ROWS)
    assert import_features(tmp_path / "y.npy").features.shape == (6, 1, 3)


def test_parquet_of_another_program_has_lists(tmp_path):
    path = tmp_path / "a.parquet"
    table = {"id": list("abcdef"), "vector": ROWS.tolist(), "label_mass": [1.0, 2, 3, 4, None, 6]}
    polars.DataFrame(table).write_parquet(path)
    found = import_features(path)
    assert np.array_equal(found.features, ROWS)
    assert found.clip_id == list("abcdef")
    assert not has_numbered_ids(found)
    assert np.isnan(found.labels["mass"][4])


def test_each_npy_of_a_folder_is_a_clip(tmp_path):
    folder = write_folder(tmp_path / "i3d", **{"s1/001_rgb": ROWS[0], "s1/002_rgb": ROWS[1]})
    write_folder(folder, **{"s1/001_fps": np.array(25.0), "s1/001_flow": ROWS[2]})
    found = import_features(folder, files="*_rgb.npy")
    assert found.clip_id == ["s1/001", "s1/002"]
    assert np.array_equal(found.features, ROWS[:2])
    assert not has_numbered_ids(found)


def test_clips_of_different_lengths_need_steps(tmp_path):
    long = np.arange(10, dtype=np.float32)[:, None]
    folder = write_folder(tmp_path / "a", x=long, y=long[:7])
    with pytest.raises(InterchangeError, match=r"x is float32 \(10, 1\), and y .*--steps N takes"):
        import_features(folder)
    found = import_features(folder, steps=4)
    assert found.features[..., 0].tolist() == [[0, 3, 6, 9], [0, 2, 4, 6]]
    assert found.fingerprint["steps_taken"] == 4
    with pytest.raises(InterchangeError, match="y has 7 steps, fewer than the 8 of --steps"):
        import_features(folder, steps=8)


def test_labels_come_from_a_table(tmp_path):
    folder = write_folder(tmp_path / "a", v1=ROWS[0], v2=ROWS[1], v3=ROWS[2])
    clips = [
        Clip(id="v1.mp4", path="v1.mp4", object="cup", labels={"mass": 2.0}, units={"mass": "g"}),
        Clip(id="clip 2", path="b/v2.mp4", object="ball", scenario="fall", labels={"mass": 3.0}),
        Clip(id="other", path="other.mp4"),
    ]
    found = import_features(folder, clips=clips)
    assert list(found.object) == ["cup", "ball", ""]
    assert list(found.scenario) == ["", "fall", ""]
    assert found.labels["mass"][:2].tolist() == [2.0, 3.0]
    assert np.isnan(found.labels["mass"][2])
    with pytest.raises(InterchangeError, match="has none of the clips of the table"):
        import_features(folder, clips=clips[2:])
    with pytest.raises(InterchangeError, match=r"two clips, v1.mp4 and x/v1, for v1"):
        import_features(folder, clips=[clips[0], Clip(id="x/v1", path="v1.avi")])


def test_arrays_of_python_are_features(tmp_path):
    labels = {"mass": [1.0, 2, 3, 4, 5, np.nan]}
    made = from_arrays(ROWS, object=list("aabbcc"), labels=labels)
    save(made, tmp_path / "a.h5")
    found = load(tmp_path / "a.h5")
    assert found.clip_id[:3] == ["a/000", "a/001", "b/000"]
    assert np.array_equal(found.features, ROWS)
    with pytest.raises(InterchangeError, match="5 values of mass for 6 clips"):
        from_arrays(ROWS, labels={"mass": [1.0] * 5})
    with pytest.raises(InterchangeError, match="not finite"):
        from_arrays(ROWS * np.nan)


def pickled() -> bytes:
    memory = io.BytesIO()
    np.save(memory, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return memory.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.npy", pickled(), r"a\.npy holds Python objects, which are not read"),
        (
            "a.arrow",
            b"ARROW1\0\0",
            r"import does not read \.arrow: export it as \.parquet, .*\.pt$",
        ),
        ("a", b"text", "import does not read files without a suffix"),
        ("a.npy", b"\x93NUMPY\x01\x00v\x00nonsense", "is damaged"),
        ("a.npz", b"PK\x03\x04 nothing", "is damaged"),
        ("a.safetensors", b"\xff" * 100, "is damaged"),
        ("a.parquet", b"PAR1" + b"\0" * 40, "is damaged"),
    ],
)
def test_what_is_no_array_is_refused(name, content, sentence, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InterchangeError, match=sentence):
        import_features(path)


def test_what_is_missing_is_said(tmp_path):
    np.savez(tmp_path / "a.npz", mass=ROWS[:, 0, 0])
    with pytest.raises(InterchangeError, match=r"it has no features .*, but mass"):
        import_features(tmp_path / "a.npz")
    with pytest.raises(InterchangeError, match=r"gone\.npz does not exist"):
        import_features(tmp_path / "gone.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InterchangeError, match=r"empty has no files \*\.npy"):
        import_features(tmp_path / "empty")
    with pytest.raises(InterchangeError, match="names no files of features"):
        import_features(tmp_path / "empty", files="rgb")
    write_folder(tmp_path / "flat", x=ROWS)
    with pytest.raises(InterchangeError, match=r"x is float32 \(6, 4, 3\), not features of one"):
        import_features(tmp_path / "flat")
    np.savez(tmp_path / "b.npz", features=ROWS, clip_id=np.arange(6))
    with pytest.raises(InterchangeError, match="clip_id is not one text a clip"):
        import_features(tmp_path / "b.npz")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_file_of_somebody_else_is_read_in_another_process_first(kind, tmp_path, monkeypatch):
    if kind == "file":
        path = tmp_path / "a.npz"
        np.savez(path, features=ROWS)
    else:
        path = write_folder(tmp_path / "a", x_rgb=ROWS[0], y_rgb=ROWS[1])
    asked = []
    screen = screening.screen
    monkeypatch.setattr(screening, "screen", lambda *a, **k: asked.append(a) or screen(*a, **k))
    found = import_features(path, files="*_rgb.npy")
    assert len(found) in (2, 6)
    assert [checker for _, checker in asked] == ["data.interchange.checker:check_arrays"]
    import_features(path, files="*_rgb.npy")
    assert len(asked) == 1  # it is recorded as sound
    if kind == "file":  # as an .npz, not as another format
        with pytest.raises(InterchangeError):
            import_features(path.rename(path.with_suffix(".parquet")))
        assert len(asked) == 2


def test_what_a_file_says_of_itself_is_declared(tmp_path):
    about = np.array(json.dumps({"fingerprint": {"name": "mine"}, "else": 1}))
    np.savez(tmp_path / "a.npz", features=ROWS, about=about)
    found = import_features(tmp_path / "a.npz", backbone="mine", frames=8)
    assert found.fingerprint["declared"] == {"fingerprint": {"name": "mine"}}
    assert found.fingerprint["backbone"] == "mine"
