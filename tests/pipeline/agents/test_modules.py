"""The agents have the paper's sizes, names and windows."""

import pytest
import torch
from torch import nn

from data.errors import HeliographError
from pipeline.agents.modules import (
    CompositionalReceiver,
    CompositionalSender,
    TemporalEncoder,
    build_sender,
)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_are_the_papers():
    sender = CompositionalSender(hidden_dim=128, input_dim=384, vocab_size=8, n_heads=2)
    assert count(sender) == 412_176
    assert count(CompositionalReceiver(msg_dim=16)) == 12_610


def test_state_dict_names_are_those_of_the_published_checkpoints():
    sender = CompositionalSender(hidden_dim=128, input_dim=384, vocab_size=8, n_heads=2)
    layers = ["encoder.temporal.0", "encoder.temporal.2", "encoder.fc.0", "heads.0", "heads.1"]
    assert list(sender.state_dict()) == [f"{x}.{y}" for x in layers for y in ("weight", "bias")]
    holistic = CompositionalSender(vocab_size=64, n_heads=1).state_dict()
    assert holistic["head.weight"].shape == (64, 128)
    receiver = CompositionalReceiver(16).state_dict()
    layers = ["shared.0", "shared.2", "elast_head", "friction_head"]
    assert list(receiver) == [f"{x}.{y}" for x in layers for y in ("weight", "bias")]


@pytest.mark.parametrize(
    ("properties", "heads"),
    [
        (("mass",), ["head"]),
        (("mass", "volume"), ["heads.mass", "heads.volume"]),
        (("friction", "elasticity"), ["heads.friction", "heads.elasticity"]),
    ],
)
def test_heads_of_other_properties_are_named_after_them(properties, heads):
    receiver = CompositionalReceiver(10, properties=properties)
    found = [n.removesuffix(".weight") for n in receiver.state_dict() if n.endswith("weight")]
    assert found[2:] == heads
    messages = torch.rand(5, 10)
    assert receiver(messages, messages).shape == (5, len(properties))


@pytest.mark.parametrize("name", ["a.b", "", "train"])
def test_a_property_that_cannot_name_a_head_is_refused(name):
    with pytest.raises(HeliographError, match="rename the label"):
        CompositionalReceiver(10, properties=("mass", name))


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_an_encoder_takes_any_number_of_steps(steps):
    assert TemporalEncoder(input_dim=6, n_frames=steps)(torch.rand(3, steps, 6)).shape == (3, 128)


def test_each_agent_sees_only_its_window():
    sender = build_sender(input_dim=6, steps=8, agents=2, heads=2, vocab=5)
    clips = torch.rand(4, 8, 6)
    changed = clips.clone()
    changed[:, 4:] = torch.rand(4, 4, 6) * 10
    before, after = sender.logits(clips), sender.logits(changed)
    assert before.shape == (4, 2, 2, 5)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])
    assert sender(clips).shape == (4, 2, 2)


def test_a_static_cache_is_heard_as_the_same_step_again_and_again():
    sizes = {"input_dim": (6, 4), "agents": 2, "heads": 2, "vocab": 5, "caches": (0, 1)}
    sender = build_sender(steps=(8, 1), **sizes)
    repeated = build_sender(steps=(8, 8), **sizes)
    repeated.load_state_dict(sender.state_dict())
    video, still = torch.rand(3, 8, 6), torch.rand(3, 1, 4)
    expected = repeated.logits([video, still.repeat(1, 8, 1)])
    assert torch.equal(sender.logits([video, still]), expected)


def test_a_clamp_bounds_what_heads_put_out():
    sender = CompositionalSender(input_dim=6, vocab_size=64, n_heads=1, logit_clamp=0.05)
    assert sender.logits(torch.rand(9, 8, 6) * 100).abs().max() <= 0.05
