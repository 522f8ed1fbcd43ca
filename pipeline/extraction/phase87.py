"""The feature files of the paper's phase 87: rebuilt from a Physics 101 tree, and compared.

This is what the paper's script `_phase87_phys101.py` does: clips by sorted object and then by
sorted path; the frames that `linspace` picks over the count that the *header* claims, where the
last frame that can be read replaces those that cannot; the paper's preprocessing; features of
V-JEPA 2 averaged over the patches of a time step, as float16. Its static companion takes frame
n // 2, and DINOv2's CLS token as float32. A clip that fails is left out; the mass of an object
without one is written as 0.0.

Features are collected in a cache next to the file (`phase87_....h5`), from which a second run goes
on; the `.pt` is written when all clips are finished.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import backbones
from backbones import Backbone
from data import cache
from data.cache import Features
from data.clips import Clip
from data.datasets import physics101
from data.errors import HeliographError, InvalidValueError
from data.interchange import InterchangeError, numbered, read_pt, to_array, write_pt
from data.video import Sampling
from data.wording import counted
from pipeline.extraction.extract import extract
from pipeline.extraction.summary import ExtractionSummary

BACKBONE = "vjepa2_vitl"
STATIC_BACKBONE = "dinov2_vits14"
STEPS = 8
PREPROCESS = "paper"


@dataclass(frozen=True)
class FeatureFileSettings:
    """What one of the files is made with; `sampling` and `dtype` are those of the paper."""

    backbone: Backbone
    sampling: Sampling
    dtype: str
    static: bool = False


def load_settings(
    *,
    backbone: str | None = None,
    static: bool = False,
    frames: int | None = None,
    precision: str = "fp32",
    output: str | None = None,
    **where: Any,
) -> FeatureFileSettings:
    """Load the backbone of a file and return its settings.

    Its preprocessing is the paper's; of a backbone that has no such one, its own.

    Args:
        backbone: a name; None is V-JEPA 2 ViT-L, or DINOv2 ViT-S/14 if `static`.
        static: whether the file is the companion of single frames.
        frames: per clip; None is as many as eight time steps take.
        precision: as for `backbones.load`.
        output: as for `backbones.load`; None is the paper's.
        where: device, weights and hub_dir of `backbones.load`.

    Raises:
        HeliographError: a step is of several frames, and the file is static.
        BackboneError: the code or weights of the backbone are missing.
    """
    name = backbone or (STATIC_BACKBONE if static else BACKBONE)
    known = backbones.find_entry(name).preprocessings
    preprocess = PREPROCESS if PREPROCESS in known or not known else known[0]
    model = backbones.load(name, preprocess=preprocess, precision=precision, output=output, **where)
    if static:
        if model.frames_spanned != 1:
            raise InvalidValueError(
                f"{name} takes {model.frames_spanned} frames a step, and the static file is of "
                "single frames"
            )
        sampling = Sampling(name="middle", frames=1)
        return FeatureFileSettings(model, sampling, "float32", static=True)
    sampling = Sampling(name="published", frames=frames or model.frames(STEPS), pad=True)
    return FeatureFileSettings(model, sampling, "float16")


def rebuild_feature_file(
    clips: list[Clip],
    out: Path,
    settings: FeatureFileSettings,
    *,
    scenario: str = "spring",
    workers: int | None = None,
    batch: int | None = None,
    progress: Callable[[ExtractionSummary], None] | None = None,
) -> ExtractionSummary:
    """Write the feature file of a scenario.

    Damaged clips are taken as far as they decode, as the paper's OpenCV takes them; the ledger next
    to the cache says which. If the extraction was interrupted, or no clip could be read, no file is
    written.

    Args:
        clips: from `scenario_clips`.
        out: the `.pt` file.
        settings: from `load_settings`.
        scenario: written into the file.
        workers: as for `extract`.
        batch: as for `extract`.
        progress: as for `extract`.

    Raises:
        HeliographError: as for `extract`.
    """
    path = cache_path(out)
    summary = extract(
        clips,
        path,
        backbone=settings.backbone,
        sampling=settings.sampling,
        accept_damaged=True,
        dtype=settings.dtype,
        workers=workers,
        batch=batch,
        progress=progress,
    )
    if not summary.interrupted and (summary.done or summary.kept):
        write_pt(file_content(cache.load(path), clips, scenario, static=settings.static), out)
    return summary


def scenario_clips(root: Path, scenario: str) -> list[Clip]:
    """Return the clips of one scenario, in the order of the paper's script.

    Args:
        root: of the Physics 101 tree.
        scenario: one of `physics101.SCENARIOS`.

    Raises:
        HeliographError: an unknown scenario, or no such tree.
    """
    if scenario not in physics101.SCENARIOS:
        known = ", ".join(physics101.SCENARIOS)
        raise InvalidValueError(f"no scenario {scenario!r}: a file holds one of {known}")
    return physics101.index(root, scenario=scenario, camera="Camera_1")


def cache_path(out: Path) -> Path:
    """Return the path of the cache in which the features of the file `out` are collected.

    Raises:
        HeliographError: `out` does not end in `.pt`.
    """
    if out.suffix != ".pt":
        raise HeliographError(f"{out}: the paper's files end in .pt")
    return out.with_suffix(".h5")


def is_rebuilt(out: Path) -> bool:
    """Return whether every clip of a feature file is in the cache next to it, to the bit.

    Then writing the file anew from that cache loses nothing. False where one of the two is missing
    or cannot be read.
    """
    try:
        content, collected = _read(out), cache.load(cache_path(out))
    except HeliographError:
        return False
    known = set(zip(collected.object, _row_bytes(collected.features), strict=True))
    rows = zip(
        content["obj_names"],
        _row_bytes(to_array(out, "features", content["features"])),
        strict=True,
    )
    return all(row in known for row in rows)


def _row_bytes(features: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in features]


def file_content(
    features: Features, clips: list[Clip], scenario: str, *, static: bool
) -> dict[str, Any]:
    """Return the content of a feature file, with the paper's keys, types and order of keys.

    Args:
        features: of a cache that holds the clips, those that failed excepted.
        clips: in the order of the file.
        scenario: written into the file.
        static: whether the file is the companion of single frames.

    Returns:
        `features` (N, T, D), or (N, D) if static; `obj_names`, a list of N; and, if not static,
        `mass_values` float64 (N,), 0.0 where unknown, and `scenario`.
    """
    import torch

    rows = {clip_id: row for row, clip_id in enumerate(features.clip_id)}
    clips = [clip for clip in clips if clip.id in rows]
    selected = features.select([rows[clip.id] for clip in clips])
    names = [clip.object for clip in clips]
    if static:
        return {"features": torch.from_numpy(selected.features[:, 0].copy()), "obj_names": names}
    masses = [clip.labels.get("mass", math.nan) for clip in clips]
    return {
        "features": torch.from_numpy(selected.features),
        "obj_names": names,
        "mass_values": np.array([0.0 if math.isnan(mass) else mass for mass in masses]),
        "scenario": scenario,
    }


@dataclass(frozen=True)
class FeatureFileComparison:
    """Two feature files compared.

    Attributes:
        clips: how many each has.
        differences: sentences; empty if everything but the numbers of the features is the same.
        cosine: id of each clip that both have (`<object>/<number>`) -> cosine of its features in
            one file with those in the other, all steps together; empty if their shapes differ.
        equal: clips whose features are the same to the bit.
    """

    clips: tuple[int, int]
    differences: list[str]
    cosine: Mapping[str, float]
    equal: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with the smallest, median and mean cosine."""
        values = np.array(list(self.cosine.values()))
        statistics: dict[str, Callable[[np.ndarray], Any]]
        statistics = {"smallest": np.min, "median": np.median, "mean": np.mean}
        return {
            "clips": list(self.clips),
            "differences": self.differences,
            "equal": self.equal,
            "cosine": {name: float(function(values)) for name, function in statistics.items()}
            if values.size
            else None,
            "per_clip": dict(self.cosine),
        }


