"""What the tests of backbones share: the authors' code where it is, and the speed script."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from backbones import hub


@pytest.fixture(scope="session")
def authors_code() -> Callable[[hub.Repository], Path]:
    """The folder of a repository's code: below HELIOGRAPH_HUB_DIR, or in torch.hub's folder."""

    def find(repository: hub.Repository) -> Path:
        named = os.environ.get("HELIOGRAPH_HUB_DIR")
        found = hub.find(repository, Path(named) if named else None)
        if found is None:
            pytest.skip(
                f"needs the code of {repository.github}: put clones into a folder and name it in "
                "HELIOGRAPH_HUB_DIR, or let torch.hub fetch it once"
            )
        return found

    return find


@pytest.fixture(scope="session")
def speed() -> ModuleType:
    """`benchmarks/backbone_speed.py`, imported: it draws random weights for tests too."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "backbone_speed.py"
    spec = importlib.util.spec_from_file_location("backbone_speed", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
