"""TODO"""

from data.video.pyav.container import TIMED_FORMATS, checked, open_video
from data.video.pyav.packets import NOWHERE, OPEN
from data.video.pyav.sequential import Frames, Places
from data.video.pyav.session import Reading, Recounted

__all__ = [
    "NOWHERE",
    "OPEN",
    "TIMED_FORMATS",
    "Frames",
    "Places",
    "Reading",
    "Recounted",
    "checked",
    "open_video",
]
