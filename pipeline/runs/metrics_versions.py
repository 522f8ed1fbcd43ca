"""The versions of `metrics.json`: what an older one numbers otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = 2
"""Of `metrics.json`. Version 1, which has no number, counts agents and positions from 0."""
AGENT_BASELINE = "ridge_agent_"  # and the number of the agent, from 1


def of_this_version(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file holds, of an older version with its agents and positions from 1.

    Raises:
        ValueError: It is of a newer version.

    >>> of_this_version({"baselines": {"ridge_agent_0": None}})
    {'baselines': {'ridge_agent_1': None}, 'schema_version': 2}
    """
    version = stored.get("schema_version", 1)
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ValueError(
            f"its schema version is {version!r}, and this Heliograph reads 1 to {VERSION}: it was "
            "written by a newer one"
        )
    content = dict(stored)
    if isinstance(content.get("control"), Mapping):
        content["control"] = of_this_version(content["control"])
    if version == VERSION:
        return content
    for name in ("baselines", "missing_baselines"):
        if isinstance(content.get(name), Mapping):
            content[name] = {_from_1(key): value for key, value in content[name].items()}
    interventions, agreement = content.get("interventions"), content.get("agreement")
    if isinstance(interventions, Mapping) and isinstance(interventions.get("positions"), list):
        places = [_each_from_1(place) for place in interventions["positions"]]
        content["interventions"] = {**interventions, "positions": places}
    if isinstance(agreement, Mapping) and isinstance(agreement.get("agents"), list):
        pairs = [
            {**pair, "agents": _each_from_1(pair.get("agents"))}
            if isinstance(pair, Mapping)
            else pair
            for pair in agreement["agents"]
        ]
        content["agreement"] = {**agreement, "agents": pairs}
    return content | {"schema_version": VERSION}


def _from_1(baseline: str) -> str:
    """Return the name of a baseline whose agent was counted from 0."""
    number = baseline.removeprefix(AGENT_BASELINE)
    if number == baseline or not number.isdecimal():
        return baseline
    return f"{AGENT_BASELINE}{int(number) + 1}"


def _each_from_1(numbers: Any) -> Any:
    """Return numbers one larger; what is no list of numbers as it is, for the check of types."""
    if isinstance(numbers, list) and all(type(number) is int for number in numbers):
        return [number + 1 for number in numbers]
    return numbers
