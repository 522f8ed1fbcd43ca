import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.cache import Features, load, save
from data.errors import InvalidValueError
from data.files import sha256_file
from data.interchange import InterchangeError, export, import_pt, read_pt
from data.interchange import formats as interchange
from tests.helpers.memory import peak_memory
from tests.helpers.paper_files import make_paper_features, make_paper_static, save_pt

torch = pytest.importorskip("torch")


class TestImport:
    def test_a_file_like_the_papers(self, tmp_path):
        path = make_paper_features(tmp_path / "spring.pt")
        features = import_pt(path)
        assert features.features.shape == (12, 8, 16)
        assert features.features.dtype == np.float16
        assert features.clip_id[3:5] == ["cardboard_01/003", "foam_07/000"]
        assert set(features.scenario) == {"spring"}
        assert features.labels["mass"].tolist() == 4 * [14.0] + 4 * [51.3] + 4 * [269.9]
        assert features.fingerprint["imported"] is True
        assert features.fingerprint["source"] == "spring.pt"
        assert features.fingerprint["sha256"] == sha256_file(path)
        assert "backbone" not in features.fingerprint

    def test_a_file_like_the_static_companion_is_one_step(self, tmp_path):
        features = import_pt(make_paper_static(tmp_path / "static.pt"))
        assert features.features.shape == (12, 1, 6)
        assert features.features.dtype == np.float32
        assert features.features[0, 0].tolist() == [0, 1, 2, 3, 4, 5]
        assert dict(features.labels) == {}

    def test_the_papers_features(self, shared):
        path = shared / "data/phase87_phys101_spring_features.pt"
        features = import_pt(path)
        assert features.features.shape == (206, 8, 1024)
        assert features.features.dtype == np.float16
        assert features.clip_id[:2] == ["cardboard_01/000", "cardboard_01/001"]
        assert len(set(features.object)) == 26
        assert set(features.scenario) == {"spring"}
        assert features.labels["mass"][0] == 14.0
        assert features.fingerprint["imported"] is True
        assert features.fingerprint["source"] == path.name
        assert len(features.fingerprint["sha256"]) == 64
        assert "backbone" not in features.fingerprint

    def test_the_static_companion_is_one_step(self, shared):
        features = import_pt(shared / "data/phase87_phys101_spring_static.pt")
        assert features.features.shape == (206, 1, 384)
        assert features.features.dtype == np.float32
        assert dict(features.labels) == {}

    def test_what_is_declared_stands_in_the_fingerprint(self, tmp_path):
        path = save_pt({"features": torch.ones(1, 2, 3), "obj_names": ["a"]}, tmp_path / "x.pt")
        features = import_pt(path, backbone="vjepa2_vitl", frames=16, preprocess="paper")
        declared = {"backbone": "vjepa2_vitl", "frames": 16, "preprocess": "paper"}
        assert features.fingerprint.items() >= declared.items()

    def test_clips_of_an_object_are_numbered_in_order(self, tmp_path):
        content = {"features": torch.ones(4, 2, 3), "obj_names": ["b", "a", "b", "b"]}
        features = import_pt(save_pt(content, tmp_path / "x.pt"))
        assert features.clip_id == ["b/000", "a/000", "b/001", "b/002"]

    def test_a_mass_of_zero_is_unknown(self, tmp_path):
        content = {
            "features": torch.ones(2, 2, 3),
            "obj_names": ["a", "b"],
            "mass_values": np.array([3.0, 0.0]),
        }
        masses = import_pt(save_pt(content, tmp_path / "x.pt")).labels["mass"]
        np.testing.assert_array_equal(masses, [3, np.nan])

    def test_bins_of_a_grid(self, tmp_path):
        content = {
            "features": torch.ones(3, 2, 4),
            "e_bins": np.array([0, 1, 0]),
            "f_bins": np.array([4, 2, 4]),
        }
        features = import_pt(save_pt(content, tmp_path / "x.pt"))
        assert features.clip_id == [
            "elasticity0_friction4/000",
            "elasticity1_friction2/000",
            "elasticity0_friction4/001",
        ]
        assert features.object[0] == features.object[2] == "elasticity0_friction4"
        np.testing.assert_array_equal(features.labels["elasticity"], [0, 1, 0])
        np.testing.assert_array_equal(features.labels["friction"], [4, 2, 4])

    def test_bins_of_an_index(self, tmp_path):
        index = [
            {"scene_id": n, "elasticity_bin": n, "friction_bin": 1, "friction": 0.1, "rgb": [0.5]}
            for n in range(3)
        ]
        content = {"features": torch.ones(3, 4, dtype=torch.float16), "index": index}
        features = import_pt(save_pt(content, tmp_path / "x.pt"))
        assert features.features.shape == (3, 1, 4)
        assert set(features.labels) == {"elasticity", "friction"}
        np.testing.assert_array_equal(features.labels["elasticity"], [0, 1, 2])
        assert features.object[2] == "elasticity2_friction1"

    @pytest.mark.parametrize(
        ("dtype", "kept", "converted"),
        [
            (torch.float16, np.float16, None),
            (torch.float32, np.float32, None),
            (torch.bfloat16, np.float32, None),
            (torch.float64, np.float32, "float64 to float32"),
        ],
    )
    def test_the_type_is_kept_or_the_change_recorded(self, tmp_path, dtype, kept, converted):
        content = {"features": torch.ones(1, 2, 3, dtype=dtype), "obj_names": ["a"]}
        features = import_pt(save_pt(content, tmp_path / "x.pt"))
        assert features.features.dtype == kept
        assert features.fingerprint.get("converted") == converted

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"obj_names": ["a"]}, "1 obj_names for 3 clips of features"),
            ({"obj_names": [1, 2, 3]}, "obj_names is not a list of text"),
            ({"mass_values": np.ones(4)}, "4 values of mass_values for 3 clips"),
            ({"mass_values": ["a"] * 3}, "mass_values is <U1"),
            ({"mass_values": np.ones((3, 1))}, r"mass_values is float64 \(3, 1\), not one number"),
            ({"scenario": 3}, "scenario is a int, not text"),
            ({"features": torch.ones(3)}, r"features have shape \(3,\)"),
            ({"features": torch.ones(3, 2, 2, 2)}, r"features have shape \(3, 2, 2, 2\)"),
            ({"features": torch.ones(3, 2, 2).int()}, "features are int32"),
            ({"features": [[1.0], [2.0, 3.0]]}, "features is not an array"),
            (
                {"features": torch.tensor([0, 0, math.nan]).reshape(3, 1, 1)},
                r"of 1 clip .*\(row 2\)",
            ),
            (
                {"features": torch.full((3, 1, 1), 1e300, dtype=torch.float64)},
                r"of 3 clips are not finite numbers in float32 \(row 0\)",
            ),
            ({"mass_values": [1.0, math.inf, math.nan]}, "mass_values holds an infinite number"),
        ],
    )
    def test_what_disagrees_is_one_sentence(self, tmp_path, change, message):
        content = {"features": torch.ones(3, 2, 2), "obj_names": ["a", "b", "c"], **change}
        path = save_pt(content, tmp_path / "x.pt")
        with pytest.raises(InterchangeError, match=message) as error:
            import_pt(path)
        assert str(path) in str(error.value)

    def test_a_tensor_that_was_being_trained(self, tmp_path):
        content = {"features": torch.ones(1, 2, 3, requires_grad=True), "obj_names": ["a"]}
        assert import_pt(save_pt(content, tmp_path / "x.pt")).features.tolist() == [[[1] * 3] * 2]

    def test_what_is_missing_is_named(self, tmp_path):
        with pytest.raises(InterchangeError, match="has no 'features'; it has vjepa, mass"):
            import_pt(save_pt({"vjepa": torch.ones(2, 2), "mass": [1]}, tmp_path / "x.pt"))
        with pytest.raises(InterchangeError, match="none of obj_names, e_bins, f_bins and index"):
            import_pt(save_pt({"features": torch.ones(2, 2)}, tmp_path / "x.pt"))
        index = [{"a_bin": 1}, {}]
        with pytest.raises(InterchangeError, match="entry 1 of index has no a_bin"):
            import_pt(save_pt({"features": torch.ones(2, 2), "index": index}, tmp_path / "x.pt"))


