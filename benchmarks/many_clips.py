"""What an extraction costs beside decoding and the backbone, as clips become more.

    python benchmarks/many_clips.py [--clips 2000 20000] [--steps 8] [--dim 384] [--join]
    python benchmarks/many_clips.py --clips 1000 --workers 8 --read-ms 50 --sync-ms 20

Decoders and backbone are stand-ins that take hardly any time, and the clips have no files: what is
left is `pipeline.extraction.extract`, its stages, the store and the cache on disk. As on a network
disk, decoders may sleep before each clip, and every `fsync` too; `--no-sync` leaves `fsync` out.
For each number of clips, in a process of its own:

    extract      the whole extraction: seconds, CPU ms a clip
    written      clips a second up to the last shard
    consolidate  of the whole, the shards as one cache: seconds, CPU ms a clip
    again        a second extraction, which has nothing to do: CPU ms a clip
    memory       the growth of anonymous memory to its peak, in all and a clip (`RssAnon`), and the
                 peak of all resident memory (`VmHWM`), which has pages of files; Linux only

20,000 clips take about half a minute. Targets: extract under 3 CPU ms a clip, 2,000 clips a second
written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.cache import JoinedStore, ShardStore
from data.clips import Clip
from data.files import HashedFile
from data.video import FrameBatch, Job, Outcome, Sampling, VideoInfo
from pipeline.extraction import extract

FRAMES = 8


class Decoders:
    """A stand-in for `DecoderPool`: every clip is the same grey frames of a file of its own."""

    blocked_seconds = 0.0
    read_seconds = 0.0  # that a clip takes

    def __init__(self, workers: int, **_: Any) -> None:
        self.threads = ThreadPoolExecutor(workers)
        self.workers = workers
        self.frames = np.full((FRAMES, 8, 8, 3), 99, np.uint8)
        self.index = np.arange(FRAMES)
        self.info = VideoInfo(
            path=Path("film"), bytes=9999, format="mp4", codec="h264", pixel_format="yuv420p",
            stream=0, streams=("video",), width=8, height=8, rotation=0, pixel_aspect="1:1",
            interlaced=False, frames_per_second=8.0, claimed_frames=FRAMES,
            presented_frames=FRAMES, decodable_frames=FRAMES, shown_frames=FRAMES,
            pts_seconds=self.index / 8, times_from="timestamps", keyframes=1,
            longest_gop=FRAMES, random_access=True,
        )  # fmt: skip

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *exception: object) -> None:
        self.threads.shutdown()

    def map(self, jobs: Iterable[Job], transform: Callable[[Any], Any]) -> Iterator[Outcome]:
        batch = FrameBatch(self.frames, self.index, self.index / 8)

        def decode(job: Job) -> Outcome | None:
            time.sleep(self.read_seconds)
            sha256 = hashlib.sha256(str(job.path).encode()).hexdigest()
            if job.wanted is None or job.wanted(HashedFile(sha256, None)):
                return Outcome(job=job, result=transform(batch), info=self.info)
            return None

        if not self.read_seconds:
            yield from filter(None, map(decode, jobs))
            return
        running: deque[Future[Outcome | None]] = deque()
        for job in jobs:
            running.append(self.threads.submit(decode, job))
            if len(running) > self.workers and (outcome := running.popleft().result()):
                yield outcome
        yield from filter(None, (future.result() for future in running))


class Backbone:
    """A stand-in for a backbone: the same features of every clip."""

    device = torch.device("cpu")
    calls_at_once = 2
    pass_rule = "one clip"

    def __init__(self, steps: int, dim: int) -> None:
        self.dim = dim
        self.fingerprint = {"name": "stand-in"}
        self.pixels = torch.zeros((FRAMES, 3, 2, 2), dtype=torch.uint8)
        self.features = torch.from_numpy(np.random.default_rng(0).standard_normal((1, steps, dim)))

    def steps(self, frames: int) -> int:
        return int(self.features.shape[1])

    def preprocess(self, frames: np.ndarray) -> torch.Tensor:
        return self.pixels

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.features


def work(given: argparse.Namespace) -> None:
    """Extract so many clips, and print what it took as JSON."""
    (count,), folder = given.clips, given.worker
    Decoders.read_seconds = given.read_ms / 1e3
    if given.no_sync:
        os.fsync = lambda descriptor: None
    if given.sync_ms:
        fsync = os.fsync

        def slow(descriptor: int) -> None:
            time.sleep(given.sync_ms / 1e3)
            fsync(descriptor)

        os.fsync = slow
    if given.part_bytes:
        sys.modules["data.cache.parts"].PART_BYTES = given.part_bytes  # type: ignore[attr-defined]
    module = sys.modules["pipeline.extraction.stages"]
    module.DecoderPool = Decoders  # type: ignore[attr-defined]
    module.BackboneBatcher.shrink = _shrunk  # type: ignore[attr-defined]
    clips = [
        Clip(id=f"{number % 997:03d}/{number:07d}.mp4", path=Path(f"/no/{number:07d}.mp4"),
             object=f"object {number // 10}", labels={"mass": number % 7}, table_sha256="0" * 64)
        for number in range(count)
    ]  # fmt: skip
    consolidating: list[float] = []
    for store in (ShardStore, JoinedStore):
        _time(store, "consolidate", consolidating)
    model, target = Backbone(given.steps, given.dim), folder / "c.h5"

    def once() -> tuple[float, float]:
        began, cpu = time.perf_counter(), _cpu()
        summary = extract(
            clips, target, backbone=lambda: model, sampling=Sampling(frames=FRAMES),  # type: ignore
            workers=given.workers, batch=1, join=given.join,
        )  # fmt: skip
        assert summary.finished == count, summary
        return time.perf_counter() - began, _cpu() - cpu

    before, peak, ended = _memory("RssAnon"), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.02):
            peak = max(peak, _memory("RssAnon"))

    threading.Thread(target=watch, daemon=True).start()
    seconds, cpu = once()
    ended.set()
    resident = _memory("VmHWM")
    wall, own = consolidating[-2:]
    _, again = once()
    print(json.dumps({
        "seconds": seconds, "cpu": 1e3 * cpu / count, "written": count / (seconds - wall),
        "consolidate": wall, "consolidate cpu": 1e3 * own / count, "again": 1e3 * again / count,
        "memory": peak - before, "resident": resident,
    }))  # fmt: skip


def _shrunk(batcher: Any, batch: Any) -> Any:
    from pipeline.extraction.stages import ClipPixels

    pictures = np.zeros((FRAMES, 16, 16), np.uint8)
    pixels = batcher._backbone.preprocess(batch.frames)
    return ClipPixels(pixels, batch.index, batch.pts_seconds, pictures)


def _time(store: Any, name: str, found: list[float]) -> None:
    """Let a method add the seconds and CPU seconds of each of its outermost calls to a list."""
    method = getattr(store, name)
    inside = False

    def timed(*given: Any) -> Any:
        nonlocal inside
        if inside:
            return method(*given)
        inside, began, cpu = True, time.perf_counter(), _cpu()
        try:
            return method(*given)
        finally:
            inside = False
            found.extend([time.perf_counter() - began, _cpu() - cpu])

    setattr(store, name, timed)


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--join", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--read-ms", type=float, default=0)
    parser.add_argument("--sync-ms", type=float, default=0)
    parser.add_argument("--no-sync", action="store_true")
    parser.add_argument("--part-bytes", type=int, default=0, help="of a part of the cache at most")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given)
        return
    columns = {
        "clips": 9,
        "extract": 18,
        "written": 10,
        "consolidate": 20,
        "again": 9,
        "memory": 28,
    }
    print(" ".join(f"{name:>{width}}" for name, width in columns.items()))
    for count in given.clips:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--clips", str(count), "--worker", folder]
            for name in ("steps", "dim", "workers", "read_ms", "sync_ms", "part_bytes"):
                command += [f"--{name.replace('_', '-')}", str(getattr(given, name))]
            environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
            out = subprocess.run(
                command + ["--join"] * given.join + ["--no-sync"] * given.no_sync,
                check=True, env=environment, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        found = json.loads(out.stdout)
        wall, cpu = found["consolidate"], found["consolidate cpu"]
        print(
            f"{count:9,} {found['seconds']:7.1f} s {found['cpu']:5.2f} ms "
            f"{found['written']:8,.0f}/s {wall:9.1f} s {cpu:5.2f} ms {found['again']:6.2f} ms "
            f"{found['memory'] / 1e6:5.0f} MB {found['memory'] / count / 1e3:5.2f} kB "
            f"{found['resident'] / 1e6:6.0f} MB", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
