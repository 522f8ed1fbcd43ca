"""The folder of a training run: everything needed to repeat it, to read it, and to send messages.

config.json        the configuration, the seeds, and where the features came from
model.safetensors  sender and receiver of the best seed on validation (else of the lowest seed)
model.pt           the same as the paper publishes it: keys `sender_2x8`, `receiver_2x8`
metrics.json       accuracies over seeds; `evaluate` adds to it
history.csv        every evaluation of every seed during training
messages.jsonl     the best seed's message for every clip of the cache
lexicon.json       what the symbols of the best seed mean
readout.json       numbers that its messages stand for, and how far these err
manifest.json      size and hash of every file: written last, checked by whatever reads the run
seeds/<seed>/      model, messages and metrics of each seed
null/<seed>/       with `--null` the messages of each null seed, and the labels it learned from
control/           with `--control` a run folder of its own; its weights are in model.pt as well
unfinished/        during training, states to resume from: see `pipeline.training.checkpoints`
"""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from data import cache, screening
from data.copies import address_of
from data.errors import BROKEN, HeliographError, InvalidValueError, reason_of
from data.files import Address, as_written, hint_for_missing, version_of
from data.notebooks import data_frame
from data.remote import RemoteError
from data.versions import other_schema
from pipeline.agents import (
    AgentFactory,
    Sender,
    build_channel,
    checkpoint_key,
    read_config,
    sender_that_wrote,
    with_weights,
)
from pipeline.config import RIDGE, TrainConfig
from pipeline.dataset import (
    CacheSource,
    RunInputs,
    read_inputs,
    refuse_unknown_split,
    unite_objects,
)
from pipeline.game import Game, build_game
from pipeline.runs.manifest import (
    CONTROL,
    NULL,
    UNCHECKED,
    UNFINISHED,
    MissingFileError,
    RunFiles,
)
from pipeline.runs.metrics_schema import RunMetrics, null_for_nan
from pipeline.runs.parsing import parse_history, parse_object, parse_weights
from pipeline.runs.results import HistoryRow

SCHEMA_VERSION = 1
CHECKER = "pipeline.runs.run:check"
MOST_SEEDS = 100_000
LARGEST_SEED = 2**32 - 1  # of NumPy's generators; most splits use 1000 * seed + 42
MOST_STEPS = 1_000_000
MOST_SECONDS = 600.0  # that checking the run of another account may take
_Module = TypeVar("_Module", bound=torch.nn.Module)
_Content = TypeVar("_Content")
LINE: Mapping[str, tuple[type, ...]] = {
    "clip": (str,),
    "object": (str, type(None)),
    "part": (str, type(None)),
    "message": (str,),
}
"""Keys of a line of `messages.jsonl`, and what they hold."""
ENCODER_WIDTH = 256  # of the first layer of an encoder


