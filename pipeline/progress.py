"""How far a training is, over all its seeds, in one line."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pipeline.records import Progress


class Overview:
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
        """What comes next belongs to this part of the training, and is another's no more."""
        self._before += sum(self._epochs.values())
        self._part = part
        self._epochs, self._validation = {}, {}

    def __call__(self, now: Progress) -> None:
        """Takes in one epoch of a chunk, and shows where all of them are."""
        for seed, accuracy in zip(now.seeds, now.validation, strict=True):
            self._epochs[seed] = now.epoch
            if not math.isnan(accuracy):
                self._validation[seed] = accuracy
        done = self._before + sum(self._epochs.values())
        self._show(done, self.runs * now.epochs, self.note(now))

    def note(self, now: Progress) -> str:
        """Epoch, temperature and loss of the chunk that is training; validation of all seeds."""
        words = [self._part, f"epoch {now.epoch} of {now.epochs}"]
        if math.isnan(now.tau):
            words.append("encoders with both clips in sight")
        else:
            words.append(f"tau {now.tau:.2f}, loss {now.loss:.3f}")
        if self._validation:
            values = 100 * np.array(list(self._validation.values()))
            spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
            words.append(f"validation {values.mean():.1f} %{spread} of {len(values)} seeds")
        return ", ".join(filter(None, words))
