"""The paper's .pt files, in and out, and other formats that a cache is exported to.

A .pt file is data, never code: it is read by PyTorch's restricted unpickler with a short allow-list,
in which even NumPy's own constructors are replaced by inert stand-ins that check what they are told.
"""

import math
import pickletools
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from data.errors import HeliographError
from data.features import Features
from data.files import replacing, sha256_file

_LABELS = {"mass_values": "mass", "e_bins": "elasticity", "f_bins": "friction"}
_TORCH_GLOBALS = frozenset(
    ["collections OrderedDict", "_codecs encode", "torch._utils _rebuild_tensor_v2"]
    + [
        f"torch {kind}Storage"
        for kind in "Half BFloat16 Float Double Byte Char Short Int Long Bool".split()
    ]
)
_PICKLE_LIMIT = 1 << 30
_DTYPE = re.compile(r"[<>|=]?([biufcSU])([0-9]{1,9})")


class InterchangeError(HeliographError):
    """A file of features that is refused, or that does not hold what it should."""


def read_pt(path: Path | str) -> dict[str, Any]:
    """The dict in a .pt file: NumPy arrays and numbers, tensors, strings, numbers, lists, dicts.

    Nothing in the file is executed. Raises `InterchangeError` for anything else, with the name of
    what the file tried to load.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise InterchangeError(f"{path} is not a file")
    with open(path, "rb") as file:
        size = _check_archive(path, file)
        file.seek(0)
        try:
            with torch.serialization.safe_globals(_stand_ins()):
                content = torch.load(file, map_location="cpu", weights_only=True)
            content = _plain(content, size, {})
        except InterchangeError as error:
            raise InterchangeError(f"{path} is refused: {error}") from error
        except Exception as error:  # whatever a forged pickle provokes in the unpickler
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InterchangeError(f"{path} is refused: {reason}") from error
    if not isinstance(content, dict):
        raise InterchangeError(f"{path} holds a {type(content).__name__}, not a dict")
    return content


def _check_archive(path: Path, file: BinaryIO) -> int:
    """Refuse what is not a plain archive of torch.save; returns the file's size in bytes."""
    try:
        archive = zipfile.ZipFile(file)
        entries = archive.infolist()
        size = file.seek(0, 2)
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
    except zipfile.BadZipFile as error:
        raise InterchangeError(
            f"{path} is refused: not a zip file of torch.save (truncated, or of before torch 1.6)"
        ) from error
    _check_globals(path, content)
    return size


def _check_globals(path: Path, content: bytes) -> None:
    allowed = _TORCH_GLOBALS | {name.replace(".", " ") for name in ()}
    allowed |= {" ".join(name.rsplit(".", 1)) for _, name in _stand_ins()}
    try:
        for operation, argument, _ in pickletools.genops(content):
            if operation.name == "GLOBAL" and argument not in allowed:
                name = str(argument).replace(" ", ".")
                raise InterchangeError(f"{path} is refused: it tries to load {name}")
            if operation.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID"):
                raise InterchangeError(
                    f"{path} is refused: its pickle uses {operation.name}, which torch.save does not"
                )
    except ValueError as error:
        raise InterchangeError(f"{path} is refused: its pickle is damaged: {error}") from error


class _Dtype:
    """Stands in for numpy.dtype: plain numbers and text, no objects, no fields."""

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


class _Array:
    """Stands in for numpy.ndarray until its bytes have been counted."""

    array: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
            raise InterchangeError("it holds an array that is not plain bytes")
        if not all(isinstance(length, int) and length >= 0 for length in shape):
            raise InterchangeError(f"it holds an array of shape {shape!r}")
        claimed = math.prod(shape) * dtype.dtype.itemsize
        if claimed != len(raw):
            raise InterchangeError(f"an array claims {claimed} bytes and has {len(raw)}")
        values = np.frombuffer(raw, dtype=dtype.dtype) if raw else np.empty(0, dtype.dtype)
        self.array = values.reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if kind is not _Array:
        raise InterchangeError("it holds an array of a foreign class")
    return _Array()


def _scalar(dtype: Any, raw: Any) -> Any:
    array = _Array()
    array.__setstate__((1, (), dtype, False, raw))
    assert array.array is not None
    return array.array[()]


def _no_bytes() -> bytes:
    return b""


def _stand_ins() -> list[tuple[Callable[..., Any], str]]:
    pairs: list[tuple[Callable[..., Any], str]] = [
        (_Array, "numpy.ndarray"),
        (_Dtype, "numpy.dtype"),
        (_no_bytes, "__builtin__.bytes"),
    ]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        pairs += [(_reconstruct, f"{module}._reconstruct"), (_scalar, f"{module}.scalar")]
    return pairs


def _plain(value: Any, size: int, seen: dict[int, Any]) -> Any:
    """Arrays for stand-ins, in every container; raises for what has no place in a file of data."""
    import torch

    if isinstance(value, str | bool | int | float | None | np.generic):
        return value
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, _Array):
        if value.array is None:
            raise InterchangeError("it holds an array without content")
        result: Any = value.array
    elif type(value) is torch.Tensor:
        if value.layout != torch.strided or value.numel() * value.element_size() > size:
            raise InterchangeError(f"a tensor of shape {tuple(value.shape)} is not in the file")
        result = value
    elif isinstance(value, dict):
        result = seen[id(value)] = {}
        for key, item in value.items():
            if not isinstance(key, str | int | float | bool):
                raise InterchangeError(f"a dict in it has a key of type {type(key).__name__}")
            result[key] = _plain(item, size, seen)
    elif isinstance(value, list):
        result = seen[id(value)] = []
        result.extend(_plain(item, size, seen) for item in value)
    elif isinstance(value, tuple):
        result = tuple(_plain(item, size, seen) for item in value)
    else:
        raise InterchangeError(f"it holds a {type(value).__name__}")
    seen[id(value)] = result
    return result


