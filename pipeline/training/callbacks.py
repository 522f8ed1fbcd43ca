"""Callbacks of a training: its progress on the console, its curves in TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from data.errors import HeliographError
from data.files import write_error
from data.wording import counted


@dataclass(frozen=True)
class Progress:
    """How far a chunk of seeds is: handed to the caller after every epoch."""

    seeds: tuple[int, ...]
    epoch: int  # 1 is the first; those of the oracle count
    epochs: int
    tau: float  # NaN while the encoders learn as an oracle
    loss: float  # mean over the seeds of the chunk that learn; NaN in the oracle
    validation: tuple[float, ...]  # of each seed, at its latest evaluation; NaN where none counts
    where: str = ""  # the epoch in words, as its setting counts it

    @property
    def accuracy_validation(self) -> float:
        """The mean over the chunk's seeds that have one; NaN where none has."""
        known = [accuracy for accuracy in self.validation if not math.isnan(accuracy)]
        return sum(known) / len(known) if known else math.nan


class Callback(Protocol):
    """What a training calls: before each of its parts, and after every epoch."""

    def begin(self, part: str) -> None:
        """Start a part of the training; "" where it has one part only."""

    def __call__(self, now: Progress) -> None:
        """Take in one epoch of a chunk of seeds."""


class ProgressCallback:
    """Joins the progress of chunks of seeds: epochs done over all of them, and a note.

    `runs` are the seeds of all parts of a training. `show` takes epochs done, epochs in all, and
    the note; a bar makes the time left of the first two.
    """

    def __init__(self, runs: int, show: Callable[[int, int, str], None]) -> None:
        self.runs = runs
        self._show = show
        self._part = ""
        self._before = 0  # epochs done in earlier parts
        self._epochs: dict[int, int] = {}
        self._validation: dict[int, float] = {}

    def begin(self, part: str) -> None:
        """Start a part of the training: what comes next belongs to it."""
        self._before += sum(self._epochs.values())
        self._part = part
        self._epochs, self._validation = {}, {}

    def __call__(self, now: Progress) -> None:
        """Take in one epoch of a chunk, and show where all of them are."""
        for seed, accuracy in zip(now.seeds, now.validation, strict=True):
            self._epochs[seed] = now.epoch
            if not math.isnan(accuracy):
                self._validation[seed] = accuracy
        done = self._before + sum(self._epochs.values())
        self._show(done, self.runs * now.epochs, self.note(now))

    def note(self, now: Progress) -> str:
        """Epoch, temperature and loss of the chunk that is training; validation of all seeds."""
        words = [self._part, now.where or f"epoch {now.epoch} of {now.epochs}"]
        if math.isnan(now.tau):
            words.append("encoders with both clips in sight")
        else:
            words.append(f"tau {now.tau:.2f}, loss {now.loss:.3f}")
        if self._validation:
            values = 100 * np.array(list(self._validation.values()))
            spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
            words.append(
                f"validation {values.mean():.1f} %{spread} of {counted(len(values), 'seed')}"
            )
        return ", ".join(filter(None, words))


class TensorBoardCallback:
    """Writes loss, temperature and each seed's validation accuracy, a run for each chunk of seeds.

    Raises HeliographError where the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise HeliographError(
                "event files need the package tensorboard: pip install 'heliograph[tensorboard]'"
            ) from error
        self.folder = folder
        self._make = SummaryWriter
        self._part = ""
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> TensorBoardCallback:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._sentence():
            for writer in self._writers.values():
                writer.close()

    def begin(self, part: str) -> None:
        """Start a part of the training, which has a folder of its own."""
        self._part = part

    def __call__(self, now: Progress) -> None:
        """Writes one epoch of a chunk."""
        name = str(self.folder / self._part / f"seeds-{now.seeds[0]}-{now.seeds[-1]}")
        values = {"loss": now.loss, "tau": now.tau, "validation/mean": now.accuracy_validation}
        values |= {
            f"validation/seed_{seed}": accuracy
            for seed, accuracy in zip(now.seeds, now.validation, strict=True)
        }
        with self._sentence():
            if name not in self._writers:
                self._writers[name] = self._make(name)
            writer = self._writers[name]
            for name, value in values.items():
                if not math.isnan(value):
                    writer.add_scalar(name, value, now.epoch)

    @contextmanager
    def _sentence(self) -> Iterator[None]:
        """Raise WriteError where the files cannot be written."""
        try:
            yield
        except OSError as error:
            raise write_error(self.folder, error) from error
