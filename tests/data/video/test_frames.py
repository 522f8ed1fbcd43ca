"""What a decoder returns checks itself."""

import math
from pathlib import Path

import numpy as np
import pytest

from data.video import (
    FrameBatch,
    Job,
    Limits,
    Sampling,
)
from data.video.decoder_pool import ProbeJob


def test_frame_batches_check_themselves():
    index, times = np.zeros(2, np.int64), np.zeros(2)
    with pytest.raises(ValueError, match=r"uint8 \(T, H, W, 3\), not float64 \(2, 4, 4, 3\)"):
        FrameBatch(np.zeros((2, 4, 4, 3)), index, times)
    with pytest.raises(ValueError, match=r"\(2, 4, 4, 3\), not int64 \(3,\)"):
        FrameBatch(np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3, np.int64), times)
    batch = FrameBatch(np.zeros((2, 4, 4, 3), np.uint8), index, times)
    assert repr(batch) == "FrameBatch(frames=uint8(2, 4, 4, 3), index=[0, 0])"


def test_limits_are_set_one_by_one():
    assert Limits.set_to() == Limits()
    longer = Limits.set_to(duration=25 * 3600)
    assert (longer.seconds, longer.frames) == (90_000, 4_000_000 * 25 // 24)
    assert Limits.set_to(duration=10) == Limits(seconds=10)
    assert Limits.set_to(pixels=12_288 * 6_480).pixels == 79_626_240
    assert Limits.set_to(memory=20) == Limits(memory_bytes=20 << 30, batch_bytes=10 << 30)
    assert Limits.set_to(timeout=7) == Limits(wall_seconds=7)
    assert Limits.set_to(duration=math.inf, memory=math.inf).memory_bytes < 1 << 63
    with pytest.raises(ValueError, match="limit seconds must be positive"):
        Limits.set_to(duration=math.nan)


def test_limits_hold_where_none_are_given_and_only_while_they_are_used():
    with Limits(pixels=9).use():
        assert Job(path=Path("a.mp4"), sampling=Sampling()).limits == Limits(pixels=9)
        assert ProbeJob(path=Path("a.mp4")).limits == Limits(pixels=9)
    assert Job(path=Path("a.mp4"), sampling=Sampling()).limits == Limits()
