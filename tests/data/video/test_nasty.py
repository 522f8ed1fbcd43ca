"""Every nasty file has its outcome: the right frames, a flagged clip, or a refusal in words."""

import os
import struct
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from data.video import DecoderPool, Job, Limits, Sampling, VideoError, probe, read, read_sampled

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
        ("dangling.mp4", "a link to nothing"),
        ("loop.mp4", "a link that loops"),
        ("absent.mp4", "no such file"),
        ("zero\0byte.mp4", "a name with a zero byte"),
    ):
        began = time.monotonic()
        with pytest.raises(VideoError, match=words):
            read(tmp_path / name, [0])
        assert time.monotonic() - began < 1
    with pytest.raises(VideoError, match="a device, not a video file"):
        read("/dev/zero", [0])


def test_protocols_in_a_name_are_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.mp4|b.mp4", "pipe:0", "http://127.0.0.1:9/x.mp4", "data:text/plain,x"):
        with pytest.raises(VideoError, match="no such file"):
            read(name, [0])


@pytest.mark.parametrize(
    "name",
    ["-i.mp4", "two words.mp4", "пример视频🎥.mp4", "wrong.avi", "none", "%03d.mp4", "a:b.mp4"],
)
def test_names_and_endings_do_not_matter(name, honest, tmp_path, monkeypatch):
    source = honest("h264_short_gop")
    (tmp_path / name).write_bytes(source.read_bytes())
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read(name, [7, 3]).frames, read(source, [7, 3]).frames)


def mux_silence(out, stream, *, samples: int) -> None:
    """One frame of silence, which ends the stream."""
    silence = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.float32), "fltp", "mono")
    silence.sample_rate = 16000
    out.mux(stream.encode(silence))
    out.mux(stream.encode(None))


def test_audio_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        mux_silence(out, stream, samples=1024)
    with pytest.raises(VideoError, match=r"no video stream \(it holds audio\)"):
        read(path, [0])


def test_an_encrypted_stream_is_refused(clips_made, tmp_path):
    path = clips_made.make(
        tmp_path / "encrypted.mp4",
        container_options={
            "encryption_scheme": "cenc-aes-ctr",
            "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
            "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
        },
    )
    with pytest.raises(VideoError, match="its video stream is encrypted"):
        read(path, [0])


def damaged(path: Path, words: str) -> None:
    """`path` fails by default with `words`, and can be read where damage is accepted."""
    with pytest.raises(VideoError, match=words):
        read_sampled(path, Sampling(frames=4))
    batch, info = read_sampled(path, Sampling(frames=4), accept_damaged=True)
    assert info.damage
    assert info.decodable_frames == info.shown_frames
    assert len(batch) == 4


