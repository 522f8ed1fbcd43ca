"""Import and export of the paper's .pt files, and export to other formats."""

import hashlib
import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache import Features
from data.clips import Clip
from data.errors import HeliographError, InvalidValueError
from data.files import atomic_write
from data.interchange.arrays import EVERY_NPY, READERS, read_arrays
from data.interchange.arrow import encode_arrow, encode_parquet, write_lance
from data.interchange.safe_pt import InterchangeError, first_line, read_hashed_pt, read_pt
from data.screening import record
from data.wording import counted

__all__ = [
    "EXPORTERS",
    "Export",
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

_NUMBERED = re.compile(r".*/[0-9]{3,}", re.DOTALL)
GIVEN = "given"
"""In the fingerprint of imported features: their ids were given, not numbered here."""
_BINS = {"e_bins": "elasticity", "f_bins": "friction"}


def import_features(
    path: Path | str,
    *,
    backbone: str | None = None,
    frames: int | None = None,
    preprocess: str | None = None,
    output: str | None = None,
    files: str = EVERY_NPY,
    steps: int | None = None,
    clips: Sequence[Clip] = (),
) -> Features:
    """Read features of another program as a cache.

    The suffix says how: `.pt` is one of the paper's, `.h5` a file without a seal; `.npz`,
    `.safetensors` and `.parquet` have the names of our exports, or features alone; of a folder each
    `.npy` is a clip, (steps, dimensions) or (dimensions,).

    Args:
        path: The file, or the folder.
        backbone: Declares what the features were made with.
        frames: Declares the frames of a clip.
        preprocess: Declares the preprocessing.
        output: Declares the output of the backbone.
        files: Which files of a folder; the id of a clip is what the `*` stands for.
        steps: Take so many steps of each clip, from its first to its last.
        clips: What a table says of the clips: objects, scenarios, labels and units. Found by id, or
            by the id or the file's name without its ending.

    Raises:
        InterchangeError: The file is refused, something is missing, lengths disagree, or `clips`
            names none of its clips.
    """
    path = Path(path)
    words: dict[str, Any] = {
        "backbone": backbone,
        "frames": frames,
        "preprocess": preprocess,
        "output": output,
    }
    try:
        if path.is_dir() or path.suffix.lower() in READERS:
            features = import_arrays(path, files=files, steps=steps, **words)
        elif path.suffix.lower() in (".h5", ".hdf5"):
            features = import_h5(path, **words)
        else:
            _require_known(path)
            features = import_pt(path, **words)
        return with_labels(features, clips, str(path)) if clips else features
    except HeliographError as error:
        if isinstance(error, InterchangeError):
            raise
        raise InterchangeError(f"{path}: {error}") from error
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise InterchangeError(f"{path} is damaged: {first_line(error)}") from error


def _require_known(path: Path) -> None:
    """Raise InterchangeError for a file that neither its suffix nor its first bytes explain."""
    suffix = path.suffix.lower()
    if suffix in (".pt", ".pth") or not path.is_file() or zipfile.is_zipfile(path):
        return
    raise InterchangeError(
        f"{path}: import does not read {suffix or 'files without a suffix'}: export it as "
        f"{', '.join(reversed(READERS))}, .h5 or .pt"
    )


def import_h5(
    path: Path | str,
    *,
    backbone: str | None = None,
    frames: int | None = None,
    preprocess: str | None = None,
    output: str | None = None,
) -> Features:
    """Read an HDF5 file without a seal that has the names of our datasets.

    `features` (N, T, D) or (N, D) and `clip_id` (N,) must be there; `object`, `scenario`,
    `labels/<name>`, `frame_index`, `pts_seconds` and `source_sha256` may be. What its attributes
    `fingerprint`, `sampler` and `decoder` say is kept as declared, like `backbone`, `frames` and
    `preprocess`.

    Raises:
        InterchangeError: The file is refused, something is missing, or lengths disagree.
    """
    from data.interchange.unsealed_h5 import read_h5  # after torch: it must not load h5py's HDF5

    path = Path(path)
    content, sha256 = read_h5(path)
    fingerprint = _declared(path, sha256, backbone, frames, preprocess, output)
    return _from_content(path, content, fingerprint)


def import_arrays(
    path: Path | str,
    *,
    files: str = EVERY_NPY,
    steps: int | None = None,
    backbone: str | None = None,
    frames: int | None = None,
    preprocess: str | None = None,
    output: str | None = None,
) -> Features:
    """Read an `.npz`, `.safetensors` or `.parquet` file or a folder of `.npy` as a cache.

    `features` (N, T, D) or (N, D) must be there, or be the only array of that kind; `clip_id`,
    `object`, `scenario`, `label_<name>`, `frame_index`, `pts_seconds` and `source_sha256` may be.
    Clips without ids are numbered. The arguments are those of `import_features`.

    Raises:
        InterchangeError: The file is refused, something is missing, or lengths disagree.
    """
    path = Path(path)
    content, sha256 = read_arrays(path, files=files)
    fingerprint = _declared(path, sha256, backbone, frames, preprocess, output)
    if isinstance(content["features"], list):
        content["features"] = _stacked(content["features"], content["clip_id"], steps)
    if steps is not None:
        rows = _steps_of(to_array(path, "features", content["features"]), steps)
        content["features"], fingerprint["steps_taken"] = rows, steps
    if "clip_id" in content:
        fingerprint["ids"] = GIVEN
    else:
        names = content.get("object") or [path.stem] * len(content["features"])
        content["clip_id"] = numbered([name or path.stem for name in names])
    return _from_content(path, content, fingerprint)


def _stacked(clips: Sequence[NDArray[Any]], ids: Sequence[str], steps: int | None) -> Any:
    """Return the features of clips as one array, `steps` of each where that is a number."""
    first = clips[0] if steps is None else _steps_of(clips[0][None], steps)[0]
    rows = []
    for name, clip in zip(ids, clips, strict=True):
        if steps is not None and len(clip) < steps:
            has = counted(len(clip), "step")
            raise InterchangeError(f"{name} has {has}, fewer than the {steps} of --steps")
        row = clip if steps is None else _steps_of(clip[None], steps)[0]
        if row.shape != first.shape or row.dtype != first.dtype:
            way = "; --steps N takes N steps of each" if row.shape[1:] == first.shape[1:] else ""
            raise InterchangeError(
                f"{ids[0]} is {first.dtype} {first.shape}, and {name} {row.dtype} {row.shape}: "
                f"a cache has as many steps and dimensions of every clip{way}"
            )
        rows.append(row)
    return np.stack(rows)


def _steps_of(features: NDArray[Any], steps: int) -> NDArray[Any]:
    """Return `steps` steps of features (N, T, D), as the sampling `uniform` takes frames."""
    features = features[:, None] if features.ndim == 2 else features
    if features.ndim != 3 or features.shape[1] < steps:
        raise InterchangeError(f"features of shape {features.shape} have no {steps} steps to take")
    return features[:, np.linspace(0, features.shape[1] - 1, steps).astype(np.int64)]


def with_labels(features: Features, clips: Sequence[Clip], what: str) -> Features:
    """Return features with the objects, scenarios, labels and units that a table gives their clips.

    Args:
        features: Of the clips.
        clips: Of the table; a clip that has no features is not needed.
        what: What an error calls the features.

    Raises:
        InterchangeError: The table names none of the clips, or two of its clips fit one.
    """
    rows = {name: row for row, name in enumerate(features.clip_id)}
    found: dict[int, Clip] = {}
    for clip in clips:
        names = (clip.id, clip.id.removesuffix(clip.path.suffix), clip.path.stem)
        row = next((rows[name] for name in names if name in rows), None)
        if row is None:
            continue
        if row in found:
            raise InterchangeError(
                f"{what}: the table has two clips, {found[row].id} and {clip.id}, for "
                f"{features.clip_id[row]}"
            )
        found[row] = clip
    if not found:
        raise InterchangeError(
            f"{what} has none of the clips of the table: its clips are called "
            f"{', '.join(features.clip_id[:3])}, those of the table "
            f"{', '.join(clip.id for clip in clips[:3])}"
        )
    labels = {name: np.array(values) for name, values in features.labels.items()}
    given = dict.fromkeys(name for clip in found.values() for name in clip.labels)
    labels |= {name: np.full(len(features), np.nan) for name in given}
    objects, scenarios = list(features.object), list(features.scenario)
    units, tables = dict(features.label_units), dict(features.label_tables)
    for row, clip in found.items():
        objects[row], scenarios[row] = clip.object, clip.scenario or scenarios[row]
        for name, value in clip.labels.items():
            labels[name][row] = value
            units[name] = clip.units.get(name, "")
            tables[name] = clip.table_sha256
    return replace(
        features,
        object=objects,
        scenario=scenarios,
        labels=labels,
        label_units=units,
        label_tables=tables,
    )


def from_arrays(
    features: NDArray[Any],
    *,
    clip_id: Sequence[str] | None = None,
    object: Sequence[str] | None = None,
    labels: Mapping[str, Any] | None = None,
    backbone: str | None = None,
    frames: int | None = None,
    preprocess: str | None = None,
    output: str | None = None,
) -> Features:
    """Return arrays of Python as features, which `data.cache.save` writes and `train` takes.

    Args:
        features: (N, T, D) or (N, D), of floating-point numbers.
        clip_id: An id for each clip; None: they are numbered.
        object: What each clip shows, by which clips are split; None: each clip is its own.
        labels: By name a number for each clip, NaN where unknown.
        backbone: Declares what the features were made with.
        frames: Declares the frames of a clip.
        preprocess: Declares the preprocessing.
        output: Declares the output of the backbone.

    Raises:
        InterchangeError: Features are not finite numbers of such a shape, or lengths disagree.
    """
    source = Path("arrays")
    array = to_array(source, "features", features)
    sha256 = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    fingerprint = _declared(source, sha256, backbone, frames, preprocess, output)
    content: dict[str, Any] = {"features": array, "labels": dict(labels or {}), "declared": {}}
    if object is not None:
        content["object"] = list(object)
    if clip_id is not None:
        content["clip_id"], fingerprint["ids"] = list(clip_id), GIVEN
    else:
        content["clip_id"] = numbered(content.get("object") or ["clip"] * len(array))
    return _from_content(source, content, fingerprint)


def _from_content(path: Path, content: Mapping[str, Any], fingerprint: dict[str, Any]) -> Features:
    """Return what was read of a file as features, its columns checked."""
    if content["declared"]:
        fingerprint["declared"] = content["declared"]
    features, converted = _features(path, content["features"])
    if converted:
        fingerprint["converted"] = converted
    count = len(features)
    columns: dict[str, Any] = {"object": [""] * count, "scenario": [""] * count}
    for name in ("clip_id", "object", "scenario", "source_sha256"):
        if name in content:
            if not isinstance(content[name], list):
                raise InterchangeError(f"{path}: {name} is {content[name].dtype}, not text")
            _same_length(path, f"values of {name}", len(content[name]), count)
            columns[name] = content[name]
    for name, kinds in (("frame_index", "iu"), ("pts_seconds", "iuf")):
        if name in content:
            array = content[name]
            if isinstance(array, list) or array.dtype.kind not in kinds or array.ndim != 2:
                raise InterchangeError(f"{path}: {name} is no table of numbers (clips, frames)")
            columns[name] = array
    labels = {
        name: _column(path, name, values, count) for name, values in content["labels"].items()
    }
    return Features(features=features, labels=labels, fingerprint=fingerprint, **columns)


def _declared(
    path: Path,
    sha256: str,
    backbone: str | None,
    frames: int | None,
    preprocess: str | None,
    output: str | None,
) -> dict[str, Any]:
    """Return the fingerprint of imported features."""
    declared = {"backbone": backbone, "frames": frames, "preprocess": preprocess, "output": output}
    return {
        "imported": True,
        "source": path.name,
        "sha256": sha256,
        **{name: value for name, value in declared.items() if value is not None},
    }


def import_pt(
    path: Path | str,
    *,
    backbone: str | None = None,
    frames: int | None = None,
    preprocess: str | None = None,
    output: str | None = None,
) -> Features:
    """Read one of the paper's files as a cache; features keep their type.

    Known are `features` (N, T, D) or (N, D) with `obj_names` and `mass_values`; with `e_bins` and
    `f_bins`; with `index`, a list of dicts that hold `elasticity_bin` and the like. Where there are
    no objects, the cell of the grid is the object. A mass of 0.0 means unknown. `backbone`,
    `frames`, `preprocess` and `output` declare how the features were made.

    Raises:
        InterchangeError: The file is refused, keys are missing, or lengths disagree.
    """
    path = Path(path)
    content, sha256 = read_hashed_pt(path)
    if "features" not in content:
        raise InterchangeError(f"{path} has no 'features'; it has {', '.join(map(str, content))}")
    fingerprint = _declared(path, sha256, backbone, frames, preprocess, output)
    features, converted = _features(path, content["features"])
    if converted:
        fingerprint["converted"] = converted
    count = len(features)
    objects, labels = _identities(path, content, count)
    scenario = content.get("scenario", "")
    if not isinstance(scenario, str):
        raise InterchangeError(f"{path}: scenario is a {type(scenario).__name__}, not text")
    return Features(
        features=features,
        clip_id=numbered(objects),
        object=objects,
        scenario=[scenario] * count,
        labels=labels,
        fingerprint=fingerprint,
    )


def _features(path: Path, values: Any) -> tuple[NDArray[Any], str | None]:
    """Return features (N, T, D) and which conversion was needed, if any."""
    array = to_array(path, "features", values)
    converted = None
    if array.dtype == np.float64:
        with np.errstate(over="ignore"):  # what overflows is found below
            array, converted = array.astype(np.float32), "float64 to float32"
    if array.dtype not in (np.float16, np.float32):
        raise InterchangeError(f"{path}: features are {array.dtype}, not floating-point numbers")
    if array.ndim == 2:
        array = array[:, None, :]  # (N, D) -> (N, 1, D)
    if array.ndim != 3:
        raise InterchangeError(
            f"{path}: features have shape {array.shape}, not (clips, steps, dimensions)"
        )
    bad = ~np.isfinite(array).all(axis=(1, 2))
    if bad.any():
        raise InterchangeError(
            f"{path}: the features of {counted(bad.sum(), 'clip')} are not finite numbers "
            f"in {array.dtype} (row {int(bad.argmax())})"
        )
    return array.astype(array.dtype.newbyteorder("=")), converted


def to_array(path: Path, name: str, values: Any) -> NDArray[Any]:
    """Return a tensor, an array or a list of a .pt file as an array.

    Raises:
        InterchangeError: It is none.
    """
    import torch

    try:
        if not isinstance(values, torch.Tensor):
            return np.asarray(values)
        values = values.detach()
        return (values.float() if values.dtype == torch.bfloat16 else values).contiguous().numpy()
    except (RuntimeError, TypeError, ValueError) as error:
        raise InterchangeError(f"{path}: {name} is not an array: {first_line(error)}") from error


def _identities(
    path: Path, content: Mapping[str, Any], count: int
) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    """Return the object of each clip, and the columns of labels."""
    columns = {
        name.removesuffix("_values"): _column(path, name, values, count)
        for name, values in content.items()
        if isinstance(name, str) and name.endswith("_values")
    }
    if "mass" in columns:  # the paper's code writes 0.0 for an object whose mass is not known
        columns["mass"] = np.where(columns["mass"] == 0, np.nan, columns["mass"])
    bins = {
        label: _column(path, name, content[name], count)
        for name, label in _BINS.items()
        if name in content
    }
    if not bins and "index" in content:
        bins = _bins_of_index(path, content["index"], count)
    if "obj_names" in content:
        names = content["obj_names"]
        if isinstance(names, np.ndarray):
            names = names.tolist()
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InterchangeError(f"{path}: obj_names is not a list of text")
        _same_length(path, "obj_names", len(names), count)
        return names, columns | bins
    if bins:
        cells = zip(*bins.values(), strict=True)
        return ["_".join(map(_cell, bins, cell)) for cell in cells], columns | bins
    raise InterchangeError(
        f"{path} has none of obj_names, e_bins, f_bins and index to tell its clips apart; "
        f"it has {', '.join(map(str, content))}"
    )


def _cell(label: str, value: float) -> str:
    return f"{label}{value:g}"


def _bins_of_index(path: Path, index: Any, count: int) -> dict[str, NDArray[np.float64]]:
    """`elasticity_bin` and its like, from a list of one dict a clip, as `elasticity`.

    What else such a dict holds (colour, light, identity of the scene) is no label.
    """
    if not isinstance(index, list) or not all(isinstance(entry, dict) for entry in index):
        raise InterchangeError(f"{path}: index is not a list of dicts")
    _same_length(path, "entries of index", len(index), count)
    names = [name for name in (index[0] if index else ()) if str(name).endswith("_bin")]
    for number, entry in enumerate(index):
        for name in names:
            if name not in entry:
                raise InterchangeError(f"{path}: entry {number} of index has no {name}")
    return {
        name.removesuffix("_bin"): _column(path, name, [entry[name] for entry in index], count)
        for name in names
    }


def _same_length(path: Path, name: str, found: int, count: int) -> None:
    if found != count:
        raise InterchangeError(f"{path}: {found} {name} for {counted(count, 'clip')} of features")


def _column(path: Path, name: str, values: Any, count: int) -> NDArray[np.float64]:
    array = to_array(path, name, values)
    if array.dtype.kind not in "biuf" or array.ndim != 1:
        raise InterchangeError(
            f"{path}: {name} is {array.dtype} {array.shape}, not one number a clip"
        )
    _same_length(path, f"values of {name}", len(array), count)
    column = array.astype(np.float64)
    if np.isinf(column).any():
        raise InterchangeError(f"{path}: {name} holds an infinite number")
    return column


def numbered(objects: Sequence[str]) -> list[str]:
    """Return `<object>/<number of the clip among the object's>`, in order."""
    counts: dict[str, int] = {}
    ids = []
    for name in objects:
        ids.append(f"{name}/{counts.get(name, 0):03d}")
        counts[name] = counts.get(name, 0) + 1
    return ids


def has_numbered_ids(features: Features) -> bool:
    """Return whether `numbered` made the ids of clips: they say nothing but an order.

    True for a file of the paper's format, also where some of its clips were left out later.
    """
    made = features.fingerprint.get("imported") and not str(
        features.fingerprint.get("source", "")
    ).lower().endswith((".h5", ".hdf5"))
    made = made and features.fingerprint.get("ids") != GIVEN
    return bool(made) and all(_NUMBERED.fullmatch(clip) for clip in features.clip_id)


@dataclass(frozen=True)
class Export:
    """The bytes of a file for another program, and the ids of the clips that it cannot hold.

    A format that is a folder has no bytes, but a function that writes it.
    """

    content: bytes | memoryview = b""
    left_out: Sequence[str] = ()
    write_folder: Callable[[Path], None] | None = None


def encode_pt(features: Features, property: str) -> Export:
    """Return a file as the paper's code writes it: same keys, types and order of keys.

    `features`: tensor (N, T, D); `obj_names`: list of N; `<property>_values`: float64 (N,);
    `scenario`: text, several joined by `+`. It holds nothing else of the cache. The format cannot
    express "unknown" (a reader would take NaN, or the paper's 0.0, for a value), so clips whose
    property is not known are left out.

    Raises:
        InvalidValueError: There is no such label.
        InterchangeError: No clip has a known label.
    """
    if property not in features.labels:
        known = ", ".join(features.labels) or "none"
        raise InvalidValueError(f"there is no label {property!r} to export; the labels are {known}")
    unknown = np.isnan(features.labels[property])
    if len(features) and unknown.all():
        raise InterchangeError(f"no clip has a known {property}, so there is nothing to export")
    known_clips = features.select(np.flatnonzero(~unknown)) if unknown.any() else features
    content = {
        "features": _tensor(known_clips.features),
        "obj_names": list(known_clips.object),
        f"{property}_values": np.array(known_clips.labels[property], dtype=np.float64),
        "scenario": "+".join(sorted(set(known_clips.scenario))),
    }
    left_out = [features.clip_id[row] for row in np.flatnonzero(unknown).tolist()]
    return Export(_saved(content), left_out)


def _tensor(features: Any) -> Any:
    """Return features as a tensor of the same memory, which is only read."""
    import torch

    with warnings.catch_warnings():  # those of a mapped file cannot be written
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(features))