@pytest.fixture
def features() -> Features:
    return Features(
        features=np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float16),
        clip_id=["b/000", "a/000", "b/001", "b/002"],
        object=["b", "a", "b", "b"],
        scenario=["fall"] * 4,
        labels={"mass": np.array([1, np.nan, 1, 1])},
        fingerprint={"name": "fake"},
        frame_index=np.arange(8).reshape(4, 2),
        pts_seconds=np.arange(8).reshape(4, 2) / 4,
    )


@pytest.fixture(params=["made", "shared"])
def paper_features(request, tmp_path) -> Path:
    if request.param == "made":
        return make_paper_features(tmp_path / "paper.pt")
    return request.getfixturevalue("shared") / "data/phase87_phys101_spring_features.pt"


class TestExport:
    def test_export_and_import_again_is_the_same(self, features, tmp_path):
        known = features.select([0, 2, 3])
        assert export(known, tmp_path / "x.pt") == []
        again = import_pt(tmp_path / "x.pt")
        assert again.differences(known) == ["fingerprint", "frame_index", "pts_seconds"]
        export(again, tmp_path / "y.pt")
        one, two = read_pt(tmp_path / "x.pt"), read_pt(tmp_path / "y.pt")
        assert torch.equal(one.pop("features"), two.pop("features"))
        np.testing.assert_array_equal(one.pop("mass_values"), two.pop("mass_values"))
        assert one == two

    def test_clips_of_unknown_mass_are_left_out_and_named(self, features, tmp_path):
        assert export(features, tmp_path / "x.pt") == ["a/000"]
        written = read_pt(tmp_path / "x.pt")
        assert written["obj_names"] == ["b", "b", "b"]
        assert len(written["features"]) == 3
        assert written["mass_values"].tolist() == [1.0, 1.0, 1.0]
        assert export(features, tmp_path / "x.npz") == []
        assert export(features, tmp_path / "x.safetensors") == []

    def test_no_known_mass_at_all_is_refused(self, features, tmp_path):
        nothing = replace(features, labels={"mass": np.full(4, np.nan)})
        with pytest.raises(InterchangeError, match="no clip has a known mass, so there is nothing"):
            export(nothing, tmp_path / "x.pt")
        assert not (tmp_path / "x.pt").exists()

    def test_the_papers_file_through_a_cache_and_back(self, paper_features, tmp_path):
        original = read_pt(paper_features)
        save(import_pt(paper_features), tmp_path / "c.h5")
        export(load(tmp_path / "c.h5"), tmp_path / "x.pt")
        again = read_pt(tmp_path / "x.pt")
        assert list(again) == list(original)
        assert again["features"].dtype == torch.float16
        assert torch.equal(again["features"], original["features"])
        assert again["mass_values"].dtype == original["mass_values"].dtype
        np.testing.assert_array_equal(again["mass_values"], original["mass_values"])
        assert (again["obj_names"], again["scenario"]) == (original["obj_names"], "spring")

    def test_another_property(self, features, tmp_path):
        several = replace(features, labels={"mass": np.ones(4), "volume": np.arange(4.0)})
        export(several, tmp_path / "x.pt", property="volume")
        assert list(read_pt(tmp_path / "x.pt"))[2] == "volume_values"
        np.testing.assert_array_equal(import_pt(tmp_path / "x.pt").labels["volume"], range(4))
        with pytest.raises(InvalidValueError, match=r"no label 'size' .* labels are mass, volume"):
            export(several, tmp_path / "y.pt", property="size")

    def test_npz_opens_without_pickles(self, features, tmp_path):
        export(features, tmp_path / "x.npz")
        with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
            np.testing.assert_array_equal(file["features"], features.features)
            assert file["clip_id"].tolist() == features.clip_id
            np.testing.assert_array_equal(file["label_mass"], features.labels["mass"])
            assert json.loads(str(file["about"]))["fingerprint"] == {"name": "fake"}

    def test_safetensors(self, features, tmp_path):
        from safetensors import safe_open

        export(features, tmp_path / "x.safetensors")
        with safe_open(tmp_path / "x.safetensors", "np") as file:
            np.testing.assert_array_equal(file.get_tensor("features"), features.features)
            assert json.loads(file.metadata()["object"]) == features.object

    def test_a_wrong_suffix_lists_the_right_ones(self, features, tmp_path):
        with pytest.raises(
            InvalidValueError,
            match=r"suffix .csv, which says no format .* .pt or .npz or .safetensors",
        ):
            export(features, tmp_path / "x.csv")
        assert list(interchange.EXPORTERS) == [
            ".pt", ".npz", ".safetensors", ".parquet", ".arrow", ".lance",
        ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".pt", ".npz", ".safetensors"])
def test_a_mapped_cache_is_exported_to_the_same_bytes(features, suffix, tmp_path):
    save(features, tmp_path / "a.h5")
    encoded = [
        bytes(
            interchange.encode(load(tmp_path / "a.h5", mapped=mapped), Path("a" + suffix)).content
        )
        for mapped in (False, True)
    ]
    assert encoded[0] == encoded[1]


def test_a_pt_is_made_with_one_copy_of_the_features(features):
    interchange.encode_pt(features, "mass")  # torch is loaded
    many = Features(
        features=np.ones((2000, 8, 256), np.float16),
        clip_id=[str(number) for number in range(2000)],
        object=["o"] * 2000,
        scenario=[""] * 2000,
        labels={"mass": np.arange(2000.0)},
        fingerprint={"name": "fake"},
    )
    with peak_memory() as peak:
        interchange.encode_pt(many, "mass")
    assert peak.bytes < 1.3 * many.features.nbytes