@pytest.mark.parametrize("name", ["h264_short_gop", "h264_no_count", "mjpeg", "vp9"])
def test_cut_files_are_flagged(name, honest, tmp_path):
    source = honest(name)
    data = source.read_bytes()
    if source.suffix == ".mp4":  # with its index in front, or nothing could be read
        with (
            av.open(str(source)) as given,
            av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as out,
        ):
            copy = out.add_stream_from_template(given.streams.video[0])
            for packet in given.demux(video=0):
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
        data = (tmp_path / "front.mp4").read_bytes()
    cut = tmp_path / f"cut{source.suffix}"
    cut.write_bytes(data[: len(data) * 6 // 10])
    damaged(cut, r"damaged: .* presented, \d+ decode \(.*the file ends [\d,]+ bytes before")


def test_flipped_bytes_inside_frames_are_flagged(honest, clips_made, tmp_path):
    def edit(data: bytearray) -> None:
        start = data.index(b"mdat")
        for at in range(start + 3000, start + 12000, 250):
            data[at] ^= 0xFF

    path = clips_made.patched(honest("h264_short_gop"), tmp_path / "flipped.mp4", edit)
    with pytest.raises(VideoError, match=r"damaged: header claims 60 frames, 60 are presented"):
        read(path, range(60))


def test_one_corrupt_frame_of_fifty(shared):
    path = shared / "videos" / "corrupted_49_of_50.mp4"
    damaged(path, "damaged: header claims 50 frames, 50 are presented, 49 decode")


def test_a_header_that_claims_sixteen_million(clips_made, tmp_path):
    def edit(data: bytearray) -> None:
        at = data.index(b"stsz") + 8
        size, count = struct.unpack_from(">II", data, at)
        assert (size, count) == (16 * 16 * 3, 50)
        struct.pack_into(">I", data, at + 4, 16_777_215)
        struct.pack_into(">I", data, data.index(b"stts") + 12, 16_777_215)

    whole = clips_made.make(
        tmp_path / "whole.mov", codec="rawvideo", pixels="rgb24", size=(16, 16), frames=50
    )
    path = clips_made.patched(whole, tmp_path / "claims.mov", edit)
    began = time.monotonic()
    damaged(path, "header claims 16,777,215 frames, 50 are presented, 50 decode")
    assert time.monotonic() - began < 20


HUGE = 16_000  # a side: 256 megapixels, the most that FFmpeg agrees to decode at all


@pytest.fixture(scope="module")
def huge(clips_made, tmp_path_factory) -> dict[str, Path]:
    """Films of one picture of 256 megapixels, in 500 KB: of an honest header, and of one that lies.

    `small` is made in the same way of a picture of 128 x 128.
    """
    folder, still = tmp_path_factory.mktemp("huge"), clips_made.grey_png(HUGE)
    return {
        "honest": clips_made.png_film(folder / "honest.mov", still, claimed=HUGE),
        "lies": clips_made.png_film(folder / "lies.mov", still, claimed=16),
        "small": clips_made.png_film(folder / "small.mov", clips_made.grey_png(128), claimed=128),
    }


TOO_LARGE = "its frames have no size, or one beyond the limit of 67,108,864 pixels"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("honest", "its frames of 16000x16000 are 256,000,000 pixels, the limit is 67,108,864"),
        ("lies", TOO_LARGE),
    ],
)
def test_a_small_file_with_huge_frames(name, words, huge):
    assert huge[name].stat().st_size < 600_000
    assert read(huge["small"], [1]).frames.shape == (1, 128, 128, 3)  # such a film is one
    began = time.monotonic()
    with pytest.raises(VideoError, match=f"{name}.mov: {words}$"):
        read(huge[name], [1])
    with pytest.raises(VideoError, match=f"{name}.mov: {TOO_LARGE}$"):
        probe(huge[name])
    assert time.monotonic() - began < 5  # unfolding it twice takes longer


@pytest.mark.slow
@pytest.mark.parametrize("name", ["honest", "lies"])
def test_where_the_limit_is_raised_huge_frames_are_read_or_run_out_of_memory(name, huge):
    jobs = [
        Job(
            path=huge[name],
            sampling=Sampling(frames=1),
            limits=Limits(pixels=HUGE**2, memory_bytes=memory, batch_bytes=memory),
        )
        for memory in (1 << 30, 8 << 30)
    ]
    with DecoderPool(workers=1) as pool:
        first, second = pool.map(jobs)
    assert first.error.reason == "reading it takes more memory than is allowed"
    assert second.batch.frames.shape == (1, HUGE, HUGE, 3)


def test_a_start_in_the_middle_of_a_group(honest, clips_made, tmp_path):
    path = clips_made.remuxed(
        honest("h264_short_gop"), tmp_path / "middle.mkv", change=lambda n, _: n >= 5
    )
    damaged(path, r"damaged: 55 are presented, \d+ decode")


@pytest.mark.parametrize("missing", [False, True])
def test_duplicate_and_missing_timestamps(missing, honest, clips_made, tmp_path):
    earlier = []

    def change(n, packet):
        earlier.append(packet.pts)
        if n == 7:
            packet.pts = packet.dts = earlier[6]
        return True

    source = honest("h264_no_b")
    if missing:
        path = honest("h264_raw")
    else:
        path = clips_made.remuxed(source, tmp_path / "twice.mkv", change=change)
    with av.open(str(path)) as opened:
        reference = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
    assert len(reference) == 40
    batch, info = read_sampled(path, Sampling(frames=40))
    np.testing.assert_array_equal(batch.frames, np.stack(reference))
    assert (np.diff(batch.pts_seconds) >= 0).all()
    assert any("timestamp" in note for note in info.notes)


@pytest.mark.parametrize("ending", ["h264", "ts", "mkv", "mp4"])
def test_a_change_of_size_in_mid_stream(ending, clips_made, tmp_path):
    parts = [
        clips_made.make(tmp_path / f"{n}.h264", size=size, frames=12, options={"bf": "0"})
        for n, size in enumerate([(96, 64), (64, 48)])
    ]
    path = tmp_path / "changes.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))

    def stamp(n, packet):
        packet.time_base, packet.pts, packet.dts = Fraction(1, 1000), 40 * n, 40 * n
        return True

    if ending != "h264":
        path = clips_made.remuxed(path, tmp_path / f"changes.{ending}", change=stamp)
    words = "its frames change size from 96x64 to 64x48 in mid-stream"
    with pytest.raises(VideoError, match=f"changes.{ending}: {words}$"):
        read_sampled(path, Sampling(frames=8))
    before = read_sampled(path, Sampling(frames=4), end=0.4)[0]
    assert before.frames.shape == (4, 64, 96, 3)


