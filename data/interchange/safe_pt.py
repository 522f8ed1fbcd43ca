"""Reading a .pt file as data, never as code.

The names in its pickle are checked before anything is built, against a short list. PyTorch's own
restricted unpickler then reads it, with replacements for NumPy's constructors: those trust what a
pickle states about an array's type and size, and the replacements check it.
"""

import math
import os
import pickletools
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from data.errors import HeliographError
from data.files import UnsafeFileError, missing, open_regular, sha256_open
from data.screening import MEMORY_BYTES, SECONDS, require_screened

_STORAGES = ("Half", "BFloat16", "Float", "Double", "Byte", "Char", "Short", "Int", "Long", "Bool")
_TORCH_GLOBALS = frozenset(
    {
        "collections.OrderedDict",
        "_codecs.encode",
        "torch._utils._rebuild_tensor_v2",
        *(f"torch.{kind}Storage" for kind in _STORAGES),
    }
)
_FOREIGN_OPERATIONS = ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID")
_PICKLE_LIMIT = 1 << 30
# What PyTorch puts before its reason: advice to load the file without protection.
_WEIGHTS_ONLY = re.compile(r"Weights only load failed.*?WeightsUnpickler error: *", re.DOTALL)
_DTYPE = re.compile(r"[<>|=]?([biufcSU])([0-9]{1,8})")


class InterchangeError(HeliographError):
    """A file of features that is refused, or that does not hold what it should."""


CHECKER = "data.interchange.checker:check_pt"
_DEEPEST = 32
_LARGEST = 1 << 63


def read_pt(path: Path | str) -> dict[str, Any]:
    """Read the dict in a .pt file: NumPy arrays and numbers, tensors, text, numbers, lists, dicts.

    Nothing in the file is executed. A file from elsewhere is first read in another process.

    Raises:
        InterchangeError: The file holds something else; the message names what it tried to load.
    """
    return read_hashed_pt(path)[0]


def read_hashed_pt(path: Path | str, *, screened: bool = False) -> tuple[dict[str, Any], str]:
    """Return what `read_pt` does, and the SHA-256 of the file.

    Args:
        path: The file.
        screened: Whether this is the process that may be killed.

    Raises:
        InterchangeError: as for `read_pt`.
    """
    path = Path(path)
    try:
        with open_regular(path, follow_links=True) as file:
            sha256 = sha256_open(file)
            if not screened:
                size = os.fstat(file.fileno()).st_size
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
    except OSError as error:
        raise InterchangeError(f"{path} cannot be read: {error.strerror or error}") from error


def first_line(reason: Exception | str) -> str:
    """Return the first line of an error's text, or the error's name if it has none."""
    return str(reason).partition("\n")[0] or type(reason).__name__


def _read(path: Path, file: BinaryIO) -> dict[str, Any]:
    import torch

    size = _check_archive(path, file)
    file.seek(0)
    try:
        with torch.serialization.safe_globals([*_replacements()]):
            content = torch.load(file, map_location="cpu", weights_only=True)
        content = _Plain(size).value(content)
    except InterchangeError as error:
        raise InterchangeError(f"{path} is refused: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever a forged pickle provokes in the unpickler
        reason = first_line(_WEIGHTS_ONLY.sub("", str(error)) or type(error).__name__)
        if "weights_only" in reason or "safe_globals" in reason:  # advice to trust the file
            reason = "its pickle holds more than a file of data may"
        raise InterchangeError(f"{path} is refused: {reason}") from error
    if not isinstance(content, dict):
        raise InterchangeError(f"{path} holds a {type(content).__name__}, not a dict")
    return content


def _check_archive(path: Path, file: BinaryIO) -> int:
    """Refuse what is not a plain archive of torch.save; return the file's size in bytes."""
    size = file.seek(0, 2)
    try:
        archive = zipfile.ZipFile(file)
        entries = archive.infolist()
        pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise InterchangeError(f"{path} is refused: a zip file, but not one of torch.save")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise InterchangeError(f"{path} is refused: {entry.filename} is compressed")
        claimed = sum(entry.file_size for entry in entries)
        if claimed > size or pickles[0].file_size > _PICKLE_LIMIT:
            raise InterchangeError(
                f"{path} is refused: it claims {claimed} bytes in a file of {size}"
            )
        content = archive.read(pickles[0])
    except InterchangeError:
        raise
    except Exception as error:  # zipfile raises a dozen kinds on damaged files
        raise InterchangeError(
            f"{path} is refused: not a zip file of torch.save (damaged, or of before torch 1.6)"
        ) from error
    _check_globals(path, content)
    return size


def _check_globals(path: Path, content: bytes) -> None:
    allowed = _TORCH_GLOBALS | {name for _, name in _replacements()}
    try:
        for operation, argument, _ in pickletools.genops(content):
            if operation.name == "GLOBAL":
                name = str(argument).replace(" ", ".")
                if name not in allowed:
                    raise InterchangeError(f"{path} is refused: it tries to load {name}")
            if operation.name in _FOREIGN_OPERATIONS:
                raise InterchangeError(
                    f"{path} is refused: its pickle uses {operation.name}, as torch.save never does"
                )
    except ValueError as error:
        raise InterchangeError(f"{path} is refused: its pickle is damaged: {error}") from error


class _CheckedDtype:
    """Replacement for numpy.dtype: plain numbers and text, no objects, no fields."""

    def __init__(self, spec: Any, *_: Any) -> None:
        match = _DTYPE.fullmatch(spec) if isinstance(spec, str) else None
        if not match:
            what = "an array of Python objects" if str(spec).startswith("O") else f"type {spec!r}"
            raise InterchangeError(f"it holds {what}; only numbers and text are read")
        self.dtype = np.dtype(f"{match[1]}{match[2]}")

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 8 or state[2:5] != (None, None, None):
            raise InterchangeError("it holds an array type with fields or metadata")
        if state[1] not in ("<", ">", "|", "="):
            raise InterchangeError(f"it holds an array of byte order {state[1]!r}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _CheckedArray:
    """Replacement for numpy.ndarray until its bytes are counted."""

    array: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _CheckedDtype) or not isinstance(raw, bytes):
            raise InterchangeError("it holds an array that is not plain bytes")
        if not all(isinstance(length, int) and length >= 0 for length in shape):
            raise InterchangeError(f"it holds an array of shape {shape!r}")
        claimed = math.prod(shape) * dtype.dtype.itemsize
        if claimed != len(raw):
            raise InterchangeError(f"an array claims {claimed} bytes and has {len(raw)}")
        values = np.frombuffer(raw, dtype=dtype.dtype) if raw else np.empty(0, dtype.dtype)
        self.array = values.reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: Any, shape: Any, code: Any) -> _CheckedArray:
    if kind is not _CheckedArray:
        raise InterchangeError("it holds an array of a foreign class")
    return _CheckedArray()


