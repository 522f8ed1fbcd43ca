"""What `extract --ray` costs beside `extract`, on one machine.

    python benchmarks/cluster.py [--clips 40 400] [--rounds 3] [--backbone efficientnet_lite0]

Clips are simulated, Ray is started once, and both commands extract the same clips, in turn. For
each number of clips: the medians of the seconds of both commands, of the CPU seconds of the command
with its actors and decoders, and of those of Ray's own processes meanwhile (read from /proc every
50 ms; Linux only). From the two numbers of clips follow the CPU seconds of a clip, and what each
command takes besides. The two caches must have equal content.

Takes six minutes on two cores that have nothing else to do.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from data import cache
from pipeline.console import print_table

ROOT = Path(__file__).resolve().parents[1]
MARK = "HELIOGRAPH_BENCHMARK"
TICK = os.sysconf("SC_CLK_TCK")
COMMANDS = ("extract", "extract --ray")
RAYS = (b"/ray/", b"ray::", b"ray.util", b"raylet", b"gcs_server")
"""Of the command lines of Ray's own processes; an actor's is `ray::Extractor`."""


class CpuMeter:
    """The CPU seconds of all processes whose environment has a mark, since it was entered.

    `seconds` are those of the command and its actors and decoders, `of_ray` those of Ray's own.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._others: set[int] = set()  # processes without the mark
        self._ticks: dict[
            tuple[int, str, bool], int
        ] = {}  # process, its start, whether it is Ray's
        self._ended = threading.Event()
        self.seconds = self.of_ray = 0.0

    def __enter__(self) -> CpuMeter:
        self._read()
        self._before = dict(self._ticks)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._read()
        self.seconds, self.of_ray = (
            sum(
                ticks - self._before.get(key, 0)
                for key, ticks in self._ticks.items()
                if key[2] == is_rays
            )
            / TICK
            for is_rays in (False, True)
        )

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self._read()

    def _read(self) -> None:
        for number in map(int, filter(str.isdigit, os.listdir("/proc"))):
            if number in self._others:
                continue
            process = Path(f"/proc/{number}")
            with suppress(OSError):  # it has ended
                if not has_mark(process, self._mark):
                    self._others.add(number)
                    continue
                values = (process / "stat").read_text().rpartition(")")[2].split()
                command = (process / "cmdline").read_bytes()
                is_rays = any(word in command for word in RAYS) and b"ray::Extractor" not in command
                self._ticks[number, values[19], is_rays] = int(values[11]) + int(values[12])


def has_mark(process: Path, mark: str) -> bool:
    """Return whether the environment of a process has a mark; raises OSError if it has ended."""
    return f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0")


def marked(mark: str) -> list[int]:
    """Return the processes whose environment has a mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if has_mark(process, mark):
                found.append(int(process.name))
    return found


@dataclass(frozen=True)
class Cost:
    """Seconds of a command, its CPU seconds, and those of Ray's own processes meanwhile."""

    seconds: float
    cpu: float
    of_ray: float


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, nargs=2, default=[40, 400], help="multiples of 4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", help="of the backbone, as for `extract`")
    parser.add_argument("--hub-dir", help="of the backbone, as for `extract`")
    given = parser.parse_args()
    options = ["--backbone", given.backbone, "--frames", "8", "--device", "cpu", "--quiet"]
    for name in ("weights", "hub_dir"):
        if value := getattr(given, name):
            options += [f"--{name.replace('_', '-')}", value]
    mark = str(os.getpid())
    os.environ.pop("OMP_NUM_THREADS", None)  # which Ray would not give to its workers
    environment = os.environ | {"PYTHONPATH": str(ROOT), MARK: mark, "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    found: dict[tuple[int, str], list[Cost]] = defaultdict(list)

    def run(*words: str) -> None:
        command = [sys.executable, "-m", *words]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)

    with tempfile.TemporaryDirectory() as folder:
        environment["RAY_TMPDIR"] = folder  # this Ray is found, whichever others there are
        clips = {count: Path(folder) / f"clips{count}" for count in given.clips}
        for count, own in clips.items():
            size = ["--grid", "2", "--per-cell", str(count // 4), "--no-preview", "--quiet"]
            run("heliograph", "simulate", "fall", "-o", str(own), *size)
        run("ray.scripts.scripts", "start", "--head", "--port", "0", "--include-dashboard", "false",
            "--disable-usage-stats")  # fmt: skip
        try:
            for number in range(given.rounds):
                for count, own in clips.items():
                    made: list[Path] = []
                    for command in COMMANDS[:: 1 if number % 2 else -1]:
                        made.append(Path(folder) / f"{number}-{count}-{len(made)}.h5")
                        words = ["heliograph", *command.split(), str(own), "-o", str(made[-1])]
                        began = time.perf_counter()
                        with CpuMeter(mark) as meter:
                            run(*words, *options)
                        cost = Cost(time.perf_counter() - began, meter.seconds, meter.of_ray)
                        found[count, command].append(cost)
                        print(f"{count} clips, {command}: {cost}", file=sys.stderr)
                    one, other = (cache.load(path).content_sha256 for path in made)
                    assert one == other, "the caches differ"
        finally:
            for process in marked(mark):
                os.kill(process, signal.SIGKILL)
    print_costs(given.clips, found)


def print_costs(counts: Sequence[int], found: Mapping[tuple[int, str], Sequence[Cost]]) -> None:
    """Print what both commands took, by number of clips, and what follows for a clip."""
    medians = {
        key: Cost(
            *(
                statistics.median(getattr(cost, name.name) for cost in costs)
                for name in fields(Cost)
            )
        )
        for key, costs in found.items()
    }
    rows = []
    for count in counts:
        plain, with_ray = (medians[count, command] for command in COMMANDS)
        rows.append([
            str(count), f"{plain.seconds:.1f}", f"{with_ray.seconds:.1f}",
            f"{with_ray.seconds / plain.seconds:.2f}", f"{plain.cpu:.1f}", f"{with_ray.cpu:.1f}",
            f"{with_ray.cpu / plain.cpu:.2f}", f"{with_ray.of_ray:.1f}",
        ])  # fmt: skip
    print_table(["clips", "s", "--ray", "x", "CPU s", "--ray", "x", "Ray's own"], rows)
    few, many = counts
    each = {
        command: [
            (large.cpu - small.cpu) / (many - few)
            for small, large in zip(found[few, command], found[many, command], strict=True)
        ]
        for command in COMMANDS
    }  # CPU seconds of a clip in each round
    for command, of_clip in each.items():
        besides = statistics.median(
            small.cpu - few * own for small, own in zip(found[few, command], of_clip, strict=True)
        )
        print(
            f"{command}: {1e3 * statistics.median(of_clip):.0f} CPU ms a clip, "
            f"{besides:.1f} CPU s besides"
        )
    ratios = [own / plain for plain, own in zip(*each.values(), strict=True)]
    print(
        f"a clip of --ray: {statistics.median(ratios):.2f} times the CPU time "
        f"({min(ratios):.2f} to {max(ratios):.2f} over the rounds)"
    )


if __name__ == "__main__":
    main()
