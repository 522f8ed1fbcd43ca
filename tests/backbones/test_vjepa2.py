"""V-JEPA 2: what the paper's preprocessing and the official one do to frames."""

import numpy as np
import pytest
import torch

from backbones import vjepa2
from tests.helpers.frames import waves


def test_the_papers_vjepa2_crops_what_the_official_one_shrinks_away() -> None:
    frames = waves(256, 340)
    paper = vjepa2.PREPROCESSING["paper"](frames)[0].numpy()
    assert np.array_equal(paper.transpose(1, 2, 0), frames[0][:, 42:298])
    official = vjepa2.PREPROCESSING["official"](frames)[0].numpy()
    assert np.abs(official.astype(int) - paper).mean() > 5


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_tubelets_in_bfloat16_are_right_to_its_rounding(device: str) -> None:
    """The encoder begins with a Conv3d, which was wrong in bfloat16 in torch 2.9."""
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Conv3d(3, 64, kernel_size=(2, 16, 16), stride=(2, 16, 16))
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.03, generator=generator)
    layer = layer.to(device, torch.bfloat16)
    pixels = torch.randn(2, 3, 4, 64, 48, generator=generator).to(device, torch.bfloat16)
    with torch.inference_mode():
        found = layer(pixels).double()  # (B, 64, 2, 4, 3)
        expected = layer.double()(pixels.double())
    largest = float(expected.abs().max())
    assert largest > 2
    assert float((found - expected).abs().max()) < largest * 2**-8
