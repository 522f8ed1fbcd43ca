"""Clips made for these tests, once per session."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers import clips


@pytest.fixture(scope="session")
def clips_made() -> ModuleType:
    """The makers of odd clips, `tests/helpers/clips.py`."""
    return clips


@pytest.fixture(scope="session")
def honest(
    clips_made: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The path of an honest clip of `clips_made.HONEST`, by name."""
    folder = tmp_path_factory.mktemp("honest")
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            ending, make = clips_made.HONEST[name]
            made[name] = make(folder / f"{name}.{ending}")
        return made[name]

    return get
