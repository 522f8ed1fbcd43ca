"""Files of features from elsewhere, read in the process that can be killed (`data.screening`)."""

from pathlib import Path

import torch  # noqa: F401  before the limits of that process

from data.interchange.safe_pt import read_hashed_pt


def check_pt(path: Path) -> str:
    """Read a .pt as `read_pt` does, and return its identity.

    Raises:
        InterchangeError: It is refused.
    """
    return f"sha256:{read_hashed_pt(path, screened=True)[1]}"
