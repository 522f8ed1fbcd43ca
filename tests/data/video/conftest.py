"""Clips made for these tests, once per session."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from data.video.pyav import kept_index
from tests.helpers.clips import CLIPS
from tests.helpers.recordings import RECORDINGS


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open every clip anew, whether or not the tests before took until it is old enough to keep."""
    monkeypatch.setattr(kept_index, "SETTLED_SECONDS", math.inf)


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of a clip of `CLIPS` or `RECORDINGS`, by name."""
    folder = tmp_path_factory.mktemp("clips")
    paths: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in paths:
            extension, make = (CLIPS | RECORDINGS)[name]
            paths[name] = make(folder / f"{name}.{extension}")
        return paths[name]

    return get
