"""The frames are the right ones: bit for bit those of a full sequential decode."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from data.video import (
    CannotAgree,
    FrameBatch,
    Limits,
    Sampling,
    VideoError,
    describe,
    probe,
    read,
    read_sampled,
)
from data.video.pyav import container as container_module
from data.video.pyav import seek as random_access
from data.video.pyav.container import open_video
from data.video.pyav.sequential import one_pass


def _words(text: str) -> list[str]:
    return text.split()


HONEST = _words(
    "h264_long_gop h264_short_gop h264_open_gop h264_open_gop_mkv h264_intra_refresh h264_no_b "
    "h264_transport h264_fragmented h264_raw h264_avi h264_flv h264_444 h264_10bit "
    "h264_full_range h264_240fps h264_interlaced h264_mbaff_transport h264_paff "
    "h264_paff_transport mpeg4_interlaced mpeg2_interlaced h264_vfr h264_negative_times "
    "h264_odd_size h264_2x2 h264_one_frame h264_no_count hevc hevc_open_gop hevc_10bit av1 av1_mkv "
    "vp9 vp9_alpha vp8_hidden_frames mpeg4 mpeg4_avi mpeg2 mjpeg mjpeg_mov ffv1 prores qtrle_alpha "
    "gif apng_alpha rotated_90 rotated_180 rotated_270 two_streams uneven_pixels edit_list"
)
SHARED = _words(
    "pendulum_leaf.mov pancake_no_frame_count.mkv people_h264.mp4 two_streams_nasa.mp4 throw.mp4 "
    "brownian_particles.mov rotated_0.mov rotated_180.mov rotated_270.mov rotated_90.mov "
    "claims_87_has_82.mov av1.mkv hevc_10bit.mp4 carphone.mp4 small_robot.mp4"
)
# By random access: those are fast, and a silent fall back to decoding everything would not be.
SLOW_BUT_RIGHT = {
    "h264_raw", "h264_avi", "h264_interlaced", "h264_mbaff_transport", "h264_paff",
    "h264_paff_transport", "mpeg4_interlaced", "mpeg2_interlaced", "mpeg4_avi", "apng_alpha",
}  # fmt: skip


def sequential(path: Path) -> tuple[list[np.ndarray], list[int | None]]:
    """Every frame that FFmpeg's own decode shows, turned by its rotation, and its timestamps."""
    frames, pts = [], []
    with av.open(str(path)) as opened:
        for frame in opened.decode(opened.streams.best("video")):
            turns = round(frame.rotation / 90)
            frames.append(np.rot90(frame.to_ndarray(format="rgb24"), turns))
            pts.append(frame.pts)
    return frames, pts


def assert_exact(path: Path, rng: np.random.Generator) -> None:
    reference, pts = sequential(path)
    n = len(reference)
    for wanted in (rng.integers(0, n, 7), rng.permutation(n)[:3], np.array([n - 1, 0, n - 1])):
        batch = read(path, wanted)
        assert batch.index.tolist() == wanted.tolist()
        for frame, place in zip(batch.frames, wanted, strict=True):
            np.testing.assert_array_equal(frame, reference[place])
    batch, info = read_sampled(path, Sampling(frames=4, pad=True))
    assert info.shown_frames == n
    np.testing.assert_array_equal(batch.frames[0], reference[0])
    if None not in pts and info.times_from == "timestamps":
        with av.open(str(path)) as opened:
            tick = float(opened.streams.best("video").time_base)
        np.testing.assert_allclose(info.pts_seconds, (np.array(pts) - pts[0]) * tick, atol=1e-9)


@pytest.mark.parametrize("name", HONEST)
def test_made_clips_read_exactly(name, honest):
    assert_exact(honest(name), np.random.default_rng(0))


@pytest.mark.parametrize("name", SHARED)
def test_real_clips_read_exactly(name, shared):
    assert_exact(shared / "videos" / name, np.random.default_rng(1))


@pytest.mark.parametrize("name", HONEST)
def test_every_frame_alone_equals_the_frame_in_the_batch(name, honest):
    path = honest(name)
    n = probe(path, decoders=()).shown_frames
    whole = read(path, range(n))
    for place in np.random.default_rng(2).permutation(n)[:6]:
        np.testing.assert_array_equal(read(path, [place]).frames[0], whole.frames[place])


