"""What is no video is refused with a reason."""

import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from data.video import (
    Sampling,
    VideoError,
    check_regular_file,
    probe,
    read,
    read_sampled,
)
from tests.helpers import clips, recordings

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108020000009077 53de0000000c4944415408d763"
    "f8cfc000000301010018dd8db00000000049454e44ae426082".replace(" ", "")
)


WRITTEN = {
    "lfs.mp4": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
        "a git-lfs pointer, not a video",
    ),
    "text.mp4": (b"Dear diary,\n" * 50, "a text file, not a video"),
    "page.mp4": (b"<!DOCTYPE html><html><body>404", "an HTML page, not a video"),
    "empty.mp4": (b"", r"an empty file \(0 bytes\), not a video"),
    "still.mp4": (PNG, r"a still image \(PNG\), not a video"),
    "list.mp4": (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "a playlist that points at other files"),
    "concat.mp4": (b"ffconcat version 1.0\nfile /etc/passwd\n", "a playlist that points at other"),
    "dash.mp4": (b"<?xml version='1.0'?><MPD></MPD>", "an XML document, not a video"),
    "session.mp4": (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n", "a playlist that points at other"),
    "noise.mp4": (bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)), "not a video"),
    "zip.mp4": (b"PK\x03\x04" + bytes(100), "a zip archive, not a video"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_no_video_is_named(name, tmp_path):
    content, words = WRITTEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=rf"{name}: {words}"):
        read(tmp_path / name, [0])
    with pytest.raises(VideoError, match=words):
        probe(tmp_path / name)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    for name, words in (
        ("fifo.mp4", "a FIFO, not a video file"),
        ("folder.mp4", "a folder, not a video file"),
        ("dangling.mp4", "a symbolic link to a missing file"),
        ("loop.mp4", "a symbolic link that leads to itself"),
        ("absent.mp4", "no such file"),
        ("zero\0byte.mp4", "a name with a zero byte"),
    ):
        with pytest.raises(VideoError, match=words):
            read(tmp_path / name, [0])
    with pytest.raises(VideoError, match="a device, not a video file"):
        read("/dev/zero", [0])


# A request, lists, pipes, a part of a file, numbered images, an option: for FFmpeg, not for us.
NAMES = (
    "http:/x.mp4", "tcp:/127.0.0.1:9", "concat:a.mp4|b.mp4", "pipe:0", "data:text,x", "file:a.mp4",
    "subfile,,start,0,end,9,,:/x", "x%03d.mp4", "-", "-x.mp4", "x.m3u8", "x.ffconcat", "x?y#z.mp4",
)  # fmt: skip


def test_protocols_in_a_name_are_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        with pytest.raises(VideoError, match="no such file"):
            read(name, [0])


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_a_file_of_such_a_name_is_read(clip_file, tmp_path, monkeypatch, decoder):
    if decoder == "decord":
        pytest.importorskip("decord")
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(clip_file("h264_128_wide").read_bytes())
        _, info = read_sampled(path, Sampling(frames=2), decoder=decoder)
        assert (info.decoder, info.notes) == (decoder, ())


def test_a_name_that_stands_for_numbered_images_reads_none_of_them(clip_file, tmp_path):
    for number in range(1, 4):
        (tmp_path / f"{number:03d}.png").write_bytes(clips.grey_png(64))
    pattern = tmp_path / "%03d.png"
    with pytest.raises(VideoError, match="no such file"):
        read(pattern, [0])
    pattern.write_bytes(clip_file("h264_short_gop").read_bytes())
    with pytest.raises(VideoError, match="not in a video format that is read here"):
        read(pattern, [0])


def test_torchcodec_is_given_a_file_and_no_request(clip_file, tmp_path, monkeypatch):
    """Whatever is installed: the module is a stand-in that notes what it is to open."""
    pytest.importorskip("torch")
    asked = []

    class VideoDecoder:
        def __init__(self, source: str, **options: object) -> None:
            asked.append(source)
            raise RuntimeError("not today")

    modules = {"torchcodec": ModuleType("torchcodec"), "torchcodec.decoders": ModuleType("d")}
    modules["torchcodec.decoders"].VideoDecoder = VideoDecoder
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(tmp_path)
    path = Path("http:/x.mp4")
    path.parent.mkdir()
    path.write_bytes(clip_file("h264_short_gop").read_bytes())
    _, info = read_sampled(path, Sampling(frames=2), decoder="torchcodec")
    assert info.notes == ("read by pyav: torchcodec fails: not today",)
    assert set(asked) == {f"file:{tmp_path}/http:/x.mp4"}


def test_a_large_file_that_was_never_written_is_refused_before_it_is_read(clip_file, tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(clip_file("h264_short_gop").read_bytes())
    os.truncate(path, 2 << 30)
    with pytest.raises(VideoError, match=r"x\.mp4: hardly any of its 2,147,483,648 bytes"):
        check_regular_file(path)
    os.truncate(path, 1 << 20)
    assert check_regular_file(path) == (path, 1 << 20)


@pytest.mark.parametrize("ending", ["jpg", "mjpeg", "mp4"])
def test_a_still_jpeg_is_named(ending, tmp_path):
    made = clips.encode(
        tmp_path / "one.mjpeg", codec="mjpeg", pixels="yuvj420p", frames=1, format="mjpeg"
    )
    path = tmp_path / f"still.{ending}"
    path.write_bytes(made.read_bytes())
    with pytest.raises(VideoError, match=r"a still image \(JPEG\), not a video$"):
        read(path, [0])


def test_a_still_jpeg_with_images_behind_it_is_one(tmp_path):
    """As phones write them: previews, gain maps and short films after the picture."""
    large = recordings.jpegs(tmp_path / "large.mjpeg", frames=2)
    small = recordings.jpegs(tmp_path / "small.mjpeg", frames=1, size=(48, 32))
    index = b"\xff\xe2\x00\x06MPF\0"
    film = clips.encode(tmp_path / "film.mp4", frames=3).read_bytes()
    for content in (
        large[0] + small[0],
        large[0][:2] + index + large[0][2:] + large[1],
        large[0] + film,
        large[0] + large[1][:200],
        large[0][:-200],
    ):
        path = tmp_path / "still.jpg"
        path.write_bytes(content)
        with pytest.raises(VideoError, match=r"a still image \(JPEG\), not a video$"):
            read(path, [0])


@pytest.mark.parametrize("flags", [0, 2])
def test_an_animated_webp_is_called_so(flags, tmp_path):
    path = tmp_path / "moves.webp"
    path.write_bytes(b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0" + bytes([flags]) + bytes(60))
    words = "an animated WebP, which is not read here: convert it to MP4" if flags else "a still "
    with pytest.raises(VideoError, match=f"moves.webp: {words}"):
        read(path, [0])


def test_an_animation_is_a_video_and_a_still_png_is_not(clip_file, tmp_path):
    for name, frames in (("gif", 40), ("apng_alpha", 40)):
        assert read_sampled(clip_file(name), Sampling(frames=4))[1].shown_frames == frames
    (tmp_path / "still.apng").write_bytes(clips.grey_png(64))
    with pytest.raises(VideoError, match=r"a still image \(PNG\), not a video$"):
        read(tmp_path / "still.apng", [0])
