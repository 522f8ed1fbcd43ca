"""The scenes of this folder, found by their files."""

import importlib
import pkgutil

from data.simulate.scenes.scene import Scene


def discover_scenes() -> dict[str, Scene]:
    """Return the `Scene` records in the modules of `data/simulate/scenes`, by name.

    Raises:
        ValueError: Two records have one name.
    """
    scenes: dict[str, Scene] = {}
    for module in pkgutil.iter_modules(importlib.import_module(__package__).__path__):
        for record in vars(importlib.import_module(f"{__package__}.{module.name}")).values():
            if isinstance(record, Scene) and scenes.setdefault(record.name, record) is not record:
                raise ValueError(f"two scenes are called {record.name}")
    return scenes