@pytest.mark.parametrize("name", HONEST)
def test_random_access_is_used_where_it_can_be(name, honest, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("decoded everything")

    path = honest(name)
    assert probe(path, decoders=()).random_access == (name not in SLOW_BUT_RIGHT)
    if name not in SLOW_BUT_RIGHT:
        monkeypatch.setattr("data.video.pyav.session.one_pass", refuse)
        read(path, [0])
    else:
        assert "decoded whole" in " ".join(read_sampled(path, Sampling(frames=2))[1].notes)


@pytest.mark.parametrize("name", ["hevc_open_gop", "mpeg4", "mpeg2"])
def test_frames_shown_before_the_start_that_they_follow_are_random_access_too(
    name, honest, monkeypatch
):
    """A start and the frames before it in time, after it in the file, need the group before."""
    path = honest(name)
    n = probe(path, decoders=()).shown_frames
    whole = read(path, range(n)).frames

    def refuse(*_, **__):
        raise AssertionError("decoded everything")

    monkeypatch.setattr("data.video.pyav.session.one_pass", refuse)
    for first in range(n - 2):
        places = range(first, first + 3)
        np.testing.assert_array_equal(read(path, places).frames, whole[first : first + 3])


def test_a_stretch_takes_over_those_that_lie_in_it():
    #               I0 P  P  I  b  P  I  b  P   (b: shown before the start it follows)
    pts = np.array([0, 1, 2, 4, 3, 5, 7, 6, 8])
    entry = np.array([2, 0, 0, 1, 0, 0, 1, 0, 0], np.int8)

    def stretches(*wanted: int) -> list[tuple[int, int]]:
        return random_access.runs(pts, entry, np.array(wanted))

    assert stretches(3) == [(3, 3)]
    assert stretches(3, 4) == [(0, 4)]
    assert stretches(6, 8) == [(6, 8)]
    assert stretches(1, 3, 6, 7) == [(0, 1), (3, 7)]
    assert stretches(1, 3, 4, 8) == [(0, 4), (6, 8)]


def test_only_what_is_needed_is_decoded(honest, monkeypatch):
    fed = []
    whole = random_access._Source.packet

    def count(self, number):
        fed.append(number)
        return whole(self, number)

    monkeypatch.setattr(random_access._Source, "packet", count)
    read(honest("h264_short_gop"), [0, 30, 59])
    assert len(fed) <= 3 * 12
    fed.clear()
    read(honest("h264_long_gop"), [119])
    assert len(fed) < 90  # of 120: frames that nothing depends on are left out


def test_large_files_are_read_again_instead_of_kept(honest, monkeypatch):
    for name in ("h264_short_gop", "hevc_open_gop", "vp9"):
        expected = read(honest(name), [31, 2, 17]).frames
        monkeypatch.setattr(container_module, "KEEP_BYTES", 0)
        np.testing.assert_array_equal(read(honest(name), [31, 2, 17]).frames, expected)
        monkeypatch.undo()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads, honest):
    for name in ("h264_open_gop", "hevc_open_gop", "av1", "mpeg4"):
        expected = read(honest(name), [5, 33, 21]).frames
        np.testing.assert_array_equal(
            read(honest(name), [5, 33, 21], threads=threads).frames, expected
        )


@pytest.mark.parametrize("name", HONEST)
def test_several_decoders_give_what_one_gives(name, honest, monkeypatch):
    path = honest(name)
    n = probe(path, decoders=()).shown_frames
    places = np.random.default_rng(5).integers(0, n, 9)
    expected = read(path, places, threads=1).frames
    plans = []
    plan = random_access.planned

    def spread(container, lengths):
        plans.append(plan(container, lengths))
        return plans[-1]

    monkeypatch.setattr(random_access, "PIXELS_WORTH_A_THREAD", 1)
    monkeypatch.setattr(random_access, "THREAD_GAIN", 0.0)
    monkeypatch.setattr(random_access, "planned", spread)
    np.testing.assert_array_equal(read(path, places, threads=3).frames, expected)
    if name in ("h264_short_gop", "h264_open_gop", "hevc_open_gop", "mjpeg_mov"):
        assert len(plans[0].shares) > 1