def compare_feature_files(left: Path, right: Path) -> FeatureFileComparison:
    """Return what differs between two feature files; nothing in them is executed.

    Clips are matched by object, and by their order among the clips of the object.

    Raises:
        InterchangeError: a file is not one of the paper's.
    """
    files = (_read(left), _read(right))
    differences = _different_entries(*files)
    a, b = (to_array(left, "features", file["features"]) for file in files)
    names = [numbered(file["obj_names"]) for file in files]
    rows = [{clip: row for row, clip in enumerate(clips)} for clips in names]
    for path, clips, others in ((left, rows[0], rows[1]), (right, rows[1], rows[0])):
        only = [clip for clip in clips if clip not in others]
        if only:
            differences.append(f"{counted(len(only), 'clip')} only in {path}: {_first_three(only)}")
    both = [clip for clip in rows[0] if clip in rows[1]]
    if not differences and names[0] != names[1]:
        differences.append("the clips are in another order")
    differences += _different_masses(files, rows, both)
    pairs = {}
    if a.shape[1:] == b.shape[1:]:
        pairs = {clip: (a[rows[0][clip]].ravel(), b[rows[1][clip]].ravel()) for clip in both}
    return FeatureFileComparison(
        clips=(len(a), len(b)),
        differences=differences,
        cosine={clip: _cosine(*pair) for clip, pair in pairs.items()},
        equal=sum(np.array_equal(*pair) for pair in pairs.values()),
    )


