"""Writes the folder of a training run; `pipeline.runs.run` lists its files."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from data.cache import Features
from data.files import atomic_write, replacing
from pipeline.agents import build_channel, checkpoint_key
from pipeline.config import TrainConfig
from pipeline.dataset import CacheSource, RunInputs, folds_of
from pipeline.game import Accuracy, build_game
from pipeline.runs.metrics_schema import SCORES, RunMetrics, SeedMetrics, Spread
from pipeline.runs.results import HistoryRow, SeedResult
from pipeline.runs.run import CONTROL, SCHEMA_VERSION, Run, write_json


def write_run(
    folder: Path,
    config: TrainConfig,
    inputs: RunInputs,
    results: Sequence[SeedResult],
    *,
    notes: Sequence[str] = (),
) -> Run:
    """Write the run folder and return it; `metrics.json` is written last and marks it as whole.

    Args:
        folder: Of the run; an older run in it is replaced.
        config: What the seeds were trained with.
        inputs: The caches that they were trained on.
        results: Of every seed.
        notes: Sentences to read together with the accuracies.
    """
    seeds = tuple(result.seed for result in results)
    chosen = choose(results)
    features = inputs.clips
    stored = description(config, seeds, inputs.sources)
    _remove_older(folder, seeds)
    write_json(folder / "config.json", stored)
    labels = np.stack([features.labels[name] for name in config.properties], axis=1)
    for result in results:
        seed_folder = folder / "seeds" / str(result.seed)
        _write_model(seed_folder, config, result)
        _write_messages(seed_folder, features, config, labels, result)
        write_json(seed_folder / "metrics.json", _seed_metrics(result, config).to_json())
    _write_model(folder, config, chosen)
    _write_messages(folder, features, config, labels, chosen)
    _write_history(folder / "history.csv", [row for result in results for row in result.history])
    metrics = summarise(config, results, notes=notes)
    write_json(folder / "metrics.json", metrics.to_json())
    return Run(folder, config, seeds, inputs.sources, stored["versions"])


def description(
    config: TrainConfig, seeds: Sequence[int], sources: Sequence[CacheSource]
) -> dict[str, Any]:
    """Return the content of `config.json`: everything needed to repeat the run."""
    return {
        "schema_version": SCHEMA_VERSION,
        "config": config.to_json(),
        "seeds": list(seeds),
        "caches": [source.to_json() for source in sources],
        "versions": {name: version(name) for name in ("heliograph", "torch", "numpy")},
    }


def add_control(run: Run, control: Run) -> None:
    """Add the weights of a run's control to every `model.pt`, and its metrics to `metrics.json`.

    With the control the four keys of `model.pt` are those of the published checkpoints.
    """
    for name in ("", *(f"seeds/{seed}" for seed in run.seeds)):
        weights: dict[str, dict[str, Tensor]] = {}
        for source in (run, control):
            weights |= torch.load(source.folder / name / "model.pt", weights_only=True)
        with replacing(run.folder / name / "model.pt") as file:
            torch.save(weights, file)
    config = control.config
    sizes = {"folder": control.folder.name, "heads": config.heads, "vocab": config.vocab}
    run.add_metrics({"control": sizes | control.metrics().to_json()})


def remove_control(folder: Path) -> None:
    """Remove the control of an older run from a folder, where there is one."""
    if (folder / CONTROL / "config.json").exists():
        shutil.rmtree(folder / CONTROL)


def _remove_older(folder: Path, seeds: Sequence[int]) -> None:
    """Removes the results of an older run in the folder, and its seeds that are not in this one."""
    for name in ("metrics.json", "report.html", "lexicon.json"):
        (folder / name).unlink(missing_ok=True)
    for seed_folder in (folder / "seeds").glob("[0-9]*"):
        if seed_folder.name not in map(str, seeds):
            shutil.rmtree(seed_folder)


def choose(results: Sequence[SeedResult]) -> SeedResult:
    """Return the seed that is best on validation; without validation clips the lowest seed."""
    if any(result.accuracy_validation is None for result in results):
        return min(results, key=lambda result: result.seed)
    return max(results, key=lambda result: np.nan_to_num(_together(result.accuracy_validation)))


def summarise(
    config: TrainConfig, results: Sequence[SeedResult], *, notes: Sequence[str] = ()
) -> RunMetrics:
    """Return what training writes into `metrics.json`."""
    game = build_game(config)
    accuracies = {
        score: _over_seeds([getattr(result, score) for result in results])
        for score in (*SCORES, "accuracy_validation")
    }
    published = accuracies["accuracy_published_protocol"]
    return RunMetrics.model_validate(
        {
            "seeds": [result.seed for result in results],
            **accuracies,
            "accuracy_published_protocol": published and published | {"selected_on_test": True},
            "properties": {
                name: {
                    score: _over_seeds([getattr(result, score) for result in results], number)
                    for score in SCORES
                }
                for number, name in enumerate(game.scored_properties)
            },
            **game.metrics(),
            "chosen_seed": choose(results).seed,
            "chosen_epoch": [result.epoch for result in results],
            "skipped_batches": [result.skipped_batches for result in results],
            "folds": folds_of(config.split),
            "notes": list(notes),
        }
    )


def _over_seeds(
    scores: Sequence[Accuracy | None], number: int | None = None
) -> dict[str, Any] | None:
    if any(score is None for score in scores):
        return None
    values = [_together(s) if number is None else s.each[number] for s in scores if s is not None]
    return Spread.numbers(values)


def _together(score: Accuracy | None) -> float:
    return math.nan if score is None else score.together


def _seed_metrics(result: SeedResult, config: TrainConfig) -> SeedMetrics:
    scores = {score: getattr(result, score) for score in (*SCORES, "accuracy_validation")}
    return SeedMetrics.model_validate(
        {
            "seed": result.seed,
            "epoch": result.epoch,
            "skipped_batches": result.skipped_batches,
            **{
                score: value
                and {
                    "together": value.together,
                    **dict(zip(build_game(config).scored_properties, value.each, strict=True)),
                }
                for score, value in scores.items()
            },
        }
    )


def _write_model(folder: Path, config: TrainConfig, result: SeedResult) -> None:
    parts = {
        checkpoint_key("sender", config.heads, config.vocab): result.sender.state_dict(),
        checkpoint_key("receiver", config.heads, config.vocab): result.receiver.state_dict(),
    }
    flat = {
        f"{part}.{name}": value.contiguous()
        for part, state in parts.items()
        for name, value in state.items()
    }
    atomic_write(folder / "model.safetensors", safetensors.torch.save(flat))
    with replacing(folder / "model.pt") as file:
        torch.save(parts, file)


def _write_messages(
    folder: Path, features: Features, config: TrainConfig, labels: np.ndarray, result: SeedResult
) -> None:
    channel = build_channel(config)
    parts = np.full(len(features), "", dtype=object)
    for name in ("train", "validation", "test"):
        parts[getattr(result.split, name)] = name
    lines = [
        json.dumps(
            {
                "clip": features.clip_id[row],
                **channel.to_json(message),
                "object": features.object[row],
                "part": parts[row] or None,
                "labels": {
                    name: None if math.isnan(value) else value
                    for name, value in zip(config.properties, labels[row].tolist(), strict=True)
                },
            }
        )
        for row, message in enumerate(result.tokens)
    ]
    atomic_write(folder / "messages.jsonl", "".join(f"{line}\n" for line in lines))


def _write_history(path: Path, rows: Sequence[HistoryRow]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [f.name for f in dataclasses.fields(HistoryRow)], lineterminator="\n"
    )
    writer.writeheader()
    for row in rows:
        cells = dataclasses.asdict(row)
        writer.writerow({k: "" if v != v else v for k, v in cells.items()})  # NaN: an empty cell
    atomic_write(path, text.getvalue())