def test_stretches_are_shared_out_evenly(honest):
    assert random_access.shared_out([5, 1, 4, 2], 2) == [[0, 1], [2, 3]]
    assert random_access.shared_out([7], 1) == [[0]]
    lengths = np.random.default_rng(6).integers(1, 50, 40).tolist()
    shares = random_access.shared_out(lengths, 5)
    sums = [sum(lengths[n] for n in share) for share in shares]
    assert sorted(n for share in shares for n in share) == list(range(40))
    assert max(sums) - min(sums) <= 5
    assert all(share == sorted(share) for share in shares)


def test_a_plan_follows_the_work(honest):
    path = honest("h264_short_gop")  # of 96x64
    lanes = {1: 1, 2: 2, 4: 4}
    for threads, expected in lanes.items():
        with open_video(path, limits=Limits(), threads=threads, quick=True) as container:
            even = random_access.planned(container, [400] * 8)
            assert (len(even.shares), even.threads) == (expected, 1)
            uneven = random_access.planned(container, [3000, 10])
            assert (uneven.shares, uneven.threads) == ([[0, 1]], threads)
            little = random_access.planned(container, [3] * 8)
            assert (little.shares, little.threads) == ([list(range(8))], 1)


def test_one_bad_group_among_several_decoders_is_noticed(honest, clips_made, tmp_path, monkeypatch):
    """What one decoder meets reaches the reader, whichever of them it is."""

    def spoil(n, packet):
        if n in (26, 27, 28):
            packet.update(bytes(packet)[:5] + b"\xff" * (packet.size - 5))
        return True

    path = clips_made.remuxed(honest("h264_short_gop"), tmp_path / "bad.mp4", change=spoil)
    monkeypatch.setattr(random_access, "PIXELS_WORTH_A_THREAD", 1)
    monkeypatch.setattr(random_access, "THREAD_GAIN", 0.0)
    good = read(path, [0, 1, 50], threads=3).frames
    np.testing.assert_array_equal(good, read(honest("h264_short_gop"), [0, 1, 50]).frames)
    with pytest.raises(VideoError, match="damaged: header claims 60 frames, 60 are presented"):
        read(path, [0, 27, 50], threads=3)


@pytest.mark.parametrize("name", ["h264_long_gop", "hevc"])
def test_damage_is_the_same_whatever_the_threads(name, honest, clips_made, tmp_path):
    """With frames in several threads FFmpeg counts otherwise, or hangs."""

    def spoil(n, packet):
        if n in (5, 6, 21):
            packet.update(bytes(packet)[:9] + b"\xff" * (packet.size - 9))
        return True

    path = clips_made.remuxed(honest(name), tmp_path / "bad.mp4", change=spoil)
    passes = []
    for threads in (1, 2, 4):
        with open_video(path, limits=Limits(), threads=threads, quick=True) as container:
            made = one_pass(container, strict=True)
            passes.append((made.pts, made.failed))
    assert passes[0][1] > 0
    assert passes[1] == passes[2] == passes[0]


def test_a_stream_that_begins_in_mid_file_is_told(honest):
    class Broken:
        def demux(self, stream):
            raise IndexError("list index out of range")

    with open_video(honest("h264_transport"), limits=Limits(), quick=True) as container:
        opened = container.input
        container.input = Broken()
        with pytest.raises(VideoError, match=r"\.ts: a stream begins in mid-file"):
            list(container.packets())
        container.input = opened


def test_a_frame_with_a_wrong_timestamp_is_noticed(honest, monkeypatch):
    """Were the index wrong, the full decode would be asked, not the index believed."""
    path = honest("h264_short_gop")
    expected = read(path, [20]).frames
    made = container_module._index

    def wrong(opened):
        index = made(opened)
        index.entry[20] = 2  # a packet in the middle of a group, said to be a start
        return index

    monkeypatch.setattr(container_module, "_index", wrong)
    np.testing.assert_array_equal(read(path, [20]).frames, expected)


def test_no_frames_of_nothing(honest):
    batch = read(honest("h264_short_gop"), [])
    assert batch.frames.shape == (0, 64, 96, 3)
    assert len(batch) == 0


@pytest.mark.parametrize("wrong", [-1, 60, 10**9])
def test_places_that_do_not_exist(wrong, honest):
    with pytest.raises(VideoError, match=f"no frame {wrong}: it shows 60, counted from 0"):
        read(honest("h264_short_gop"), [0, wrong])


