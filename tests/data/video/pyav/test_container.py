"""Opening a file: its stream, its packets, its claims."""

import struct
from pathlib import Path

import av
import pytest

from data.video import (
    DecoderPool,
    Job,
    Limits,
    Sampling,
    VideoError,
    probe,
    read,
    read_sampled,
)
from data.video.pyav import open_video
from tests.helpers import clips, recordings
from tests.helpers.decoding import assert_damaged


def test_a_stream_that_begins_in_mid_file_is_an_error(clip_file):
    class Broken:
        def demux(self, stream):
            raise IndexError("list index out of range")

    with open_video(clip_file("h264_transport"), limits=Limits(), quick=True) as container:
        opened = container.input
        container.input = Broken()
        with pytest.raises(VideoError, match=r"\.ts: a stream begins in mid-file"):
            list(container.packets())
        container.input = opened


def test_audio_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        clips.mux_silence(out, stream, samples=1024)
    with pytest.raises(VideoError, match=r"no video stream \(it holds audio\)"):
        read(path, [0])


def test_a_header_that_claims_sixteen_million(tmp_path):
    def edit(data: bytearray) -> None:
        at = data.index(b"stsz") + 8
        size, count = struct.unpack_from(">II", data, at)
        assert (size, count) == (16 * 16 * 3, 50)
        struct.pack_into(">I", data, at + 4, 16_777_215)
        struct.pack_into(">I", data, data.index(b"stts") + 12, 16_777_215)

    whole = clips.encode(
        tmp_path / "whole.mov", codec="rawvideo", pixels="rgb24", size=(16, 16), frames=50
    )
    path = clips.patched(whole, tmp_path / "claims.mov", edit)
    assert_damaged(path, "header claims 16,777,215 frames, 50 are presented, 50 decode")


HUGE = 16_000  # pixels a side: 256 megapixels, the most that FFmpeg decodes at all


@pytest.fixture(scope="module")
def huge(tmp_path_factory) -> dict[str, Path]:
    """Videos of one image of 256 megapixels, in 500 KB, whose header has its size or a wrong one.

    `small` is made in the same way from an image of 128 x 128.
    """
    folder, still = tmp_path_factory.mktemp("huge"), clips.grey_png(HUGE)
    return {
        "right": clips.png_video(folder / "right.mov", still, claimed=HUGE),
        "wrong": clips.png_video(folder / "wrong.mov", still, claimed=16),
        "small": clips.png_video(folder / "small.mov", clips.grey_png(128), claimed=128),
    }


TOO_LARGE = r"its frames have no size, or one above the limit of 67,108,864 pixels \(--max-pixels\)"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "right",
            "its frames of 16000x16000 are 256,000,000 pixels, the limit is 67,108,864 "
            r"\(--max-pixels lifts it\)",
        ),
        ("wrong", TOO_LARGE),
    ],
)
def test_a_small_file_with_huge_frames(name, reason, huge):
    assert huge[name].stat().st_size < 600_000
    assert read(huge["small"], [1]).frames.shape == (1, 128, 128, 3)  # such a video can be read
    with pytest.raises(VideoError, match=f"{name}.mov: {reason}$"):
        read(huge[name], [1])
    with pytest.raises(VideoError, match=f"{name}.mov: {TOO_LARGE}$"):
        probe(huge[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["right", "wrong"])
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
    assert first.error.reason == "reading it takes more memory than is allowed (--max-memory)"
    assert second.batch.frames.shape == (1, HUGE, HUGE, 3)


def test_a_start_in_the_middle_of_a_group(clip_file, tmp_path):
    path = clips.remuxed(
        clip_file("h264_short_gop"), tmp_path / "middle.mkv", change=lambda n, _: n >= 5
    )
    assert_damaged(path, r"damaged: 55 are presented, \d+ decode")


def test_transport_streams_of_two_sizes_run_together_have_no_one_size(tmp_path):
    parts = [
        clips.encode(tmp_path / f"{n}.ts", size=size, frames=12, options={"bf": "0"})
        for n, size in enumerate([(96, 64), (64, 48)])
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(VideoError, match="its frame size changes from 96x64 to 64x48 in mid-str"):
        read_sampled(path, Sampling(frames=8))
    assert read(path, [0, 11]).frames.shape == (2, 64, 96, 3)
    assert read(path, [12, 23]).frames.shape == (2, 48, 64, 3)


@pytest.mark.parametrize("lost", [(60, 61), (92, 93)])
def test_a_transport_stream_that_lost_packets_is_damaged(lost, tmp_path):
    whole = recordings.joined(tmp_path / "whole.ts", [5, 30], options=clips.X264 | {"bf": "0"})
    data, (first, last) = whole.read_bytes(), lost
    path = tmp_path / "lost.ts"
    path.write_bytes(data[: first * 188] + data[last * 188 :])
    with pytest.raises(VideoError, match=r"damaged: \d+ are presented, .* packets are marked corr"):
        read_sampled(path, Sampling(frames=8))


@pytest.mark.parametrize("first", [False, True])
def test_a_cover_image_is_never_the_video(first, tmp_path):
    one = clips.with_cover(tmp_path / "one.mp4", frames=1, first=first)
    path = clips.with_cover(tmp_path / "film.mp4", frames=20, first=first)
    for film, count in ((one, 1), (path, 20)):
        info = probe(film)
        assert (info.codec, info.width, info.height, info.shown_frames) == ("h264", 96, 64, count)
        assert len(info.streams) == 3
        assert info.notes == ()
        assert read(film, [count - 1]).frames.shape == (1, 64, 96, 3)


def test_sound_with_a_cover_image_is_no_video(tmp_path):
    path = clips.with_cover(tmp_path / "song.mp4", frames=0)
    with av.open(str(path)) as opened:
        assert [stream.type for stream in opened.streams] == ["audio", "video"]
    for call in (lambda: read(path, [0]), lambda: probe(path)):
        with pytest.raises(VideoError, match=r"no video stream \(it holds audio, a cover image\)$"):
            call()


def test_a_matroska_attachment_is_no_video(tmp_path):
    path = tmp_path / "attached.mka"
    with av.open(str(path), "w", format="matroska") as out:
        sound = out.add_stream("aac", rate=16000)
        out.add_attachment("cover.png", "image/png", clips.grey_png(64))
        clips.mux_silence(out, sound, samples=1024)
    with pytest.raises(VideoError, match=r"no video stream \(it holds audio, a cover image\)$"):
        read(path, [0])


def test_an_mp3_with_a_cover_is_no_video(tmp_path):
    path, still = tmp_path / "song.mp3", clips.grey_png(64)
    with av.open(str(path), "w") as out:
        sound = out.add_stream("libmp3lame", rate=16000)
        clips.mux_silence(out, sound, samples=1152)

    def sized(content: bytes) -> bytes:  # ID3v2.4: seven bits a byte
        return bytes(len(content) >> shift & 127 for shift in (21, 14, 7, 0))

    cover = b"\0image/png\0\x03\0" + still
    tag = b"APIC" + sized(cover) + b"\0\0" + cover
    path.write_bytes(b"ID3\x04\0\0" + sized(tag) + tag + path.read_bytes())
    with av.open(str(path)) as opened:
        assert opened.streams.video, "FFmpeg shows the cover as a stream of video"
    with pytest.raises(VideoError, match=r"song\.mp3: not in a video format that is read here$"):
        read(path, [0])
