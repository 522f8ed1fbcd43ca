"""Which time steps of which cache each agent sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


def agent_windows(steps: int, agents: int) -> list[range]:
    """The time steps that each agent sees: `steps // agents` consecutive ones, at least one each.

    With more agents than steps the windows cycle; steps that do not divide evenly are left over at
    the end, as in the paper's code (`features[:, i*w:(i+1)*w]`).

    >>> agent_windows(8, 2)
    [range(0, 4), range(4, 8)]
    >>> agent_windows(2, 3)
    [range(0, 1), range(1, 2), range(0, 1)]
    """
    if steps < 1 or agents < 1:
        raise ValueError(
            f"needs at least one step and one agent, got {steps} steps, {agents} agents"
        )
    width = max(1, steps // agents)
    starts = [agent % (steps // width) * width for agent in range(agents)]
    return [range(start, start + width) for start in starts]


@dataclass(frozen=True)
class AgentView:
    """What one agent sees: some time steps of the features of one cache, by its number."""

    cache: int
    window: range


def agent_views(steps: Sequence[int], caches: Sequence[int]) -> list[AgentView]:
    """The view of each agent, given the steps of every cache and the cache that each agent sees.

    A static cache (one step) repeats over the steps of the longest; the agents of one cache share
    its steps in order, as `agent_windows` has it, so that together they miss nothing of it.

    >>> agent_views([8, 1], [0, 1, 0])
    [AgentView(cache=0, window=range(0, 4)), AgentView(cache=1, window=range(0, 8)), \
AgentView(cache=0, window=range(4, 8))]
    """
    lasting = [repeated_steps(steps, number) for number in range(len(steps))]
    windows = {
        cache: iter(agent_windows(lasting[cache], list(caches).count(cache)))
        for cache in set(caches)
    }
    return [AgentView(cache, next(windows[cache])) for cache in caches]


def repeated_steps(steps: Sequence[int], cache: int) -> int:
    """The steps that agents see of a cache: a single one is repeated as long as the others last."""
    return steps[cache] if steps[cache] > 1 else max(steps)


def window_of(caches: Sequence[NDArray[Any]], view: AgentView) -> NDArray[Any]:
    """The features (N, steps, D) that an agent sees; of a static cache its one step, once."""
    cache = caches[view.cache]
    return cache[:, view.window.start : view.window.stop] if cache.shape[1] > 1 else cache
