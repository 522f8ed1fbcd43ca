"""The folder of a training run: everything needed to repeat it, to read it, and to send messages.

config.json        the configuration, the seeds, and where the features came from
model.safetensors  sender and receiver of the best seed on validation (else of the lowest seed)
model.pt           the same as the paper publishes it: keys `sender_2x8`, `receiver_2x8`
metrics.json       accuracies over seeds; `evaluate` adds to it
history.csv        every evaluation of every seed during training
messages.jsonl     the best seed's message for every clip of the cache
lexicon.json       what the symbols of the best seed mean
seeds/<seed>/      model, messages and metrics of each seed
control/           with `--control` a run folder of its own; its weights are in model.pt as well
unfinished/        during training, states to resume from: see `pipeline.training.checkpoints`
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from data.errors import HeliographError
from data.files import atomic_write, sha256_file, version_of
from pipeline.agents import AgentFactory, Sender, checkpoint_key
from pipeline.config import TrainConfig
from pipeline.dataset import CacheSource, RunInputs, read_inputs
from pipeline.game import Game, build_game
from pipeline.runs.metrics_schema import RunMetrics, null_for_nan
from pipeline.runs.results import HistoryRow

SCHEMA_VERSION = 1
CONTROL = "control"
_Module = TypeVar("_Module", bound=torch.nn.Module)
_Content = TypeVar("_Content")


@dataclass(frozen=True)
class Run:
    """An open run folder. Each file is read when it is asked for, and again only if it changed.

    Attributes:
        folder: Of the run.
        config: What it was trained with.
        seeds: Of its trainings, in the order of every list over seeds.
        sources: Its caches.
        versions: Of the packages that it was trained with.
    """

    folder: Path
    config: TrainConfig
    seeds: tuple[int, ...]
    sources: tuple[CacheSource, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    _contents: dict[Path, tuple[Any, Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def source(self) -> CacheSource:
        """The cache of a run that has one.

        Raises:
            HeliographError: for a run on several caches: see `sources` and `agent_sources`.
        """
        if len(self.sources) > 1:
            names = ", ".join(source.name for source in self.sources)
            raise HeliographError(f"{self.folder} was trained on several caches: {names}")
        return self.sources[0]

    @property
    def agent_sources(self) -> tuple[CacheSource, ...]:
        """The cache that each agent sees, one per agent."""
        return tuple(self.sources[number] for number in self.config.agent_caches)

    @property
    def agent_factory(self) -> AgentFactory:
        """What its networks are built from."""
        return AgentFactory(
            self.config,
            tuple(source.steps for source in self.sources),
            tuple(source.dim for source in self.sources),
            tuple(source.name for source in self.sources),
        )

    def __repr__(self) -> str:
        what = ", ".join(self.config.properties)
        return f"Run({self.folder}, {what}, {self.config.agents} agents, {len(self.seeds)} seeds)"

    @classmethod
    def open(cls, folder: Run | Path | str) -> Run:
        """Return the run of a folder; a run that is open already is returned as it is.

        Raises:
            HeliographError: for any other folder, or a run of a newer version.
        """
        if isinstance(folder, Run):
            return folder
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
                tuple(CacheSource.from_json(source) for source in caches),
                dict(stored.get("versions", {})),
            )
            if not run.seeds or not set(run.config.agent_caches) <= set(range(len(caches))):
                raise ValueError("it has no seeds, or agents that see a cache which it does not")
        except FileNotFoundError:
            raise HeliographError(f"{folder} is no run: it has no config.json") from None
        except (ValueError, KeyError, TypeError) as error:
            raise HeliographError(f"{path} is not the configuration of a run: {error}") from error
        return run

    def of_seed(self, seed: int) -> Run:
        """Return the run whose model and messages are those of one seed."""
        return dataclasses.replace(self, folder=self.folder / "seeds" / str(seed))

    def control(self) -> Run | None:
        """Return the control that was trained with it (`--control`); None without one."""
        folder = self.folder / CONTROL
        return Run.open(folder) if (folder / "config.json").exists() else None

    def sender(self) -> Sender:
        """Return the sender of `model.safetensors`, in evaluation mode."""
        return self._with_weights(self.agent_factory.sender(), "sender")

    @property
    def has_symbols(self) -> bool:
        """Whether its messages are symbols, not real numbers."""
        return self.agent_factory.channel.symbols

    @property
    def game(self) -> Game:
        """The game that it was trained to play."""
        return build_game(self.config)

    def receiver(self) -> torch.nn.Module:
        """Return the receiver of `model.safetensors`, in evaluation mode."""
        factory = self.agent_factory
        receiver = self.game.build_receiver(factory.channel.message_size, factory)
        return self._with_weights(receiver, "receiver")

    def metrics(self) -> RunMetrics:
        """Return what is in `metrics.json`.

        Raises:
            HeliographError: where it is missing, or lacks what training writes.
        """
        return self._read("metrics.json", self._parse_metrics)

    def add_metrics(self, keys: Mapping[str, Any]) -> RunMetrics:
        """Add keys to `metrics.json`, in one write, and return all of it."""
        path, metrics = self.folder / "metrics.json", self.metrics().with_keys(keys)
        write_json(path, metrics.to_json())
        self._contents[path] = (version_of(path), metrics)
        return metrics

    def messages(self, seed: int | None = None) -> list[dict[str, Any]]:
        """Return the lines of `messages.jsonl`, of the chosen seed or of the one asked for.

        Raises:
            HeliographError: for lines that are not as training writes them, and for tokens that the
                agents cannot send.
        """
        return self._read(_messages_file(seed), self._parse_messages)

    def tokens(self, seed: int | None = None) -> np.ndarray:
        """Return tokens int64 (N, agents, heads) of every clip of the cache, in its order.

        Raises:
            HeliographError: for a run with a continuous channel, and as `messages` does.
        """
        if not self.has_symbols:
            raise HeliographError(
                f"{self.folder} has a continuous channel: its messages have no tokens"
            )
        tokens = np.array([line["tokens"] for line in self.messages(seed)], np.int64)
        return tokens.reshape(-1, self.config.agents, self.config.heads)

    def history(self) -> list[HistoryRow]:
        """Return the rows of `history.csv`; none where it is missing.

        Raises:
            HeliographError: where it is damaged.
        """
        return self._read("history.csv", _parse_history) if self.has("history.csv") else []

    def lexicon(self) -> dict[str, Any] | None:
        """Return what is in `lexicon.json`, as `pipeline.message` writes it; None without one.

        Raises:
            HeliographError: where it is damaged.
        """
        return self._read("lexicon.json", _parse_object) if self.has("lexicon.json") else None

    def has(self, name: str) -> bool:
        """Return whether the run has this file."""
        return (self.folder / name).is_file()

    def _read(self, name: str, parse: Callable[[Path], _Content]) -> _Content:
        """What `parse` makes of a file, from the last time where the file is still the same.

        Raises HeliographError for a file that is missing, and for one that cannot be parsed.
        """
        path = self.folder / name
        version = version_of(path)
        known, content = self._contents.get(path, (None, None))
        if version is None or known != version:
            try:
                content = parse(path)
            except FileNotFoundError:
                raise MissingFileError(path) from None
            except (ValueError, KeyError, TypeError) as error:
                reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
                raise HeliographError(f"{path} is damaged: {reason}") from error
            self._contents[path] = (version, content)
        return content

    def _parse_metrics(self, path: Path) -> RunMetrics:
        stored = json.loads(path.read_text())
        properties = self.game.scored_properties
        return RunMetrics.read(stored, properties=properties, seeds=len(self.seeds))

    def _parse_messages(self, path: Path) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        if not lines:
            raise ValueError("it has no lines")
        channel = self.agent_factory.channel
        for line in lines:
            for name in ("clip", "object", "part", "message"):
                line[name]
            for name in self.config.properties:
                line["labels"][name]
            try:
                channel.from_json(line)
            except ValueError as error:
                raise ValueError(f"the message of {line['clip']} is {error}") from error
        return lines

    def _with_weights(self, module: _Module, part: str) -> _Module:
        prefix = checkpoint_key(part, self.config.heads, self.config.vocab) + "."
        weights = self._read("model.safetensors", _parse_weights)
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise HeliographError(
                f"{self.folder / 'model.safetensors'} does not fit the configuration of its run: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
        return module.eval()


class MissingFileError(HeliographError):
    """A file of a run folder is missing."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is missing: the training did not finish")
        self.path = path


