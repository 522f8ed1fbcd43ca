"""What the tests of backbones share: the authors' code where it is."""

import os
from collections.abc import Callable
from pathlib import Path

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
