"""The discrete channel, against torch and the paper's code."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.agents import build_channel
from pipeline.agents.channels.discrete import entropy_penalty, gumbel_softmax
from pipeline.config import build_config


@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_softmax_is_torchs(hard):
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    expected = F.gumbel_softmax(logits, tau=1.7, hard=hard)
    torch.manual_seed(3)
    noise = torch.empty(6, 5, dtype=torch.float64).exponential_().neg().exp()
    ours = gumbel_softmax(logits, noise, 1.7, hard=hard)
    if hard:
        assert ours.unique().tolist() == [0, 1]
    torch.testing.assert_close(ours, expected)
    (gradient,) = torch.autograd.grad(ours.square().sum(), logits, retain_graph=True)
    (reference,) = torch.autograd.grad(expected.square().sum(), logits)
    torch.testing.assert_close(gradient, reference)


def test_the_entropy_bonus_is_the_papers():
    config = build_config("published", ("mass",), agents=1, vocab=5, batch=4)
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 8, 2, 5)  # four pairs, two heads
    logits[..., 0, 0] += 30  # head 0 is certain, head 1 is not
    keep = torch.tensor([[1.0, 1.0, 0.0, 1.0]])
    expected = 0.0
    for side in logits[0, 0].split(4):
        for head in side[keep[0].bool()].unbind(1):
            log_p = F.log_softmax(head, dim=-1)
            entropy = -(log_p.exp().clamp(min=1e-8) * log_p).sum(-1).mean()
            if entropy / math.log(5) < 0.1:
                expected += 0.03 * entropy
    assert expected > 0
    torch.testing.assert_close(-entropy_penalty(logits, keep, config)[0], expected)


def test_stored_messages_are_read_back_or_refused():
    channel = build_channel(build_config("default", ("mass",), agents=2, heads=2, vocab=3))
    tokens = np.array([[0, 2], [1, 1]])
    line = channel.to_json(tokens)
    assert line == {"message": "0-2 | 1-1", "tokens": [[0, 2], [1, 1]]}
    assert np.array_equal(channel.from_json(line), tokens)
    for wrong in (None, [[0, 2]], [[0, 3], [1, 1]], [[0, 2, 1], [1]], [[0, "2"], [1, 1]]):
        with pytest.raises(ValueError, match="None" if wrong is None else "0"):
            channel.from_json({"tokens": wrong})


def test_a_receiver_reads_one_hot_symbols():
    channel = build_channel(build_config("default", ("mass",), agents=1, heads=2, vocab=3))
    read = channel.read(torch.tensor([[[2, 0]]]))
    assert read.tolist() == [[0, 0, 1, 1, 0, 0]]
    assert read.shape[-1] == channel.message_size
