"""Clips made for these tests, once per session."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def clips_made() -> ModuleType:
    """The makers of odd clips, `clips_made.py` beside this file."""
    source = Path(__file__).with_name("clips_made.py")
    spec = importlib.util.spec_from_file_location("clips_made", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["clips_made"] = module
    spec.loader.exec_module(module)
    return module


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
