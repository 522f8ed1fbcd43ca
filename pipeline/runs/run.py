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

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from data.errors import HeliographError
from data.files import atomic_write, sha256_file
from pipeline.agents import AgentFactory, Sender, checkpoint_key
from pipeline.config import TrainConfig
from pipeline.dataset import CacheSource, RunInputs, read_inputs
from pipeline.game import Game, build_game
from pipeline.runs.metrics_schema import RunMetrics
from pipeline.runs.validation import reason

SCHEMA_VERSION = 1
_Module = TypeVar("_Module", bound=torch.nn.Module)
CONTROL = "control"


@dataclass(frozen=True)
class Run:
    """A run folder that has been opened: its configuration, not its weights."""

    folder: Path
    config: TrainConfig
    seeds: tuple[int, ...]
    sources: tuple[CacheSource, ...]  # its caches

    @property
    def source(self) -> CacheSource:
        """The cache of a run that has one.

        Raises HeliographError for a run on several caches: see `sources` and `agent_sources`.
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
        """What its nets are built from."""
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
                tuple(CacheSource.from_json(own) for own in caches),
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
        return self._loaded(self.agent_factory.sender(), "sender")

    @property
    def game(self) -> Game:
        """The game that it was trained to play."""
        return build_game(self.config)

    def receiver(self) -> torch.nn.Module:
        """The receiver of `model.safetensors`."""
        factory = self.agent_factory
        receiver = self.game.build_receiver(factory.channel.message_size, factory)
        return self._loaded(receiver, "receiver")

    def metrics(self) -> RunMetrics:
        """Return what is in `metrics.json`.

        Raises:
            HeliographError: where it is missing, or lacks what training writes.
        """
        path = self.folder / "metrics.json"
        try:
            stored = json.loads(path.read_text())
            properties = self.game.scored_properties
            return RunMetrics.read(stored, properties=properties, seeds=len(self.seeds))
        except FileNotFoundError:
            raise HeliographError(f"{path} is missing: the training did not finish") from None
        except ValueError as error:
            raise HeliographError(f"{path} is damaged: {error}") from error

    def add_metrics(self, keys: Mapping[str, Any]) -> RunMetrics:
        """Add keys to `metrics.json`, in one write, and return all of it."""
        metrics = self.metrics().with_keys(keys)
        write_json(self.folder / "metrics.json", metrics.to_json())
        return metrics

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
        channel = self.agent_factory.channel
        if not channel.symbols:
            raise HeliographError(f"{self.folder} says real numbers: it has no tokens")
        tokens = []
        for line in self.messages(seed):
            try:
                tokens.append(channel.from_json(line))
            except ValueError as error:
                raise HeliographError(
                    f"{self._messages_path(seed)} is damaged: of {line['clip']} it says {error}"
                ) from error
        return np.stack(tokens)

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


def load_inputs(run: Run) -> RunInputs:
    """The caches of a run, joined; raises HeliographError where one is gone or has changed."""
    for source in run.sources:
        if not source.path.is_file():
            raise HeliographError(
                f"the cache that {run.folder} was trained on is gone: {source.path}"
            )
        if sha256_file(source.path) != source.sha256:
            raise HeliographError(f"{source.path} has changed since {run.folder} was trained on it")
    return read_inputs({source.name: source.path for source in run.sources})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a file of a run folder; numbers that are not known are null."""
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
