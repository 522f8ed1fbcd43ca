"""The packs of a program stream in place of its packets: the same index, or not used."""

from __future__ import annotations

import struct

import av
import numpy as np
import pytest

from data.video import VideoError, read
from data.video.pyav import container, kept_index, sample_tables
from data.video.pyav.sample_tables import program
from data.video.pyav.sample_tables.program_table import ProgramTable
from tests.data.video.test_mutations import mutate
from tests.helpers.clips import X264, encode, patched
from tests.helpers.indexes import assert_equal, index_of, tables_are_used_alike
from tests.helpers.recordings import HEVC, MPEG2

B_FRAMES = {"g": "12", "bf": "2"}
LARGE = {"size": (320, 240), "frames": 60, "options": B_FRAMES | {"b": "6000k"}}
MADE = {
    "few": {"format": "vob", **MPEG2},  # several pictures in a packet, of which one has a time
    "several": {"format": "vob", "codec": "mpeg2video", "options": B_FRAMES, "frames": 120},
    "large": {"format": "vob", "codec": "mpeg2video", **LARGE},
    "576i": {
        "format": "dvd", "codec": "mpeg2video", "rate": 25, **LARGE, "size": (720, 576),
        "frames": 30, "options": B_FRAMES | {"b": "8000k", "flags": "+ildct+ilme"},
    },
    "svcd": {"format": "svcd", "codec": "mpeg2video", "rate": 25, **LARGE},
    "mpeg1": {"format": "mpeg", "codec": "mpeg1video", "rate": 25, **LARGE},
    "several_mpeg1": {
        "format": "vcd", "codec": "mpeg1video", "rate": 25, "options": B_FRAMES, "frames": 120
    },
}  # fmt: skip
PACK = b"\0\0\1\xba\x44\0\4\0\4\1\0\0\3\xf8"


@pytest.fixture(scope="module")
def program_file(tmp_path_factory):
    """The path of a program stream, by its name in `MADE`."""
    folder, paths = tmp_path_factory.mktemp("program"), {}

    def get(name):
        if name not in paths:
            paths[name] = encode(folder / f"{name}.mpg", **MADE[name])
        return paths[name]

    return get


def written(path, codec, *, share=2000, step=3600, **options):
    """Write a stream whose every picture begins a packet with a time, as cameras send it."""
    made = encode(path.with_suffix(".ts"), codec=codec, **{"rate": 25} | options)
    content = bytearray()
    with av.open(str(made)) as given:
        pictures = [packet for packet in given.demux(video=0) if packet.size]
        first = pictures[0].dts
        for packet in pictures:
            data, times = bytes(packet), [packet.pts - first + step, packet.dts - first + step]
            for at in range(0, len(data), share):
                part = data[at : at + share]
                head = b"" if at else time_field(0x31, times[0]) + time_field(0x11, times[1])
                flags = 0xC0 if head else 0
                head = struct.pack("3B", 0x80, flags, len(head)) + head
                content += PACK + b"\0\0\1\xe0" + struct.pack(">H", len(head + part)) + head + part
    path.write_bytes(content)
    return path


def time_field(mark, ticks):
    """Return a time of 33 bits in five bytes, the first of which has a mark."""
    ticks %= 1 << 33
    high, middle, low = ticks >> 30, ticks >> 15 & 0x7FFF, ticks & 0x7FFF
    return struct.pack(">BHH", mark | high << 1, middle << 1 | 1, low << 1 | 1)


def is_used_alike(path):
    index = index_of(path, tables=True)
    assert isinstance(index.samples, ProgramTable)
    assert index.packets is None
    assert_equal(index, index_of(path, tables=False))
    return index


@pytest.mark.parametrize("name", MADE)
def test_packs_give_the_index_and_the_frames_that_packets_give(name, program_file, monkeypatch):
    path = program_file(name)
    index = is_used_alike(path)
    wanted = np.random.default_rng(0).integers(0, len(index.order), 4)
    frames = read(path, wanted).frames
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 1)
    container._LAST_INDEX.clear()
    np.testing.assert_array_equal(read(path, wanted).frames, frames)


@pytest.mark.parametrize("size", [700, 2000, 60_000])
@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", X264 | {"g": "12"}), ("libx265", HEVC["options"]), ("mpeg2video", B_FRAMES)],
)
def test_a_camera_that_dates_each_picture(codec, options, size, tmp_path):
    path = written(tmp_path / "camera.mpg", codec, share=size, options=options)
    assert is_used_alike(path).doubt is None


