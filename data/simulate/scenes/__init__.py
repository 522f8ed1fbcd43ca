"""Scenes with two hidden properties each, one file each.

A scene is a module with a `Scene` record at its top level, found by its file: `SCENES` has it, and
`heliograph simulate NAME` makes clips of it.
"""

from data.simulate.scenes.registry import discover_scenes
from data.simulate.scenes.scene import Coil, Prism, Property, Puck, Scene, Trial

SCENES = discover_scenes()

__all__ = ["SCENES", "Coil", "Prism", "Property", "Puck", "Scene", "Trial"]
