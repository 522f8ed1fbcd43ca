"""Other decoders return the frames of the reference, or refuse."""

import numpy as np
import pytest

from data.video import (
    CannotAgree,
    Sampling,
    probe,
    read,
    read_sampled,
)
from tests.helpers.clips import CLIPS


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
@pytest.mark.parametrize("name", CLIPS)
def test_other_decoders_agree_or_refuse(decoder, name, clip_file):
    path = clip_file(name)
    n = probe(path, decoders=()).shown_frames
    indices = np.random.default_rng(4).integers(0, n, 5)
    expected = read(path, indices).frames.astype(int)
    refused = probe(path, decoders=[decoder]).agreement[decoder] != "agrees"
    if refused:
        with pytest.raises(CannotAgree, match=decoder):
            read(path, indices, decoder=decoder)
        batch, info = read_sampled(path, Sampling(frames=1), decoder=decoder)
        assert info.decoder == "pyav"
        assert any(note.startswith(f"read by pyav: {decoder}") for note in info.notes)
        np.testing.assert_array_equal(batch.frames, read(path, [0]).frames)
    else:
        frames = read(path, indices, decoder=decoder).frames
        assert np.abs(frames - expected).max() <= 2
