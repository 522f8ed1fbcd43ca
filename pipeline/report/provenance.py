"""How a run came to be: what it was trained on, with which settings, and how to do it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from data.cache import Features, describe_origin
from data.wording import counted
from pipeline.config import TrainConfig, build_config
from pipeline.dataset import RunInputs
from pipeline.runs import CONTROL, Run


def provenance(run: Run, inputs: RunInputs | None) -> list[tuple[str, str]]:
    """Return what the run was made of, as names and values."""
    rows: list[tuple[str, str]] = []
    for number, source in enumerate(run.sources):
        features = inputs.caches[number] if inputs else None
        rows += _source_rows(source, features, several=len(run.sources) > 1)
    model = "model.safetensors"
    imported = run.metrics().imported_from
    heads = counted(run.config.heads, "symbol")
    recipe = f"imported from {imported}, which does not say how it was trained"
    rows += [
        ("agents", f"{run.config.agents}, {heads} each of {run.config.vocab}"),
        ("seeds", f"{len(run.seeds)}: {_seeds(run.seeds)}"),
        ("recipe", recipe if imported else _recipe(run.config)),
        (model, f"SHA-256 {run.sha256(model)}" if run.has(model) else "missing"),
        *([("not checked", run.unchecked)] if run.unchecked else []),
        ("versions", _settings(run.versions)),
    ]
    return rows


def _source_rows(source: Any, features: Features | None, *, several: bool) -> list[tuple[str, str]]:
    made = source.fingerprint
    cache = f"cache {source.name}" if several else "cache"
    known_by = "SHA-256 of its content" if source.content_sha256 else "SHA-256"
    rows = [
        (cache, f"{source.path}, {known_by} {source.identity}"),
        ("features", f"{counted(source.steps, 'step')} of {source.dim}, {source.dtype}"),
        ("backbone", describe_origin(made)),
    ]
    if isinstance(made.get("preprocess"), Mapping):
        rows.append(("preprocessing", _settings(made["preprocess"])))
    if source.sampler:
        rows.append(("sampling", _settings(source.sampler)))
    if source.decoder:
        rows.append(("decoder", _settings(source.decoder)))
    if features is not None:
        objects = len(set(features.object))
        rows.append(("clips", f"{len(features):,} of {counted(objects, 'object')}"))
        if features.created:
            rows.append(("extracted", features.created))
        if features.versions:
            rows.append(("extracted with", _settings(features.versions)))
    return rows


def _settings(described: Mapping[str, Any]) -> str:
    """A mapping as text: what is None or off is left out."""
    parts = []
    for name, value in described.items():
        if isinstance(value, Mapping):
            parts.append(f"{name} ({_settings(value)})")
        elif isinstance(value, list | tuple):
            parts.append(f"{name} {' '.join(f'{one:.4g}' for one in value)}")
        elif name == "name":
            parts.insert(0, str(value))
        elif value is True:
            parts.append(name)
        elif value is not None and value is not False:
            parts.append(f"{name} {value}")
    return ", ".join(parts)


def _recipe(config: TrainConfig) -> str:
    oracle = f", after {config.oracle_epochs} as an oracle" if config.oracle_epochs else ""
    shuffled = "; labels shuffled, so there was nothing to learn" if config.shuffle_labels else ""
    epochs = counted(config.epochs, "epoch")
    return f"preset {config.preset}: {epochs}{oracle}, split {config.split}{shuffled}"


def _seeds(seeds: Sequence[int]) -> str:
    whole = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    if whole and len(seeds) > 2:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def command_to_repeat(run: Run) -> str:
    """Return the command that makes this run again, without settings that are the preset's."""
    config = run.config
    imported = run.metrics().imported_from
    if imported:
        words = ["heliograph", "import-checkpoint", imported, "-o", str(run.folder)]
        words += ["--cache", str(run.source.path)]
        words += ["--property", *config.properties] if len(config.properties) == 1 else []
        return shlex.join(words)
    words = ["heliograph", "train", *(str(source.path) for source in run.sources)]
    words += ["-o", str(run.folder)]
    words += [word for name in config.properties for word in ("--property", name)]
    words += ["--seeds", str(len(run.seeds)), "--preset", config.preset]
    if (run.folder / CONTROL / "config.json").exists():
        words.append("--control")
    if config.sees:
        words += ["--agents", ",".join(source.name for source in run.agent_sources)]
    elif config.agents != 2:
        words += ["--agents", str(config.agents)]
    preset = build_config(config.preset, config.properties)
    left = {"properties", "preset", "agents", "sees", "tie_margins", "game_settings"}
    for name, value in config:
        if name in left or value == getattr(preset, name):
            continue
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        else:
            words += [option, str(value)]
    for name, value in config.game_settings.items():
        words += ["--" + name.replace("_", "-"), str(value)]
    if config.tie_margins != preset.tie_margins:
        for name, margin in zip(config.properties, config.tie_margins, strict=True):
            words += ["--tie-margin", f"{name}={margin}"]
    return shlex.join(words)
