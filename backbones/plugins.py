"""Backbones from other packages, through the entry point group `heliograph.backbones`.

The name of the entry point is the backbone's name, and its value an `Entry`. A whole backbone, in
one file `mean_colour.py`:

    import torch

    from backbones import Backbone, Entry, LoadOptions, Preprocess

    OFFICIAL = Preprocess(name="official", short_side=32, crop=32, mean=(0, 0, 0), std=(1, 1, 1))


    def build(options: LoadOptions) -> Backbone:
        return Backbone(
            name="mean_colour",
            dim=3,
            model=torch.nn.Identity(),
            encode=lambda pixels: pixels.mean((3, 4)),  # (B, T, 3, h, w) -> (B, T, 3)
            preprocess=OFFICIAL,
            options=options,
            source="mean_colour.py",
            revision="1",
            weights_sha256="none",
            output="mean",
        )


    ENTRY = Entry(
        name="mean_colour",
        family="baselines",
        dim=3,
        frames_per_step=1,
        parameters=0,
        licence="MIT",
        build=build,
    )

and in the `setup.cfg` of its package:

    [options.entry_points]
    heliograph.backbones =
        mean_colour = mean_colour:ENTRY
"""

from __future__ import annotations

from collections.abc import Container
from importlib.metadata import entry_points

from backbones.base import Entry

GROUP = "heliograph.backbones"


def find_plugins(*, taken: Container[str]) -> tuple[dict[str, Entry], dict[str, str]]:
    """Load every plugin.

    Args:
        taken: names that a plugin may not have.

    Returns:
        The entries of the plugins that load, and the reasons why others do not, each by name.
    """
    entries: dict[str, Entry] = {}
    errors: dict[str, str] = {}
    for point in entry_points(group=GROUP):
        try:
            entry = point.load()
        except Exception as error:  # foreign code: whatever it raises is reported by name
            reason = " ".join(str(error).split())
            errors[point.name] = f"{point.value}: {type(error).__name__}: {reason}"
            continue
        if not isinstance(entry, Entry):
            errors[point.name] = f"{point.value} is a {type(entry).__name__}, not an Entry"
        elif entry.name != point.name:
            errors[point.name] = f"{point.value} calls itself {entry.name!r}"
        elif entry.name in taken:
            errors[point.name] = f"{point.value} takes the name of a built-in backbone"
        elif entry.name in entries:
            errors[point.name] = f"{point.value} takes the name of another plugin"
        else:
            entries[point.name] = entry
    return entries, errors