@dataclass(frozen=True)
class Run:
    """An open run folder. Each file is read when it is asked for, and again only if it changed.

    Attributes:
        folder: Of the run.
        config: What it was trained with.
        seeds: Of its trainings, in the order of every list over seeds.
        sources: Its caches.
        versions: Of the packages that it was trained with.
        files: Its files and their hashes.
    """

    folder: Path
    config: TrainConfig
    seeds: tuple[int, ...]
    sources: tuple[CacheSource, ...]
    versions: Mapping[str, str]
    files: RunFiles = field(repr=False, compare=False)
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

    def _repr_html_(self) -> str:
        # The report, which is above this package, shows its lexicon.
        shown: str = import_module("pipeline.report").run_table(self)
        return shown

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each clip and its message, by the chosen seed.

        Its columns are clip, object, part, message, and the labels of the run's properties.

        Raises:
            HeliographError: pandas is not installed, or as `messages` does.
        """
        lines = self.messages()
        columns = {name: [line[name] for line in lines] for name in LINE}
        for name in self.config.properties:
            values = [line["labels"][name] for line in lines]
            known = [math.nan if value is None else float(value) for value in values]
            columns[f"label {name}" if name in columns else name] = known
        return data_frame(columns)

    @classmethod
    def open(cls, folder: Run | Path | str) -> Run:
        """Return the run of a folder; a run that is open already is returned as it is.

        What lies at the top of the folder is checked, but for the page; the files of a seed are
        checked when they are read.

        Raises:
            HeliographError: for any other folder, or a run of a newer version.
        """
        if isinstance(folder, Run):
            return folder
        folder = Path(folder)
        files = RunFiles.open(folder)
        run = _open(folder, files)
        seconds = min(screening.SECONDS + len(run.seeds), MOST_SECONDS)
        screening.require_screened(folder, files.identity, CHECKER, seconds=seconds)
        files.check_top()  # its configuration was checked when it was read
        return run

    @property
    def id(self) -> str:
        """The run's own, by which it is told from one that is equal; empty for an older run."""
        return self.files.id

    @property
    def unchecked(self) -> str:
        """A sentence where the run has no manifest to check its files against; else empty."""
        return "" if self.files.is_checked else UNCHECKED

    def of_seed(self, seed: int) -> Run:
        """Return the run whose model and messages are those of one seed."""
        return dataclasses.replace(self, folder=self.folder / "seeds" / str(seed))

    @property
    def null(self) -> tuple[Run, ...]:
        """The null seeds that were trained beside it (`--null`), of which it has the messages."""
        first = max(self.seeds) + 1
        folders = [self.folder / NULL / str(first + n) for n in range(self.config.null)]
        runs = [dataclasses.replace(self, folder=folder) for folder in folders]
        return tuple(run for run in runs if run.has("messages.jsonl"))

    def control(self) -> Run | None:
        """Return the control that was trained with it (`--control`); None without one."""
        folder = self.folder / CONTROL
        return Run.open(folder) if (folder / "config.json").exists() else None

    def sender(self) -> Sender:
        """Return the sender of `model.safetensors`, in evaluation mode."""
        return self._with_weights(self.agent_factory.sender, "sender")

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
        size = factory.channel.message_size
        return self._with_weights(lambda: self.game.build_receiver(size, factory), "receiver")

    def metrics(self) -> RunMetrics:
        """Return what is in `metrics.json`.

        Raises:
            HeliographError: where it is missing, or lacks what training writes.
        """
        return self._read("metrics.json", self._parse_metrics)

    def add_metrics(self, keys: Mapping[str, Any]) -> RunMetrics:
        """Add keys to `metrics.json`, in one write, and return all of it."""
        path = self.folder / "metrics.json"
        with self.files.changing():
            metrics = self.metrics().with_keys(keys)
            self.write("metrics.json", json_text(metrics.to_json()))
        self._contents[path] = (version_of(path), metrics)
        return metrics

    def write(self, name: str, content: bytes | str) -> None:
        """Write a file of the run whole, and its hash into the manifest."""
        self.files.write(self._name(name), content)

    def seal(self) -> None:
        """Write the manifest of a run that was written whole."""
        self.files.seal()

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file of the run."""
        return self.files.sha256(self._name(name))

    def _name(self, name: str) -> str:
        """The name of a file in the folder of the whole run."""
        return (self.folder / name).relative_to(self.files.root).as_posix()

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
        return self._read("history.csv", parse_history) if self.has("history.csv") else []

    def stored_object(self, name: str) -> dict[str, Any] | None:
        """Return the JSON object in a file of the run, `lexicon.json` or `readout.json`.

        None without the file.

        Raises:
            HeliographError: where it is damaged.
        """
        return self._read(name, parse_object) if self.has(name) else None

    def has(self, name: str) -> bool:
        """Return whether the run has this file."""
        return (self.folder / name).is_file()

    def _read(self, name: str, parse: Callable[[bytes], _Content]) -> _Content:
        """What `parse` makes of a file, from the last time where the file is still the same.

        Raises HeliographError for a file that is missing, and for one that cannot be parsed.
        """
        path = self.folder / name
        version = version_of(path)
        known, content = self._contents.get(path, (None, None))
        if version is None or known != version:
            try:
                content = parse(self.files.read(self._name(name)))
            except BROKEN as error:
                raise HeliographError(f"{path} is damaged: {reason_of(error)}") from error
            self._contents[path] = (version, content)
        return content

    def _parse_metrics(self, content: bytes) -> RunMetrics:
        stored = json.loads(content)
        properties = self.game.scored_properties
        return RunMetrics.read(stored, properties=properties, seeds=len(self.seeds))

    def _parse_messages(self, content: bytes) -> list[dict[str, Any]]:
        lines = [
            json.loads(line, object_pairs_hook=_interned) for line in content.decode().splitlines()
        ]
        if not lines:
            raise ValueError("it has no lines")
        channel = self.agent_factory.channel
        for line in lines:
            for name, kinds in LINE.items():
                if not isinstance(line[name], kinds):
                    raise ValueError(f"the {name} of a line is {line[name]!r}"[:200])
            for name in self.config.properties:
                label = line["labels"][name]
                if label is not None and type(label) not in (int, float):
                    raise ValueError(f"the {name} of {line['clip']} is {label!r}"[:200])
            try:
                channel.from_json(line)
            except ValueError as error:
                raise ValueError(f"the message of {line['clip']} is {error}"[:200]) from error
        return lines

    def _with_weights(self, build: Callable[[], _Module], part: str) -> _Module:
        prefix = checkpoint_key(part, self.config.heads, self.config.vocab) + "."
        weights = self._read("model.safetensors", parse_weights)
        try:
            return with_weights(build, weights, prefix)
        except (RuntimeError, *BROKEN) as error:
            raise HeliographError(
                f"{self.folder / 'model.safetensors'} does not fit the configuration of its run: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error


load = Run.open


def _open(folder: Path, files: RunFiles) -> Run:
    """Read `config.json`; raises HeliographError where it describes no run of this size."""
    path = folder / "config.json"
    name = address_of(folder) or as_written(folder)
    if not files.is_checked and (other := _other_model(path)):
        raise HeliographError(f"{name} is no run: {other}")
    try:
        stored = json.loads(files.read("config.json"))
        if stored["schema_version"] != SCHEMA_VERSION:
            raise HeliographError(other_schema(path, stored["schema_version"], str(SCHEMA_VERSION)))
        caches = stored["caches"] if "caches" in stored else [stored["cache"]]
        run = Run(
            folder,
            _read_config(path, stored["config"]),
            tuple(stored["seeds"]),
            tuple(CacheSource.from_json(source) for source in caches),
            {str(name): str(number) for name, number in stored.get("versions", {}).items()},
            files,
        )
        _check_sizes(run)
        _check_names(run)
        if not run.seeds or not set(run.config.agent_caches) <= set(range(len(caches))):
            raise ValueError("it has no seeds, or agents that see a cache which it does not")
    except MissingFileError:
        if (folder / UNFINISHED).is_dir():
            raise HeliographError(
                f"{folder} holds no run yet, but an unfinished training: the same `heliograph "
                f"train ... -o {shlex.quote(str(folder))}` with --resume goes on with it"
            ) from None
        raise HeliographError(f"{name} is no run: {_what_it_is(folder)}") from None
    except BROKEN as error:
        raise HeliographError(
            f"{path} is not the configuration of a run: {reason_of(error)}"
        ) from error
    return run


def _read_config(path: Path, stored: dict[str, Any]) -> TrainConfig:
    try:
        return TrainConfig.from_json(stored)
    except HeliographError as error:
        raise HeliographError(f"{path}: {error}") from error


def _check_sizes(run: Run) -> None:
    """Raise ValueError for sizes that the weights cannot have, before anything is made of them."""
    config = run.config
    if len({source.name for source in run.sources}) < len(run.sources):
        raise ValueError("two of its caches have one name")
    if len(run.seeds) > MOST_SEEDS:
        raise ValueError(f"it has {len(run.seeds):,} seeds, more than {MOST_SEEDS:,}")
    largest = LARGEST_SEED if config.split.startswith("cells") else (LARGEST_SEED - 42) // 1000
    if not all(type(seed) is int and 0 <= seed <= largest for seed in run.seeds):
        raise ValueError(f"its seeds are not numbers from 0 to {largest:,}")
    if not run.sources or not all(0 < source.steps <= MOST_STEPS for source in run.sources):
        raise ValueError("it has no cache, or one of no or too many time steps")
    narrowest = min(source.dim for source in run.sources)
    heads = config.heads * config.vocab
    width = len(config.properties) if config.encoder == RIDGE else ENCODER_WIDTH
    numbers = config.agents * (heads * config.hidden_dim + max(narrowest, 1) * width)
    numbers += config.agents * heads * config.hidden_dim  # of a receiver
    size = run.files.size("model.safetensors")
    if numbers * 4 > size:
        raise ValueError(
            f"{config.agents:,} agents of {config.heads:,} heads with {config.vocab:,} symbols "
            f"have at least {numbers:,} weights, which its model.safetensors of {size:,} bytes "
            "cannot hold"
        )


def _check_names(run: Run) -> None:
    """Raise ValueError for a game, a channel or a split that there is not."""
    try:
        build_game(run.config)
        build_channel(run.config)
        refuse_unknown_split(run.config.split)
    except HeliographError as error:
        raise ValueError(str(error)) from error


def check(folder: Path) -> str:
    """Read all of a run as commands read it, in a process that can be killed.

    Returns:
        The identity of the run.

    Raises:
        HeliographError: for what cannot be read.
    """
    files = RunFiles.open(folder)
    run = _open(folder, files)
    identity = files.identity
    run.history()
    run.stored_object("lexicon.json")
    run.stored_object("readout.json")
    for name in (None, *run.seeds):
        of_seed = run if name is None else run.of_seed(name)
        for read in (of_seed.sender, of_seed.receiver, of_seed.messages):
            try:
                read()
            except MissingFileError:  # commands say so where they need it
                continue
    for null in run.null:
        null.messages()
    if run.has("metrics.json"):
        run.metrics()
    return identity


def load_inputs(run: Run, moved: Mapping[str, Path] | None = None) -> RunInputs:
    """Return the caches of a run, joined; each is loaded once, and is what was loaded in training.

    One that is not where it was is looked for next to the run, and in it: of a run that was copied
    together with its caches, they are found.

    Args:
        run: What was trained on them.
        moved: Where caches are now, by name; the only cache of a run may have any name.

    Raises:
        HeliographError: where one is gone or has changed.
    """
    names = [source.name for source in run.sources]
    moved = dict(moved or {})
    if len(moved) == len(names) == 1:
        moved = dict.fromkeys(names, *moved.values())
    if unknown := [name for name in moved if name not in names]:
        raise InvalidValueError(
            f"no cache of {run.folder} is called {unknown[0]!r}: they are {', '.join(names)}; "
            f"name this one as --cache {names[0]}={moved[unknown[0]]}"
        )
    paths = {s.name: moved.get(s.name) or _find_cache(run, s) for s in run.sources}
    inputs = read_inputs(paths, sources=run.sources, run=str(run.folder))
    united, shared = unite_objects(inputs)
    if not shared.united or not run.has("messages.jsonl"):
        return inputs
    # Older runs were trained without: the objects of the split are those in the messages, clip by
    # clip of the cache. In a run that was shared they have other names.
    objects = [line["object"] or "" for line in run.messages()]
    return united if _same_groups(objects, united.clips.object) else inputs


def _same_groups(names: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether two lists are equal but for a renaming.

    >>> _same_groups(["a", "b", "a"], ["x", "y", "x"]), _same_groups(["a", "b"], ["x", "x"])
    (True, False)
    """
    pairs = set(zip(names, others, strict=False))
    return len(names) == len(others) and len(pairs) == len(set(names)) == len(set(others))


