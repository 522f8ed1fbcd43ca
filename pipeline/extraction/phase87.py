"""The feature files of the paper's phase 87, rebuilt from a Physics 101 tree, and compared.

What the paper's script `_phase87_phys101.py` does, step by step: clips by sorted object and then by
sorted path; the frames that `linspace` picks over the count that the *header* claims, the last one
that can be read repeated for those that cannot; the paper's preprocessing; features of V-JEPA 2
averaged over the patches of a time step, as float16. Its static companion takes frame n // 2, and
DINOv2's CLS token as float32. A clip that fails is left out; the mass of an object without one is
written as 0.0.

Features are collected in a cache beside the file (`phase87_....h5`), from which a second run goes
on; the `.pt` is written when all clips are finished.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
from data.errors import HeliographError
from data.interchange import InterchangeError, numbered, read_pt, write_pt
from data.video import Sampling
from pipeline.extraction.extract import extract
from pipeline.extraction.stages import Summary

BACKBONE = "vjepa2_vitl"
STATIC_BACKBONE = "dinov2_vits14"
STEPS = 8
PREPROCESS = "paper"


@dataclass(frozen=True)
class Plan:
    """What one of the files is made with; `sampling` and `dtype` are those of the paper."""

    backbone: Backbone
    sampling: Sampling
    dtype: str
    static: bool = False


def plan(
    *,
    backbone: str | None = None,
    static: bool = False,
    frames: int | None = None,
    precision: str = "fp32",
    **where: Any,
) -> Plan:
    """Loads the backbone: V-JEPA 2 ViT-L, `static` DINOv2 ViT-S/14, or another that is named.

    frames: per clip; by default as many as eight steps take. `where`: device, weights and hub_dir
    of `backbones.load`. Raises BackboneError where code or weights cannot be had.
    """
    name = backbone or (STATIC_BACKBONE if static else BACKBONE)
    model = backbones.load(name, preprocess=PREPROCESS, precision=precision, **where)
    if static:
        if model.frames_per_step != 1:
            raise HeliographError(
                f"{name} takes {model.frames_per_step} frames a step, and the static file is of "
                "single frames"
            )
        return Plan(model, Sampling(name="middle", frames=1), "float32", static=True)
    wanted = frames or STEPS * model.frames_per_step
    return Plan(model, Sampling(name="published", frames=wanted, pad=True), "float16")


def rebuild(
    clips: list[Clip],
    out: Path,
    made_with: Plan,
    *,
    scenario: str = "spring",
    workers: int | None = None,
    batch: int = 16,
    progress: Callable[[Summary], None] | None = None,
) -> Summary:
    """Writes the file `out` of `clips`, which `find_clips` gives for a scenario.

    Damaged clips are taken as far as they decode, as the paper's OpenCV takes them; the ledger
    beside the cache says which. Where the summary is `interrupted`, or no clip could be read, no
    file is written. Raises HeliographError as `extract` does.
    """
    store = cache_path(out)
    summary = extract(
        clips,
        store,
        backbone=made_with.backbone,
        sampling=made_with.sampling,
        accept_damaged=True,
        dtype=made_with.dtype,
        workers=workers,
        batch=batch,
        progress=progress,
    )
    if not summary.interrupted and (summary.done or summary.kept):
        write_pt(content(cache.load(store), clips, scenario, static=made_with.static), out)
    return summary


def find_clips(root: Path, scenario: str) -> list[Clip]:
    """The clips of one scenario, in the order of the paper's script."""
    if scenario not in physics101.SCENARIOS:
        known = ", ".join(physics101.SCENARIOS)
        raise HeliographError(f"a file holds one scenario, one of {known}, not {scenario!r}")
    return physics101.index(root, scenario=scenario, camera="Camera_1")


def cache_path(out: Path) -> Path:
    """Where the features of the file `out` are collected."""
    if out.suffix != ".pt":
        raise HeliographError(f"{out}: the paper's files end in .pt")
    return out.with_suffix(".h5")


def content(
    features: Features, clips: list[Clip], scenario: str, *, static: bool
) -> dict[str, Any]:
    """The paper's keys, types and order of keys, from a cache that holds the clips.

    `features` (N, T, D), or (N, D) where static; `obj_names` list of N; and, where not static,
    `mass_values` float64 (N,) with 0.0 where unknown, and `scenario`.
    """
    import torch

    rows = {clip_id: row for row, clip_id in enumerate(features.clip_id)}
    found = [clip for clip in clips if clip.id in rows]
    own = features.select([rows[clip.id] for clip in found])
    names = [clip.object for clip in found]
    if static:
        return {"features": torch.from_numpy(own.features[:, 0].copy()), "obj_names": names}
    masses = [clip.labels.get("mass", math.nan) for clip in found]
    return {
        "features": torch.from_numpy(own.features),
        "obj_names": names,
        "mass_values": np.array([0.0 if math.isnan(mass) else mass for mass in masses]),
        "scenario": scenario,
    }


