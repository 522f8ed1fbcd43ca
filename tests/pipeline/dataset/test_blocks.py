"""Blocks of clips and of columns: all of them, once, in their order, and none too large."""

import numpy as np
import pytest

from pipeline.dataset import blocks, clip_blocks, column_blocks


@pytest.mark.parametrize("at_once", [1, 25, 60, 10**6])
@pytest.mark.parametrize("chosen", [None, [8, 2, 5, 0]])
def test_blocks_of_clips_are_all_clips_in_order(monkeypatch, at_once, chosen) -> None:
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", at_once)
    features = np.arange(9 * 4 * 3).reshape(9, 4, 3)
    clips = None if chosen is None else np.array(chosen)
    expected = features if clips is None else features[clips]
    found = list(clip_blocks(features, clips))
    np.testing.assert_array_equal(np.concatenate([block for _, block in found]), expected)
    for where, block in found:
        np.testing.assert_array_equal(block, expected[where])
        assert block.size <= max(12, at_once)


@pytest.mark.parametrize("at_once", [1, 25, 60, 10**6])
def test_blocks_of_columns_are_all_columns_in_order(monkeypatch, at_once) -> None:
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", at_once)
    parts = [np.arange(9 * 4 * 3).reshape(9, 4, 3), np.arange(9 * 5).reshape(9, 5)]
    expected = np.concatenate([part.reshape(9, -1) for part in parts], axis=1)
    found = list(column_blocks(parts))
    np.testing.assert_array_equal(np.concatenate(found, axis=1), expected)
    assert all(block.size <= max(9, at_once) for block in found)
