"""Which steps of which cache each agent sees."""

import pytest

from pipeline.agents.windows import AgentView, agent_views, agent_windows


@pytest.mark.parametrize(
    ("steps", "agents", "expected"),
    [
        (8, 1, [(0, 8)]),
        (8, 2, [(0, 4), (4, 8)]),
        (8, 3, [(0, 2), (2, 4), (4, 6)]),
        (8, 16, [(i % 8, i % 8 + 1) for i in range(16)]),
        (1, 2, [(0, 1), (0, 1)]),
    ],
)
def test_windows_are_consecutive_and_cycle_when_agents_outnumber_steps(steps, agents, expected):
    assert [(w.start, w.stop) for w in agent_windows(steps, agents)] == expected


def test_agents_of_one_cache_share_its_steps_and_a_static_one_repeats():
    views = agent_views([8, 1], [0, 1, 0, 1])
    first, second = range(0, 4), range(4, 8)
    assert views == [
        AgentView(0, first),
        AgentView(1, first),
        AgentView(0, second),
        AgentView(1, second),
    ]
    assert agent_views([8, 1], [1, 0]) == [AgentView(1, range(0, 8)), AgentView(0, range(0, 8))]
    assert agent_views([1, 1], [0, 1, 1]) == [
        AgentView(0, range(1)),
        AgentView(1, range(1)),
        AgentView(1, range(1)),
    ]
