"""Where the packets of long recordings are: MP4's tables, Matroska's blocks, packs of MPEG.

PyAV gives packets one after the other, each an object, which decides how long a clip of hours takes
to open. A table is used only where it is simple and FFmpeg agrees (`SampleTable.is_confirmed`); the
rest is left to FFmpeg, packet by packet.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data.video.pyav.sample_tables import matroska, mp4, program, transport
from data.video.pyav.sample_tables.program_table import ProgramTable
from data.video.pyav.sample_tables.table import SampleTable, UnusualTable
from data.video.pyav.sample_tables.transport_table import TransportTable

if TYPE_CHECKING:
    from av.video.stream import VideoStream

# Reading fewer packets is quicker than reading their tables, and shows more of the file.
FEWEST_SAMPLES = 2_000

# By FFmpeg's name of the format.
_FINDERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": mp4.find_samples,
    "matroska,webm": matroska.find_samples,
    "mpegts": transport.find_samples,
    "mpeg": program.find_samples,
}

# By their names, for what is kept of them.
TABLES = {table.__name__: table for table in (SampleTable, TransportTable, ProgramTable)}


def find_samples(path: Path, form: str, stream: VideoStream) -> SampleTable | None:
    """Return where the packets of a stream are, None where that is not simple; none is read.

    Args:
        path: The file.
        form: FFmpeg's name of its format.
        stream: Its stream.

    Raises:
        OSError: The file cannot be read.
    """
    find = _FINDERS.get(form)
    try:
        return None if find is None else find(path, stream, FEWEST_SAMPLES)
    except (UnusualTable, MemoryError):
        return None


__all__ = ["TABLES", "SampleTable", "find_samples"]
