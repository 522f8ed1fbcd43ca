"""Checks and faults that several tests of decoding share."""

import queue
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from data.video import DecoderPool, Sampling, VideoError, read_sampled

# A `sitecustomize.py` with which opening a file named "loops" never returns, in C, and holds the
# interpreter's lock: no signal handler and no thread can run. It makes a file "looping" next to it.
ENDLESS_OPEN = """
import pathlib
import re
import av

opened = av.open


def loop(file, *arguments, **options):
    if "loops" in file:
        pathlib.Path(__file__).with_name("looping").touch()
        re.match("(a+)+$", "a" * 80 + "b")
    return opened(file, *arguments, **options)


av.open = loop
"""


class DecoderClock:
    """The clock of `DecoderPool` and of other modules, which only the test moves.

    Attributes:
        now: Its time, in seconds.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
        """Put the clock into the pool and into `modules`."""
        self.now = 0.0
        self._begun = begun = threading.Semaphore(0)

        class WatchedQueue(queue.Queue[Any]):
            def put(self, *arguments: Any, **options: Any) -> None:
                begun.release()
                super().put(*arguments, **options)

        pool = sys.modules[DecoderPool.__module__]
        watched = SimpleNamespace(Queue=WatchedQueue, Empty=queue.Empty)
        monkeypatch.setattr(pool, "queue", watched)
        clock = SimpleNamespace(monotonic=lambda: self.now)
        for module in (pool, *(sys.modules[name] for name in modules)):
            monkeypatch.setattr(module, "time", clock)

    def wait_for_puts(self, number: int) -> None:
        """Return once this many more outcomes were put into the queue, or wait for room in it."""
        for _ in range(number):
            assert self._begun.acquire(timeout=300)


def sequential(path: Path) -> tuple[list[np.ndarray], list[int | None], float]:
    """Return what FFmpeg's own decode shows: frames, turned, their times in ticks, and a tick."""
    frames, pts = [], []
    form = "mjpeg" if path.read_bytes()[:3] == b"\xff\xd8\xff" else None
    with av.open(str(path), format=form, metadata_errors="replace") as opened:
        stream = opened.streams.best("video")
        for frame in opened.decode(stream):
            turns = round(frame.rotation / 90)
            frames.append(np.rot90(frame.to_ndarray(format="rgb24"), turns))
            pts.append(frame.pts)
        return frames, pts, float(stream.time_base or 0)


def assert_damaged(path: Path, reason: str) -> None:
    """Check that `path` fails by default with `reason`, and can be read if damage is accepted."""
    with pytest.raises(VideoError, match=reason):
        read_sampled(path, Sampling(frames=4))
    batch, info = read_sampled(path, Sampling(frames=4), accept_damaged=True)
    assert info.damage
    assert info.decodable_frames == info.shown_frames
    assert len(batch) == 4
