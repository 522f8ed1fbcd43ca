"""The checker of files of tensors, for the process that screens them: torch is imported first."""

import torch  # noqa: F401  before the limits of that process

from backbones.tensor_files import check

__all__ = ["check"]
