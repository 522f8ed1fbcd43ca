"""The scenes of this folder, found by their files."""

from data.discovery import find_records
from data.simulate.scenes.scene import Scene


def discover_scenes() -> dict[str, Scene]:
    """Return the `Scene` records in the modules of `data/simulate/scenes`, by name."""
    return find_records(__package__, Scene)
