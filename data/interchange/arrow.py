"""Features for programs that read Arrow: `.parquet`, `.arrow` and `.lance`, a row for each clip.

An array with further axes, such as the features (N, T, D), is a column of fixed-size lists of all
their numbers; the metadata of the schema say under `heliograph`, in JSON, which shape a row has
(`shapes`) and how the features were made (`fingerprint`, `sampler`, `decoder`, `versions`).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import HeliographError
from data.files import make_folder, write_error
from data.interchange.safe_pt import InterchangeError

KEY = b"heliograph"


def encode_parquet(columns: Mapping[str, Any], about: str) -> bytes:
    """Return a Parquet file.

    Args:
        columns: Texts or an array (N, ...) by name.
        about: JSON.

    Raises:
        HeliographError: pyarrow is not installed.
    """
    table = _table(columns, about)
    from pyarrow import parquet

    memory = io.BytesIO()
    parquet.write_table(table, memory, compression="zstd")
    return memory.getvalue()


def encode_arrow(columns: Mapping[str, Any], about: str) -> bytes:
    """Return an Arrow file (its IPC format, which is also called Feather); as `encode_parquet`."""
    table = _table(columns, about)
    from pyarrow import ipc

    memory = io.BytesIO()
    with ipc.new_file(memory, table.schema) as writer:
        writer.write_table(table)
    return memory.getvalue()


def write_lance(columns: Mapping[str, Any], about: str, path: Path) -> None:
    """Write a Lance dataset, a folder, whole or not at all; the arguments are as above.

    Raises:
        HeliographError: pylance is not installed.
        InterchangeError: Something is there already.
        WriteError: The disk is full or not writable.
    """
    table = _table(columns, about)
    try:
        import lance
    except ImportError as error:
        raise _lacks("pylance", "lance", error) from error
    if os.path.lexists(path):
        raise InterchangeError(
            f"{path} exists, and a dataset of Lance is a folder, which is not replaced: choose "
            "another name, or remove it"
        )
    make_folder(path.parent)
    try:
        folder = tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise write_error(path, error) from error
    try:
        lance.write_dataset(table, os.path.join(folder, "new"))
        os.rename(os.path.join(folder, "new"), path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)


def _table(columns: Mapping[str, Any], about: str) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise _lacks("pyarrow", "arrow", error) from error
    arrays, shapes = {}, {}
    for name, values in columns.items():
        array = np.asarray(values)
        if isinstance(values, list):
            arrays[name] = pyarrow.array(values, pyarrow.string())
        elif array.ndim == 1:
            arrays[name] = pyarrow.array(array)
        elif array.size:
            flat = pyarrow.array(np.ascontiguousarray(array).reshape(-1))
            width = int(np.prod(array.shape[1:]))
            arrays[name] = pyarrow.FixedSizeListArray.from_arrays(flat, width)
            shapes[name] = list(array.shape[1:])
    told = json.dumps(json.loads(about) | {"shapes": shapes}, sort_keys=True)
    return pyarrow.table(arrays).replace_schema_metadata({KEY: told.encode()})


def _lacks(package: str, extra: str, error: ImportError) -> HeliographError:
    return HeliographError(
        f"this format needs the package {package} ({error}): pip install 'heliograph[{extra}]'"
    )
