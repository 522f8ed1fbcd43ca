"""Weights that are drawn without building nets: to the bit those of nets that are built."""

import pytest
import torch
from torch import nn

from pipeline.agents import (
    AgentFactory,
    AgentWindows,
    drawing,
    drawn_states,
    fresh_senders,
    seeded,
    stack_senders,
    stacked_states,
)
from pipeline.agents.channels import CHANNELS
from pipeline.config import build_config
from pipeline.game import GAMES, build_game

CPU = torch.device("cpu")
SEEDS = [3, 0, 2**32 - 1]
SHAPES = [((8, 6),), ((1, 6),), ((8, 6), (4, 5))]


def equal(found, expected):
    assert list(found) == list(expected)  # the order of gradients whose norm is taken
    for name, value in found.items():
        assert value.requires_grad
        assert value.is_contiguous()
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("preset", ["published", "ridge"])
@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("name", GAMES)
def test_new_agents_are_those_that_are_built(name, channel, preset, shapes, monkeypatch):
    steps, dims = zip(*shapes, strict=True)
    agents = len(shapes) if shapes[0][0] == 1 else 4
    config = build_config(
        preset, ("mass", "drag"), game=name, channel=channel, agents=agents, heads=2,
        sees=[number % len(shapes) for number in range(agents)],
    )  # fmt: skip
    game, factory = build_game(config), AgentFactory(config, steps, dims)
    windows = AgentWindows.of(
        [torch.zeros(5, *shape) for shape in shapes], agents, config.agent_caches
    )
    size = factory.channel.message_size

    def receivers(count):
        return [game.build_receiver(size, factory) for _ in range(count)]

    built = [seeded(seed, lambda: (factory.sender(), receivers(3))) for seed in SEEDS]
    stacks = game.init_agents(factory, dims, windows.groups, SEEDS, CPU)
    equal(stacks[0], stack_senders([sender for sender, _ in built], CPU, windows.groups))
    equal(stacks[1], game.stack_receivers([own for _, own in built], CPU))
    only = [seeded(seed, lambda: receivers(2)) for seed in SEEDS]
    fresh = game.fresh_receivers(size, factory, SEEDS, CPU, count=2)
    equal(fresh, game.stack_receivers(only, CPU))
    alone = [seeded(seed, factory.sender) for seed in SEEDS]
    equal(
        fresh_senders(factory, dims, windows.groups, SEEDS, CPU),
        stack_senders(alone, CPU, windows.groups),
    )
    monkeypatch.setattr(drawing, "stacked_states", None)  # none is built but the first
    game.init_agents(factory, dims, windows.groups, SEEDS, CPU)
    game.fresh_receivers(size, factory, SEEDS, CPU)
    fresh_senders(factory, dims, windows.groups, SEEDS, CPU)
    before = torch.get_rng_state()
    oracle = game.oracle_receivers(7, factory, dims, SEEDS, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    monkeypatch.undo()
    monkeypatch.setattr(drawing, "_draw", lambda nets, seeds: None)  # all are built
    equal(oracle, game.oracle_receivers(7, factory, dims, SEEDS, CPU))


def test_the_weights_of_torchs_layers_are_drawn():
    """Else all would be built, and the tests above compare them with themselves."""
    nets = seeded(5, lambda: [nn.Sequential(nn.Conv1d(3, 4, 2), nn.Linear(4, 1)), nn.Linear(2, 2)])
    numbers = drawing._draw(nets, [5])
    expected = [value.detach().flatten() for net in nets for value in net.parameters()]
    assert torch.equal(numbers[0], torch.cat(expected))


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.Identity])
def test_nets_that_draw_otherwise_are_built(kind):
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(2, 3), kind(3)
            nn.init.normal_(self.first.weight)

    (found,) = drawn_states(lambda: [Own()], SEEDS, CPU)
    (expected,) = stacked_states([seeded(seed, lambda: [Own()]) for seed in SEEDS], CPU)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
