"""Writes the folder of a training run; `pipeline.runs.run` lists its files."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from data.cache import Features
from data.versions import package_versions
from pipeline.agents import build_channel, checkpoint_key
from pipeline.config import TrainConfig
from pipeline.dataset import CacheSource, RunInputs, folds_of
from pipeline.game import Accuracy, build_game
from pipeline.runs.manifest import NULL, RunFiles
from pipeline.runs.metrics_schema import (
    SCORES,
    Leaks,
    NullAccuracy,
    RunMetrics,
    SeedMetrics,
    Spread,
)
from pipeline.runs.metrics_versions import VERSION
from pipeline.runs.results import HistoryRow, SeedResult
from pipeline.runs.run import SCHEMA_VERSION, Run, json_text


def write_run(
    folder: Path,
    config: TrainConfig,
    inputs: RunInputs,
    results: Sequence[SeedResult],
    *,
    null: Sequence[SeedResult] = (),
    notes: Sequence[str] = (),
    leaks: Leaks | None = None,
) -> Run:
    """Write a run into an empty folder and return it; `seal` then writes its manifest.

    Args:
        folder: Of the run.
        config: What the seeds were trained with.
        inputs: The caches that they were trained on.
        results: Of every seed.
        null: Of the seeds that learned from permuted labels: accuracies and messages are kept.
        notes: Sentences to read together with the accuracies.
        leaks: What it was told to accept.
    """
    seeds = tuple(result.seed for result in results)
    features, files = inputs.clips, RunFiles.new(folder)
    stored = description(config, seeds, inputs.sources)
    files.write("config.json", json_text(stored))
    labels = np.stack([features.labels[name] for name in config.properties], axis=1)
    parts = [("", choose(results)), *((f"seeds/{result.seed}/", result) for result in results)]
    for place, result in parts:
        for name, content in _model_files(config, result):
            files.write(place + name, content)
        files.write(place + "messages.jsonl", _messages_text(features, config, labels, result))
        if place:
            metrics = _seed_metrics(result, config).to_json()
            files.write(place + "metrics.json", json_text(metrics))
    for result in null:
        assert result.labels is not None
        text = _messages_text(features, config, result.labels, result)
        files.write(f"{NULL}/{result.seed}/messages.jsonl", text)
    history = [row for result in results for row in result.history]
    files.write("history.csv", history_text(history))
    metrics = summarise(config, results, notes=notes).to_json()
    if null:
        metrics["shuffled_labels"] = _null_accuracy(summarise(config, null)).to_json()
    if leaks is not None:
        metrics["leaks"] = leaks.to_json()
    files.write("metrics.json", json_text(metrics))
    return Run(folder, config, seeds, inputs.sources, stored["versions"], files)


def description(
    config: TrainConfig, seeds: Sequence[int], sources: Sequence[CacheSource]
) -> dict[str, Any]:
    """Return the content of `config.json`: everything needed to repeat the run."""
    return {
        "schema_version": SCHEMA_VERSION,
        "config": config.to_json(),
        "seeds": list(seeds),
        "caches": [source.to_json() for source in sources],
        "versions": package_versions("heliograph", "torch", "numpy"),
    }


def add_control(run: Run, control: Run) -> None:
    """Add the weights of a run's control to every `model.pt`, and its metrics to `metrics.json`.

    With the control the four keys of `model.pt` are those of the published checkpoints.
    """
    for place in ("", *(f"seeds/{seed}/" for seed in run.seeds)):
        weights: dict[str, dict[str, Tensor]] = {}
        for source in (run, control):
            content = io.BytesIO(source.files.read(f"{place}model.pt"))
            weights |= torch.load(content, weights_only=True)
        run.write(f"{place}model.pt", saved_weights(weights))
    config = control.config
    sizes = {"folder": control.folder.name, "heads": config.heads, "vocab": config.vocab}
    run.add_metrics({"control": sizes | control.metrics().to_json()})


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
            "schema_version": VERSION,
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


def _null_accuracy(metrics: RunMetrics) -> NullAccuracy:
    """Return the accuracy of the seeds that learned from permuted labels, from their summary."""
    score = "accuracy_test" if metrics.accuracy_test else "accuracy_last_epoch"
    each = {name: getattr(entry, score) for name, entry in metrics.properties.items()}
    return NullAccuracy(**dict(getattr(metrics, score)), properties=each)


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


def _model_files(config: TrainConfig, result: SeedResult) -> Iterator[tuple[str, bytes]]:
    parts = {
        checkpoint_key("sender", config.heads, config.vocab): result.sender.state_dict(),
        checkpoint_key("receiver", config.heads, config.vocab): result.receiver.state_dict(),
    }
    flat = {
        f"{part}.{name}": value.contiguous()
        for part, state in parts.items()
        for name, value in state.items()
    }
    yield "model.safetensors", safetensors.torch.save(flat)
    yield "model.pt", saved_weights(parts)


def saved_weights(weights: Mapping[str, Mapping[str, Tensor]]) -> bytes:
    """Return a `.pt` file; torch itself makes no sentence of a full disk."""
    content = io.BytesIO()
    torch.save(dict(weights), content)
    return content.getvalue()


def _messages_text(
    features: Features, config: TrainConfig, labels: np.ndarray, result: SeedResult
) -> str:
    channel = build_channel(config)
    parts = np.full(len(features), "", dtype=object)
    for name, clips in result.split.parts().items():
        parts[clips] = name
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
    return "".join(f"{line}\n" for line in lines)


def history_text(rows: Sequence[HistoryRow]) -> str:
    """Return the content of a `history.csv`."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [f.name for f in dataclasses.fields(HistoryRow)], lineterminator="\n"
    )
    writer.writeheader()
    for row in rows:
        cells = dataclasses.asdict(row)
        writer.writerow({k: "" if v != v else v for k, v in cells.items()})  # NaN: an empty cell
    return text.getvalue()
