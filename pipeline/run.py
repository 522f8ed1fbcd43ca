"""The folder of a training run: everything needed to repeat it, read it, and speak with it.

config.json        the configuration, the seeds, and where the features came from
model.safetensors  sender and receiver of the best seed on validation (else of the lowest seed)
model.pt           the same as the paper publishes it: keys `sender_2x8`, `receiver_2x8`
metrics.json       accuracies over seeds; `evaluate` adds to it
history.csv        every look at every seed
messages.jsonl     what the best seed says of every clip of the cache
seeds/<seed>/      model, messages and metrics of each seed
control/           with `--control` a whole run of its own, and its keys in model.pt as well
unfinished/        while it trains, states to go on from: see `resume.py`
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from data.errors import HeliographError
from data.features import Features
from data.files import atomic_write, replacing
from pipeline.agents import (
    CompositionalReceiver,
    Sender,
    checkpoint_key,
    message_text,
    values_text,
)
from pipeline.building import Blueprint
from pipeline.config import TrainConfig
from pipeline.game import Accuracy
from pipeline.records import HistoryRow, SeedResult
from pipeline.sources import Material, Source
from pipeline.splits import folds_of
from pipeline.stored import check_spread, is_message, reason

SCHEMA_VERSION = 1
_Module = TypeVar("_Module", bound=torch.nn.Module)
CONTROL = "control"
SCORES = ("accuracy_test", "accuracy_last_epoch", "accuracy_published_protocol")


@dataclass(frozen=True)
class Run:
    """A run folder that has been opened: its configuration, not its weights."""

    folder: Path
    config: TrainConfig
    seeds: tuple[int, ...]
    sources: tuple[Source, ...]  # its caches

    @property
    def source(self) -> Source:
        """The cache of a run that has one.

        Raises HeliographError for a run on several caches: see `sources` and `agent_sources`.
        """
        if len(self.sources) > 1:
            names = ", ".join(source.name for source in self.sources)
            raise HeliographError(f"{self.folder} was trained on several caches: {names}")
        return self.sources[0]

    @property
    def agent_sources(self) -> tuple[Source, ...]:
        """The cache that each agent sees, one per agent."""
        return tuple(self.sources[number] for number in self.config.agent_caches)

    @property
    def blueprint(self) -> Blueprint:
        """What its nets are built from."""
        return Blueprint(
            self.config,
            tuple(source.steps for source in self.sources),
            tuple(source.dim for source in self.sources),
            tuple(source.name for source in self.sources),
        )

    def __repr__(self) -> str:
        what = ", ".join(self.config.properties)
        return f"Run({self.folder}, {what}, {self.config.agents} agents, {len(self.seeds)} seeds)"

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Opens a run folder; raises HeliographError for any other, or one of a newer version."""
        folder = Path(folder)
        path = folder / "config.json"
        try:
            stored = json.loads(path.read_text())
            if stored["schema_version"] != SCHEMA_VERSION:
                raise HeliographError(
                    f"{path} has schema version {stored['schema_version']}, "
                    f"this Heliograph reads {SCHEMA_VERSION}"
                )
            caches = stored["caches"] if "caches" in stored else [stored["cache"]]
            run = cls(
                folder,
                TrainConfig.from_json(stored["config"]),
                tuple(map(int, stored["seeds"])),
                tuple(Source.from_json(own) for own in caches),
            )
            if not run.seeds or not set(run.config.agent_caches) <= set(range(len(caches))):
                raise ValueError("it has no seeds, or agents that see a cache which it does not")
        except FileNotFoundError:
            raise HeliographError(f"{folder} is no run: it has no config.json") from None
        except (ValueError, KeyError, TypeError) as error:
            raise HeliographError(f"{path} is not the configuration of a run: {error}") from error
        return run

    def sender(self) -> Sender:
        """The sender of `model.safetensors`, ready to speak."""
        return self._loaded(self.blueprint.sender(), "sender")

    def receiver(self) -> CompositionalReceiver:
        """The receiver of `model.safetensors`."""
        return self._loaded(self.blueprint.receiver(), "receiver")

    def metrics(self) -> dict[str, Any]:
        """What stands in `metrics.json`; raises HeliographError without what training writes."""
        path = self.folder / "metrics.json"
        try:
            found = json.loads(path.read_text())
            for entry in (found, *(found["properties"][name] for name in self.config.properties)):
                for score in SCORES:
                    check_spread(score, entry[score], len(self.seeds))
        except FileNotFoundError:
            raise HeliographError(f"{path} is missing: the training did not finish") from None
        except (ValueError, KeyError, TypeError) as error:
            raise HeliographError(f"{path} is damaged: {reason(error)}") from error
        return dict(found)

    def add_metrics(self, more: Mapping[str, Any]) -> None:
        """Merges into `metrics.json`, as one write."""
        _write_json(self.folder / "metrics.json", self.metrics() | dict(more))

    def messages(self, seed: int | None = None) -> list[dict[str, Any]]:
        """The lines of `messages.jsonl`, of the chosen seed or of the one asked for.

        Raises HeliographError for lines that are not as training writes them.
        """
        path = self._messages_path(seed)
        try:
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            if not lines:
                raise ValueError("it has no lines")
            for line in lines:
                for name in ("clip", "object", "part", "message"):
                    line[name]
                for name in self.config.properties:
                    line["labels"][name]
        except (ValueError, KeyError, TypeError) as error:
            raise HeliographError(f"{path} is damaged: {reason(error)}") from error
        return lines

    def _messages_path(self, seed: int | None) -> Path:
        folder = self.folder if seed is None else self.folder / "seeds" / str(seed)
        return folder / "messages.jsonl"

    def tokens(self, seed: int | None = None) -> np.ndarray:
        """Tokens int64 (N, agents, heads) of every clip of the cache, in its order.

        Raises HeliographError for a run that speaks in real numbers, and for tokens that its agents
        cannot say.
        """
        if self.config.continuous:
            raise HeliographError(f"{self.folder} says real numbers: it has no tokens")
        lines, config = self.messages(seed), self.config
        said = [line.get("tokens") for line in lines]
        for line, tokens in zip(lines, said, strict=True):
            if not is_message(tokens, config):
                raise HeliographError(
                    f"{self._messages_path(seed)} is damaged: of {line['clip']} it says {tokens}"
                )
        return np.array(said, np.int64).reshape(-1, config.agents, config.heads)

    def _loaded(self, module: _Module, part: str) -> _Module:
        try:
            module.load_state_dict(self._weights(part))
        except RuntimeError as error:
            raise HeliographError(
                f"{self.folder / 'model.safetensors'} does not fit the configuration of its run: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
        return module.eval()

    def _weights(self, part: str) -> dict[str, Tensor]:
        path = self.folder / "model.safetensors"
        prefix = checkpoint_key(part, self.config.heads, self.config.vocab) + "."
        try:
            state = safetensors.torch.load_file(path)
        except FileNotFoundError:
            raise HeliographError(f"{path} is missing: the training did not finish") from None
        except safetensors.SafetensorError as error:
            raise HeliographError(f"{path} is damaged: {error}") from error
        return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def write_run(
    folder: Path,
    config: TrainConfig,
    material: Material,
    results: Sequence[SeedResult],
    *,
    notes: Sequence[str] = (),
) -> Run:
    """Writes the run folder, `metrics.json` last: its presence says that the run is whole.

    `notes` are sentences that belong beside its accuracies.
    """
    seeds = tuple(result.seed for result in results)
    chosen = choose(results)
    features = material.clips
    _forget(folder, seeds)
    _write_json(folder / "config.json", description(config, seeds, material.sources))
    labels = np.stack([features.labels[name] for name in config.properties], axis=1)
    for result in results:
        own = folder / "seeds" / str(result.seed)
        _write_model(own, config, result)
        _write_messages(own, features, config, labels, result)
        _write_json(own / "metrics.json", _seed_metrics(result, config))
    _write_model(folder, config, chosen)
    _write_messages(folder, features, config, labels, chosen)
    _write_history(folder / "history.csv", [row for result in results for row in result.history])
    more = {"folds": folds_of(config.split), "notes": list(notes)}
    _write_json(folder / "metrics.json", summarise(config, results) | more)
    return Run(folder, config, seeds, material.sources)


def description(
    config: TrainConfig, seeds: Sequence[int], sources: Sequence[Source]
) -> dict[str, Any]:
    """What `config.json` says: everything needed to repeat the run."""
    return {
        "schema_version": SCHEMA_VERSION,
        "config": config.to_json(),
        "seeds": list(seeds),
        "caches": [source.to_json() for source in sources],
        "versions": {name: version(name) for name in ("heliograph", "torch", "numpy")},
    }


def add_control(run: Run, control: Run) -> None:
    """Gives a run its holistic control's weights in every `model.pt`, and its scores.

    The four keys are those of the published checkpoints; `metrics.json` has the control's metrics
    under `control`.
    """
    for name in ("", *(f"seeds/{seed}" for seed in run.seeds)):
        parts: dict[str, dict[str, Tensor]] = {}
        for own in (run, control):
            parts |= torch.load(own.folder / name / "model.pt", weights_only=True)
        with replacing(run.folder / name / "model.pt") as file:
            torch.save(parts, file)
    config = control.config
    sizes = {"folder": control.folder.name, "heads": config.heads, "vocab": config.vocab}
    run.add_metrics({"control": sizes | control.metrics()})


def forget_control(folder: Path) -> None:
    """Removes the control of an older run in the folder, where there is one."""
    if (folder / CONTROL / "config.json").exists():
        shutil.rmtree(folder / CONTROL)


def _forget(folder: Path, seeds: Sequence[int]) -> None:
    """Removes what an older run in the folder said, and its seeds that this one does not have."""
    for name in ("metrics.json", "report.html", "lexicon.json"):
        (folder / name).unlink(missing_ok=True)
    for own in (folder / "seeds").glob("[0-9]*"):
        if own.name not in map(str, seeds):
            shutil.rmtree(own)


def choose(results: Sequence[SeedResult]) -> SeedResult:
    """The seed that did best on validation; without validation objects the lowest seed."""
    if any(result.accuracy_validation is None for result in results):
        return min(results, key=lambda result: result.seed)
    return max(results, key=lambda result: np.nan_to_num(_together(result.accuracy_validation)))


def summarise(config: TrainConfig, results: Sequence[SeedResult]) -> dict[str, Any]:
    """The accuracies of `metrics.json`: over seeds, all properties at once and one by one.

    Fractions; `std` is the standard deviation over seeds with S - 1, 0 for a single seed.
    """
    metrics: dict[str, Any] = {"seeds": [result.seed for result in results]}
    for score in SCORES:
        metrics[score] = _over_seeds([getattr(result, score) for result in results])
    metrics["accuracy_validation"] = _over_seeds([r.accuracy_validation for r in results])
    metrics["accuracy_published_protocol"]["selected_on_test"] = True
    metrics["properties"] = {
        name: {
            score: _over_seeds([getattr(result, score) for result in results], number)
            for score in SCORES
        }
        for number, name in enumerate(config.properties)
    }
    metrics["chosen_seed"] = choose(results).seed
    metrics["chosen_epoch"] = [result.epoch for result in results]
    metrics["skipped_batches"] = [result.skipped_batches for result in results]
    return metrics


def _over_seeds(
    scores: Sequence[Accuracy | None], number: int | None = None
) -> dict[str, Any] | None:
    if any(score is None for score in scores):
        return None
    values = [_together(s) if number is None else s.each[number] for s in scores if s is not None]
    return spread(values)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """How `metrics.json` states a fraction over seeds.

    >>> spread([0.5, 1.0])["mean"]
    0.75
    """
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "per_seed": list(values)}


