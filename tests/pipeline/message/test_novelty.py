"""How far clips are from the training clips."""

import numpy as np

from pipeline.message.novelty import NoveltyDetector


def test_clips_of_two_objects_that_look_the_very_same_leave_no_limit():
    same = NoveltyDetector(
        np.zeros((4, 1, 2), np.float32), ["a", "a", "b", "b"], ["1", "2", "3", "4"]
    )
    alike, apart = same(np.array([[[0, 0]], [[0, 1]]], np.float32))
    assert (str(alike), alike.unfamiliar) == ("familiar", False)
    assert (str(apart), apart.unfamiliar) == ("unlike anything seen", True)