def _saved(content: Mapping[str, Any]) -> memoryview:
    """Return what `torch.save` writes; in memory, so that a full disk raises our error."""
    import torch

    memory = io.BytesIO()
    torch.save(dict(content), memory)
    return memory.getbuffer()


def write_pt(content: Mapping[str, Any], path: Path | str) -> None:
    """Write a dict with `torch.save`, whole or not at all.

    Raises:
        WriteError: The disk is full or not writable.
    """
    _write(Path(path), _saved(content))


def _write(path: Path, content: bytes | memoryview) -> None:
    atomic_write(path, content)
    record(f"sha256:{hashlib.sha256(content).hexdigest()}")


def encode_npz(features: Features, property: str) -> Export:
    """Return an .npz without pickles: the columns, `label_<name>`, and the rest as JSON text."""
    memory = io.BytesIO()
    columns = _numbers(features) | {
        name: np.array(getattr(features, name), dtype=np.str_) for name in _TEXT
    }
    np.savez(memory, allow_pickle=False, about=np.array(_about(features)), **columns)
    return Export(memory.getvalue())


def encode_safetensors(features: Features, property: str) -> Export:
    """Return the numbers as tensors, and the text as JSON in the file's metadata."""
    from safetensors.numpy import save

    metadata = {name: json.dumps(list(getattr(features, name))) for name in _TEXT}
    tensors = {name: np.ascontiguousarray(array) for name, array in _numbers(features).items()}
    content = memoryview(save(tensors, metadata | {"about": _about(features)}))
    # A header begins with its length. Written by the library, its metadata are in random order.
    stop = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(bytes(content[8:stop])), sort_keys=True).encode()
    header = header.ljust(-(-len(header) // 8) * 8)
    return Export(b"".join((len(header).to_bytes(8, "little"), header, content[stop:])))


def _encode_arrow(features: Features, property: str) -> Export:
    return Export(encode_arrow(_columns(features), _about(features)))


def _encode_parquet(features: Features, property: str) -> Export:
    return Export(encode_parquet(_columns(features), _about(features)))


def _encode_lance(features: Features, property: str) -> Export:
    columns, about = _columns(features), _about(features)
    return Export(write_folder=lambda path: write_lance(columns, about, path))


def _columns(features: Features) -> dict[str, Any]:
    times = {name: getattr(features, name) for name in ("start", "end")}
    return {name: list(getattr(features, name)) for name in _TEXT} | times | _numbers(features)


EXPORTERS: dict[str, Callable[[Features, str], Export]] = {
    ".pt": encode_pt,
    ".npz": encode_npz,
    ".safetensors": encode_safetensors,
    ".parquet": _encode_parquet,
    ".arrow": _encode_arrow,
    ".lance": _encode_lance,
}


def encode(features: Features, path: Path | str, *, property: str = "mass") -> Export:
    """Return what the file `path` is to hold; its suffix says the format (see `EXPORTERS`).

    `property` is the one label that a .pt holds; the other formats hold all.

    Raises:
        InvalidValueError: There is no such format, or no such label.
        InterchangeError: The cache has nothing that the format can hold.
    """
    return EXPORTERS[export_format(Path(path))](features, property)


def export_format(path: Path) -> str:
    """Return the suffix of a file to export to, which says its format.

    Raises:
        InvalidValueError: There is no such format.
    """
    suffix = path.suffix.lower()
    if suffix not in EXPORTERS:
        found = f"has the suffix {path.suffix}" if suffix else "has no suffix"
        raise InvalidValueError(
            f"{path} {found}, which says no format to export to: choose a name that ends in "
            f"{' or '.join(EXPORTERS)}"
        )
    return suffix


def export(features: Features, path: Path | str, *, property: str = "mass") -> list[str]:
    """Write the format that the suffix of `path` names, whole or not at all.

    Returns:
        The ids of the clips that the format cannot hold, and that are left out.

    Raises:
        InvalidValueError: as for `encode`.
        InterchangeError: as for `encode`.
        WriteError: The disk is full or not writable.
    """
    exported = encode(features, path, property=property)
    write_export(exported, path)
    return list(exported.left_out)


def write_export(exported: Export, path: Path | str) -> None:
    """Write what `encode` returned, whole or not at all.

    Raises:
        InterchangeError: It is a folder, and something is there.
        WriteError: The disk is full or not writable.
    """
    if exported.write_folder is not None:
        exported.write_folder(Path(path))
    else:
        _write(Path(path), exported.content)


_TEXT = ("clip_id", "object", "scenario", "source_sha256")


def _numbers(features: Features) -> dict[str, NDArray[Any]]:
    names = ("features", "frame_index", "pts_seconds")
    columns = {name: np.asarray(getattr(features, name)) for name in names}
    if features.thumbnails.size:
        columns["thumbnails"] = np.asarray(features.thumbnails)
    if features.without_thumbnails.any():
        columns["without_thumbnails"] = features.without_thumbnails
    return columns | {f"label_{name}": values for name, values in features.labels.items()}


def _about(features: Features) -> str:
    names = ("fingerprint", "sampler", "decoder", "versions")
    about: dict[str, Any] = {name: dict(getattr(features, name)) for name in names}
    failures = [list(failure) for failure in features.failures]
    return json.dumps(about | {"failures": failures}, sort_keys=True)
