"""Clips to a feature cache: decoding, backbone and writing overlap, and nothing done is lost.

    decoder processes -> shared memory -> pixels (uint8, small) -> batches across clips -> backbone
    -> features on the host -> one shard a clip, by a thread that writes

Frames are shrunk to what the backbone takes where the decoder left them, in a thread per decoder,
so that a full frame is never copied. Queues are short, so memory does not grow with the clips.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from backbones import Backbone
from data.cache import Store
from data.clips import Clip
from data.errors import HeliographError
from data.video import DecoderPool, Sampling, decoder_record
from pipeline.extraction.stages import Feed, Line, Summary, Writer

GPU_BATCH = 16  # clips in one forward pass; on a CPU each passes alone, which is as fast there
MOST_WORKERS = 16


def default_workers() -> int:
    """A decoder for each core that this process may use, sixteen at most."""
    available = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    return min(len(available), MOST_WORKERS)


def extract(
    clips: Sequence[Clip],
    target: Path,
    *,
    backbone: Backbone,
    sampling: Sampling,
    decoder: str = "pyav",
    accept_damaged: bool = False,
    dtype: str = "float16",
    workers: int | None = None,
    batch: int = GPU_BATCH,
    repair: Mapping[str, str] | None = None,
    progress: Callable[[Summary], None] | None = None,
) -> Summary:
    """Adds the features of clips to the cache `target`; those that it has already are kept.

    Args:
        clips: with distinct ids.
        target: the `.h5` file; until it is written, shards stand in `<target>.parts`.
        backbone: gives (steps, dim) per clip.
        sampling: `frames` must be a multiple of the backbone's `frames_per_step`.
        decoder: a key of `data.video.DECODERS`.
        accept_damaged: keep clips with damage that the decoder notices; they fail otherwise.
        dtype: of the features on disk.
        workers: processes that decode; None is one a core.
        batch: clips in one forward pass on a GPU.
        repair: ids of clips whose features in `target` are damaged -> sha256 of the file that they
            were made from; what is not damaged stays in its place.
        progress: called after every clip, one call at a time, from several threads.

    On a CPU in float32 the features do not depend, to the bit, on `workers`, nor on the order in
    which clips are done. On a GPU every pass has `batch` clips, the last one filled up, so that
    the same holds as far as its kernels compute the clips of a batch apart from each other;
    another `batch`, precision or GPU changes them by rounding. Ctrl-C leaves a cache of what is
    done (in a repair: the cache as it was, and what is done for the next repair). Raises
    HeliographError where the cache was made with another backbone, sampling, decoder or dtype, or
    cannot be written; a clip's own failure is only recorded.
    """
    if sampling.frames % backbone.frames_per_step:
        raise HeliographError(
            f"{backbone.name} takes {backbone.frames_per_step} frames a step, "
            f"so {sampling.frames} frames cannot be divided among its steps"
        )
    began = time.monotonic()
    summary = Summary(Path(target), len(clips))
    workers = workers or default_workers()

    turn = threading.Lock()

    def report() -> None:
        with turn:
            summary.seconds = time.monotonic() - began
            if progress is not None:
                progress(summary)

    with Store(
        target,
        fingerprint=backbone.fingerprint,
        sampler=sampling.describe(),
        decoder=decoder_record(decoder),
        repair=repair or (),
    ) as store:
        store.expect((sampling.frames // backbone.frames_per_step, backbone.dim), dtype)
        settings = {"sampling": sampling, "decoder": decoder, "accept_damaged": accept_damaged}
        feed = Feed(clips, store, summary, report, settings, repair or {})
        writer = Writer(feed, np.dtype(dtype))
        line = Line(backbone, writer, batch if backbone.device.type == "cuda" else 1)
        try:
            with (
                DecoderPool(workers=workers) as pool,
                closing(pool.map(feed.jobs(), transform=line.pixels)) as outcomes,
                closing(feed),
            ):
                asked = time.monotonic()
                for outcome in outcomes:
                    summary.waited_seconds += time.monotonic() - asked
                    summary.blocked_seconds = pool.blocked_seconds / workers
                    found = feed.settle(outcome)
                    if found is not None:
                        line.put(found)
                    feed.drain()
                    report()
                    asked = time.monotonic()
            line.flush()
        except KeyboardInterrupt:
            summary.interrupted = True
        finally:
            writer.finish()
        feed.drain()
        report()
        if not (repair and summary.interrupted):  # clips still to come would lose their place
            store.consolidate(clips)
    return summary
