"""What a decoder returns checks itself."""

import numpy as np
import pytest

from data.video import (
    FrameBatch,
)


def test_frame_batches_check_themselves():
    index, times = np.zeros(2, np.int64), np.zeros(2)
    with pytest.raises(ValueError, match=r"uint8 \(T, H, W, 3\), not float64 \(2, 4, 4, 3\)"):
        FrameBatch(np.zeros((2, 4, 4, 3)), index, times)
    with pytest.raises(ValueError, match=r"\(2, 4, 4, 3\), not int64 \(3,\)"):
        FrameBatch(np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3, np.int64), times)
    batch = FrameBatch(np.zeros((2, 4, 4, 3), np.uint8), index, times)
    assert repr(batch) == "FrameBatch(frames=uint8(2, 4, 4, 3), index=[0, 0])"
