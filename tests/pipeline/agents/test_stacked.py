"""Stacked nets compute what the modules compute, seed by seed."""

import pytest
import torch
import torch.nn.functional as F

from pipeline.agents import (
    AgentWindows,
    CompositionalReceiver,
    build_sender,
    receiver_logits,
    sender_logits,
    stack_receivers,
    unstack_receiver,
    unstack_sender,
)
from pipeline.agents.stacked import _Taps, stack_senders

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("agents", "steps", "vocab", "heads"),
    [(2, 8, 5, 2), (1, 8, 64, 1), (4, 8, 8, 2), (16, 8, 3, 2), (3, 1, 3, 2)],
)
def test_stacked_senders_equal_their_modules(agents, steps, vocab, heads):
    torch.manual_seed(0)
    sizes = {"input_dim": 24, "steps": steps, "agents": agents, "heads": heads, "vocab": vocab}
    modules = [build_sender(**sizes) for _ in range(3)]
    features = torch.randn(20, steps, 24)
    clips = torch.randint(0, 20, (3, 7))
    stack = stack_senders(modules, CPU)
    views = AgentWindows.of(features, agents)
    logits = sender_logits(stack, views.gather(clips), heads, views.groups)
    for seed, module in enumerate(modules):
        expected = module.logits(features[clips[seed]]).view(7, agents, heads, vocab)
        torch.testing.assert_close(logits[seed].transpose(0, 1), expected, atol=1e-5, rtol=1e-5)
        copy = build_sender(**sizes)
        unstack_sender(stack, seed, copy)
        for name, value in module.state_dict().items():
            assert torch.equal(copy.state_dict()[name], value), name


@pytest.mark.parametrize("caches", [(0, 1, 0, 1), (0, 1), (1, 0, 1), (0, 2, 1)])
def test_stacked_senders_of_several_caches_equal_their_modules(caches):
    torch.manual_seed(0)
    shapes = [(8, 24), (1, 10), (4, 10)][: max(caches) + 1]
    steps, dims = zip(*shapes, strict=True)
    sizes = {"input_dim": dims, "steps": steps, "agents": len(caches), "heads": 2, "vocab": 3}
    modules = [build_sender(**sizes, caches=caches) for _ in range(3)]
    features = [torch.randn(20, *shape) for shape in shapes]
    clips = torch.randint(0, 20, (3, 7))
    views = AgentWindows.of(features, len(caches), caches)
    assert sorted(agent for group in views.groups for agent in group) == [*range(len(caches))]
    stack = stack_senders(modules, CPU, views.groups)
    logits = sender_logits(stack, views.gather(clips), 2, views.groups)
    for seed, module in enumerate(modules):
        expected = module.logits([own[clips[seed]] for own in features])
        torch.testing.assert_close(logits[seed].transpose(0, 1), expected, atol=1e-5, rtol=1e-5)
        copy = build_sender(**sizes, caches=caches)
        unstack_sender(stack, seed, copy, views.groups)
        for name, value in module.state_dict().items():
            assert torch.equal(copy.state_dict()[name], value), name


@pytest.mark.parametrize("properties", [("mass",), ("elasticity", "friction"), ("a", "b", "c")])
def test_stacked_receivers_equal_their_modules(properties):
    torch.manual_seed(0)
    modules = [
        [CompositionalReceiver(12, properties=properties) for _ in range(3)] for _ in range(2)
    ]
    stack = stack_receivers(modules, CPU)
    a, b = torch.rand(2, 9, 12), torch.rand(2, 9, 12)
    logits = receiver_logits(stack, torch.cat([a, b], dim=-1))
    assert logits.shape == (2, 3, 9, len(properties))
    for seed in range(2):
        for number, module in enumerate(modules[seed]):
            expected = module(a[seed], b[seed])
            torch.testing.assert_close(logits[seed, number], expected, atol=1e-5, rtol=1e-5)
            copy = CompositionalReceiver(12, properties=properties)
            unstack_receiver(stack, seed, number, copy)
            for name, value in module.state_dict().items():
                assert torch.equal(copy.state_dict()[name], value), name


def test_gradients_of_one_seed_do_not_touch_another():
    torch.manual_seed(0)
    modules = [build_sender(input_dim=6, steps=4, agents=2, heads=2, vocab=3) for _ in range(2)]
    stack = stack_senders(modules, CPU)
    views = AgentWindows.of(torch.randn(5, 4, 6), 2)
    clips = torch.zeros(2, 3, dtype=torch.int64)
    sender_logits(stack, views.gather(clips), 2, views.groups)[0].sum().backward()
    assert all(value.grad[1].abs().max() == 0 for value in stack.values())
    assert stack["conv1.weight"].grad[0].abs().max() > 0


@pytest.mark.parametrize(("kernel", "steps"), [(1, 3), (2, 2), (2, 1), (3, 5), (3, 1)])
def test_what_comes_back_to_steps_is_that_of_padded_and_joined_ones(kernel, steps):
    torch.manual_seed(0)
    h = torch.randn(2, steps, 4, requires_grad=True)
    padded = F.pad(h, (0, 0, kernel // 2, kernel // 2))
    positions = padded.shape[1] - kernel + 1
    expected = torch.cat([padded[:, tap : tap + positions] for tap in range(kernel)], dim=-1)
    ours, weights = _Taps.apply(h, kernel), torch.randn(expected.shape)
    assert torch.equal(ours, expected)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), h)
    assert torch.equal(torch.autograd.grad((ours * weights).sum(), h)[0], wanted)


def padded_inputs(views, every, clips):
    """What `gather` returned when every clip was padded in float32 beforehand."""
    inputs = []
    for group in views.groups:
        agents = []
        for agent in group:
            window = every[agent].float()
            kernel = min(3, window.shape[2])
            padded = F.pad(window, (0, 0, kernel // 2, kernel // 2))
            seeds, count, steps, dim = padded.shape
            shape = (seeds, count, steps - kernel + 1, kernel * dim)
            view = padded.as_strided(shape, (count * steps * dim, steps * dim, dim, 1))
            seed = torch.arange(len(clips) if seeds > 1 else 1)
            agents.append(view[seed.unsqueeze(1), clips])
        inputs.append(torch.stack(agents, dim=1))
    return inputs


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_clips_are_padded_as_they_are_gathered_without_a_copy_of_all(seeds, dtype):
    torch.manual_seed(0)
    features = [torch.randn(seeds, 20, *shape).to(dtype) for shape in ((8, 6), (1, 4), (2, 6))]
    views = AgentWindows.of(features, 4, (0, 1, 0, 2))
    assert views.runs[0][0].data_ptr() == features[0].data_ptr()
    windows = [
        features[0][:, :, :4],
        features[1].expand(-1, -1, 8, -1),
        features[0][:, :, 4:],
        features[2],
    ]
    clips = torch.randint(0, 20, (3, 7))
    inputs = views.gather(clips)
    for own, expected in zip(inputs, padded_inputs(views, windows, clips), strict=True):
        assert own.dtype == torch.float32
        assert torch.equal(own, expected)
