"""Commands that are given hostile files; this runs in a process of the zygote.

Nothing may be executed, hang, crash or end in a traceback: each file is read, or refused in one
sentence with the exit code of a failure.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from data import cache
from data.screening import screen
from pipeline.cli import main
from tests.helpers.caches import features
from tests.helpers.paper_files import make_paper_features
from tests.robustness import mutations
from tests.robustness.commands import SMALL
from tests.robustness.flips import make_version_1

SECONDS = 90.0
"""After which a command hangs: a process that reads a file gets 60."""

EACH = 8
"""Of so many files that were refused in another process, one is given to a command."""

Words = tuple[str, ...]


def caches(choice: random.Random, count: int) -> Counter[str]:
    """Give mutated caches to the commands that read one."""
    sound = _sound_caches()

    def make(path: Path) -> None:
        mutations.mutated_cache(choice.choice(sound), path, choice)

    words: tuple[Words, ...] = (
        ("cache", "info", "FILE"), ("cache", "verify", "FILE"),
        ("cache", "export", "FILE", "-o", "out.npz"), ("cache", "import", "FILE", "-o", "out.h5"),
        ("cache", "import", "FILE", "-o", "out.h5"), ("cache", "merge", "FILE", "-o", "out.h5"),
        ("train", "FILE", "-o", "out", *SMALL),
    )  # fmt: skip
    return _try(make, "h5", words, choice, count)


def _sound_caches() -> list[bytes]:
    contents = []
    for version in (2, 1):
        path = Path(f"sound{version}.h5")
        cache.save(features(), path)
        if version == 1:
            make_version_1(path)
        contents.append(path.read_bytes())
    return contents


def pickles(choice: random.Random, count: int) -> Counter[str]:
    """Give mutated `.pt` files to the commands that read one."""
    from tests.robustness.commands import make_checkpoint, make_grid

    make_paper_features(Path("paper.pt"))
    make_grid()
    make_checkpoint(Path("checkpoint.pt"))
    sound = [Path(name).read_bytes() for name in ("paper.pt", "checkpoint.pt")]

    def make(path: Path) -> None:
        mutations.mutated_pt(choice.choice(sound), path, choice)

    words: tuple[Words, ...] = (
        ("cache", "import", "FILE", "-o", "out.h5"),
        ("import-checkpoint", "FILE", "-o", "out", "--cache", "grid.h5"),
        ("phase87", "--compare", "FILE", "paper.pt"),
    )
    return _try(make, "pt", words, choice, count, "data.interchange.checker:check_pt")


def safetensors(choice: random.Random, count: int) -> Counter[str]:
    """Put mutated `.safetensors` into a run folder, and let the run speak."""
    _make_run()
    sound = Path("sound/model.safetensors").read_bytes()

    def make(path: Path) -> None:
        mutations.copy_run(Path("sound"), path)
        mutations.mutated_safetensors(sound, path / "model.safetensors", choice)
        mutations.hide_change(path, choice)

    words: tuple[Words, ...] = (
        ("message", "FILE", "learn.h5"), ("report", "FILE", "-o", "out.html"),
        ("evaluate", "FILE", "--permutations", "10"),
    )  # fmt: skip
    return _try(make, "run", words, choice, count, "pipeline.runs.run:check")


def arrays(suffix: str, choice: random.Random, count: int) -> Counter[str]:
    """Give mutated files of other programs' features to the commands that read one."""
    sound = Path(f"sound.{suffix}")
    if suffix == "npy":
        np.save(sound, features().features)
    else:
        cache.save(features(), Path("sound.h5"))
        _succeed("cache", "export", "sound.h5", "-o", str(sound))
    mutate = {
        "npy": mutations.mutated_npy,
        "npz": mutations.mutated_npz,
        "parquet": mutations.mutated_parquet,
        "safetensors": mutations.mutated_safetensors,
    }[suffix]
    content = sound.read_bytes()
    _succeed("cache", "import", str(sound), "-o", "read.h5")

    def make(path: Path) -> None:
        mutate(content, path, choice)

    words: tuple[Words, ...] = (("cache", "import", "FILE", "-o", "out.h5"),)
    return _try(make, suffix, words, choice, count, "data.interchange.checker:check_arrays")


