"""What a file is, before FFmpeg sees it: what is no video is refused with a reason.

Only regular files, and only formats that hold their media themselves: a playlist that points at
other files would make FFmpeg read them.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from data.files import hint_for_missing, is_hollow
from data.video.frames import LimitExceeded, Limits, VideoError

# FFmpeg's demuxers of self-contained media. Left out on purpose: hls, dash, concat, sdp, image
# sequences and whatever else opens other files, and tty, which reads any text as a video.
FORMATS = (
    "mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "live_flv", "asf", "ogg",
    "gif", "apng", "ivf", "obu", "av1", "h264", "hevc", "vvc", "evc", "m4v", "mjpeg", "mpjpeg",
    "yuv4mpegpipe", "nut", "mxf", "rm", "dv", "gxf", "wtv", "vc1", "h263", "h261",
)  # fmt: skip

_PLAYLIST = "a playlist that points at other files, not a video"
_SIGNATURES = (
    (b"version https://git-lfs", "a git-lfs pointer, not a video (run `git lfs pull`)"),
    (b"#EXTM3U", _PLAYLIST),
    (b"ffconcat version", _PLAYLIST),
    (b"[playlist]", _PLAYLIST),
    (b"v=0\r\n", _PLAYLIST),
    (b"v=0\n", _PLAYLIST),
    (b"\x89PNG\r\n\x1a\n", "a still image (PNG), not a video"),
    (b"BM", "a still image (BMP), not a video"),
    (b"II*\x00", "a still image (TIFF), not a video"),
    (b"MM\x00*", "a still image (TIFF), not a video"),
    (b"PK\x03\x04", "a zip archive, not a video"),
    (b"\x1f\x8b", "a gzip archive, not a video"),
    (b"%PDF", "a PDF document, not a video"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, not a video"),
)
_MAX_JPEG = 32 << 20  # bytes in which one frame of Motion-JPEG is looked for
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # one that ends the data of a scan
_STILL_BRANDS = {b"avif": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def file_url(path: Path | str) -> str:
    """Return how a decoding library is told of a file, whatever the file's name.

    Without it, the files `concat:a`, `http:/x.mp4` and `-` are a list, a request and a pipe.
    """
    return f"file:{os.path.abspath(path)}"


def check_regular_file(path: Path | str, limits: Limits | None = None) -> tuple[Path, int]:
    """Return the path of a regular file and its size in bytes.

    The file is not opened unless it is regular, since opening a FIFO hangs.

    Raises:
        VideoError: It is missing, empty, not a regular file, larger than `limits`, or large and
            hardly written (a sparse file takes as long to read as a written one).
    """
    path, limits = Path(path), limits or Limits.in_force()
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if path.is_symlink():
            reason = "a symbolic link to a missing file"
        else:
            reason = f"no such file{hint_for_missing(path)}"
        raise VideoError(path, reason) from None
    except OSError as error:
        loops = error.errno == errno.ELOOP
        reason = "a symbolic link that leads to itself" if loops else str(error.strerror)
        raise VideoError(path, reason) from None
    except ValueError:
        raise VideoError(path, "a name with a zero byte, which no file can have") from None
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
        raise VideoError(path, f"{kind}, not a video file")
    if not status.st_size:
        raise VideoError(path, "an empty file (0 bytes), not a video")
    if status.st_size > limits.bytes:
        reason = f"{status.st_size:,} bytes, the limit is {limits.bytes:,}"
        raise LimitExceeded(path, reason, "--max-duration")
    if is_hollow(path):
        raise VideoError(path, f"hardly any of its {status.st_size:,} bytes were ever written")
    return path, status.st_size


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file, enough to tell what it is.

    Raises:
        VideoError: It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(512)
    except OSError as error:
        raise VideoError(path, str(error.strerror)) from None


def identify_non_video(head: bytes) -> str | None:
    """Return what a file is if its first bytes show that it is no video, else None."""
    if head.startswith(b"\x89PNG") and b"acTL" in head:
        return None  # an animation
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        return f"a still image ({_STILL_BRANDS[head[8:12]]}), not a video"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        if head[12:16] == b"VP8X" and len(head) > 20 and head[20] & 2:
            return "an animated WebP, which is not read here: convert it to MP4 or GIF first"
        return "a still image (WebP), not a video"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for signature, kind in _SIGNATURES:
        if head.startswith(signature) or text.startswith(signature):
            return kind
    text = text.lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, not a video"
    if text.startswith((b"<?xml", b"<mpd", b"<smil", b"<svg")):
        return "an XML document, not a video"
    return None


def demuxer_of(path: Path, head: bytes) -> str | None:
    """Return the format to open a file as; None where FFmpeg finds it out.

    FFmpeg takes a file of JPEGs, one after the other, for one image.
    """
    return "mjpeg" if head.startswith(b"\xff\xd8\xff") and _is_motion_jpeg(path) else None


def _is_motion_jpeg(path: Path) -> bool:
    """Return whether a JPEG of the same size follows the first, as in raw Motion-JPEG.

    An image with smaller ones behind it, as of phones, is one still image, and says so in a segment
    of its own (CIPA DC-007).
    """
    with open(path, "rb") as file:
        data = file.read(2 * _MAX_JPEG)
    first, end = _jpeg_frame(data, 0)
    second = data[end : end + 4096].find(b"\xff\xd8\xff")
    if not first or second < 0 or data[end : end + second].strip(b"\0\xff\r\n"):
        return False
    return first == _jpeg_frame(data, end + second)[0]


def _jpeg_frame(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the size of a JPEG that begins at `at`, as its header has it, and where it ends.

    The size is empty where there is no whole image, or where others belong to it.
    """
    size = b""
    at += 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == 0xFF:  # a fill byte
            at += 1
        elif kind == 0xD9:
            return size, at + 2
        elif kind == 0xE2 and data[at + 4 : at + 8] == b"MPF\0":
            break
        else:
            if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
                size = data[at + 5 : at + 9]
            at += 2 + length
            if kind == 0xDA:
                marker = _JPEG_MARKER.search(data, at)
                at = marker.start() if marker else len(data)
    return b"", len(data)


def open_error_reason(head: bytes, error: Exception) -> str:
    """Return why FFmpeg did not open a file that begins with `head`."""
    from av.error import ArgumentError, InvalidDataError

    if head.startswith(b"\xff\xd8\xff"):
        return "a still image (JPEG), not a video"
    if _is_text(head):
        return "a text file, not a video"
    if isinstance(error, MemoryError):
        return "opening it takes more memory than is allowed (--max-memory)"
    if isinstance(error, InvalidDataError):
        return "not a video, or too damaged to open"
    if isinstance(error, ArgumentError):
        return "not in a video format that is read here"
    return f"cannot be opened ({getattr(error, 'strerror', None) or error})"


def ffmpeg_reason(error: BaseException) -> str:
    """Return the message of an FFmpeg error without its number and the file's name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not just a character cut in two
            return False
        text = head[: error.start].decode("utf-8")
    return all(letter.isprintable() or letter.isspace() for letter in text)
