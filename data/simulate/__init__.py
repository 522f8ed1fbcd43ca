"""Scenes with known physics, rendered to real video files."""

from data.simulate.generate import SCENES, SimulationError, simulate
from data.simulate.rendering import contact_sheet, preview
from data.simulate.rendering import write as encode_video

__all__ = ["SCENES", "SimulationError", "contact_sheet", "encode_video", "preview", "simulate"]
