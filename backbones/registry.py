"""The table of backbones: found by their files, described, and loaded by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backbones import timm_models
from backbones.base import Backbone, Entry, LoadOptions, choose
from backbones.devices import resolve_device
from backbones.errors import BackboneError, BackboneValueError
from backbones.outputs import steps_of
from backbones.plugins import find_plugins
from backbones.precision import resolve_precision
from backbones.weights import faults, find
from data.wording import counted


def find_entries() -> dict[str, Entry]:
    """Return the entries of this folder's modules by name, in the order of files.

    A module has one entry as `ENTRY`, or a list of them as `ENTRIES`.

    Raises:
        ValueError: two entries have one name.
    """
    entries: dict[str, Entry] = {}
    for found in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if found.name == "checker":  # of another process, and slow to import
            continue
        module = importlib.import_module(f"{__package__}.{found.name}")
        only = [module.ENTRY] if hasattr(module, "ENTRY") else []
        for entry in getattr(module, "ENTRIES", only):
            if entry.name in entries:
                raise ValueError(f"{module.__file__}: another file has a backbone {entry.name!r}")
            entries[entry.name] = entry
    return entries


BACKBONES = find_entries()


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
        device: `auto` (a GPU if there is one, else the CPU), `cpu`, `cuda`, `cuda:1`, or `mps`.
        precision: `auto` (bf16 on a GPU that has it; for motion, and elsewhere, fp32), `fp32`,
            `bf16` or `fp16`.
        weights: a file to read the weights from, instead of the published one; `random` for
            untrained weights, the same on every machine, as a baseline.
        hub_dir: a local clone of the model's repository, or a TORCH_HOME folder.
        preprocess: `official`, or `paper` for what the paper's features were made with.
        output: which features: a vector of the model's own, `gridN`, `motionN`, or several joined
            by `+` (`backbones.outputs`); None is its usual one.

    Raises:
        BackboneError: an unknown name, or code or weights that are missing and cannot be
            downloaded; the sentence says what to do.
    """
    entry = find_entry(name)
    resolved = resolve_device(device)
    motion = entry.outputs is not None and entry.outputs.choose(name, output).motion
    backbone = entry.build(
        LoadOptions(
            device=resolved,
            precision=resolve_precision(precision, resolved, motion=motion),
            weights=None if weights is None else Path(weights),
            hub_dir=None if hub_dir is None else Path(hub_dir),
            preprocess=preprocess,
            output=output,
        )
    )
    given = backbone.output.name
    if output is not None and entry.outputs is None and given != output:
        raise BackboneValueError(f"{name} has no output {output!r}: it gives {given!r} alone")
    return backbone


def load_from_fingerprint(
    fingerprint: Mapping[str, Any],
    *,
    device: str = "auto",
    weights: str | Path | None = None,
    hub_dir: str | Path | None = None,
) -> Backbone:
    """Load the backbone that a fingerprint describes.

    The code or weights of this machine may be others: compare the fingerprint of the result.

    Args:
        fingerprint: `Backbone.fingerprint` of the backbone that is wanted.
        device: as for `load`.
        weights: as for `load`.
        hub_dir: as for `load`.

    Raises:
        BackboneError: as for `load`.
    """
    return load(
        fingerprint["name"],
        precision=fingerprint["precision"],
        preprocess=fingerprint["preprocess"]["name"],
        output=fingerprint["output"],
        device=device,
        weights=weights,
        hub_dir=hub_dir,
    )


def find_entry(name: str) -> Entry:
    """Return the entry of a backbone of this package, of timm or of a plugin.

    Raises:
        BackboneError: an unknown name (the sentence lists the known ones), or a plugin that does
            not load.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if name.startswith(timm_models.PREFIX):
        return timm_models.make_entry(name)
    plugins, errors = find_plugins(taken=BACKBONES)
    if name in plugins:
        return plugins[name]
    if name in errors:
        raise BackboneError(f"the backbone plugin {name!r} does not load: {errors[name]}")
    known = ", ".join(sorted([*BACKBONES, *plugins]))
    raise BackboneValueError(
        f"no backbone {name!r}: choose one of {known}, or timm:MODEL for an image model of timm"
    )


def find_output(name: str, output: str | None) -> str | None:
    """Return the full name of an output (`motion` is `motion1`); None stays None.

    Args:
        name: of a backbone.
        output: as for `load`.

    Raises:
        BackboneError: an unknown name of either, or a backbone with one output alone.
    """
    outputs = find_entry(name).outputs
    if output is None:
        return None
    if outputs is None:
        raise BackboneValueError(f"{name} has one output alone: it is not chosen")
    return outputs.choose(name, output).name


def refuse_impossible(
    name: str,
    *,
    steps: int,
    dim: int,
    frames: int | None = None,
    preprocess: str | None = None,
    output: str | None = None,
) -> None:
    """Check that a backbone can have made features that somebody says it made.

    Args:
        name: of the backbone.
        steps: time steps of a clip's features.
        dim: numbers per time step.
        frames: of a clip, if that is known.
        preprocess: the name of the preprocessing, if that is known.
        output: as for `load`; None is the usual one.

    Raises:
        BackboneError: an unknown name; or the backbone gives other features.
    """
    entry = find_entry(name)
    expected, spanned = entry.dim, entry.frames_spanned(output)
    if entry.outputs is not None:
        expected = entry.outputs.choose(entry.name, output).dim
    if expected != dim:
        raise BackboneValueError(
            f"{entry.name} gives {expected} numbers a step, and these features have {dim}"
        )
    if frames is not None:
        made = steps_of(frames, frames_per_step=entry.frames_per_step, frames_spanned=spanned)
        if made != steps:
            raise BackboneValueError(
                f"{entry.name} gives {made:g} {'step' if made == 1 else 'steps'} of "
                f"{counted(frames, 'frame')}, and these features have {steps}"
            )
    if preprocess is not None and entry.preprocessings:
        choose(f"preprocessing of {entry.name}", preprocess, dict.fromkeys(entry.preprocessings))


def describe(*, hub_dir: str | Path | None = None) -> list[dict[str, Any]]:
    """Return one row per backbone, plugins that do not load included, for a table or JSON.

    Args:
        hub_dir: where to look for weights first, as for `load`.

    Returns:
        Rows with the keys name, family, dim, frames_per_step, outputs (the names that `load` takes,
        the usual one first; None where there is one alone), places (along the shorter side of the
        maps; None without maps), parameters, size_bytes, licence, weights (the path of the file
        that would be read, or None), faults (a sentence for each file of that name that is damaged)
        and error (None, or why a plugin does not load).
    """
    plugins, errors = find_plugins(taken=BACKBONES)
    folder = None if hub_dir is None else Path(hub_dir)
    rows = [_row(entry, folder) for entry in [*BACKBONES.values(), *plugins.values()]]
    empty = dict.fromkeys(rows[0])
    return rows + [{**empty, "name": name, "error": error} for name, error in errors.items()]


def _row(entry: Entry, hub_dir: Path | None) -> dict[str, Any]:
    path = None if entry.published is None else find(entry.published, hub_dir)
    return {
        "name": entry.name,
        "family": entry.family,
        "dim": entry.dim,
        "frames_per_step": entry.frames_per_step,
        "outputs": None if entry.outputs is None else entry.outputs.names,
        "places": None if entry.outputs is None else entry.outputs.most_cells,
        "parameters": entry.parameters,
        "size_bytes": 0 if entry.published is None else entry.published.size_bytes,
        "licence": entry.licence,
        "weights": None if path is None else str(path),
        "faults": [] if entry.published is None else faults(entry.published, hub_dir),
        "error": None,
    }