def _scalar(dtype: Any, raw: Any) -> Any:
    array = _CheckedArray()
    array.__setstate__((1, (), dtype, False, raw))
    assert array.array is not None
    return array.array[()]


def _no_bytes() -> bytes:
    return b""


def _replacements() -> Sequence[tuple[Callable[..., Any], str]]:
    pairs: list[tuple[Callable[..., Any], str]] = [
        (_CheckedArray, "numpy.ndarray"),
        (_CheckedDtype, "numpy.dtype"),
        (_no_bytes, "__builtin__.bytes"),  # the name in a pickle of protocol 2
        (_no_bytes, "builtins.bytes"),  # the name that the unpickler looks up
    ]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        pairs += [(_reconstruct, f"{module}._reconstruct"), (_scalar, f"{module}.scalar")]
    return pairs


class _Plain:
    """Values with arrays for their replacements, in every container.

    Containers may be in several others, and what they hold in all is counted: a few nested lists
    can be more numbers than there are atoms. It cannot be more than the bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen: dict[int, tuple[Any, Any, int]] = {}  # with the value itself: its id stays its

    def value(self, value: Any) -> Any:
        """Return the value.

        Raises:
            InterchangeError: It holds something that a file of data may not hold.
        """
        return self._convert(value, 0)[0]

    def _convert(self, value: Any, depth: int) -> tuple[Any, int]:
        """Return the value, and how many values it is."""
        if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
            raise InterchangeError("it holds an integer of more than 64 bits")
        if isinstance(value, str | bool | int | float | None | np.generic):
            return value, 1
        if depth > _DEEPEST:
            raise InterchangeError(f"it is nested more than {_DEEPEST} deep")
        if id(value) in self._seen:
            _, result, count = self._seen[id(value)]
            if not count:
                raise InterchangeError("it holds itself")
            return result, count
        self._seen[id(value)] = (value, None, 0)
        result, count = self._converted(value, depth)
        if count > self._size:
            raise InterchangeError(f"it holds {count} values in a file of {self._size} bytes")
        self._seen[id(value)] = (value, result, count)
        return result, count

    def _converted(self, value: Any, depth: int) -> tuple[Any, int]:
        import torch

        if isinstance(value, _CheckedArray):
            if value.array is None:
                raise InterchangeError("it holds an array without content")
            return value.array, 1
        if type(value) is torch.Tensor:
            if value.layout != torch.strided or value.numel() * value.element_size() > self._size:
                raise InterchangeError(f"a tensor of shape {tuple(value.shape)} is not in the file")
            return value.detach().resolve_conj().resolve_neg(), 1
        if not isinstance(value, dict | list | tuple):
            raise InterchangeError(f"it holds a {type(value).__name__}")
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str | int | float | bool):
                    raise InterchangeError(f"a dict in it has a key of type {type(key).__name__}")
        items = [
            self._convert(item, depth + 1)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        results = [result for result, _ in items]
        count = 1 + sum(count for _, count in items)
        if isinstance(value, dict):
            return dict(zip(value, results, strict=True)), count
        return tuple(results) if isinstance(value, tuple) else results, count
