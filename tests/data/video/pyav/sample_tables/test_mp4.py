"""The tables of an MP4 in place of its packets: the same index, the same frames, or not used."""

import numpy as np
import pytest

from data.video import Limits, VideoError, read, read_sampled
from data.video.pyav import container, open_video, sample_tables
from data.video.sampling import Sampling
from tests.helpers import clips
from tests.helpers.indexes import assert_equal, index_of, tables_are_used_alike

TABLES = (
    "h264_short_gop", "h264_long_gop", "h264_open_gop", "h264_intra_refresh", "h264_vfr",
    "h264_240fps", "h264_interlaced", "hevc", "av1", "mpeg4", "prores", "two_streams",
    "rotated_90",
)  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_table_gives_the_index_and_the_frames_that_packets_give(name, clip_file):
    path = clip_file(name)
    expected = index_of(path, tables=False)
    wanted = np.random.default_rng(0).integers(0, len(expected.order), 5)
    frames = read(path, wanted).frames
    index = index_of(path, tables=True)
    assert index.samples is not None
    assert index.packets is None
    assert_equal(index, expected)
    np.testing.assert_array_equal(read(path, wanted).frames, frames)


@pytest.mark.parametrize("name", ["edit_list", "h264_fragmented", "mjpeg_mov", "qtrle_alpha"])
def test_what_is_unusual_is_left_to_the_packets(name, clip_file):
    path = clip_file(name)
    index = index_of(path, tables=True)
    assert index.samples is None
    assert_equal(index, index_of(path, tables=False))


def test_few_packets_are_read_rather_than_their_table(clip_file):
    with open_video(clip_file("h264_short_gop"), limits=Limits(), quick=True) as opened:
        assert opened.packet_index.samples is None


def test_damaged_tables_change_nothing(clip_file, tmp_path):
    """Whatever is written over a table: the index is that of the packets, or the same refusal."""
    rng, used = np.random.default_rng(0), 0
    for number in range(60):
        data = bytearray(
            clip_file(("h264_short_gop", "h264_vfr", "two_streams")[number % 3]).read_bytes()
        )
        kinds = (b"stts", b"ctts", b"stsz", b"stsc", b"stco", b"stss", b"elst", b"tkhd", b"stsd")
        at = data.index(kinds[rng.integers(len(kinds))], data.index(b"moov"))
        for place in at + rng.integers(-4, 60, 2):
            data[place] = rng.choice([0, 1, 255, rng.integers(256)])
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(data)
        used += tables_are_used_alike(path)
    assert used > 5


def test_a_file_that_is_cut_short_while_it_is_open(clip_file, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 1)
    path = tmp_path / "cut.mp4"
    path.write_bytes(clip_file("h264_short_gop").read_bytes())
    with open_video(path, limits=Limits(), quick=True) as opened:
        samples = opened.packet_index.samples
        assert samples is not None
        with open(path, "r+b") as file:
            file.truncate(int(samples.position[10]))
        with open(path, "rb") as file, pytest.raises(OSError, match="become shorter"):
            samples.packet(file.fileno(), 20, opened.stream)
        with pytest.raises(OSError, match="become shorter"):
            list(samples.batches(1000, 1 << 20))


def test_parameters_that_change_in_mid_file_are_seen(tmp_path):
    """H.264 copied from two recordings into one MP4, whose header has the parameters of one."""
    parts = [
        clips.encode(tmp_path / f"{n}.ts", frames=12, options={"bf": "0", "refs": refs})
        for n, refs in enumerate(("1", "4"))
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))

    def counted(number: int, packet) -> bool:
        packet.pts = packet.dts = 3000 * number
        return True

    path = clips.remuxed(joined, tmp_path / "joined.mp4", change=counted)
    expected = index_of(path, tables=False)
    index = index_of(path, tables=True)
    assert_equal(index, expected)
    assert len(index.pts) == 24
    assert index.samples is not None
    assert index.doubt == "the decoder's parameters change in mid-stream"


def test_a_table_exceeds_the_limits_as_packets_do(clip_file, monkeypatch):
    path = clip_file("h264_short_gop")
    for limits in (Limits(frames=10), Limits(seconds=0.5)):
        refusals = set()
        for fewest in (1, 1 << 62):
            monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", fewest)
            with pytest.raises(VideoError) as caught:
                read_sampled(path, Sampling(frames=4), limits=limits)
            refusals.add(str(caught.value))
        assert len(refusals) == 1


def test_the_next_clip_of_a_file_finds_its_index_and_of_a_changed_file_another(
    clip_file, tmp_path, monkeypatch
):
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 1)
    monkeypatch.setattr(container, "_LAST_INDEX", {})
    made = []
    index_samples = container.index_samples
    monkeypatch.setattr(
        container,
        "index_samples",
        lambda *given, **named: made.append(given) or index_samples(*given, **named),
    )
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip_file("h264_short_gop").read_bytes())
    first, again = read(path, [5, 30]).frames, read(path, [30, 5]).frames
    np.testing.assert_array_equal(first, again[::-1])
    assert len(made) == 1
    with pytest.raises(VideoError, match="the limit"):
        read(path, [5], limits=Limits(frames=10))
    path.write_bytes(clip_file("h264_no_b").read_bytes())
    np.testing.assert_array_equal(read(path, [5]).frames, read(clip_file("h264_no_b"), [5]).frames)
    assert len(container._LAST_INDEX) == 1
