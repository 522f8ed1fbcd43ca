"""Exchange of features with other programs: the paper's `.pt` files, and usual formats of arrays.

    features = import_features("phase87_phys101_spring_features.pt")
    export(features, "spring.npz")

Read are `.pt`, `.npz`, `.safetensors`, Parquet, an `.h5` of another program, folders of `.npy`, and
arrays of Python (`from_arrays`), always as data, never as code. All errors are `InterchangeError`.
"""

from data.interchange.formats import (
    InterchangeError,
    encode,
    export,
    export_format,
    from_arrays,
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
    "from_arrays",
    "has_numbered_ids",
    "import_features",
    "import_pt",
    "numbered",
    "read_pt",
    "to_array",
    "write_export",
    "write_pt",
]