@pytest.mark.parametrize("wrong", [[0.9, 2.0], [True, False], [10**30]])
def test_places_that_are_no_whole_numbers(wrong, honest):
    """Cut down to whole numbers they would be other frames than meant."""
    with pytest.raises(ValueError, match="indices must be whole numbers, not "):
        read(honest("h264_short_gop"), wrong)


def test_rotation_turns_as_the_matrix_says(honest):
    upright = read(honest("h264_long_gop"), [3]).frames[0]
    assert upright.shape == (64, 96, 3)
    for name, turns in (("rotated_90", 1), ("rotated_180", 2), ("rotated_270", 3)):
        turned = read(honest(name), [3]).frames[0]
        expected = np.rot90(upright, turns)
        assert turned.shape == expected.shape
        assert np.abs(turned.astype(int) - expected).mean() < 12
        assert probe(honest(name), decoders=()).rotation in (90 * turns, 90 * turns - 360, -180)


def test_times_follow_the_timestamps_of_a_variable_rate(honest, clips_made):
    info = probe(honest("h264_vfr"), decoders=())
    np.testing.assert_allclose(info.pts_seconds, np.array(clips_made._vfr(40)) / 90, atol=1e-4)
    assert info.times_from == "timestamps"


def test_negative_times_count_from_the_first_shown_frame(honest):
    info = probe(honest("h264_negative_times"), decoders=())
    assert info.pts_seconds[0] == 0
    assert (np.diff(info.pts_seconds) > 0).all()


def test_without_timestamps_times_are_counted_and_say_so(honest):
    info = probe(honest("h264_raw"), decoders=())
    assert info.times_from == "counted at 25 per second"
    np.testing.assert_allclose(np.diff(info.pts_seconds), 1 / 25)


def test_edit_lists_are_honoured(honest):
    batch, info = read_sampled(honest("edit_list"), Sampling(frames=2))
    assert (info.claimed_frames, info.shown_frames) == (120, 50)
    assert info.damage == ()
    whole = read(honest("h264_long_gop"), [30, 79])
    np.testing.assert_array_equal(batch.frames, whole.frames)
    assert batch.pts_seconds[0] == 0


def test_start_and_end_bound_the_frames_by_their_times(honest):
    path = honest("h264_long_gop")  # 24 frames a second
    batch, _ = read_sampled(path, Sampling(frames=4), start=1.0, end=2.0)
    assert batch.index.tolist() == [24, 31, 39, 47]
    with pytest.raises(VideoError, match="the clip has 3 frames, 4 are asked for"):
        read_sampled(path, Sampling(frames=4), start=1.0, end=1.125)
    with pytest.raises(VideoError, match="the clip has 0 frames"):
        read_sampled(path, Sampling(frames=4), start=99.0)


def test_published_sampling_goes_by_the_header(shared):
    path = shared / "videos" / "claims_87_has_82.mov"
    batch, _ = read_sampled(path, Sampling(name="published", frames=8))
    assert batch.index.tolist() == [0, 12, 24, 36, 49, 61, 73, 73]  # 86 cannot be read
    assert read_sampled(path, Sampling(frames=8))[0].index.tolist() == [
        0, 11, 23, 34, 46, 57, 69, 81,
    ]  # fmt: skip


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
@pytest.mark.parametrize("name", HONEST)
def test_other_decoders_agree_or_refuse(decoder, name, honest):
    path = honest(name)
    n = probe(path, decoders=()).shown_frames
    places = np.random.default_rng(4).integers(0, n, 5)
    expected = read(path, places).frames.astype(int)
    refused = probe(path, decoders=[decoder]).agreement[decoder] != "agrees"
    if refused:
        with pytest.raises(CannotAgree, match=decoder):
            read(path, places, decoder=decoder)
        batch, info = read_sampled(path, Sampling(frames=1), decoder=decoder)
        assert info.decoder == "pyav"
        assert any(note.startswith(f"read by pyav: {decoder}") for note in info.notes)
        np.testing.assert_array_equal(batch.frames, read(path, [0]).frames)
    else:
        frames = read(path, places, decoder=decoder).frames
        assert np.abs(frames - expected).max() <= 2


def test_decord_is_the_fast_path_for_plain_clips(honest):
    pytest.importorskip("decord")
    _, info = read_sampled(honest("h264_short_gop"), Sampling(frames=4), decoder="decord")
    assert info.decoder == "decord"


