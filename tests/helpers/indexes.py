"""The packet index of a file, by its own tables or by its packets."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np

from data.video import Limits, VideoError
from data.video.pyav import container, open_video, sample_tables
from data.video.pyav.packet_index import PacketIndex

EVERY, NONE = 1, 1 << 62


def index_of(path: Path, *, tables: bool) -> PacketIndex:
    """Return the index of a file, by its tables where that is possible, or without."""
    container._LAST_INDEX.clear()
    with (
        patch.object(sample_tables, "FEWEST_SAMPLES", EVERY if tables else NONE),
        open_video(path, limits=Limits(), threads=1, quick=True) as opened,
    ):
        return opened.packet_index


def outcome(path: Path, *, tables: bool) -> PacketIndex | str:
    """Return the index of a file, or the sentence that refuses it."""
    try:
        return index_of(path, tables=tables)
    except VideoError as error:
        return str(error)


def assert_equal(index: PacketIndex, expected: PacketIndex) -> None:
    """Assert that two indexes say the same of the same packets."""
    for name in ("pts", "key", "hidden", "entry", "droppable", "order", "corrupt", "joints"):
        np.testing.assert_array_equal(getattr(index, name), getattr(expected, name), err_msg=name)
    for name in ("doubt", "countable", "damage", "whole", "notes"):
        assert getattr(index, name) == getattr(expected, name)


def tables_are_used_alike(path: Path) -> bool:
    """Assert that tables give what packets give, an index or a refusal; return whether they did."""
    expected, found = outcome(path, tables=False), outcome(path, tables=True)
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
        return False
    assert_equal(found, expected)
    return found.samples is not None
