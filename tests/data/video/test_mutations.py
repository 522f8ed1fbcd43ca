"""Damaged files of many containers: each is read or refused with a reason, by a living decoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from data.video import DecoderPool, Job, Limits, Sampling, VideoError

# Clips of one container each, by their names in `tests.helpers`.
CONTAINERS = (
    "h264_short_gop", "h264_no_count", "vp9", "mjpeg", "h264_transport", "mpeg2", "h264_flv",
    "piped_ivf", "raw_mjpeg", "gif", "h264_raw", "h264_fragmented", "restarted_ts", "apng_alpha",
)  # fmt: skip
EACH = 36  # of 14 containers: 504


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a file that was cut, overwritten, shortened, lengthened or shuffled at random."""
    at, length = int(rng.integers(0, len(data))), int(rng.integers(1, 400))
    noise = rng.integers(0, 256, length, np.uint8).tobytes()
    other = int(rng.integers(0, len(data)))
    match int(rng.integers(0, 6)):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + noise + data[at + length :]
        case 2:
            return data[:at] + bytes(length) + data[at + length :]
        case 3:
            return data[:at] + data[at + length :]
        case 4:
            return data[:at] + data[other : other + length] + data[at:]
        case _:
            changed = bytearray(data)
            for place in rng.integers(0, len(data), 12).tolist():
                changed[place] ^= 1 << int(rng.integers(0, 8))
            return bytes(changed)


def mutations(
    clip_file: Callable[[str], Path], folder: Path, each: int, seed: int
) -> Iterator[Path]:
    """Yield `each` mutations of every container, in files that are there while they are read."""
    rng = np.random.default_rng(seed)
    for name in CONTAINERS:
        source = clip_file(name)
        data = source.read_bytes()
        for number in range(each):
            path = folder / f"{name}_{number}{source.suffix}"
            path.write_bytes(mutate(data, rng))
            yield path


@pytest.mark.slow
@pytest.mark.parametrize(("each", "seed"), [(4, 1), pytest.param(EACH, 2, marks=pytest.mark.soak)])
def test_every_mutation_is_read_or_refused(each, seed, clip_file, tmp_path):
    made = list(mutations(clip_file, tmp_path, each, seed))
    assert len(made) == each * len(CONTAINERS)
    jobs = [
        Job(
            path=path,
            sampling=Sampling(frames=4, pad=True),
            accept_damaged=bool(number % 2),
            limits=Limits(wall_seconds=120),
        )
        for number, path in enumerate(made)
    ]
    seen: Counter[str] = Counter()
    with DecoderPool(workers=2) as pool:
        for outcome in pool.map(jobs):
            if outcome.error is None:
                batch, info = outcome.batch, outcome.info
                assert batch.frames.shape[0] == 4
                assert (np.diff(info.pts_seconds) >= 0).all(), outcome.job.path
                assert batch.index.max() < info.shown_frames
                seen["damaged" if info.damage else "read"] += 1
                continue
            assert isinstance(outcome.error, VideoError), outcome.error
            reason = outcome.error.reason
            assert "\n" not in reason
            assert not reason.startswith("the decoder"), outcome.error
            assert not reason.startswith("timeout"), outcome.error
            seen["refused"] += 1
    assert sum(seen.values()) == len(made)
    assert min(seen["damaged"], seen["read"], seen["refused"]) > 0, seen
