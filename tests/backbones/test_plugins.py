"""Backbones from other packages: the worked example, and plugins that are broken."""

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import backbones
from backbones import BackboneError, plugins


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a module with one entry point, as a package manager would."""

    def do(name: str, value: str, source: str) -> None:
        folder = tmp_path / name
        (folder / f"{name}-1.dist-info").mkdir(parents=True)
        (folder / f"{name}-1.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1\n")
        (folder / f"{name}-1.dist-info" / "entry_points.txt").write_text(
            f"[{plugins.GROUP}]\n{name} = {value}\n"
        )
        (folder / f"{value.split(':')[0]}.py").write_text(source)
        monkeypatch.syspath_prepend(str(folder))

    return do


def documented_example() -> str:
    """The file in the module's docstring."""
    text = plugins.__doc__ or ""
    block = text.split("`mean_colour.py`:\n")[1].split("\nand in the `setup.cfg`")[0]
    return textwrap.dedent(block)


def test_the_documented_example_works(install) -> None:
    install("mean_colour", "mean_colour:ENTRY", documented_example())
    model = backbones.load("mean_colour", device="cpu")
    frames = np.zeros((2, 48, 64, 3), np.uint8)
    frames[1, ..., 2] = 255
    features = model.forward(model.preprocess(frames)[None])
    assert features.tolist() == [[[0, 0, 0], [0, 0, 1]]]
    row = next(row for row in backbones.describe() if row["name"] == "mean_colour")
    assert (row["dim"], row["error"]) == (3, None)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_module_that_is_missing", "ModuleNotFoundError: No module named 'a_module"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("ENTRY = 7", "broken_one:ENTRY is a int, not an Entry"),
        ("", "AttributeError: module 'broken_one' has no attribute 'ENTRY'"),
        (documented_example(), "broken_one:ENTRY calls itself 'mean_colour'"),
    ],
)
def test_a_broken_plugin_is_named_with_its_error(
    install, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    monkeypatch.delitem(sys.modules, "broken_one", raising=False)
    install("broken_one", "broken_one:ENTRY", source)
    row = next(row for row in backbones.describe() if row["name"] == "broken_one")
    assert reason in str(row["error"])
    assert row["dim"] is None
    with pytest.raises(BackboneError, match="plugin 'broken_one' does not load: broken_one:ENTRY"):
        backbones.load("broken_one")
    assert backbones.load("efficientnet_lite0", device="cpu").dim == 1280


def test_a_plugin_cannot_take_the_name_of_ours(install) -> None:
    source = documented_example().replace(
        '"mean_colour",\n    family', '"clip_vitl14",\n    family'
    )
    install("clip_vitl14", "another_clip:ENTRY", source)
    row = next(row for row in backbones.describe() if row["error"])
    assert "another_clip:ENTRY takes the name of a built-in backbone" in str(row["error"])


def test_a_wrong_name_lists_plugins_too(install) -> None:
    install("mean_colour", "mean_colour:ENTRY", documented_example())
    with pytest.raises(BackboneError, match=r"choose one of .*efficientnet_lite0, mean_colour"):
        backbones.load("mean_color")


def test_of_two_plugins_with_one_name_the_second_is_named(
    install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("mean_colour", "mean_colour:ENTRY", documented_example())
    points = tmp_path / "mean_colour" / "mean_colour-1.dist-info" / "entry_points.txt"
    other = tmp_path / "rival-1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Name: rival\nVersion: 1\n")
    (other / "entry_points.txt").write_text(points.read_text())
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    rows = [row for row in backbones.describe() if row["name"] == "mean_colour"]
    assert [row["error"] for row in rows] == [
        None,
        "mean_colour:ENTRY takes the name of another plugin",
    ]
