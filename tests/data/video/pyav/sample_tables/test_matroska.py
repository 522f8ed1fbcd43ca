"""The blocks of a Matroska file in place of its packets: the same index, or not used."""

import av
import numpy as np
import pytest

from data.video import Limits, read
from data.video.pyav import open_video, sample_tables
from data.video.pyav.sample_tables import matroska
from tests.helpers import clips
from tests.helpers.indexes import assert_equal, index_of, outcome, tables_are_used_alike
from tests.helpers.recordings import cut_at

BLOCKS = (
    "av1_mkv", "h264_negative_times", "h264_no_count", "h264_open_gop_mkv", "hevc_open_gop",
    "vp8_hidden_frames", "vp9", "piped_mkv", "open_hevc_mkv", "restarted_mkv", "restarted_webm",
)  # fmt: skip


def blocks_of(path):
    with open_video(path, limits=Limits(), quick=True) as opened:
        return matroska.find_samples(path, opened.stream, 1)


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_give_the_index_and_the_frames_that_packets_give(name, clip_file, monkeypatch):
    path = clip_file(name)
    expected = index_of(path, tables=False)
    wanted = np.random.default_rng(0).integers(0, len(expected.order) - 2, 5)
    frames = read(path, wanted).frames
    index = index_of(path, tables=True)
    assert index.samples is not None
    assert index.packets is None
    assert_equal(index, expected)
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 1)
    np.testing.assert_array_equal(read(path, wanted).frames, frames)


def test_blocks_beside_those_of_other_tracks_and_in_groups(clip_file, tmp_path):
    """As mkvmerge writes them: each block in a group with its duration, sound in between."""
    path = tmp_path / "groups.mkv"
    with av.open(str(clip_file("h264_no_b"))) as given, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(given.streams.video[0])
        sound = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number, packet in enumerate(given.demux(video=0)):
            if not packet.size:
                continue
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.int16), layout="mono")
            frame.sample_rate, frame.pts = 8000, 320 * number
            out.mux(sound.encode(frame))
            packet.stream = copy
            out.mux(packet)
    index = index_of(path, tables=True)
    assert index.samples is not None
    assert_equal(index, index_of(path, tables=False))
    path.write_bytes(grouped(path.read_bytes(), blocks_of(path)))
    index = index_of(path, tables=True)
    assert index.samples is not None
    assert_equal(index, index_of(path, tables=False))
    assert len(index.pts) == 40


UNKNOWN = b"\x01" + b"\xff" * 7


def grouped(data: bytes, blocks) -> bytes:
    """Return a file whose blocks are in groups, in one cluster; no length of it is known."""
    segment = data.index(b"\x18\x53\x80\x67") + 4
    header = data[:segment] + UNKNOWN + data[segment + 8 : data.index(b"\x1f\x43\xb6\x75")]
    parts = [header, b"\x1f\x43\xb6\x75" + UNKNOWN + b"\xe7\x81\0"]
    for at, size, time, key in zip(
        blocks.position, blocks.size, blocks.pts, blocks.key, strict=True
    ):
        block = b"\x81" + int(time).to_bytes(2, "big") + b"\0" + data[at : at + size]
        content = b"\xa1" + sized(block) + b"\x9b\x81\x28" + (b"" if key else b"\xfb\x81\xd8")
        parts.append(b"\xa0" + sized(content))
    return b"".join(parts)


def sized(content: bytes) -> bytes:
    return (len(content) | 1 << 28).to_bytes(4, "big") + content


@pytest.mark.parametrize("name", ["vp9_alpha", "ffv1", "completed"])
def test_what_is_unusual_is_left_to_the_packets(name, clip_file, tmp_path):
    if name == "completed":  # by FFmpeg: what Matroska leaves out of each packet
        path = clips.encode(tmp_path / "x.mkv", codec="prores_ks", pixels="yuv422p10le")
    else:
        path = clip_file(name)
    index = index_of(path, tables=True)
    assert index.samples is None
    assert_equal(index, index_of(path, tables=False))


@pytest.mark.parametrize("start", [2**63 - 1, 2**63, 2**64 - 1])
def test_times_that_no_clock_has_are_left_to_the_packets(start, clip_file, tmp_path):
    source, path = clip_file("h264_open_gop_mkv"), tmp_path / "late.mkv"
    data = grouped(source.read_bytes(), blocks_of(source))
    path.write_bytes(data.replace(b"\xe7\x81\0", b"\xe7\x88" + start.to_bytes(8, "big"), 1))
    found, expected = (outcome(path, tables=tables) for tables in (True, False))
    assert getattr(found, "samples", None) is None
    assert found == expected if isinstance(expected, str) else not assert_equal(found, expected)


def test_few_blocks_are_left_to_the_packets(clip_file):
    with open_video(clip_file("vp9"), limits=Limits(), quick=True) as opened:
        assert opened.packet_index.samples is None


def test_files_that_are_joined_or_cut_are_left_to_the_packets(clip_file, tmp_path):
    data = clip_file("vp9").read_bytes()
    for name, content in {"joined": data + data, "cut": data[:-3000], "tail": data + b"x"}.items():
        path = tmp_path / f"{name}.webm"
        path.write_bytes(content)
        found = outcome(path, tables=True)
        assert getattr(found, "samples", None) is None
        expected = outcome(path, tables=False)
        assert found == expected if isinstance(expected, str) else not assert_equal(found, expected)


def test_damaged_heads_of_blocks_change_nothing(clip_file, tmp_path):
    """Whatever is written over a header: the index is that of the packets, or the same refusal."""
    rng, used = np.random.default_rng(0), 0
    names = ("h264_open_gop_mkv", "vp9", "hevc_open_gop", "piped_mkv")
    positions = {name: blocks_of(clip_file(name)).position.tolist() for name in names}
    for number in range(40):
        name = names[number % len(names)]
        data = bytearray(clip_file(name).read_bytes())
        first, *others = positions[name]
        at = rng.integers(first) if number % 3 == 0 else rng.choice(others) - rng.integers(12)
        data[at] = rng.choice([0, 1, 255, rng.integers(256), data[at] ^ 1 << rng.integers(8)])
        path = tmp_path / f"{number}.mkv"
        path.write_bytes(data)
        used += tables_are_used_alike(path)
    assert used > 5


def test_a_cut_without_loss_reads_alike(clip_file, tmp_path, monkeypatch):
    path = cut_at(clip_file("h264_open_gop_mkv"), tmp_path / "cut.mkv", 1)
    frames = read(path, [20, 3]).frames
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 1)
    np.testing.assert_array_equal(read(path, [20, 3]).frames, frames)