def load_inputs(run: Run) -> RunInputs:
    """Return the caches of a run, joined; each is hashed once and loaded once.

    Raises:
        HeliographError: where one is gone or has changed.
    """
    for source in run.sources:
        if not source.path.is_file():
            raise HeliographError(
                f"the cache that {run.folder} was trained on is gone: {source.path}"
            )
        if sha256_file(source.path) != source.sha256:
            raise HeliographError(f"{source.path} has changed since {run.folder} was trained on it")
    return read_inputs({source.name: source.path for source in run.sources}, sources=run.sources)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of a run folder; numbers that are not known are null."""
    atomic_write(path, json.dumps(without_nan(content), indent=1) + "\n")


def without_nan(value: Any) -> Any:
    """Return JSON values with null for each NaN in them.

    >>> without_nan({"a": [1.0, math.nan]})
    {'a': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return null_for_nan(value)


def _messages_file(seed: int | None) -> str:
    return "messages.jsonl" if seed is None else f"seeds/{seed}/messages.jsonl"


def _parse_object(path: Path) -> dict[str, Any]:
    stored = json.loads(path.read_text())
    if not isinstance(stored, dict):
        raise ValueError("it is no object")
    return stored


def _parse_history(path: Path) -> list[HistoryRow]:
    names = [column.name for column in dataclasses.fields(HistoryRow)]
    with open(path, newline="") as file:
        cells = [[float(row[name] or "nan") for name in names] for row in csv.DictReader(file)]
    return [HistoryRow(int(seed), int(epoch), *rest) for seed, epoch, *rest in cells]


def _parse_weights(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from error
