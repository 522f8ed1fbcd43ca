"""The steps of brief trainings are torch's."""

import subprocess
import sys

import pytest
import torch

from pipeline.evaluation.adam import Adam

RATE = 0.03


def weights() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, generator=generator).requires_grad_() for _ in range(3)]


def descend(of: list[torch.Tensor], adam: object) -> list[torch.Tensor]:
    for step in range(20):
        of[0].grad = of[1].grad = None
        loss = ((of[0] @ of[1].T - step) ** 2).mean()  # the third has no gradient
        loss.backward()
        adam.step()
    return of


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_they_are_torchs_to_the_bit(decay):
    known = weights()
    kind = torch.optim.AdamW if decay else torch.optim.Adam
    expected = descend(known, kind(known, lr=RATE, weight_decay=decay))
    own = weights()
    for first, second in zip(descend(own, Adam(own, lr=RATE, decay=decay)), expected, strict=True):
        assert torch.equal(first, second)


def test_the_compiler_of_torch_is_not_imported():
    code = (
        "import sys, torch; from pipeline.evaluation.adam import Adam; "
        "weight = torch.ones(1).requires_grad_(); weight.sum().backward(); "
        "Adam([weight], lr=1.0).step(); assert 'torch._dynamo' not in sys.modules; print(weight)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tensor([0." in shown.stdout or "e-" in shown.stdout
