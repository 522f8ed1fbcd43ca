"""Makers of recordings as cameras, recorders, cutters and copies leave them: unusual, and whole."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tests.helpers.clips import X264, encode, patched, remuxed

TAG = "a tag of any kind"


def jpegs(path: Path, *, frames: int = 20, size: tuple[int, int] = (96, 64)) -> list[bytes]:
    """Return `frames` JPEGs that are made in a file at `path`."""
    encode(path, codec="mjpeg", pixels="yuvj420p", frames=frames, size=size, format="mjpeg")
    return [b"\xff\xd8" + image for image in path.read_bytes().split(b"\xff\xd8")[1:]]


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """Return a JPEG with an EXIF segment that says how the camera was held."""
    tag = struct.pack(">HHHIHH", 1, 0x112, 3, 1, orientation, 0)
    body = b"Exif\0\0MM\0*\0\0\0\x08" + tag + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def multipart(images: list[bytes]) -> bytes:
    """Return JPEGs as a camera sends them over HTTP."""
    head = b"--frame\r\nContent-type: image/jpeg\r\nContent-length: %d\r\n\r\n%b\r\n"
    return b"".join(head % (len(image), image) for image in images)


def _exif(path: Path, orientation: int) -> Path:
    images = jpegs(path.with_suffix(".plain.mjpeg"))
    if path.suffix == ".mjpeg":
        return _written(path, b"".join(with_exif(image, orientation) for image in images))
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for n, image in enumerate(images):
            packet = av.Packet(with_exif(image, orientation))
            packet.stream, packet.is_keyframe, packet.duration = stream, True, 1
            packet.pts = packet.dts = n
            packet.time_base = Fraction(1, 25)
            out.mux(packet)
    return path


def _tagged(path: Path) -> Path:
    """A clip with a tag that is Latin-1, as old cameras and editors write it."""
    made = encode(path.with_suffix(f".utf8{path.suffix}"), options=X264)
    tagged = path.with_suffix(f".tagged{path.suffix}")
    with av.open(str(made)) as given, av.open(str(tagged), "w") as out:
        out.metadata["title"] = TAG
        copy: Any = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)

    def edit(data: bytearray) -> None:
        at = data.index(TAG.encode())
        data[at : at + len(TAG)] = TAG.replace("a", "\xe9").encode("latin-1")

    return patched(tagged, path, edit)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _raw_jpegs(path: Path) -> list[bytes]:
    return jpegs(path.with_suffix(".plain.mjpeg"))


def _duplicate_times(path: Path) -> Path:
    """Two frames of one time, as of a recorder with a coarse clock."""
    times: list[int | None] = []

    def change(n: int, packet: Any) -> bool:
        times.append(packet.pts)
        if n % 13 == 7:
            packet.pts = packet.dts = times[n - 1]
        return True

    made = encode(path.with_suffix(".mp4"), options=X264 | {"bf": "0", "g": "12"})
    return remuxed(made, path, change=change)


# Recordings by name: the file name extension, and the function that makes it. Each is whole: it
# reads as a sequential decode does, and nothing is called damage.
RECORDINGS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "exif_avi": ("avi", lambda p: _exif(p, 1)),
    "exif_turned_mkv": ("mkv", lambda p: _exif(p, 6)),
    "exif_turned_mov": ("mov", lambda p: _exif(p, 3)),
    "exif_turned_raw": ("mjpeg", lambda p: _exif(p, 8)),
    "latin1_mp4": ("mp4", _tagged),
    "latin1_mkv": ("mkv", _tagged),
    "latin1_avi": ("avi", _tagged),
    "raw_mjpeg": ("mjpeg", lambda p: _written(p, b"".join(_raw_jpegs(p)))),
    "raw_mjpeg_padded": ("jpg", lambda p: _written(p, b"\0\0".join(_raw_jpegs(p)))),
    "duplicate_times": ("mkv", _duplicate_times),
    "multipart_mjpeg": ("bin", lambda p: _written(p, multipart(_raw_jpegs(p)))),
}
