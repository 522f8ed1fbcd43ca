"""TODO"""

from data.simulate.rendering.encode import write
from data.simulate.rendering.look import draw
from data.simulate.rendering.render import frames
from data.simulate.rendering.sheets import contact_sheet, preview

__all__ = ["contact_sheet", "draw", "frames", "preview", "write"]