# The paper's files -------------------------------------------------------------------------------


def import_pt(
    path: Path | str,
    *,
    backbone: str | None = None,
    frames: int | None = None,
    preprocess: str | None = None,
) -> Features:
    """A cache from one of the paper's files, features in their type.

    Known are `features` with `obj_names` and `mass_values`; with `e_bins` and `f_bins`; with `index`,
    a list of dicts. `backbone`, `frames` and `preprocess` declare where the features came from.
    Raises `InterchangeError` when keys are missing or lengths disagree.
    """
    path = Path(path)
    content = read_pt(path)
    if "features" not in content:
        raise InterchangeError(f"{path} has no 'features'; it has {', '.join(map(str, content))}")
    fingerprint: dict[str, Any] = {
        "imported": True,
        "source": path.name,
        "sha256": sha256_file(path),
    }
    declared = {"backbone": backbone, "frames": frames, "preprocess": preprocess}
    fingerprint |= {name: value for name, value in declared.items() if value is not None}
    features, converted = _features(path, content["features"])
    if converted:
        fingerprint["converted"] = converted
    count = len(features)
    objects, columns = _identities(path, content, count)
    labels = {name: _column(path, name, values, count) for name, values in columns.items()}
    scenario = content.get("scenario", "")
    if not isinstance(scenario, str):
        raise InterchangeError(f"{path}: scenario is a {type(scenario).__name__}, not text")
    return Features(
        features=features,
        clip_id=_numbered(objects),
        object=objects,
        scenario=[scenario] * count,
        labels=labels,
        fingerprint=fingerprint,
    )


def _features(path: Path, values: Any) -> tuple[NDArray[Any], str | None]:
    """Features (N, T, D) and what had to be converted, if anything."""
    array = _array(path, "features", values)
    converted = None
    if array.dtype == np.float64:
        array, converted = array.astype(np.float32), "float64 to float32"
    if array.dtype not in (np.float16, np.float32):
        raise InterchangeError(f"{path}: features are {array.dtype}, not floating-point numbers")
    if array.ndim == 2:
        array = array[:, None, :]  # (N, D) -> (N, 1, D)
    if array.ndim != 3:
        raise InterchangeError(
            f"{path}: features have shape {array.shape}, not (clips, steps, dimensions)"
        )
    return array.astype(array.dtype.newbyteorder("=")), converted


def _array(path: Path, name: str, values: Any) -> NDArray[Any]:
    import torch

    if isinstance(values, torch.Tensor):
        return (values.float() if values.dtype == torch.bfloat16 else values).contiguous().numpy()
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InterchangeError(f"{path}: {name} is not an array: {error}") from error


def _identities(
    path: Path, content: Mapping[str, Any], count: int
) -> tuple[list[str], dict[str, Any]]:
    """The object of each clip, and the columns of labels."""
    columns = {label: content[key] for key, label in _LABELS.items() if key in content}
    if "obj_names" in content:
        names = content["obj_names"]
        if isinstance(names, np.ndarray):
            names = names.tolist()
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InterchangeError(f"{path}: obj_names is not a list of text")
        _same_length(path, "obj_names", len(names), count)
        return names, columns
    if "index" in content:
        return _from_index(path, content["index"], count)
    if {"elasticity", "friction"} <= columns.keys():
        cells = [
            _column(path, name, columns[name], count).astype(int)
            for name in ("elasticity", "friction")
        ]
        return [f"e{e}_f{f}" for e, f in zip(*cells, strict=True)], columns
    raise InterchangeError(
        f"{path} has none of 'obj_names', 'index', 'e_bins' and 'f_bins'; "
        f"it has {', '.join(map(str, content))}"
    )


def _from_index(path: Path, index: Any, count: int) -> tuple[list[str], dict[str, Any]]:
    if not isinstance(index, list) or not all(isinstance(entry, dict) for entry in index):
        raise InterchangeError(f"{path}: index is not a list of dicts")
    _same_length(path, "index", len(index), count)
    raise NotImplementedError


def _same_length(path: Path, name: str, found: int, count: int) -> None:
    if found != count:
        raise InterchangeError(f"{path}: {found} {name} for {count} clips of features")


def _column(path: Path, name: str, values: Any, count: int) -> NDArray[np.float64]:
    array = _array(path, name, values)
    if array.dtype.kind not in "biuf" or array.ndim != 1:
        raise InterchangeError(f"{path}: {name} is {array.dtype} {array.shape}, not one number a clip")
    _same_length(path, f"values of {name}", len(array), count)
    return array.astype(np.float64)


def _numbered(objects: Sequence[str]) -> list[str]:
    """`<object>/<number of the clip among the object's>`, in order."""
    counts: dict[str, int] = {}
    ids = []
    for name in objects:
        ids.append(f"{name}/{counts.get(name, 0):03d}")
        counts[name] = counts.get(name, 0) + 1
    return ids


def export_pt(features: Features, path: Path | str, *, property: str = "mass") -> None:
    """Write the paper's file: `features`, `obj_names`, `mass_values` (of `property`), `scenario`."""
    import torch

    if property not in features.labels:
        raise InterchangeError(
            f"no label {property!r} to export; the labels are {', '.join(features.labels) or 'none'}"
        )
    scenarios = sorted(set(features.scenario))
    content = {
        "features": torch.from_numpy(np.ascontiguousarray(features.features)),
        "obj_names": list(features.object),
        f"{property}_values": np.asarray(features.labels[property], dtype=np.float64),
        "scenario": scenarios[0] if len(scenarios) == 1 else "all",
    }
    with replacing(Path(path)) as file:
        torch.save(content, file)
