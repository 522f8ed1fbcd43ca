"""V-JEPA 2: what the paper's preprocessing and the official one do to frames."""

import numpy as np

from backbones import vjepa2
from tests.helpers.frames import waves


def test_the_papers_vjepa2_crops_what_the_official_one_shrinks_away() -> None:
    frames = waves(256, 340)
    paper = vjepa2.PREPROCESSING["paper"](frames)[0].numpy()
    assert np.array_equal(paper.transpose(1, 2, 0), frames[0][:, 42:298])
    official = vjepa2.PREPROCESSING["official"](frames)[0].numpy()
    assert np.abs(official.astype(int) - paper).mean() > 5