def _read(path: Path) -> dict[str, Any]:
    content = read_pt(path)
    for name in ("features", "obj_names"):
        if name not in content:
            raise InterchangeError(f"{path} has no {name!r}: it is not one of the paper's files")
    names = content["obj_names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InterchangeError(f"{path}: obj_names is not a list of text")
    for name, axes in (("features", (2, 3)), ("mass_values", (1,))):
        if name not in content:
            continue
        values = to_array(path, name, content[name])
        if values.dtype.kind not in "biuf" or values.ndim not in axes:
            raise InterchangeError(f"{path}: {name} is {values.dtype} {values.shape}, not numbers")
        if len(values) != len(names):
            clips = "clips" if name == "features" else name
            raise InterchangeError(f"{path}: {len(names)} obj_names for {len(values)} {clips}")
    return content


def _different_entries(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    """Return the keys, types, shapes and small values that differ."""
    differences = []
    if list(left) != list(right):
        differences.append(f"keys: {', '.join(left)} against {', '.join(right)}")
    both = [name for name in left if name in right]
    for name in both:
        types = [_type_of(file[name]) for file in (left, right)]
        if types[0] != types[1]:
            differences.append(f"{name}: {types[0]} against {types[1]}")
    if "scenario" in both and left["scenario"] != right["scenario"]:
        differences.append(f"scenario: {left['scenario']!r} against {right['scenario']!r}")
    return differences


def _type_of(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is None:
        return type(value).__name__ + (f" of {len(value)}" if isinstance(value, list) else "")
    return f"{type(value).__name__} {str(value.dtype).removeprefix('torch.')} {tuple(shape)}"


def _different_masses(
    files: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, int]], clips: Sequence[str]
) -> list[str]:
    """Return a sentence about the clips, among those in both files, whose masses differ."""
    if not all("mass_values" in file for file in files):
        return []
    a, b = (to_array(Path(), "mass_values", file["mass_values"]) for file in files)
    different = [clip for clip in clips if a[rows[0][clip]] != b[rows[1][clip]]]
    if not different:
        return []
    return [f"mass_values of {counted(len(different), 'clip')}: {_first_three(different)}"]


def _first_three(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine, computed in float64 so that equal features give 1 to within 1e-12."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale else math.nan
