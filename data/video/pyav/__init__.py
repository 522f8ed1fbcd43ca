"""The reference decoder: PyAV (FFmpeg), with an index of packets that makes random access exact.

`open_video` opens a file (`sniffing` refuses what is no video, `container` indexes the packets of
its stream, `packets` reads what each packet is), and a `DecodeSession` counts its frames, gives
them times and decodes them: by random access (`seek`) or from the start (`sequential`).
"""

from data.video.pyav.container import TIMED_FORMATS, open_video
from data.video.pyav.packets import NO_ENTRY, OPEN_ENTRY
from data.video.pyav.session import DecodeSession, FrameCountChanged
from data.video.pyav.sniffing import check_regular_file, file_url

__all__ = [
    "NO_ENTRY",
    "OPEN_ENTRY",
    "TIMED_FORMATS",
    "DecodeSession",
    "FrameCountChanged",
    "check_regular_file",
    "file_url",
    "open_video",
]
