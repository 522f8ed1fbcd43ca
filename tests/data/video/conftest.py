"""Clips made for these tests, once per session."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.clips import CLIPS


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of a clip of `CLIPS`, by name."""
    folder = tmp_path_factory.mktemp("clips")
    paths: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in paths:
            extension, make = CLIPS[name]
            paths[name] = make(folder / f"{name}.{extension}")
        return paths[name]

    return get
