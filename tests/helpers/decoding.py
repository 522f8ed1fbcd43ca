"""Checks and faults that several tests of decoding share."""

from pathlib import Path

import pytest

from data.video import Sampling, VideoError, read_sampled

# A `sitecustomize.py` with which opening a file named "loops" never returns, in C, and holds the
# interpreter's lock: no signal handler and no thread can run.
ENDLESS_OPEN = """
import re
import av

opened = av.open


def loop(file, *arguments, **options):
    if "loops" in file:
        re.match("(a+)+$", "a" * 80 + "b")
    return opened(file, *arguments, **options)


av.open = loop
"""


def assert_damaged(path: Path, reason: str) -> None:
    """Check that `path` fails by default with `reason`, and can be read if damage is accepted."""
    with pytest.raises(VideoError, match=reason):
        read_sampled(path, Sampling(frames=4))
    batch, info = read_sampled(path, Sampling(frames=4), accept_damaged=True)
    assert info.damage
    assert info.decodable_frames == info.shown_frames
    assert len(batch) == 4
