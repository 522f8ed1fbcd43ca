"""The shares of a transport stream in place of its packets: the same index, or not used."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from data.video import Limits, VideoError, read
from data.video.pyav import container, kept_index, open_video, sample_tables
from data.video.pyav.sample_tables import transport, transport_table
from tests.data.video.test_mutations import mutate
from tests.helpers.clips import X264, encode, patched
from tests.helpers.indexes import assert_equal, index_of, outcome, tables_are_used_alike
from tests.helpers.recordings import HEVC, MPEG2, cut_in_last_frame

SHORT = X264 | {"g": "12"}
OPEN = "keyint=12:min-keyint=12:open-gop=1"
MADE = {
    "h264": {"options": SHORT},
    "slices": {"options": SHORT | {"x264-params": "slices=4"}, "size": (320, 240)},
    "buffered": {
        "options": SHORT | {"x264-params": "nal-hrd=vbr", "maxrate": "200k", "bufsize": "200k"}
    },
    "refreshed": {"options": SHORT | {"x264-params": "intra-refresh=1"}},
    "open": {"options": SHORT | {"x264-params": "open-gop=1"}},
    "hevc": HEVC,
    "open_hevc": HEVC | {"options": {"x265-params": f"{OPEN}:log-level=none"}},
    "mpeg2": MPEG2,
    "reordered_mpeg2": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "large": {
        "options": {"qp": "0", "g": "2", "preset": "ultrafast"}, "frames": 4, "size": (960, 640)
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def transport_file(tmp_path_factory):
    """The path of a transport stream, by its name in `MADE`."""
    folder, paths = tmp_path_factory.mktemp("transport"), {}

    def get(name):
        if name not in paths:
            paths[name] = encode(folder / f"{name}.ts", **MADE[name])
        return paths[name]

    return get


@pytest.mark.parametrize("name", MADE)
def test_shares_give_the_index_and_the_frames_that_packets_give(name, transport_file, monkeypatch):
    path = transport_file(name)
    expected = index_of(path, tables=False)
    wanted = np.random.default_rng(0).integers(0, len(expected.order), 4)
    frames = read(path, wanted).frames
    index = index_of(path, tables=True)
    assert isinstance(index.samples, transport_table.TransportTable)
    assert index.packets is None
    assert_equal(index, expected)
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 1)
    np.testing.assert_array_equal(read(path, wanted).frames, frames)


@pytest.mark.parametrize("length", [192, 204])
@pytest.mark.parametrize("tail", [0, 10, 100])
def test_shares_between_times_and_before_codes(length, tail, transport_file, tmp_path):
    data = transport_file("h264").read_bytes()
    shares = [data[at : at + 188] for at in range(0, len(data), 188)]
    extra = bytes(range(1, length - 187))
    path = tmp_path / "clip.ts"
    whole = b"".join(extra + s if length == 192 else s + extra for s in shares)
    path.write_bytes(whole + whole[:tail])
    index = index_of(path, tables=True)
    assert index.samples is not None
    assert_equal(index, index_of(path, tables=False))
    with open(path, "rb") as file:
        for number in (0, 20, 39):
            packet = index.samples.content(file.fileno(), number)
            assert packet.startswith(b"\0\0\0\1\x09")


def test_batches_and_single_packets_are_the_demuxers(transport_file, monkeypatch):
    monkeypatch.setattr(transport, "BATCH_ROWS", 7)
    path = transport_file("slices")
    samples = index_of(path, tables=True).samples
    with av.open(str(path)) as opened:
        expected = [bytes(packet) for packet in opened.demux(video=0) if packet.size]
    with open(path, "rb") as file:
        assert [samples.content(file.fileno(), n) for n in range(len(samples))] == expected
    batches = [batch.packet(n) for batch in samples.batches(9, 1 << 20) for n in range(len(batch))]
    assert batches == expected


def test_shares_beside_those_of_sound(tmp_path):
    path = tmp_path / "sound.ts"
    with av.open(str(path), "w") as out:
        video, sound = out.add_stream("libx264", rate=25), out.add_stream("mp2", rate=44100)
        video.width, video.height, video.pix_fmt, video.options = 96, 64, "yuv420p", SHORT
        for number in range(50):
            grey = np.full((64, 96, 3), 5 * number, np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 1764), np.int16), layout="mono", format="s16"
            )
            silence.sample_rate, silence.pts = 44100, 1764 * number
            out.mux(sound.encode(silence))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    index = index_of(path, tables=True)
    assert index.samples is not None
    assert_equal(index, index_of(path, tables=False))


def test_a_clock_that_begins_its_next_round(tmp_path):
    """33 bits of 90 kHz: after 26.5 hours it begins at zero again, and goes on."""
    first = 8580  # at a tenth of a frame per second, ten minutes before
    path = encode(
        tmp_path / "round.ts", options=SHORT, frames=120, rate=Fraction(1, 10),
        pts=list(range(first + 904, first + 1024)),
    )  # fmt: skip
    index = index_of(path, tables=True)
    assert index.samples is not None
    assert_equal(index, index_of(path, tables=False))
    assert index.pts.max() > 1 << 33
    assert not len(index.joints)


NOT_SIMPLE = {
    "h264_paff_transport", "restarted_ts", "restarted_hevc_ts", "going_on_ts", "going_on_m2ts",
    "joined_cuts_ts",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(NOT_SIMPLE))
def test_what_is_unusual_is_left_to_the_packets(name, clip_file):
    path = clip_file(name)
    index = index_of(path, tables=True)
    assert index.samples is None
    assert_equal(index, index_of(path, tables=False))


def starts_of(data: bytes) -> list[int]:
    """Return where the shares lie that a packet of the first stream of video begins in."""
    rows = transport_table.rows_of(data, 188)
    chosen = (transport_table.pids_of(rows) == 256) & (rows[:, 1] & 0x40 != 0)
    return (188 * np.flatnonzero(chosen)).tolist()


def lost_share(data, starts):
    del data[starts[20] : starts[20] + 188]


def repeated_share(data, starts):
    data[starts[20] : starts[20]] = data[starts[20] : starts[20] + 188]


def marked_share(data, starts):
    data[starts[20] + 1] |= 0x80


def scrambled_share(data, starts):
    data[starts[20] + 3] |= 0x80


def no_time(data, starts):
    head = data.index(b"\0\0\1\xe0", starts[20])
    data[head + 7] &= 0x3F


def told_length(data, starts):
    head = data.index(b"\0\0\1\xe0", starts[20])
    data[head + 4 : head + 6] = b"\0\x20"


def no_picture(data, starts):
    at = data.index(b"\0\0\0\1\x09", starts[20])
    data[at + 4] = 0x0C


def two_pictures(data, starts):
    """The second has no packet of its own: its header is taken for padding."""
    data[starts[20] + 1] &= 0xBF


def other_programs(data, starts):
    at = data.rindex(b"\x47\x40\0")
    data[at + 15] ^= 1


def no_sync(data, starts):
    data[starts[20]] = 0


@pytest.mark.parametrize(
    "change",
    [lost_share, repeated_share, marked_share, scrambled_share, no_time, told_length, no_picture,
     two_pictures, other_programs, no_sync],
)  # fmt: skip
def test_what_is_damaged_is_left_to_the_packets(change, transport_file, tmp_path):
    path = tmp_path / "damaged.ts"

    def edit(data: bytearray) -> None:
        change(data, starts_of(bytes(data)))

    patched(transport_file("h264"), path, edit)
    found, expected = outcome(path, tables=True), outcome(path, tables=False)
    assert getattr(found, "samples", None) is None
    assert found == expected if isinstance(expected, str) else not assert_equal(found, expected)


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_a_recording_that_begins_and_ends_in_mid_frame(cut, transport_file, tmp_path):
    source = transport_file("slices")
    data = source.read_bytes()
    rows = transport_table.rows_of(data, 188)
    share = 188 * int(np.flatnonzero(transport_table.pids_of(rows) == 256)[1])
    path = tmp_path / "cut.ts"
    path.write_bytes(data[:564] + data[share : len(data) - 188 - cut])
    expected = index_of(path, tables=False)
    assert_equal(index_of(path, tables=True), expected)


def test_a_last_frame_that_is_cut_off_is_left_out(transport_file, tmp_path, monkeypatch):
    path = cut_in_last_frame(transport_file("large"), tmp_path / "cut.ts")
    frames = read(path, [2]).frames
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 1)
    np.testing.assert_array_equal(read(path, [2]).frames, frames)
    with pytest.raises(VideoError, match="it shows 3"):
        read(path, [3])


def test_few_packets_are_left_to_ffmpeg(transport_file):
    with open_video(transport_file("h264"), limits=Limits(), quick=True) as opened:
        assert opened.packet_index.samples is None


def test_what_was_found_is_kept(transport_file, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kept_index, "SETTLED_SECONDS", 0)
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 1)
    path = transport_file("reordered_mpeg2")
    container._LAST_INDEX.clear()
    first = read(path, [3, 30]).frames
    monkeypatch.setattr(container, "find_samples", None)
    container._LAST_INDEX.clear()
    np.testing.assert_array_equal(read(path, [3, 30]).frames, first)
    with open_video(path, limits=Limits(), quick=True) as opened:
        assert isinstance(opened.packet_index.samples, transport_table.TransportTable)


def test_a_file_that_changes_while_it_is_open(transport_file, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 1)
    path = tmp_path / "changed.ts"
    data = transport_file("slices").read_bytes()
    path.write_bytes(data)
    with open_video(path, limits=Limits(), quick=True) as opened:
        samples = opened.packet_index.samples
    start = int(samples.position[10])
    for changed in (data[:start], data[:start] + bytes(len(data) - start)):
        path.write_bytes(changed)
        with open(path, "rb") as file, pytest.raises(OSError, match=r"changed|shorter"):
            samples.content(file.fileno(), 20)
        with pytest.raises(OSError, match=r"changed|shorter"):
            list(samples.batches(1000, 1 << 20))


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a stream with a byte changed in the head of a share or of a packet, or its units."""
    changed, starts = bytearray(data), starts_of(data)
    kind = rng.integers(4)
    if kind == 0:
        at = 188 * int(rng.integers(len(data) // 188)) + int(rng.integers(12))
    elif kind == 1:
        at = data.index(b"\0\0\1", int(rng.choice(starts))) + int(rng.integers(20))
    else:
        at = int(rng.choice(starts)) + int(rng.integers(188))
        if kind == 2 and (code := data.find(b"\0\0\1", at)) >= 0:
            at = min(code + int(rng.integers(6)), len(data) - 1)
    changed[at] = rng.choice([0, 1, 255, rng.integers(256), data[at] ^ 1 << rng.integers(8)])
    return bytes(changed)


@pytest.mark.parametrize(
    ("each", "seed"),
    [(8, 0), pytest.param(400, 2, marks=pytest.mark.soak)],
)
def test_damage_changes_nothing(each, seed, transport_file, tmp_path):
    """Whatever is written over a stream: the index is that of the packets, or the same refusal."""
    rng, used, path = np.random.default_rng(seed), 0, tmp_path / "damaged.ts"
    for name in ("h264", "slices", "buffered", "open_hevc", "reordered_mpeg2"):
        data = transport_file(name).read_bytes()
        for number in range(each):
            path.write_bytes((mutate if number % 4 == 0 else damaged)(data, rng))
            used += tables_are_used_alike(path)
    assert used > each