@pytest.mark.parametrize("name", ["several", "large", "mpeg1"])
def test_batches_and_single_packets_are_the_demuxers(name, program_file, monkeypatch):
    path = program_file(name)
    with av.open(str(path)) as opened:
        expected = [bytes(packet) for packet in opened.demux(video=0) if packet.size]
    whole = index_of(path, tables=True).samples
    monkeypatch.setattr(program, "BATCH_BYTES", 80_000)
    samples = index_of(path, tables=True).samples
    assert_equal(index_of(path, tables=True), index_of(path, tables=False))
    with open(path, "rb") as file:
        assert [samples.content(file.fileno(), n) for n in range(len(samples))] == expected
    batches = [batch.packet(n) for batch in whole.batches(9, 1 << 20) for n in range(len(batch))]
    assert batches == expected


def test_packs_beside_those_of_sound(tmp_path):
    """Sound that looks like headers is passed over, in two streams of different kinds."""
    path = tmp_path / "sound.vob"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", format="vob") as out:
        video = out.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt, video.options = 96, 64, "yuv420p", B_FRAMES
        sounds = [out.add_stream(codec, rate=48000) for codec in ("pcm_dvd", "mp2")]
        for number in range(50):
            grey = np.full((64, 96, 3), 5 * number, np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            for sound in sounds:
                noise = rng.integers(-2000, 2000, (1, 2 * 1920)).astype(np.int16)
                noise[0, 100:103] = np.frombuffer(b"\0\0\0\1\xe0\0", ">i2")
                heard = av.AudioFrame.from_ndarray(noise, layout="stereo", format="s16")
                heard.sample_rate, heard.pts = 48000, 1920 * number
                out.mux(sound.encode(heard))
        for stream in (video, *sounds):
            out.mux(stream.encode(None))
    assert b"\0\0\1\xe0\0" in path.read_bytes()
    is_used_alike(path)


def test_a_clock_that_begins_its_next_round(tmp_path):
    """33 bits of 90 kHz: after 26.5 hours it begins at zero again, and goes on."""
    first = (1 << 33) - 150 * 90_000
    options = X264 | {"g": "12", "bf": "0"}
    path = tmp_path / "round.mpg"
    index = is_used_alike(written(path, "libx264", step=first, rate=1, frames=200, options=options))
    assert index.pts.max() > 1 << 33
    assert not len(index.joints)


@pytest.mark.parametrize(
    "name",
    ["restarted_vob", "restarted_from_an_hour_mpg", "joined_cuts_mpg", "late_mpeg2_mpg",
     "fields_mpeg2_vob"],
)  # fmt: skip
def test_what_is_unusual_stays_what_it_is(name, clip_file):
    path = clip_file(name)
    assert_equal(index_of(path, tables=True), index_of(path, tables=False))


def starts_of(data: bytes) -> list[int]:
    """Return where the packets of the first stream of video begin."""
    starts, at = [], data.find(b"\0\0\1\xe0")
    while at >= 0:
        starts.append(at)
        at = data.find(b"\0\0\1\xe0", at + 4)
    return starts


def begun_in_mid_group(data, starts):
    del data[: starts[len(starts) // 3]]


def begun_in_mid_pack(data, starts):
    del data[: starts[len(starts) // 3] + 100]


def cut_in_mid_pack(data, starts):
    del data[starts[-3] + 100 :]


def ends_twice(data, _):
    data += b"\0\0\1\xb9" * 2


def padded(data, _):
    data += bytes(2048)


def lost_packet(data, starts):
    del data[starts[len(starts) // 2] : starts[len(starts) // 2 + 1]]


def other_length(data, starts):
    data[starts[len(starts) // 2] + 5] ^= 1


def no_code(data, starts):
    data[starts[len(starts) // 2] + 2] = 0


def other_stream(data, starts):
    data[starts[len(starts) // 2] + 3] = 0xE1


def unknown_sound(data, starts):
    data[starts[len(starts) // 2] : starts[len(starts) // 2]] = b"\0\0\1\xc1\0\x08\x80\0\0sound"


def navigation(data, starts):
    data[starts[len(starts) // 2] : starts[len(starts) // 2]] = b"\0\0\1\xbf\x03\xd4" + bytes(980)


def extended_header(data, starts):
    at = starts[len(starts) // 2]
    data[at : at + 9] = b"\0\0\1\xe0" + data[at + 4 : at + 6] + b"\x80\x01\x03"
    data[at + 9 : at + 12] = b"\x01\x81\x40"


def no_time(data, starts):
    for at in starts[len(starts) // 3 : len(starts) // 2]:
        data[at + 7] &= 0x3F


def early_time(data, starts):
    dated = [at for at in starts if data[at + 7] & 0x80]
    data[dated[5] + 10] ^= 0x40


def ended_sequence(data, starts):
    at = data.index(b"\0\0\1\xb3", starts[len(starts) // 2])
    data[at - 4 : at] = b"\0\0\1\xb7"


def two_sequences(data, starts):
    at = data.index(b"\0\0\1\xb3", starts[len(starts) // 2])
    data[at + 7] ^= 1  # another rate of frames


@pytest.mark.parametrize("name", ["several", "large", "mpeg1"])
@pytest.mark.parametrize(
    "change",
    [begun_in_mid_group, begun_in_mid_pack, cut_in_mid_pack, ends_twice, padded, lost_packet,
     other_length, no_code, other_stream, unknown_sound, navigation, extended_header, no_time,
     early_time, ended_sequence, two_sequences],
)  # fmt: skip
def test_what_is_changed_is_read_as_the_demuxer_reads_it(change, name, program_file, tmp_path):
    path = tmp_path / "changed.mpg"

    def edit(data: bytearray) -> None:
        change(data, starts_of(bytes(data)))

    tables_are_used_alike(patched(program_file(name), path, edit))


def test_few_packets_are_left_to_ffmpeg(program_file, monkeypatch):
    monkeypatch.setattr(program, "_Packets", None)
    path = program_file("large")
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 1)
    container._LAST_INDEX.clear()
    with pytest.raises(TypeError):
        read(path, [0])
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 100)
    assert read(path, [0]).frames.shape[0] == 1


def test_what_was_found_is_kept(program_file, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kept_index, "SETTLED_SECONDS", 0)
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 1)
    path = program_file("large")
    container._LAST_INDEX.clear()
    first = read(path, [3, 30]).frames
    monkeypatch.setattr(container, "find_samples", None)
    container._LAST_INDEX.clear()
    np.testing.assert_array_equal(read(path, [3, 30]).frames, first)


def test_a_file_that_changes_while_it_is_open(program_file, tmp_path):
    path = tmp_path / "changed.mpg"
    data = program_file("large").read_bytes()
    path.write_bytes(data)
    samples = index_of(path, tables=True).samples
    start = int(samples.position[10])
    for changed in (data[:start], data[:start] + bytes(len(data) - start)):
        path.write_bytes(changed)
        with open(path, "rb") as file, pytest.raises(OSError, match=r"changed|shorter"):
            samples.content(file.fileno(), 20)
        with pytest.raises(OSError, match=r"changed|shorter"):
            list(samples.batches(1000, 1 << 20))


def test_a_last_frame_that_is_cut_off_is_left_out(tmp_path, monkeypatch):
    options = {"options": B_FRAMES, "frames": 30, "size": (320, 240)}
    path = written(tmp_path / "cut.mpg", "mpeg2video", share=500, **options)
    data = path.read_bytes()
    path.write_bytes(data[: starts_of(data)[-2] - len(PACK)])
    expected = read(path, [28]).frames
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 1)
    container._LAST_INDEX.clear()
    np.testing.assert_array_equal(read(path, [28]).frames, expected)
    with pytest.raises(VideoError, match="it shows 29"):
        read(path, [29])


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a stream with one thing changed: in a header, a code, or a packet gone or twice."""
    changed, starts = bytearray(data), starts_of(data)
    number = int(rng.integers(len(starts) - 1))
    start, following = starts[number], starts[number + 1]
    kind = rng.integers(5)
    if kind == 0:
        del changed[start:following]
    elif kind == 1:
        changed[start:start] = data[start:following]
    elif kind == 2 and data[start + 6] >> 6 == 2:
        changed[start + 7] &= 0x3F
    else:
        at = start + int(rng.integers(-14, 24))
        if kind == 3 and (code := data.find(b"\0\0\1", int(rng.integers(len(data))))) >= 0:
            at = min(code + int(rng.integers(10)), len(data) - 1)
        changed[at] = rng.choice([0, 1, 255, rng.integers(256), data[at] ^ 1 << rng.integers(8)])
    return bytes(changed)


@pytest.mark.parametrize(
    ("each", "seed"),
    [
        (4, 0),
        pytest.param(30, 1, marks=pytest.mark.slow),
        pytest.param(400, 2, marks=pytest.mark.soak),
    ],
)
def test_damage_changes_nothing(each, seed, program_file, tmp_path):
    """Whatever is written over a stream: the index is that of the packets, or the same refusal."""
    rng, used, path = np.random.default_rng(seed), 0, tmp_path / "damaged.mpg"
    for name in MADE:
        data = program_file(name).read_bytes()
        for number in range(each):
            path.write_bytes((mutate if number % 4 == 0 else damaged)(data, rng))
            used += tables_are_used_alike(path)
    assert used > each
