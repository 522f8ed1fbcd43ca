"""The table of backbones: found by file, listed, and loaded by name or fingerprint."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import backbones
from backbones import BackboneError, registry


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "dino"}, r"no backbone 'dino': choose one of clip_vitl14, dinov2_vitb14, "),
        ({"device": "gpu"}, r"no device 'gpu': choose one of auto, cpu, cuda"),
        ({"device": "meta"}, r"device 'meta' is not supported: choose one of auto, cpu, cuda"),
        ({"precision": "int8"}, r"no precision 'int8': choose one of auto, fp32, bf16, fp16"),
        ({"preprocess": "papers"}, r"no preprocessing 'papers': choose one of official"),
        ({"output": "cls"}, r"no output 'cls': choose one of pooled"),
    ],
)
def test_wrong_choices_list_the_right_ones(options: dict[str, str], sentence: str) -> None:
    arguments = {"name": "efficientnet_lite0", "device": "cpu", **options}
    with pytest.raises(BackboneError, match=sentence):
        backbones.load(arguments.pop("name"), **arguments)


def test_the_table_names_every_backbone() -> None:
    rows = {str(row["name"]): row for row in backbones.describe()}
    assert list(rows)[:7] == [
        "clip_vitl14",
        "dinov2_vits14",
        "dinov2_vitb14",
        "dinov2_vitl14",
        "efficientnet_lite0",
        "pixels",
        "vjepa2_vitl",
    ]
    assert rows["vjepa2_vitl"]["frames_per_step"] == 2
    assert str(rows["efficientnet_lite0"]["weights"]).endswith(".pth")
    json.dumps(list(rows.values()))


FAMILY = """
from backbones import dinov2
from dataclasses import replace

{name} = {value}
"""


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ENTRY", "replace(dinov2.ENTRIES[0], name='foo')", ["foo"]),
        (
            "ENTRIES",
            "[replace(dinov2.ENTRIES[0], name=name) for name in ('foo_s', 'foo_l')]",
            ["foo_s", "foo_l"],
        ),
    ],
)
def test_a_new_file_with_a_record_is_a_backbone(
    tmp_path: Path, name: str, value: str, expected: list[str]
) -> None:
    """A copy of the package with one more file: nothing else is touched."""
    copy = shutil.copytree(Path(backbones.__file__).parent, tmp_path / "backbones")
    (copy / "foo.py").write_text(FAMILY.format(name=name, value=value))
    code = "import backbones; print(*backbones.BACKBONES); print(backbones.__file__)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    names, file = shown.stdout.splitlines()
    assert Path(file) == copy / "__init__.py"
    known = list(backbones.BACKBONES)
    pixels = known.index("pixels")  # the first file that comes after foo.py
    assert names.split() == [*known[:pixels], *expected, *known[pixels:]]


def test_two_files_with_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backbones.clip.ENTRIES", [backbones.BACKBONES["dinov2_vits14"]])
    with pytest.raises(ValueError, match=r"dinov2\.py: another file has a backbone 'dinov2_vits14"):
        registry.find_entries()


def test_a_fingerprint_leads_back_to_its_backbone(tiny) -> None:
    model = tiny(precision="bf16")
    again = backbones.load_from_fingerprint(model.fingerprint, device="cpu")
    assert again.fingerprint == model.fingerprint
