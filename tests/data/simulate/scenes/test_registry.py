from pathlib import Path

import pytest

import data.simulate.scenes
from data.simulate import SCENES
from data.simulate.scenes.registry import discover_scenes

TEXT = """
from data.simulate.scenes.scene import Property, Scene

def _simulate(first, second, rng, frames, fps):
    raise NotImplementedError

SCENE = Scene(
    name={name!r},
    properties=(
        Property(label="a", letter="a", low=0, high=1),
        Property(label="b", letter="b", low=0, high=1),
    ),
    simulate=_simulate,
)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A second folder of the package `data.simulate.scenes`."""
    paths = [*data.simulate.scenes.__path__, str(tmp_path)]
    monkeypatch.setattr(data.simulate.scenes, "__path__", paths)
    return tmp_path


def test_the_scenes_of_the_folder():
    assert sorted(SCENES) == ["collision", "fall", "ramp", "spring"]
    assert discover_scenes() == SCENES


def test_a_new_file_is_a_new_scene(folder):
    (folder / "scene_test_new.py").write_text(TEXT.format(name="pendulum"))
    assert sorted(discover_scenes()) == ["collision", "fall", "pendulum", "ramp", "spring"]


def test_two_of_one_name_are_refused(folder):
    (folder / "scene_test_twin.py").write_text(TEXT.format(name="ramp"))
    with pytest.raises(ValueError, match="another file has a Scene called 'ramp'"):
        discover_scenes()
