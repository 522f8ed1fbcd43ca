"""Agents prepared for speaking say what the agents say."""

import numpy as np
import pytest
import torch

from pipeline.agents import FastSender, build_sender, fold_axes
from pipeline.agents.inference import CLIPS_AT_ONCE


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
@pytest.mark.parametrize(("agents", "heads"), [(1, 1), (1, 2), (2, 2), (3, 1)])
@pytest.mark.parametrize("dim", [1, 3, 10])
def test_the_logits_are_the_senders_but_for_rounding(steps, agents, heads, dim):
    torch.manual_seed(steps)
    sender = build_sender(
        input_dim=dim, steps=steps, agents=agents, heads=heads, vocab=5, hidden_dim=16
    ).eval()
    features = torch.randn(7, steps, dim)
    expected = sender.logits(features).detach().reshape(7, agents, heads, 5)
    assert torch.allclose(FastSender(sender)([features]), expected, atol=1e-5)


def test_agents_of_several_caches_and_clamped_outputs():
    torch.manual_seed(0)
    sender = build_sender(
        input_dim=[6, 4], steps=[8, 1], agents=3, heads=2, vocab=3, logit_clamp=0.05,
        caches=[0, 1, 0], names=["moving", "still"],
    ).eval()  # fmt: skip
    features = [torch.randn(5, 8, 6), torch.randn(5, 1, 4)]
    said = FastSender(sender)(features)
    assert torch.allclose(said, sender.logits(features).detach(), atol=1e-6)
    assert said.abs().max() <= 0.05


def test_axes_that_were_folded_in_are_found_again():
    torch.manual_seed(0)
    few, whole = (
        build_sender(input_dim=size, steps=8, agents=2, heads=2, vocab=5).eval() for size in (6, 64)
    )
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 6)))[0]
    axes *= np.geomspace(1, 0.02, 6)
    fold_axes(few, [axes, axes], whole)
    voice = FastSender(whole)
    assert [agent.axes.shape for agent in voice._agents if agent.axes is not None] == 2 * [(64, 6)]
    features = torch.randn(20, 8, 64)
    torch.testing.assert_close(
        voice([features]).flatten(1), whole.logits(features).detach().flatten(1),
        atol=1e-5, rtol=1e-5,
    )  # fmt: skip
    untouched = build_sender(input_dim=64, steps=8, agents=1, heads=2, vocab=5).eval()
    assert FastSender(untouched)._agents[0].axes is None


def test_many_clips_are_as_their_parts():
    sender = build_sender(input_dim=4, steps=2, agents=2, heads=2, vocab=3).eval()
    features = torch.randn(CLIPS_AT_ONCE + 9, 2, 4)
    whole = FastSender(sender)([features])
    assert whole.shape == (CLIPS_AT_ONCE + 9, 2, 2, 3)
    assert torch.allclose(whole[-9:], FastSender(sender)([features[-9:]]), atol=1e-6)
