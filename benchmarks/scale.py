"""Time, CPU and memory of every stage after extraction, as clips become more.

    python benchmarks/scale.py [--clips 1000 10000] [--steps 8] [--dim 384] [--stages train ...]

Made features (float16) of objects of ten clips each, with two labels, go through all stages, each a
process of its own: loaded memory-mapped and read once, verified, trained on (one seed, two epochs),
evaluated, sent as messages, reported and exported. For every stage and number of clips: seconds,
CPU seconds and the peak of anonymous memory of the process and its children (`RssAnon` of
/proc/PID/status, read every 10 ms; Linux only), of which an import of torch alone can take 300 MB.
`+` is the exponent between a size and the one before: 1 is linear, and what every size has in
common makes it smaller. `limit` is what a stage may take: 1.3 times the features as they are
stored, and 500 MB.

1,000 clips take a CPU minute; 10,000 take four, two of them `evaluate`; 100,000 take fifteen, eight
of them `train` and five `evaluate`.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import cache
from data.cache import Features
from pipeline.console import print_table

ROOT = Path(__file__).resolve().parents[1]
CLIPS_OF_AN_OBJECT = 10
READ = (
    "import sys; from data import cache; features = cache.load(sys.argv[1], mapped=True).features; "
    "[features[start:start + 256].sum() for start in range(0, len(features), 256)]"
)
MEGABYTE = 1e6


@dataclass(frozen=True)
class Cost:
    """What a stage took: seconds, CPU seconds and the peak of anonymous memory in bytes."""

    seconds: float
    cpu: float
    memory: int


def make(path: Path, clips: int, steps: int, dim: int) -> None:
    """Write a cache of clips whose features show their object's two labels, under noise."""
    rng = np.random.default_rng(0)
    objects = np.arange(clips) // CLIPS_OF_AN_OBJECT
    properties = rng.random((int(objects[-1]) + 1, 2))[objects]  # (N, 2)
    directions = rng.standard_normal((2, dim), np.float32)
    features = np.empty((clips, steps, dim), np.float16)
    for start in range(0, clips, 1000):
        some = slice(start, start + 1000)
        shown = (properties[some] @ directions).astype(np.float32)[:, None]
        noise = rng.standard_normal((len(shown), steps, dim), np.float32)
        features[some] = shown + noise
    names = [f"object_{number:06d}" for number in objects]
    cache.save(
        Features(
            features=features,
            clip_id=[f"{name}/{row:06d}.mp4" for row, name in enumerate(names)],
            object=names,
            scenario=["made"] * clips,
            labels={"mass": 10 + 90 * properties[:, 0], "drag": properties[:, 1]},
            fingerprint={"imported": True, "source": "made", "sha256": "0" * 64},
        ),
        path,
    )


def stages(folder: Path) -> dict[str, list[str]]:
    """Return the command of each stage, in their order; each needs those before."""
    made, run = str(folder / "made.h5"), str(folder / "run")
    command = [sys.executable, "-m", "heliograph"]
    train = ["--property", "mass", "--property", "drag", "--seeds", "1", "--epochs", "2"]
    return {
        "load": [sys.executable, "-c", READ, made],
        "verify": [*command, "cache", "verify", made],
        "train": [*command, "train", made, "-o", run, *train, "--oracle-epochs", "0"],
        "evaluate": [*command, "evaluate", run, "--quiet"],
        "messages": [*command, "message", run, made, "--json", "--quiet"],
        "report": [*command, "report", run, "--quiet"],
        "export .npz": [*command, "cache", "export", made, "-o", str(folder / "made.npz")],
        "export .pt": [*command, "cache", "export", made, "-o", str(folder / "made.pt")],
    }


def measured(command: Sequence[str]) -> Cost:
    """Run a command to its end and return what it took.

    Raises:
        SystemExit: It failed; its last words are said.
    """
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, env=environment, cwd=ROOT
        )
        peak, ended = 0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not ended.wait(0.01):
                peak = max(peak, anonymous_bytes(process.pid))

        thread = threading.Thread(target=watch)
        thread.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        ended.set()
        thread.join()
        if process.returncode:
            errors.seek(0)
            sys.exit(f"{' '.join(command)}\n{errors.read().decode()[-2000:]}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, peak)


def anonymous_bytes(process: int) -> int:
    """Return the anonymous memory of a process and all its children, 0 once it has ended."""
    try:
        folder = Path("/proc", str(process))
        status = (folder / "status").read_text()
        children = (folder / "task" / str(process) / "children").read_text().split()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    own = 1024 * int(lines[0].split()[1]) if lines else 0
    return own + sum(anonymous_bytes(int(child)) for child in children)


def exponent(costs: Sequence[float], clips: Sequence[int]) -> str:
    """Return the power of the number of clips with which a cost grows, "" for the first size."""
    if len(costs) < 2 or min(costs[-2:]) <= 0:
        return ""
    return f"{math.log(costs[-1] / costs[-2]) / math.log(clips[-1] / clips[-2]):.2f}"


def main() -> None:
    """Print the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--stages", nargs="+", help="only these, and in FOLDER what they need")
    parser.add_argument("--folder", type=Path, help="keep files there, and use those that are")
    given = parser.parse_args()
    names = given.stages or list(stages(Path()))
    found: dict[str, list[Cost]] = {name: [] for name in names}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, clips in enumerate(given.clips, 1):
            folder = (given.folder or Path(scratch)) / f"{clips}x{given.steps}x{given.dim}"
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "made.h5").exists():
                make(folder / "made.h5", clips, given.steps, given.dim)
            limit = 1.3 * 2 * clips * given.steps * given.dim + 500 * MEGABYTE
            for name in names:
                cost = measured(stages(folder)[name])
                found[name].append(cost)
                sizes = given.clips[:number]
                columns = zip(*((c.seconds, c.cpu, c.memory) for c in found[name]), strict=True)
                seconds, cpu, memory = (exponent(column, sizes) for column in columns)
                rows.append(
                    [
                        name,
                        f"{clips:,}",
                        f"{cost.seconds:.1f}",
                        seconds,
                        f"{cost.cpu:.1f}",
                        cpu,
                        f"{cost.memory / MEGABYTE:,.0f}",
                        memory,
                        f"{limit / MEGABYTE:,.0f}",
                    ]
                )
                print(*rows[-1], sep="\t", file=sys.stderr, flush=True)
    print_table(["stage", "clips", "s", "+", "CPU s", "+", "MB", "+", "limit"], rows)


if __name__ == "__main__":
    main()
