"""Trials drawn as video: background by ray casting, pucks and shadows on top, H.264.

appearance = sample_appearance(rng, blocks=2, pucks=1)
encode_video(render_frames(trial, appearance, size=256), path, fps=24, size=256)
"""

from data.simulate.rendering.appearance import sample_appearance
from data.simulate.rendering.camera import sample_sway
from data.simulate.rendering.encode import encode_video
from data.simulate.rendering.nuisance import sample_nuisance
from data.simulate.rendering.previews import contact_sheet, preview
from data.simulate.rendering.render import render_frames

__all__ = [
    "contact_sheet",
    "encode_video",
    "preview",
    "render_frames",
    "sample_appearance",
    "sample_nuisance",
    "sample_sway",
]
