"""The code of a backbone's authors, for the tests that compare with it."""

import os
from pathlib import Path

import pytest

from backbones import hub


def authors_code(repository: hub.Repository) -> Path:
    """Return the folder of a repository's code, in HELIOGRAPH_HUB_DIR or in torch.hub's folder.

    The test is skipped where the code is missing.
    """
    named = os.environ.get("HELIOGRAPH_HUB_DIR")
    folder = hub.find(repository, Path(named) if named else None)
    if folder is None:
        pytest.skip(
            f"needs the code of {repository.github}: put clones into a folder and name it in "
            "HELIOGRAPH_HUB_DIR, or let torch.hub download it once"
        )
    return folder
