"""Frozen vision models behind one contract: `load(name)` gives a `Backbone`.

`BACKBONES` holds our own; `timm:<model>` is any image model of timm (`backbones.timm_models`);
packages that are installed beside us add theirs through the entry point group
`heliograph.backbones` (`backbones.plugins`).
"""

from __future__ import annotations

from pathlib import Path

from backbones import clip, dinov2, efficientnet, timm_models, vjepa2
from backbones.base import (
    Backbone,
    BackboneError,
    Entry,
    LoadOptions,
    Preprocess,
    resolve_device,
    resolve_precision,
)
from backbones.plugins import find_plugins
from backbones.weights import find

__all__ = [
    "BACKBONES",
    "Backbone",
    "BackboneError",
    "Entry",
    "LoadOptions",
    "Preprocess",
    "describe",
    "load",
]

BACKBONES: dict[str, Entry] = {
    entry.name: entry for family in (dinov2, clip, vjepa2, efficientnet) for entry in family.ENTRIES
}


def load(
    name: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    weights: str | Path | None = None,
    hub_dir: str | Path | None = None,
    preprocess: str = "official",
    output: str | None = None,
) -> Backbone:
    """Load a frozen backbone by name.

    Args:
        name: a key of `BACKBONES`, the name of an installed plugin, or `timm:<model>`.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`.
        precision: `auto`, `fp32`, `bf16` or `fp16`.
        weights: a file to read the weights from, instead of the published one; "random": untrained
            ones, the same everywhere, as a baseline.
        hub_dir: a local clone of the model's repository, or a TORCH_HOME folder.
        preprocess: `official`, or `paper` for what the reference features were made with.
        output: which features, where a model offers several; None is its usual one.

    Raises:
        BackboneError: an unknown name, or code or weights that cannot be had; the sentence says
            what to do.
    """
    entry = find_entry(name)
    resolved = resolve_device(device)
    return entry.build(
        LoadOptions(
            device=resolved,
            precision=resolve_precision(precision, resolved),
            weights=None if weights is None else Path(weights),
            hub_dir=None if hub_dir is None else Path(hub_dir),
            preprocess=preprocess,
            output=output,
        )
    )


def find_entry(name: str) -> Entry:
    """The line for a name, ours, timm's or a plugin's; the error for a wrong one lists them."""
    if name in BACKBONES:
        return BACKBONES[name]
    if name.startswith(timm_models.PREFIX):
        return timm_models.entry(name)
    plugins, broken = find_plugins(taken=BACKBONES)
    if name in plugins:
        return plugins[name]
    if name in broken:
        raise BackboneError(f"the backbone plugin {name!r} does not load: {broken[name]}")
    known = ", ".join(sorted([*BACKBONES, *plugins]))
    raise BackboneError(
        f"unknown backbone {name!r}; choose from {known}, or timm:MODEL for an image model of timm"
    )


def describe(
    *, weights: str | Path | None = None, hub_dir: str | Path | None = None
) -> list[dict[str, object]]:
    """One row per backbone, plugins and broken plugins included, for a table or JSON.

    Keys: name, family, dim, frames_per_step, parameters, size_bytes, licence, weights (the path
    of the file that would be read, or None), error (None, or why a plugin does not load).
    """
    plugins, broken = find_plugins(taken=BACKBONES)
    rows: list[dict[str, object]] = []
    for entry in [*BACKBONES.values(), *plugins.values()]:
        published = entry.published
        path = weights
        if path is None and published is not None:
            path = find(published, None if hub_dir is None else Path(hub_dir))
        rows.append(
            {
                "name": entry.name,
                "family": entry.family,
                "dim": entry.dim,
                "frames_per_step": entry.frames_per_step,
                "parameters": entry.parameters,
                "size_bytes": 0 if published is None else published.size_bytes,
                "licence": entry.licence,
                "weights": None if path is None else str(path),
                "error": None,
            }
        )
    empty = dict.fromkeys(rows[0]) if rows else {}
    rows += [{**empty, "name": name, "error": error} for name, error in broken.items()]
    return rows