@dataclass(frozen=True)
class Comparison:
    """Two feature files side by side.

    `differences` are sentences, empty where everything but the numbers of the features is the same.
    `cosine` maps each clip that both have (`<object>/<number>`) to the cosine of its features in
    one file with those in the other, all steps together; empty where their shapes do not fit.
    `equal` counts the clips whose features are the same to the bit.
    """

    clips: tuple[int, int]
    differences: list[str]
    cosine: Mapping[str, float]
    equal: int

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, with the smallest, median and mean cosine."""
        values = np.array(list(self.cosine.values()))
        picks: dict[str, Callable[[np.ndarray], Any]]
        picks = {"smallest": np.min, "median": np.median, "mean": np.mean}
        return {
            "clips": list(self.clips),
            "differences": self.differences,
            "equal": self.equal,
            "cosine": {name: float(pick(values)) for name, pick in picks.items()}
            if values.size
            else None,
            "per_clip": dict(self.cosine),
        }


def compare(left: Path, right: Path) -> Comparison:
    """What differs between two of the paper's files; nothing in them is executed.

    Clips are matched by object, and by their order among its clips. Raises InterchangeError for a
    file that is none of the paper's.
    """
    ours, theirs = (_opened(path) for path in (left, right))
    differences = _different_entries(ours, theirs)
    a, b = (np.asarray(side["features"]) for side in (ours, theirs))
    names = [numbered(side["obj_names"]) for side in (ours, theirs)]
    rows = [{clip: row for row, clip in enumerate(own)} for own in names]
    for path, own, other in ((left, rows[0], rows[1]), (right, rows[1], rows[0])):
        only = [clip for clip in own if clip not in other]
        if only:
            differences.append(f"{len(only)} clips only in {path}: {_some(only)}")
    both = [clip for clip in rows[0] if clip in rows[1]]
    if not differences and names[0] != names[1]:
        differences.append("the clips stand in another order")
    differences += _other_masses(ours, theirs, rows, both)
    pairs = {}
    if a.shape[1:] == b.shape[1:]:
        pairs = {clip: (a[rows[0][clip]].ravel(), b[rows[1][clip]].ravel()) for clip in both}
    return Comparison(
        clips=(len(a), len(b)),
        differences=differences,
        cosine={clip: _cosine(*pair) for clip, pair in pairs.items()},
        equal=sum(np.array_equal(*pair) for pair in pairs.values()),
    )


def _opened(path: Path) -> dict[str, Any]:
    found = read_pt(path)
    for name in ("features", "obj_names"):
        if name not in found:
            raise InterchangeError(f"{path} has no {name!r}: it is none of the paper's files")
    if len(found["features"]) != len(found["obj_names"]):
        raise InterchangeError(
            f"{path}: {len(found['obj_names'])} obj_names for {len(found['features'])} clips"
        )
    return found


def _different_entries(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Keys, types, shapes and small values that differ."""
    found = []
    if list(ours) != list(theirs):
        found.append(f"keys: {', '.join(ours)} against {', '.join(theirs)}")
    for name in ours:
        if name not in theirs:
            continue
        kinds = [_kind(side[name]) for side in (ours, theirs)]
        if kinds[0] != kinds[1]:
            found.append(f"{name}: {kinds[0]} against {kinds[1]}")
    if (
        ours.get("scenario") != theirs.get("scenario")
        and "scenario" in ours
        and ("scenario" in theirs)
    ):
        found.append(f"scenario: {ours['scenario']!r} against {theirs['scenario']!r}")
    return found


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is None:
        return type(value).__name__ + (f" of {len(value)}" if isinstance(value, list) else "")
    return f"{type(value).__name__} {str(value.dtype).removeprefix('torch.')} {tuple(shape)}"


def _other_masses(
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    rows: list[dict[str, int]],
    both: list[str],
) -> list[str]:
    if "mass_values" not in ours or "mass_values" not in theirs:
        return []
    a, b = (np.asarray(side["mass_values"], np.float64) for side in (ours, theirs))
    other = [clip for clip in both if a[rows[0][clip]] != b[rows[1][clip]]]
    if not other:
        return []
    return [f"mass_values of {len(other)} clips: {_some(other)}"]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """In float64, so that equal features give 1 to within 1e-12."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale else math.nan
