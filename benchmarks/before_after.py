"""Two checkouts next to each other: extraction, messages and loading, in turns.

    python benchmarks/before_after.py BEFORE [AFTER] [--rounds 15] [--only extract,message]

BEFORE and AFTER are checkouts (AFTER: this one); each runs in a process of its own with the
packages that are installed here. They take turns, the order changes from round to round, and each
ratio is the median over the rounds of its value in one round. Minutes on two cores.

    extract    clips of `simulate` into a cache on disk, efficientnet_lite0 on the CPU
    video      the message of one clip, by a speaker that is loaded: decoder, backbone, agents
    features   the messages of 256 clips of a cache, by a speaker that is loaded
    command    `heliograph message RUN CLIP` as a process of its own
    load       128 MB of features, in the page cache

CPU seconds are of the process and its children that ended; they tell what the wall clock cannot on
a busy machine. Target: extract, video, features, command: after / before <= 1.02.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CASES = ("extract", "video", "features", "command", "load")
HERE = Path(__file__).resolve().parents[1]


class Checkout:
    """A process that runs the code of a checkout."""

    def __init__(self, root: Path, folder: Path) -> None:
        environment = os.environ | {
            "PYTHONPATH": str(root), "XDG_CACHE_HOME": str(folder / "xdg")
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve()), "--worker", str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=root,
        )  # fmt: skip

    def run(self, name: str) -> tuple[float, float]:
        """Return wall and CPU seconds of a case."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        wall, cpu = json.loads(self.process.stdout.readline())
        return wall, cpu


def work(folder: Path) -> None:
    """Run cases by their names on stdin; print their seconds."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    calls: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in calls:
            calls |= prepare(folder)
        cpu, began = sum(os.times()[:4]), time.perf_counter()
        calls[name]()
        wall = time.perf_counter() - began
        answers.write(json.dumps([wall, sum(os.times()[:4]) - cpu]) + "\n")
        answers.flush()


def prepare(folder: Path) -> dict[str, Callable[[], Any]]:
    """Make what the cases need; return them by name."""
    from pipeline.cli import share_the_cores

    share_the_cores()
    import numpy as np

    import backbones
    from data import cache
    from data.cache import Features
    from data.manifests import read_manifest
    from data.simulate import simulate
    from data.video import Sampling
    from pipeline.extraction import extract
    from pipeline.message import load, messages_for
    from pipeline.training import train

    clips = read_manifest(simulate("fall", folder / "clips", grid=4, per_cell=1, seconds=1))
    model = backbones.load("efficientnet_lite0", device="cpu", precision="fp32")
    target = folder / "c.h5"

    def extraction() -> None:
        for path in folder.glob("c.h5*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        extract(clips, target, backbone=model, sampling=Sampling(frames=8))

    extraction()
    train(target, folder / "run", seeds=1, epochs=1, device="cpu")
    speaker = load(folder / "run", device="cpu")
    rng = np.random.default_rng(0)
    rows = 128 * (1 << 20) // (8 * 1024 * 2)

    def made(count: int, dim: int, dtype: str, **given: Any) -> Features:
        return Features(
            features=rng.standard_normal((count, 8, dim), np.float32).astype(dtype),
            clip_id=[str(number) for number in range(count)],
            object=[str(number % 16) for number in range(count)],
            scenario=[""] * count,
            labels={"mass": np.arange(count) % 16 + 1.0},
            **given,
        )

    cache.save(made(rows, 1024, "f2", fingerprint={"imported": True}), folder / "large.h5")
    own = cache.load(target)
    alike = {name: getattr(own, name) for name in ("fingerprint", "sampler", "decoder")}
    cache.save(made(256, own.features.shape[2], "f2", **alike), folder / "some.h5")
    path = folder / "run"
    words = [sys.executable, "-P", "-c", "from pipeline.cli import main; main()", "message"]
    return {
        "extract": extraction,
        "video": lambda: speaker(clips[0].path),
        "features": lambda: list(messages_for(speaker, [folder / "some.h5"])),
        "command": lambda: subprocess.run(
            [*words, str(path), str(clips[1].path)], check=True, capture_output=True
        ),
        "load": lambda: cache.load(folder / "large.h5"),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkouts", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker)
        return
    roots = [path.resolve() for path in [*given.checkouts, HERE][:2]]
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, side) for side in ("before", "after")]
        for folder in folders:
            folder.mkdir()
        sides = [Checkout(root, folder) for root, folder in zip(roots, folders, strict=True)]
        print(f"{'':10} {'':5} {'before':>9} {'after':>9} {'after / before':>15}")
        for case in given.only.split(","):
            measure(case, sides, given.rounds)
        for side in sides:
            assert side.process.stdin is not None
            side.process.stdin.close()
            side.process.wait()


def measure(case: str, sides: list[Checkout], rounds: int) -> None:
    """Print two rows of the table: wall and CPU seconds."""
    found: list[list[tuple[float, float]]] = []
    for side in sides:
        side.run(case)  # warm
    for turn in range(rounds):
        order = (0, 1) if turn % 2 else (1, 0)
        both = {number: sides[number].run(case) for number in order}
        found.append([both[0], both[1]])
    for number, kind in enumerate(("wall", "CPU")):
        before, after = ([one[side][number] for one in found] for side in (0, 1))
        ratios = [b / a for a, b in zip(before, after, strict=True) if a]
        ratio = statistics.median(ratios) if ratios else float("nan")
        print(
            f"{case:10} {kind:5} {1e3 * statistics.median(before):7.1f}ms "
            f"{1e3 * statistics.median(after):7.1f}ms {ratio:15.3f}", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
