"""Exchange of features with other programs: the paper's `.pt` files, `.npz`, `.safetensors`.

    features = import_features("phase87_phys101_spring_features.pt")
    export(features, "spring.npz")

A `.pt` is read as data, never as code. An `.h5` of another program is imported, too. All
errors are `InterchangeError`.
"""

from data.interchange.formats import (
    InterchangeError,
    encode,
    export,
    export_format,
    has_numbered_ids,
    import_features,
    import_pt,
    numbered,
    to_array,
    write_export,
    write_pt,
)
from data.interchange.safe_pt import read_pt

__all__ = [
    "InterchangeError",
    "encode",
    "export",
    "export_format",
    "has_numbered_ids",
    "import_features",
    "import_pt",
    "numbered",
    "read_pt",
    "to_array",
    "write_export",
    "write_pt",
]
