"""DINOv2: what the paper's preprocessing and the official one do to frames."""

import numpy as np
import torch

from backbones import dinov2
from tests.helpers.frames import noise


def test_the_papers_dinov2_squashes_without_antialiasing() -> None:
    frames = noise(2, 448, 896, 3)
    found = dinov2.PREPROCESSING["paper"](frames)
    assert found.shape == (2, 3, 224, 224)
    # Bilinear at half size samples between the two middle pixels of each cell, here 2 x 4.
    middle = frames.reshape(2, 224, 2, 224, 4, 3)[:, :, :, :, 1:3].mean((2, 4))
    assert np.abs(found.numpy().transpose(0, 2, 3, 1) - middle).max() <= 1


def test_pixels_stay_bytes_and_are_normalised_later() -> None:
    official = dinov2.PREPROCESSING["official"]
    pixels = official(noise(1, 300, 300, 3))
    assert pixels.dtype == torch.uint8
    expected = (pixels.double() / 255 - torch.tensor(dinov2.MEAN).double()[:, None, None]) / (
        torch.tensor(dinov2.STD).double()[:, None, None]
    )
    normalised = official.normalise(pixels)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised.double(), expected, rtol=0, atol=1e-6)
