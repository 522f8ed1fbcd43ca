"""Small files in the format of the paper's `.pt` files: tensors and pickled NumPy arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.files import sha256_file
from data.screening import record

OBJECTS = ("cardboard_01", "foam_07", "wooden_block_02")
MASSES = (14.0, 51.3, 269.9)


def save_pt(content: Any, path: Path) -> Path:
    """Write `content` with `torch.save` as a file of this account; return the path."""
    torch.save(content, path)
    record(f"sha256:{sha256_file(path)}")
    return path


def make_paper_features(path: Path, *, trials: int = 4) -> Path:
    """Write features as the paper's spring file has them: `trials` clips of three objects."""
    generator = torch.Generator().manual_seed(0)
    count = trials * len(OBJECTS)
    content = {
        "features": torch.randn((count, 8, 16), generator=generator).half(),
        "obj_names": [name for name in OBJECTS for _ in range(trials)],
        "mass_values": np.repeat(np.array(MASSES), trials),
        "scenario": "spring",
    }
    return save_pt(content, path)


def make_paper_static(path: Path, *, trials: int = 4) -> Path:
    """Write features (N, D) as the static companion of the paper's spring file has them."""
    count = trials * len(OBJECTS)
    content = {
        "features": torch.arange(count * 6, dtype=torch.float32).reshape(count, 6),
        "obj_names": [name for name in OBJECTS for _ in range(trials)],
    }
    return save_pt(content, path)
