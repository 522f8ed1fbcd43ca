"""Backbones from other packages, through the entry point group `heliograph.backbones`.

The name of the entry point is the backbone's name and its value an `Entry`, for example

    [options.entry_points]
    heliograph.backbones =
        my_model = my_package.my_model:ENTRY
"""

from __future__ import annotations

from collections.abc import Container
from importlib.metadata import entry_points

from backbones.base import Entry

GROUP = "heliograph.backbones"


def find_plugins(*, taken: Container[str]) -> tuple[dict[str, Entry], dict[str, str]]:
    """Load every plugin: those that work, and for each that does not, its error.

    Args:
        taken: names that a plugin may not have.
    """
    found: dict[str, Entry] = {}
    broken: dict[str, str] = {}
    for point in entry_points(group=GROUP):
        try:
            entry = point.load()
        except Exception as error:  # somebody else's code: whatever it raises is reported by name
            broken[point.name] = f"{point.value}: {type(error).__name__}: {error}"
            continue
        if not isinstance(entry, Entry):
            broken[point.name] = f"{point.value} is a {type(entry).__name__}, not an Entry"
        elif entry.name != point.name:
            broken[point.name] = f"{point.value} calls itself {entry.name!r}"
        elif entry.name in taken:
            broken[point.name] = f"{point.value} takes the name of a built-in backbone"
        else:
            found[point.name] = entry
    return found, broken
