"""The text form of messages."""

from __future__ import annotations

from collections.abc import Sequence


def values_text(values: Sequence[Sequence[float]]) -> str:
    """Return a continuous message as text: two decimals each, agents joined by ` | `.

    Args:
        values: Numbers of each agent, (agents, n).

    >>> values_text([[0.5, -1.0], [0.25, 0.0]])
    '0.50 -1.00 | 0.25 0.00'
    """
    return " | ".join(" ".join(f"{value:.2f}" for value in agent) for agent in values)


def message_text(tokens: Sequence[Sequence[int]]) -> str:
    """Return a discrete message as text: heads joined by `-`, agents by ` | `.

    Args:
        tokens: Symbols of each agent, (agents, heads).

    >>> message_text([[3, 7], [1, 2]])
    '3-7 | 1-2'
    """
    return " | ".join("-".join(str(int(symbol)) for symbol in agent) for agent in tokens)