def runs(choice: random.Random, count: int) -> Counter[str]:
    """Give mutated run folders to the commands that read one."""
    _make_run()

    def make(path: Path) -> None:
        mutations.copy_run(Path("sound"), path)
        mutations.mutate_run(path, choice)

    words: tuple[Words, ...] = (
        ("message", "FILE", "learn.h5"), ("message", "FILE", "learn.h5", "--json"),
        ("report", "FILE", "-o", "out.html"), ("evaluate", "FILE", "--permutations", "10"),
        ("compare", "FILE", "sound"),
    )  # fmt: skip
    return _try(make, "run", words, choice, count, "pipeline.runs.run:check")


def _make_run() -> None:
    from tests.robustness.commands import make_caches

    make_caches()
    _succeed("train", "learn.h5", "-o", "sound", *SMALL)
    _succeed("evaluate", "sound", "--permutations", "10")


def _succeed(*words: str) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output


def _try(
    make: Callable[[Path], None],
    suffix: str,
    commands: tuple[Words, ...],
    choice: random.Random,
    count: int,
    checker: str = "",
) -> Counter[str]:
    """Run a command on each of so many files.

    With a checker they are first read as the commands would have them read, but many in one
    process that can be killed, as starting one takes seconds. Commands then get the sound ones,
    and a few of those that were refused.

    Returns:
        How often each thing happened. What must not happen is in keys that begin with `FAULT`.
    """
    ends: Counter[str] = Counter()
    Path(mutations.CANARY).unlink(missing_ok=True)
    paths = [Path(f"{number}.{suffix}") for number in range(count)]
    for path in paths:
        make(path)
    reasons = screen(paths, checker) if checker else {}
    for number, path in enumerate(paths):
        words = [str(path) if word == "FILE" else word for word in choice.choice(commands)]
        print(" ".join(words), file=sys.stderr, flush=True)  # the last line, after a crash
        if path in reasons and number % EACH:
            ends["refused"] += 1
            if "\n" in reasons[path] or str(path) not in reasons[path]:
                ends[f"FAULT {reasons[path]}"] += 1
            continue
        end, fault = _run(words)
        ends[end] += 1
        if fault:
            ends[f"FAULT {' '.join(words)}: {fault}"] += 1
        for left in map(Path, ("out", "out.h5", "out.npz", "out.html")):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
    if Path(mutations.CANARY).exists():
        ends["FAULT executed"] += 1
    return ends


def _run(words: list[str]) -> tuple[str, str]:
    """Return how a command ended, and what is wrong with that."""
    began = time.monotonic()
    result = CliRunner().invoke(main, words)
    seconds = time.monotonic() - began
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        return "traceback", "".join(traceback.format_exception(error))[-1500:]
    if "Traceback" in result.output:
        return "traceback", result.output[-2000:]
    if seconds > SECONDS:
        return "hang", f"{seconds:.0f} seconds"
    if result.exit_code == 0:
        return "read", ""
    if result.exit_code not in (1, 2, 3):
        return "other", f"exit code {result.exit_code}: {result.output}"
    if not result.stderr.strip() or any(_is_raw(letter) for letter in result.stderr):
        return "raw", repr(result.stderr[:500])
    return ("refused" if result.exit_code in (1, 2) else "in part"), ""


def _is_raw(letter: str) -> bool:
    """Return whether a letter of a message would steer a terminal."""
    return (ord(letter) < 32 and letter not in "\n\t") or letter == "\u202e"


KINDS: dict[str, Callable[[random.Random, int], Counter[str]]] = {
    "h5": caches,
    "pt": pickles,
    "safetensors": safetensors,
    "run": runs,
    "imported npy": partial(arrays, "npy"),
    "imported npz": partial(arrays, "npz"),
    "imported parquet": partial(arrays, "parquet"),
    "imported safetensors": partial(arrays, "safetensors"),
}


def give(kind: str, seed: int, count: int) -> Counter[str]:
    """Give `count` mutated files of a kind to commands; return how they ended."""
    return KINDS[kind](random.Random(f"{kind} {seed}"), count)
