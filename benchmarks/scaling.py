"""What bounds an extraction on many GPUs, with a backbone that only sleeps.

    python benchmarks/scaling.py [--actors 1 8 64] [--rate 20] [--steps 8] [--dim 384]

Needs neither a GPU nor Ray. The driver is the real one (`pipeline.extraction.actors`), and so is
the store that it shares with its actors. These are imitated in this process: each is done with so
many clips a second by the clock, and writes its ledger, but no features. Printed are the clips a
second of all actors, their share of what they could do, and the driver's CPU time a clip, with that
of the ledgers of all. Then the real store: how many clips a second one process writes into shards,
and how many go from there into the cache.

Takes about three minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from data.cache import JoinedStore
from data.cache.ledger import append_entries, entry_of
from data.clips import Clip
from data.video import Limits, Sampling
from pipeline.console import print_table
from pipeline.extraction.actors import Actors
from pipeline.extraction.extractor import ClipOutcome, ExtractorSettings, Report
from pipeline.extraction.hosts import RayHosts
from pipeline.extraction.stages import ExtractionJournal
from pipeline.extraction.summary import ExtractionSummary

MADE: dict[str, dict[str, str]] = {
    name: {"name": "sleeps"} for name in ("fingerprint", "sampler", "decoder", "versions")
}
SECONDS = 30  # of work for the actors
STORED = 5000  # clips that the store is measured with
ANSWER_SECONDS = 0.1  # as an `Extractor` gathers its news


class SleepingActor:
    """Takes clips as an `Extractor` does, and is done with `rate` of them a second."""

    def __init__(self, target: Path, number: int, rate: float, shape: tuple[int, int]) -> None:
        self._ledger = target.with_name(f"{target.name}.joined") / "writers" / f"{number}.jsonl"
        self._rate, self._shape = rate, shape
        self._waiting: list[Clip] = []
        self._since = time.monotonic()
        self.busy = 0.0
        for name in ("describe", "begin", "exchange"):
            setattr(self, name, SimpleNamespace(remote=self._call(name)))

    def _call(self, name: str) -> Any:
        def remote(
            *words: Any, **options: Any
        ) -> tuple[SleepingActor, str, float, tuple[Any, Any]]:
            if name == "exchange":
                if not self._waiting:
                    self._since = time.monotonic()
                self._waiting += words[0]
            return self, name, time.monotonic() + ANSWER_SECONDS, (options.get("last"), object())

        return remote

    def answer(self, name: str) -> Any:
        if name == "describe":
            return MADE, self._shape
        if name == "begin":
            self._ledger.parent.mkdir(parents=True, exist_ok=True)
            return None
        now = time.monotonic()
        count = min(int((now - self._since) * self._rate), len(self._waiting))
        done, self._waiting = self._waiting[:count], self._waiting[count:]
        self._since += count / self._rate
        self.busy += count / self._rate
        if done:
            details = {"source_sha256": "0" * 64, "reason": "it only sleeps"}
            append_entries(self._ledger, [entry_of(clip, "failed", **details) for clip in done])
        outcomes = [ClipOutcome(clip.id, "failed", "it only sleeps") for clip in done]
        return Report(outcomes, len(self._waiting), 0.0, 0.0, ended=not self._waiting)


def imitated_ray(target: Path, actors: int, rate: float, shape: tuple[int, int]) -> Any:
    """Return what `RayHosts` uses of Ray, with one node for each eight actors."""
    made: list[SleepingActor] = []

    def make(*_: Any, **__: Any) -> SleepingActor:
        made.append(SleepingActor(target, len(made), rate, shape))
        return made[-1]

    def wait(calls: list[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        time.sleep(max(0.0, min(min(call[2] for call in calls) - time.monotonic(), timeout)))
        now = time.monotonic()
        return [call for call in calls if call[2] <= now], []

    nodes = [
        {
            "NodeID": f"{first}",
            "NodeManagerHostname": f"{first}",
            "Alive": True,
            "Resources": {"CPU": 96, "GPU": min(8, actors - first)},
        }
        for first in range(0, actors, 8)
    ]
    actor_class = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=make))
    return SimpleNamespace(
        nodes=lambda: nodes,
        remote=lambda _: actor_class,
        wait=wait,
        get=lambda call: call[0].answer(call[1]),
        kill=lambda _: None,
        util=SimpleNamespace(
            scheduling_strategies=SimpleNamespace(
                NodeAffinitySchedulingStrategy=lambda *_, **__: None
            )
        ),
        exceptions=SimpleNamespace(RayTaskError=KeyError, RayError=LookupError),
    )


def driver(clips: Sequence[Clip], actors: int, rate: float, shape: tuple[int, int]) -> list[str]:
    """Return a row: what the actors do together, and what the driver takes."""
    settings = ExtractorSettings(
        sampling=Sampling(frames=8),
        decoder="pyav",
        accept_damaged=False,
        dtype="float16",
        batch=16,
        rehash=False,
        retry_failed=False,
        limits=Limits(),
    )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "c.h5"
        ray = imitated_ray(target, actors, rate, shape)
        hosts = RayHosts(ray, lambda: None, settings, gpus=1, cores=None)  # type: ignore[arg-type,return-value]
        with (
            Actors(hosts, settings) as fleet,
            JoinedStore(target, **MADE) as store,
        ):
            fleet.describe()
            summary = ExtractionSummary(target, len(clips))
            began, cpu = time.monotonic(), time.process_time()
            fleet.run(store, clips, ExtractionJournal(store, summary, None))
            seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        assert len(summary.failed) == len(clips)
    possible = actors * rate
    return [
        f"{actors}",
        f"{possible:.0f}",
        f"{len(clips) / seconds:.0f}",
        f"{len(clips) / seconds / possible:.0%}",
        f"{1e3 * cpu / len(clips):.2f}",
    ]


def stored(clips: Sequence[Clip], shape: tuple[int, int]) -> list[str]:
    """Return a row: clips a second into shards by one process, and from shards into the cache."""
    features = np.random.default_rng(0).random(shape).astype(np.float16)
    index, times = np.arange(shape[0]), np.arange(shape[0]) / 8
    thumbnails = np.zeros((shape[0], 16, 16), np.uint8)
    with (
        tempfile.TemporaryDirectory() as folder,
        JoinedStore(Path(folder) / "c.h5", **MADE) as store,
    ):
        store.check_shape(shape, "float16")
        began = time.monotonic()
        for number, clip in enumerate(clips):
            sha256 = f"{number:064x}"
            store.add(clip, features, index, times, source_sha256=sha256, thumbnails=thumbnails)
        store.flush()
        written = time.monotonic()
        store.consolidate(clips)
        ended = time.monotonic()
    count = len(clips)
    return [
        f"{shape[0]} x {shape[1]}",
        f"{count / (written - began):.0f}",
        f"{count / (ended - written):.0f}",
    ]


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rate", type=float, default=20, help="clips a second of an actor")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--dim", type=int, default=384)
    words = parser.parse_args()
    shape = words.steps, words.dim
    counts = [round(actors * words.rate * SECONDS) for actors in words.actors]
    clips = [
        Clip(id=f"{n:07d}", path=Path(f"/videos/{n:07d}.mp4")) for n in range(max(*counts, STORED))
    ]
    rows = [
        driver(clips[:count], actors, words.rate, shape)
        for count, actors in zip(counts, words.actors, strict=True)
    ]
    print_table(
        ["actors", "clips/s they could do", "clips/s", "share", "ms of the driver a clip"], rows
    )
    print_table(
        ["features", "clips/s into shards", "clips/s consolidated"], [stored(clips[:STORED], shape)]
    )


if __name__ == "__main__":
    main()
