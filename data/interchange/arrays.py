"""Reading arrays of other programs: `.npy`, `.npz`, `.safetensors`, Parquet, and folders of `.npy`.

Nothing in a file is executed: pickles are refused. Each is read in another process first
(`data.screening`), and names are those of our own exports (`data.interchange.formats`).
"""

import fnmatch
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.files import UnsafeFileError, missing, open_regular, walk
from data.interchange.safe_pt import InterchangeError, first_line
from data.screening import MEMORY_BYTES, SECONDS, require_screened
from data.wording import counted

CHECKER = "data.interchange.checker:check_arrays"
TEXTS = ("clip_id", "object", "scenario", "source_sha256")
IDS = ("clip_id", "clip", "id", "path")
"""Names of a column with ids, in files that are not ours."""
LABEL = "label_"
NO_FEATURES = ("_fps.npy", "_timestamps_ms.npy")
"""Files that video_features writes next to those of features."""
EVERY_NPY = "*.npy"


def read_arrays(
    path: Path, *, files: str = EVERY_NPY, screened: bool = False
) -> tuple[dict[str, Any], str]:
    """Return the columns of a file or a folder by name, and a SHA-256 of all that was read.

    `features` is an array, or of a folder a list with one for each clip; `clip_id`, `object`,
    `scenario` and `source_sha256` are lists, `frame_index` and `pts_seconds` arrays, those that are
    there; `labels` are columns by name, and `declared` is what the file says of how it was made.

    Args:
        path: The file, or the folder.
        files: Which files of a folder; the id of a clip is what the `*` stands for.
        screened: Whether this is the process that may be killed.

    Raises:
        InterchangeError: It is refused, or holds no features.
    """
    try:
        contents = _folder_contents(path, files) if path.is_dir() else {"": _bytes_of(path)}
    except FileNotFoundError as error:
        raise InterchangeError(missing(path)) from error
    except UnsafeFileError as error:
        raise InterchangeError(f"{path} is refused: {error}") from error
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    sha256 = digest.hexdigest()
    if path.is_file():
        sha256 = hashlib.sha256(contents[""]).hexdigest()
    if not screened:
        size = sum(map(len, contents.values()))
        require_screened(
            path / files if path.is_dir() else path,
            identity(path, sha256),
            CHECKER,
            seconds=SECONDS + size / 2e7,
            memory_bytes=MEMORY_BYTES + 6 * size,
            error=InterchangeError,
        )
    try:
        if path.is_dir():
            return _of_folder(contents), sha256
        return READERS[path.suffix.lower()](contents[""]), sha256
    except InterchangeError as error:
        raise InterchangeError(f"{path} is refused: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file provokes
        if str(error).startswith("Object arrays cannot be loaded"):
            raise InterchangeError(
                f"{path} holds Python objects, which are not read: save arrays of numbers"
            ) from error
        raise InterchangeError(f"{path} is damaged: {first_line(error)}") from error


def identity(path: Path, sha256: str) -> str:
    """Return what is recorded of a sound file: its bytes, and as which format they were read."""
    return f"arrays{'/' if path.is_dir() else path.suffix.lower()}:{sha256}"


def _bytes_of(path: Path) -> bytes:
    with open_regular(path, follow_links=True) as file:
        return file.read()


def _folder_contents(folder: Path, files: str) -> dict[str, bytes]:
    """Return the bytes of each file of a folder that a pattern names, by the id of its clip."""
    before, star, after = files.partition("*")
    if not star or "*" in after or not after.endswith(".npy"):
        raise InterchangeError(
            f"{files!r} names no files of features: it takes one *, and ends in .npy, such as "
            "'*_rgb.npy'"
        )
    found = {}
    for path in (Path(root) / name for root, names in _listed(folder) for name in names):
        name = path.relative_to(folder).as_posix()
        if fnmatch.fnmatchcase(path.name, files) and not name.endswith(NO_FEATURES):
            stem = path.name[len(before) : len(path.name) - len(after)]
            found[(Path(name).parent / stem).as_posix()] = _bytes_of(path)
    if not found:
        raise InterchangeError(f"{folder} has no files {files}")
    return found


def _listed(folder: Path) -> list[tuple[Path, list[str]]]:
    return [(root, sorted(names)) for root, names in sorted(walk(folder))]


def _of_folder(contents: Mapping[str, bytes]) -> dict[str, Any]:
    clips = {}
    for name, content in contents.items():
        array = np.load(io.BytesIO(content), allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.ndim not in (1, 2):
            shape = getattr(array, "shape", "")
            raise InterchangeError(
                f"{name} is {getattr(array, 'dtype', 'no array')} {shape}, not features of one "
                "clip: (steps, dimensions) or (dimensions,)"
            )
        clips[name] = array[None] if array.ndim == 1 else array
    return {"features": list(clips.values()), "clip_id": list(clips), "labels": {}, "declared": {}}


def _of_npz(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        columns = {name: file[name] for name in file.files}
    about = columns.pop("about", None)
    return _named(columns, _json(str(about)) if about is not None and about.ndim == 0 else {})


def _of_safetensors(content: bytes) -> dict[str, Any]:
    from safetensors.torch import load

    size = int.from_bytes(content[:8], "little")
    metadata = _json(content[8 : 8 + size]).get("__metadata__", {})
    about = _json(metadata.pop("about", "{}"))
    texts = {name: _json(text, list) for name, text in metadata.items() if name in TEXTS}
    return _named(load(content) | texts, about)


def _of_parquet(content: bytes) -> dict[str, Any]:
    import polars

    frame = polars.read_parquet(io.BytesIO(content), use_statistics=False)
    about = _json(polars.read_parquet_metadata(io.BytesIO(content)).get("heliograph", "{}"))
    columns = {name: _series(name, frame[name], about) for name in frame.columns}
    return _named(columns, about)


def _series(name: str, series: Any, about: Mapping[str, Any]) -> Any:
    """Return a column of Parquet: text as a list, numbers and lists of numbers as an array."""
    import polars

    if series.dtype == polars.String:
        return ["" if text is None else text for text in series.to_list()]
    if not isinstance(series.dtype, polars.List | polars.Array):
        return np.asarray(series.to_numpy()) if series.dtype.is_numeric() else series.to_list()
    if series.null_count():
        raise InterchangeError(f"{name} of {counted(series.null_count(), 'clip')} is missing")
    kind: Any = series.dtype
    while isinstance(kind, polars.List | polars.Array):
        kind = kind.inner
    is_array = isinstance(series.dtype, polars.Array)
    array = np.array(
        series.to_numpy() if is_array else series.to_list(),
        np.float32 if kind == polars.Float32 else None,
    )
    shape = about.get("shapes", {}).get(name) or array.shape[1:]
    return array.reshape(len(series), *map(int, shape))


def _of_npy(content: bytes) -> dict[str, Any]:
    return _named({"features": np.load(io.BytesIO(content), allow_pickle=False)}, {})


READERS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    ".npy": _of_npy,
    ".npz": _of_npz,
    ".safetensors": _of_safetensors,
    ".parquet": _of_parquet,
}
"""How a file is read, by its suffix."""


def _json(text: str | bytes, kind: type = dict) -> Any:
    value = json.loads(text)
    if not isinstance(value, kind):
        raise InterchangeError(f"its metadata are no {kind.__name__} of JSON")
    return value


def _named(columns: dict[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the columns of a file are, by their names."""
    if "features" not in columns:
        found = [name for name, values in columns.items() if np.ndim(values) in (2, 3)]
        if len(found) != 1:
            names = ", ".join(columns) or "nothing"
            raise InterchangeError(f"it has no features (clips, steps, dimensions), but {names}")
        columns["features"] = columns.pop(found[0])
    named: dict[str, Any] = {"features": columns["features"]}
    for name in TEXTS:
        if name in columns:
            named[name] = _text(name, columns[name])
    if "clip_id" not in named:
        given = next((name for name in IDS if name in columns), None)
        if given is not None:
            named["clip_id"] = _text(given, columns[given])
    tables = [name for name in ("frame_index", "pts_seconds") if name in columns]
    named |= {name: np.asarray(columns[name]) for name in tables}
    named["labels"] = {
        name.removeprefix(LABEL): values
        for name, values in columns.items()
        if name.startswith(LABEL)
    }
    stated = ("fingerprint", "sampler", "decoder")
    named["declared"] = {name: about[name] for name in stated if about.get(name)}
    return named


def _text(name: str, values: Any) -> list[str]:
    texts = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if not all(isinstance(text, str) for text in texts):
        raise InterchangeError(f"{name} is not one text a clip")
    return texts
