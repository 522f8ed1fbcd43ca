"""Scenes with known physics, rendered to real video files.

manifest = simulate("ramp", Path("clips"), grid=5, per_cell=12)
"""

from data.simulate.generate import CONTACT_SHEET, PREVIEW, SimulationError, simulate
from data.simulate.rendering import contact_sheet, encode_video, preview
from data.simulate.scenes import SCENES

__all__ = [
    "CONTACT_SHEET",
    "PREVIEW",
    "SCENES",
    "SimulationError",
    "contact_sheet",
    "encode_video",
    "preview",
    "simulate",
]
