"""Films and clips that the tests of extraction share."""

import math
from pathlib import Path

import pytest
import torch

from data.clips import Clip
from tests.helpers.films import make_film


@pytest.fixture(autouse=True)
def _three_passes_at_once() -> None:
    """Let the backbone compute three clips at once, on any number of cores."""
    torch.set_num_threads(3)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six films, and a file that is not one."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(6):
        make_film(folder / f"{number}.mp4", number)
    (folder / "none.mp4").write_text("no film")
    return folder


@pytest.fixture
def clips(folder: Path) -> list[Clip]:
    """The six films, of two objects, the mass of the first unknown."""
    labels = [{"mass": number + 0.5 if number else math.nan} for number in range(6)]
    return [
        Clip(id=f"{n}", path=folder / f"{n}.mp4", object=f"o{n % 2}", labels=labels[n])
        for n in range(6)
    ]
