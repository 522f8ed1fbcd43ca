"""Reading an HDF5 file of another program that has the names of our datasets.

Such a file has no seal, so nothing shows what became of it, and what it says of itself is declared.
It is read in another process first (`data.screening`). Links and storage that point to other files
are refused there and here.
"""

import json
import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from data.cache import USER_BLOCK, Seal, looks_sealed, way_out
from data.errors import HeliographError
from data.files import UnsafeFileError, missing, open_regular, sha256_open
from data.interchange.safe_pt import InterchangeError, first_line
from data.screening import MEMORY_BYTES, SECONDS, require_screened

CHECKER = "data.interchange.unsealed_h5:check_h5"
COLUMNS = ("clip_id", "object", "scenario", "frame_index", "pts_seconds", "source_sha256")
STATED = ("fingerprint", "sampler", "decoder")


def check_h5(path: Path) -> str:
    """Read a file as `read_h5` does, in the process that may be killed; return its identity.

    Raises:
        InterchangeError: It is refused.
    """
    return f"sha256:{read_h5(path, screened=True)[1]}"


def read_h5(path: Path, *, screened: bool = False) -> tuple[dict[str, Any], str]:
    """Return the datasets of a file by name, and the SHA-256 of the file.

    Read are `features`, `COLUMNS` and `labels/<name>`, those that are there; text as lists. What
    the attributes `STATED` say in JSON is in `declared`.

    Args:
        path: The file.
        screened: Whether this is the process that may be killed.

    Raises:
        InterchangeError: The file is refused, or is no such file.
    """
    try:
        with open_regular(path, follow_links=True) as file:
            block = file.read(USER_BLOCK)
            if looks_sealed(block):
                damaged = Seal.from_user_block(block) is None
                whole = f"damaged in its seal; {way_out(path)}" if damaged else "needs no import"
                raise InterchangeError(f"{path} is a cache already, and {whole}")
            file.seek(0)
            sha256 = sha256_open(file)
            size = os.fstat(file.fileno()).st_size
            if not screened:
                require_screened(
                    path,
                    f"sha256:{sha256}",
                    CHECKER,
                    seconds=SECONDS + size / 2e7,
                    memory_bytes=MEMORY_BYTES + 4 * size,
                    error=InterchangeError,
                )
            return _read(path, file), sha256
    except UnsafeFileError as error:
        raise InterchangeError(f"{path} is not a file") from error
    except FileNotFoundError as error:
        raise InterchangeError(missing(path)) from error


def _read(path: Path, opened: BinaryIO) -> dict[str, Any]:
    opened.seek(0)
    try:
        with h5py.File(opened, "r") as file:
            return _Members(file).read()
    except HeliographError as error:
        raise InterchangeError(f"{path} is refused: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # h5py raises a dozen kinds on damaged files
        raise InterchangeError(
            f"{path} is no HDF5 file, or a damaged one: {first_line(error)}"
        ) from error


class _Members:
    """The members of an open file, each checked before it is read."""

    def __init__(self, file: h5py.File) -> None:
        self.file = file

    def read(self) -> dict[str, Any]:
        if "features" not in self.file or "clip_id" not in self.file:
            names = ", ".join(sorted(self.file)[:10]) or "nothing"
            raise InterchangeError(f"it has no datasets features and clip_id, but {names}")
        content: dict[str, Any] = {"features": self._array(self.file, "features")}
        content |= {name: self._array(self.file, name) for name in COLUMNS if name in self.file}
        content["labels"] = {}
        if "labels" in self.file:
            labels = self._member(self.file, "labels")
            if not isinstance(labels, h5py.Group):
                raise InterchangeError("labels is not a group")
            content["labels"] = {name: self._array(labels, name) for name in labels}
        content["declared"] = {
            name: self._stated(name) for name in STATED if name in self.file.attrs
        }
        return content

    def _member(self, group: h5py.Group, name: str) -> Any:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise InterchangeError(f"{name} is a link, perhaps to another file")
        return group[name]

    def _array(self, group: h5py.Group, name: str) -> Any:
        """Return a dataset: numbers as an array, text as a list."""
        dataset = self._member(group, name)
        if not isinstance(dataset, h5py.Dataset):
            raise InterchangeError(f"{name} is not a dataset")
        if dataset.id.get_create_plist().get_external_count() or dataset.is_virtual:
            raise InterchangeError(f"{name} is stored in another file")
        if dataset.shape is None:
            raise InterchangeError(f"{name} has no shape")
        text = h5py.check_string_dtype(dataset.dtype)
        if dataset.dtype.kind not in "biufS" and text is None:
            raise InterchangeError(f"{name} is {dataset.dtype}: neither numbers nor text")
        # Compression makes a file smaller; a size without storage behind it is a claim.
        claimed = math.prod(map(int, dataset.shape)) * dataset.dtype.itemsize
        if dataset.id.get_storage_size() * 1100 < claimed:
            raise InterchangeError(f"{name} claims {claimed} bytes, which the file does not hold")
        values: NDArray[Any] = dataset[()]
        if dataset.dtype.kind != "S" and text is None:
            return values
        if dataset.ndim != 1:
            raise InterchangeError(f"{name} has the shape {dataset.shape}, not one text a clip")
        return [value.decode("utf-8", "surrogateescape") for value in values.tolist()]

    def _stated(self, name: str) -> Any:
        value = self.file.attrs[name]
        if not isinstance(value, str | np.str_):
            raise InterchangeError(f"the attribute {name} is not text")
        try:
            stated = json.loads(str(value))
            json.dumps(stated, allow_nan=False)
        except (ValueError, RecursionError) as error:
            raise InterchangeError(f"the attribute {name} is not JSON: {error}") from error
        return stated