def _find_cache(run: Run, source: CacheSource) -> Path:
    """Return where a cache of a run is: where it was, next to the run, or in it."""
    if isinstance(source.path, Address):
        try:
            return cache.copy_of(source.path)
        except RemoteError as error:
            raise HeliographError(
                f"{error}; it is the cache that {run.folder} was trained on: --cache says where "
                "else it is"
            ) from error
    places = (source.path, run.folder.parent / source.path.name, run.folder / source.path.name)
    for path in places:
        if cache.exists(path):
            return path
    raise HeliographError(
        f"the cache that {run.folder} was trained on is gone: {source.path}; put it next to the "
        "run, or say where it is with --cache"
    )


def _other_model(path: Path) -> str:
    """Return what a `config.json` is of that is not of a run; else, or where it is broken, ""."""
    try:
        stored = read_config(path)
    except (HeliographError, OSError, *BROKEN):
        return ""
    if "schema_version" in stored:
        return ""
    kind = sender_that_wrote(stored)
    if kind is None:
        return "its config.json is that of something else"
    return f"it is a {kind.__name__}, which {kind.__name__}.from_pretrained opens"


def _what_it_is(folder: Path) -> str:
    """Return why something is no run, and what to do with what it is instead."""
    if (folder / "sweep.csv").is_file():
        cells = sorted(path.parent.name for path in folder.glob("*/config.json"))
        more = ", ..." * (len(cells) > 3)
        return f"it is a sweep, whose runs are in it: {', '.join(cells[:3])}{more}"
    if folder.is_file():
        if folder.suffix in (".h5", ".hdf5"):
            return (
                f"it is a cache, so train on it: heliograph train {shlex.quote(str(folder))} -o RUN"
            )
        return "it is a file, and a run is a folder"
    if not folder.exists():
        return f"there is no such folder{hint_for_missing(folder)}"
    if (folder / "experiment.json").is_file():
        return f"it is an experiment, whose runs are in {folder / 'runs'}"
    if (folder / "run" / "config.json").is_file():
        return f"its run is {folder / 'run'}"
    if (folder / "manifest.jsonl").is_file():
        return "it is a folder of clips, so extract their features first"
    return "it has no config.json"


def json_text(content: Mapping[str, Any]) -> str:
    """Return the text of a file of a run folder; numbers that are not known are null."""
    return json.dumps(without_nan(content), indent=1) + "\n"


def without_nan(value: Any) -> Any:
    """Return JSON values with null for each NaN in them.

    >>> without_nan({"a": [1.0, float("nan")]})
    {'a': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return null_for_nan(value)


def _messages_file(seed: int | None) -> str:
    return "messages.jsonl" if seed is None else f"seeds/{seed}/messages.jsonl"


def _interned(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose texts are one in memory with equal ones of other lines."""
    return {
        sys.intern(key): sys.intern(value) if type(value) is str else value for key, value in pairs
    }
