"""The backbone without a network: the same bits in any batch, and motion of pixels."""

import numpy as np
import pytest
import torch

import backbones
from backbones import BackboneValueError


def some_pixels(clips: int, frames: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (clips, frames, 3, 224, 224), dtype=np.uint8))


def test_motion_is_of_pixels_and_a_grid_of_16_is_the_frame():
    pixels = some_pixels(1, 3)
    frames = backbones.load("pixels", device="cpu").forward(pixels)
    both = backbones.load("pixels", device="cpu", output="grid16+motion16").forward(pixels)
    assert torch.equal(both[..., :256], frames[:, 1:])
    assert torch.equal(both[..., 256:], (frames[:, 1:] - frames[:, :-1]).abs())
    coarse = backbones.load("pixels", device="cpu", output="grid1").forward(pixels)
    torch.testing.assert_close(coarse[..., 0], frames.mean(-1))


def test_bits_do_not_depend_on_the_batch():
    pixels, model = some_pixels(5, 2), backbones.load("pixels", device="cpu")
    together = model.forward(pixels)
    assert torch.equal(together, torch.cat([model.forward(clip[None]) for clip in pixels]))


@pytest.mark.parametrize("weights", ["random", "some.pth"])
def test_weights_are_refused(weights):
    with pytest.raises(BackboneValueError, match="pixels is no network: it takes no weights"):
        backbones.load("pixels", device="cpu", weights=weights)
