"""Reading: frames are bit for bit those of a full sequential decode."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from data.video import (
    DECODERS,
    Limits,
    Sampling,
    VideoError,
    describe,
    probe,
    read,
    read_sampled,
)
from tests.helpers import clips
from tests.helpers.clips import CLIPS
from tests.helpers.decoding import assert_damaged, sequential
from tests.helpers.recordings import RECORDINGS

REAL_CLIPS = [
    "pendulum_leaf.mov",
    "pancake_no_frame_count.mkv",
    "people_h264.mp4",
    "two_streams_nasa.mp4",
    "throw.mp4",
    "brownian_particles.mov",
    "rotated_0.mov",
    "rotated_180.mov",
    "rotated_270.mov",
    "rotated_90.mov",
    "claims_87_has_82.mov",
    "av1.mkv",
    "hevc_10bit.mp4",
    "carphone.mp4",
    "small_robot.mp4",
]


def test_without_indices_every_frame_is_read(tmp_path):
    film = clips.encode(tmp_path / "film.mp4", codec="mpeg4", frames=20)
    whole, _, _ = sequential(film)
    batch = read(film)
    assert batch.index.tolist() == list(range(len(whole)))
    assert np.array_equal(batch.frames, whole)
    assert len(read(film, []).frames) == 0


def assert_exact(path: Path, rng: np.random.Generator) -> None:
    reference, pts, tick = sequential(path)
    n = len(reference)
    for wanted in (rng.integers(0, n, 7), rng.permutation(n)[:3], np.array([n - 1, 0, n - 1])):
        batch = read(path, wanted)
        assert batch.index.tolist() == wanted.tolist()
        for frame, index in zip(batch.frames, wanted, strict=True):
            np.testing.assert_array_equal(frame, reference[index])
    batch, info = read_sampled(path, Sampling(frames=4, pad=True))
    assert info.shown_frames == n
    np.testing.assert_array_equal(batch.frames[0], reference[0])
    if None not in pts and info.times_from == "timestamps":
        np.testing.assert_allclose(info.pts_seconds, (np.array(pts) - pts[0]) * tick, atol=1e-9)


@pytest.mark.parametrize("name", CLIPS)
def test_made_clips_read_exactly(name, clip_file):
    assert_exact(clip_file(name), np.random.default_rng(0))


@pytest.mark.parametrize("name", RECORDINGS)
def test_recordings_read_exactly_and_are_not_called_damaged(name, clip_file):
    path = clip_file(name)
    assert_exact(path, np.random.default_rng(3))
    info = probe(path, decoders=())
    assert info.damage == ()
    assert (np.diff(info.pts_seconds) >= 0).all()


@pytest.mark.parametrize(
    ("name", "frames", "seconds"),
    [
        ("01_restart_backwards.ts", 75, 2.96),
        ("01_restart_backwards.webm", 75, 2.96),
        ("02_opengop_start_mpeg2.mkv", 52, 2.04),
        ("03_mjpeg_exif.avi", 20, 1.9),
        ("04_latin1_tag.mp4", 25, 0.96),
        ("05_opengop_h264_cut.mkv", 75, 2.96),
        ("06_avi_dropped_mjpeg.avi", 40, 1.96),
        ("07_ts_segments_cat.ts", 100, 3.96),
        ("08_torchcodec_duplicate_times.webm", 50, 1.92),
        ("09_raw.mjpeg", 50, 1.96),
    ],
)
def test_small_videos_of_unusual_kinds(name, frames, seconds, shared):
    path = shared / "cases" / "frames" / name
    assert_exact(path, np.random.default_rng(6))
    info = probe(path, decoders=())
    assert (info.shown_frames, info.damage) == (frames, ())
    assert info.duration_seconds == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("name", REAL_CLIPS)
def test_real_clips_read_exactly(name, shared):
    assert_exact(shared / "videos" / name, np.random.default_rng(1))


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_alone_equals_the_frame_in_the_batch(name, clip_file):
    path = clip_file(name)
    n = probe(path, decoders=()).shown_frames
    whole = read(path, range(n))
    for index in np.random.default_rng(2).permutation(n)[:6]:
        np.testing.assert_array_equal(read(path, [index]).frames[0], whole.frames[index])


def test_no_frames_of_nothing(clip_file):
    batch = read(clip_file("h264_short_gop"), [])
    assert batch.frames.shape == (0, 64, 96, 3)
    assert len(batch) == 0


@pytest.mark.parametrize("wrong", [-1, 60, 10**9])
def test_indices_that_do_not_exist(wrong, clip_file):
    with pytest.raises(VideoError, match=f"no frame {wrong}: it shows 60, counted from 0"):
        read(clip_file("h264_short_gop"), [0, wrong])


@pytest.mark.parametrize("wrong", [[0.9, 2.0], [True, False], [10**30]])
def test_indices_that_are_no_whole_numbers(wrong, clip_file):
    """Cut down to whole numbers they would be other frames than meant."""
    with pytest.raises(ValueError, match="indices must be whole numbers, not "):
        read(clip_file("h264_short_gop"), wrong)


def test_start_and_end_bound_the_frames_by_their_times(clip_file):
    path = clip_file("h264_long_gop")  # 24 frames a second
    batch, _ = read_sampled(path, Sampling(frames=4), start=1.0, end=2.0)
    assert batch.index.tolist() == [24, 31, 39, 47]
    with pytest.raises(VideoError, match="the clip has 3 frames, 4 are asked for"):
        read_sampled(path, Sampling(frames=4), start=1.0, end=1.125)
    with pytest.raises(VideoError, match="the clip has 0 frames"):
        read_sampled(path, Sampling(frames=4), start=99.0)


def test_published_sampling_uses_the_frame_count_of_the_header(clip_file):
    """The header counts 120 frames, the edit list shows 50."""
    path = clip_file("edit_list")
    batch, _ = read_sampled(path, Sampling(name="published", frames=8))
    assert batch.index.tolist() == [0, 17, 34, 34, 34, 34, 34, 34]
    assert read_sampled(path, Sampling(frames=8))[0].index.tolist() == [
        0, 7, 14, 21, 28, 35, 42, 49,
    ]  # fmt: skip


def test_published_sampling_of_a_real_clip(shared):
    path = shared / "videos" / "claims_87_has_82.mov"
    batch, _ = read_sampled(path, Sampling(name="published", frames=8))
    assert batch.index.tolist() == [0, 12, 24, 36, 49, 61, 73, 73]  # 86 cannot be read
    assert read_sampled(path, Sampling(frames=8))[0].index.tolist() == [
        0, 11, 23, 34, 46, 57, 69, 81,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "size"),
    [
        ("wide.gif", "gif", "rgb8", (65_535, 1)),
        ("tall.gif", "gif", "rgb8", (1, 65_535)),
        ("wide.apng", "apng", "rgb24", (5000, 2)),
        ("tall.avi", "rawvideo", "rgb24", (2, 4000)),
        ("wide.mkv", "ffv1", "bgr0", (4000, 2)),
        ("wide.mp4", "libx264", "yuv420p", (4000, 4)),
        ("tall.mov", "png", "rgb24", (1, 3000)),
    ],
)
def test_frames_that_would_be_huge_once_resized_are_refused(tmp_path, name, codec, pixels, size):
    """25.8 GB, for two frames of the first with a short side of 256."""
    path = clips.encode(tmp_path / name, codec=codec, pixels=pixels, size=size, frames=2)
    with pytest.raises(VideoError, match=f"{name}: its frames of {size[0]}x{size[1]} are .* long"):
        read(path, [0])
    assert len(read(path, [0], limits=Limits(aspect=70_000))) == 1


def test_a_video_of_more_than_a_day_is_read_where_the_limit_is_lifted(tmp_path):
    path = clips.encode(
        tmp_path / "slow.mp4", codec="mpeg4", frames=26, rate=25, pts=[3600 * n for n in range(26)],
        time_base=Fraction(1, 1),
    )  # fmt: skip
    with pytest.raises(VideoError, match=r"lasts 90,000 s, .* 86,400 s \(--max-duration lifts it"):
        read(path, [0])
    with Limits.set_to(duration=90_001).use():
        batch, info = read_sampled(path, Sampling(frames=2))
    assert (batch.pts_seconds[-1], info.shown_frames) == (90_000, 26)


def test_limits_hold_before_memory_is_taken(clip_file):
    path = clip_file("h264_long_gop")
    for limits, words in (
        (Limits(pixels=1000), "frames of 96x64 are 6,144 pixels, the limit is 1,000"),
        (Limits(frames=10), "more than 10 frames, the limit"),
        (Limits(seconds=1), "lasts 4.95833 s, the limit is 1 s"),
        (Limits(bytes=1000), r"h264_long_gop.mp4: [\d,]+ bytes, the limit is 1,000"),
        (Limits(aspect=1.25), "frames of 96x64 are 1.5 times as long as wide, the limit is 1.25"),
        (Limits(batch_bytes=50_000), "3 frames of 96x64 take 55,296 bytes, the limit is 50,000"),
    ):
        with pytest.raises(VideoError, match=words):
            read(path, [0, 1, 2], limits=limits)
    with pytest.raises(ValueError, match="limit frames must be positive"):
        Limits(frames=0)


def test_an_unknown_decoder_lists_those_that_exist(clip_file):
    with pytest.raises(ValueError, match="no decoder 'ffmpeg': choose one of pyav, torchcodec,"):
        read(clip_file("h264_2x2"), [0], decoder="ffmpeg")


def test_a_device_that_the_decoder_lacks_is_refused(clip_file):
    path = clip_file("h264_2x2")
    with pytest.raises(ValueError, match="no device 'tpu': choose one of auto, cpu, cuda"):
        read(path, [0], decoder="torchcodec", device="tpu")
    for decoder in ("pyav", "decord"):
        with pytest.raises(ValueError, match=f"{decoder} does not decode on cuda; torchcodec does"):
            read(path, [0], decoder=decoder, device="cuda")


def test_probe_of_two_streams(clip_file):
    with av.open(str(clip_file("two_streams"))) as opened:
        best = opened.streams.best("video")
        expected = (best.index, best.frames)
    info = probe(clip_file("two_streams"))
    assert set(info.agreement) == set(DECODERS) - {"pyav"}
    record = info.to_json()
    assert (record["stream"], record["claimed_frames"]) == expected
    assert record["decodable_frames"] == record["claimed_frames"]
    assert record["damage"] == []
    assert f"of 2 video streams FFmpeg's best, {info.stream}, is read" in record["notes"]


def test_probe_of_a_real_clip(shared):
    info = probe(shared / "videos" / "two_streams_nasa.mp4")
    record = info.to_json()
    assert record["stream"] == 3
    assert record["decodable_frames"] == record["claimed_frames"] == 390
    assert record["damage"] == []
    text = describe(info)
    assert "stream 3: h264" in text
    assert "of 2 video streams FFmpeg's best, 3, is read" in text


@pytest.mark.parametrize(
    "name",
    ["-i.mp4", "two words.mp4", "пример视频🎥.mp4", "wrong.avi", "none", "%03d.mp4", "a:b.mp4"],
)
def test_names_and_extensions_do_not_matter(name, clip_file, tmp_path, monkeypatch):
    source = clip_file("h264_short_gop")
    (tmp_path / name).write_bytes(source.read_bytes())
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read(name, [7, 3]).frames, read(source, [7, 3]).frames)


def test_an_encrypted_stream_is_refused(tmp_path):
    path = clips.encode(
        tmp_path / "encrypted.mp4",
        container_options={
            "encryption_scheme": "cenc-aes-ctr",
            "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
            "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
        },
    )
    with pytest.raises(VideoError, match="its video stream is encrypted"):
        read(path, [0])


@pytest.mark.parametrize("name", ["h264_short_gop", "h264_no_count", "mjpeg", "vp9"])
def test_cut_files_are_flagged(name, clip_file, tmp_path):
    source = clip_file(name)
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
    assert_damaged(cut, r"damaged: .* presented, \d+ decode \(.*the file ends [\d,]+ bytes before")


def test_flipped_bytes_inside_frames_are_flagged(clip_file, tmp_path):
    def edit(data: bytearray) -> None:
        start = data.index(b"mdat")
        for at in range(start + 3000, start + 12000, 250):
            data[at] ^= 0xFF

    path = clips.patched(clip_file("h264_short_gop"), tmp_path / "flipped.mp4", edit)
    with pytest.raises(VideoError, match=r"damaged: header claims 60 frames, 60 are presented"):
        read(path, range(60))


def test_one_corrupt_frame_of_forty(clip_file, tmp_path):
    def corrupt(n: int, packet: av.Packet) -> bool:
        if n == 39:
            packet.update(bytes(packet)[:5] + b"\xff" * (packet.size - 5))
        return True

    path = clips.remuxed(clip_file("h264_no_b"), tmp_path / "corrupt.mp4", change=corrupt)
    assert_damaged(path, "damaged: header claims 40 frames, 40 are presented")


def test_one_corrupt_frame_of_a_real_clip(shared):
    path = shared / "videos" / "corrupted_49_of_50.mp4"
    assert_damaged(path, "damaged: header claims 50 frames, 50 are presented, 49 decode")
