"""What a shared copy of a run calls the things of its user."""

import pytest

from pipeline.runs import Run
from pipeline.runs.sharing import OwnNames


@pytest.fixture(scope="module")
def names(spoken_run: Run) -> OwnNames:
    return OwnNames(spoken_run, with_ids=False)


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("/home/me/clips.h5", "clips.h5"),
        ("~/clips.h5", "clips.h5"),
        ("clips in /home/me/clips.h5, and /mnt/b: none", "clips in clips.h5, and b: none"),
        ("half of 3/4, and/or km/h", "half of 3/4, and/or km/h"),
        ("hf://user/name@0123/a.pt", "hf://user/name@0123/a.pt"),
        ("https://arxiv.org/abs/2604.03266", "https://arxiv.org/abs/2604.03266"),
        ("mass / size", "mass / size"),
    ],
)
def test_absolute_paths_are_names_of_files(names: OwnNames, text: str, shared: str):
    assert names.text(text) == shared


def test_a_path_with_spaces_is_a_name_too(spoken_run: Run, names: OwnNames):
    place = spoken_run.sources[0].path
    assert names.text(f"from {place}: 3 clips") == "from made.h5: 3 clips"


def test_names_become_numbers_in_sentences_and_nowhere_else(names: OwnNames):
    assert names.sentence("clip 7 of object 2, in clip 70") == "clip 8 of object 3, in clip 71"
    assert names.without({"mass": "clip 7", "notes": ["clip 7"]}) == {
        "mass": "clip 7",
        "notes": ["clip 8"],
    }
