"""TensorBoard event files of a training, beside its run folder."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import Any

from data.errors import HeliographError
from pipeline.records import Progress


class Board:
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

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._writers.values():
            writer.close()

    def begin(self, part: str) -> None:
        """What comes next belongs to this part of the training, a folder of its own."""
        self._part = part

    def __call__(self, now: Progress) -> None:
        """Writes one epoch of a chunk."""
        name = str(self.folder / self._part / f"seeds-{now.seeds[0]}-{now.seeds[-1]}")
        if name not in self._writers:
            self._writers[name] = self._make(name)
        writer = self._writers[name]
        values = {"loss": now.loss, "tau": now.tau, "validation/mean": now.accuracy_validation}
        values |= {
            f"validation/seed_{seed}": accuracy
            for seed, accuracy in zip(now.seeds, now.validation, strict=True)
        }
        for name, value in values.items():
            if not math.isnan(value):
                writer.add_scalar(name, value, now.epoch)
