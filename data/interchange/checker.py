"""Files of features from elsewhere, read in the process that can be killed (`data.screening`)."""

from pathlib import Path

import polars  # noqa: F401  before the limits of that process
import safetensors.torch  # noqa: F401
import torch  # noqa: F401

from data.interchange.arrays import identity, read_arrays
from data.interchange.safe_pt import read_hashed_pt


def check_pt(path: Path) -> str:
    """Read a .pt as `read_pt` does, and return its identity.

    Raises:
        InterchangeError: It is refused.
    """
    return f"sha256:{read_hashed_pt(path, screened=True)[1]}"


def check_arrays(path: Path) -> str:
    """Read a file, or the files of a folder (`folder/*_rgb.npy`), and return the identity.

    Raises:
        InterchangeError: It is refused.
    """
    if "*" in path.name and path.parent.is_dir():
        folder, files = path.parent, path.name
        return identity(folder, read_arrays(folder, files=files, screened=True)[1])
    return identity(path, read_arrays(path, screened=True)[1])