def test_two_transport_streams_run_together_are_damaged(clips_made, tmp_path):
    parts = [
        clips_made.make(tmp_path / f"{n}.ts", size=size, frames=12, options={"bf": "0"})
        for n, size in enumerate([(96, 64), (64, 48)])
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    words = r"damaged: 24 are presented, 24 decode \(1 of 24 packets are marked corrupt\)$"
    with pytest.raises(VideoError, match=words):
        read_sampled(path, Sampling(frames=8))


@pytest.mark.parametrize("first", [False, True])
def test_a_cover_image_is_never_the_video(first, clips_made, tmp_path):
    one = clips_made.with_cover(tmp_path / "one.mp4", frames=1, first=first)
    path = clips_made.with_cover(tmp_path / "film.mp4", frames=20, first=first)
    for film, count in ((one, 1), (path, 20)):
        info = probe(film)
        assert (info.codec, info.width, info.height, info.shown_frames) == ("h264", 96, 64, count)
        assert len(info.streams) == 3
        assert info.notes == ()
        assert read(film, [count - 1]).frames.shape == (1, 64, 96, 3)


def test_sound_with_a_cover_image_is_no_video(clips_made, tmp_path):
    path = clips_made.with_cover(tmp_path / "song.mp4", frames=0)
    with av.open(str(path)) as opened:
        assert [stream.type for stream in opened.streams] == ["audio", "video"]
    for call in (lambda: read(path, [0]), lambda: probe(path)):
        with pytest.raises(VideoError, match=r"no video stream \(it holds audio, a cover image\)$"):
            call()


def test_a_matroska_attachment_is_no_video(clips_made, tmp_path):
    path = tmp_path / "attached.mka"
    with av.open(str(path), "w", format="matroska") as out:
        sound = out.add_stream("aac", rate=16000)
        out.add_attachment("cover.png", "image/png", clips_made.grey_png(64))
        mux_silence(out, sound, samples=1024)
    with pytest.raises(VideoError, match=r"no video stream \(it holds audio, a cover image\)$"):
        read(path, [0])


def test_an_mp3_with_a_cover_is_no_video(clips_made, tmp_path):
    path, still = tmp_path / "song.mp3", clips_made.grey_png(64)
    with av.open(str(path), "w") as out:
        sound = out.add_stream("libmp3lame", rate=16000)
        mux_silence(out, sound, samples=1152)

    def sized(content: bytes) -> bytes:  # ID3v2.4: seven bits a byte
        return bytes(len(content) >> shift & 127 for shift in (21, 14, 7, 0))

    cover = b"\0image/png\0\x03\0" + still
    tag = b"APIC" + sized(cover) + b"\0\0" + cover
    path.write_bytes(b"ID3\x04\0\0" + sized(tag) + tag + path.read_bytes())
    with av.open(str(path)) as opened:
        assert opened.streams.video, "FFmpeg shows the cover as a stream of video"
    with pytest.raises(VideoError, match=r"song\.mp3: not in a video format that is read here$"):
        read(path, [0])


@pytest.mark.parametrize("ending", ["jpg", "mjpeg", "mp4"])
def test_a_still_jpeg_is_named(ending, clips_made, tmp_path):
    made = clips_made.make(
        tmp_path / "one.mjpeg", codec="mjpeg", pixels="yuvj420p", frames=1, format="mjpeg"
    )
    path = tmp_path / f"still.{ending}"
    path.write_bytes(made.read_bytes())
    with pytest.raises(VideoError, match=r"a still image \(JPEG\), not a video$"):
        read(path, [0])


def test_an_animation_is_a_video_and_a_still_png_is_not(honest, clips_made, tmp_path):
    for name, frames in (("gif", 40), ("apng_alpha", 40)):
        assert read_sampled(honest(name), Sampling(frames=4))[1].shown_frames == frames
    (tmp_path / "still.apng").write_bytes(clips_made.grey_png(64))
    with pytest.raises(VideoError, match=r"a still image \(PNG\), not a video$"):
        read(tmp_path / "still.apng", [0])


def test_a_turn_by_no_right_angle_is_refused(clips_made, tmp_path):
    path = clips_made.make(
        tmp_path / "askew.mp4", setup=lambda stream: stream.set_display_rotation(33)
    )
    with pytest.raises(VideoError, match="no multiple of 90 degrees"):
        read(path, [0])