def test_what_decord_fails_with_is_the_same_each_time(honest):
    """Its messages begin with the time of day, and notes stand in caches."""
    pytest.importorskip("decord")
    with pytest.raises(CannotAgree, match=r"decord fails: Check failed: from_size == to_size"):
        read(honest("h264_2x2"), [0], decoder="decord")


def test_torchcodec_is_not_loaded_after_decord_to_read_av1(honest):
    """It would end the process: both carry an AV1 decoder, of different versions."""
    pytest.importorskip("decord")
    code = (
        "import sys; from data.video import probe, read;"
        "import decord; path = sys.argv[1];"
        "print(probe(path, decoders=['torchcodec']).agreement['torchcodec'])"
    )
    command = [sys.executable, "-c", code, str(honest("av1"))]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == "torchcodec cannot read AV1 where decord was loaded before it\n"


def test_a_device_is_for_torchcodec(honest):
    path = honest("h264_2x2")
    with pytest.raises(ValueError, match="no device 'tpu'; there are auto, cpu, cuda"):
        read(path, [0], decoder="torchcodec", device="tpu")
    for decoder in ("pyav", "decord"):
        with pytest.raises(ValueError, match=f"{decoder} decodes on the CPU; torchcodec does on a"):
            read(path, [0], decoder=decoder, device="cuda")


def test_without_a_cuda_device_none_is_used(honest):
    pytest.importorskip("torchcodec")
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(CannotAgree, match="there is no CUDA device for torchcodec to decode on"):
        read(honest("h264_short_gop"), [0], decoder="torchcodec", device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["h264_short_gop", "h264_open_gop", "hevc", "vp9", "av1"])
def test_the_gpu_shows_what_the_reference_shows_or_refuses(name, honest):
    pytest.importorskip("torchcodec")
    places = [31, 2, 17, 2]
    expected = read(honest(name), places)
    try:
        batch = read(honest(name), places, decoder="torchcodec", device="cuda")
    except CannotAgree as refusal:
        pytest.skip(f"refused, as it may be: {refusal.reason}")
    assert np.abs(batch.frames.astype(int) - expected.frames).max() <= 2
    np.testing.assert_array_equal(batch.pts_seconds, expected.pts_seconds)


def test_an_unknown_decoder_lists_those_that_exist(honest):
    with pytest.raises(ValueError, match="no decoder 'ffmpeg'; there are pyav, decord, torchcodec"):
        read(honest("h264_2x2"), [0], decoder="ffmpeg")


def test_limits_hold_before_memory_is_taken(honest):
    path = honest("h264_long_gop")
    for limits, words in (
        (Limits(pixels=1000), "frames of 96x64 are 6,144 pixels, the limit is 1,000"),
        (Limits(frames=10), "more than 10 frames, the limit"),
        (Limits(seconds=1), "lasts 5 s, the limit is 1 s"),
        (Limits(batch_bytes=50_000), "3 frames of 96x64 take 55,296 bytes, the limit is 50,000"),
    ):
        with pytest.raises(VideoError, match=words):
            read(path, [0, 1, 2], limits=limits)
    with pytest.raises(ValueError, match="limit frames must be positive"):
        Limits(frames=0)


def test_probe_tells_what_is_known(shared):
    info = probe(shared / "videos" / "two_streams_nasa.mp4")
    record = info.to_json()
    assert record["stream"] == 3
    assert record["decodable_frames"] == record["claimed_frames"] == 390
    assert record["damage"] == []
    text = describe(info)
    assert "stream 3: h264" in text
    assert "of 2 video streams FFmpeg's best, 3, is read" in text


def test_frame_batches_check_themselves():
    index, times = np.zeros(2, np.int64), np.zeros(2)
    with pytest.raises(ValueError, match=r"uint8 \(T, H, W, 3\), not float64 \(2, 4, 4, 3\)"):
        FrameBatch(np.zeros((2, 4, 4, 3)), index, times)
    with pytest.raises(ValueError, match=r"\(2, 4, 4, 3\), not int64 \(3,\)"):
        FrameBatch(np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3, np.int64), times)
    batch = FrameBatch(np.zeros((2, 4, 4, 3), np.uint8), index, times)
    assert repr(batch) == "FrameBatch(frames=uint8(2, 4, 4, 3), index=[0, 0])"