def _together(score: Accuracy | None) -> float:
    return math.nan if score is None else score.together


def _seed_metrics(result: SeedResult, config: TrainConfig) -> dict[str, Any]:
    scores = {score: getattr(result, score) for score in (*SCORES, "accuracy_validation")}
    return {
        "seed": result.seed,
        "epoch": result.epoch,
        "skipped_batches": result.skipped_batches,
        **{
            score: value
            and {
                "together": value.together,
                **dict(zip(config.properties, value.each, strict=True)),
            }
            for score, value in scores.items()
        },
    }


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
    parts = np.full(len(features), "", dtype=object)
    for name in ("train", "validation", "test"):
        parts[getattr(result.split, name)] = name
    lines = [
        json.dumps(
            {
                "clip": features.clip_id[number],
                **_said(said),
                "object": features.object[number],
                "part": parts[number] or None,
                "labels": {
                    name: None if math.isnan(value) else value
                    for name, value in zip(config.properties, labels[number].tolist(), strict=True)
                },
            }
        )
        for number, said in enumerate(result.tokens)
    ]
    atomic_write(folder / "messages.jsonl", "".join(f"{line}\n" for line in lines))


def _said(said: np.ndarray) -> dict[str, Any]:
    """One clip's message: tokens (agents, heads), or real numbers (agents, heads, vocab)."""
    if np.issubdtype(said.dtype, np.integer):
        return {"message": message_text(said.tolist()), "tokens": said.tolist()}
    values = said.reshape(len(said), -1).tolist()
    return {"message": values_text(values), "values": values}


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


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    atomic_write(path, json.dumps(_plain(content), indent=1) + "\n")


def _plain(value: Any) -> Any:
    """NaN is not JSON: null instead."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
