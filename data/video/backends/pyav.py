"""PyAV (FFmpeg), the reference: its frames are right by definition."""

from __future__ import annotations

from typing import Any

from data.video.backends.base import Backend
from data.video.frames import FrameIndices, Frames
from data.video.pyav import DecodeSession


def read_frames(session: DecodeSession, indices: FrameIndices, device: str) -> Frames:
    """Return the frames at `indices`, uint8 (T, H, W, 3), decoded on the CPU."""
    return session.frames(indices)


def versions() -> dict[str, Any]:
    """Return the versions of PyAV and of the FFmpeg libraries that decide pixels."""
    import av

    libraries = {
        library: ".".join(str(part) for part in number)
        for library, number in sorted(av.library_versions.items())
        if library in ("libavcodec", "libavformat", "libswscale")
    }
    return {"version": av.__version__, "ffmpeg": libraries}


BACKEND = Backend(name="pyav", read=read_frames, versions=versions, packages=("av",))
