"""Where a stream is cut into packets: as FFmpeg's own parsers do, or left to them."""

from __future__ import annotations

import av
import numpy as np
import pytest

from data.video.pyav.nal_units import PacketBytes, nal_units
from data.video.pyav.packets import facts_of, parser_for
from data.video.pyav.sample_tables.access_units import keys_of_cuts
from data.video.pyav.sample_tables.table import UnusualTable
from tests.helpers.clips import X264, encode

STREAMS = {
    "h264": {"options": X264 | {"g": "6", "x264-params": "slices=3:aud=1"}, "size": (192, 96)},
    "hevc": {
        "codec": "libx265",
        "options": {"x265-params": "log-level=none:keyint=6:slices=2:aud=1"},
        "size": (192, 160),
    },
    "mpeg2video": {"codec": "mpeg2video", "options": {"g": "6", "bf": "2"}},
}
SUFFIX = {"h264": "h264", "hevc": "hevc", "mpeg2video": "m2v"}


@pytest.fixture(scope="module", params=STREAMS)
def stream(request, tmp_path_factory):
    """The codec, the description and the packets of a stream that was made for this."""
    codec = request.param
    path = tmp_path_factory.mktemp("units") / f"clip.{SUFFIX[codec]}"
    encode(path, frames=20, **STREAMS[codec])
    with av.open(str(path)) as opened:
        extradata = opened.streams.video[0].codec_context.extradata or b""
        packets = [bytes(packet) for packet in opened.demux(video=0) if packet.size]
    return codec, extradata, packets


def keys_of(codec, extradata, packets):
    """Return which packets are keyframes; None where their cuts are not known to be FFmpeg's."""
    together = PacketBytes.joined(b"".join(packets), [len(packet) for packet in packets])
    facts = facts_of(together, parser_for(codec, extradata, counts=False), extradata)
    try:
        return keys_of_cuts(codec, together, facts, b"").tolist()
    except UnusualTable:
        return None


def cut_by_ffmpeg(codec, packets):
    context = av.CodecContext.create(codec, "r")
    data = b"".join(packets)
    return [bytes(packet) for packet in [*context.parse(data), *context.parse(b"")]]


def test_the_packets_of_a_stream_are_cut_alike(stream):
    codec, extradata, packets = stream
    keys = keys_of(codec, extradata, packets)
    assert keys is not None
    assert len(keys) == 20
    assert 4 <= sum(keys) < 10
    assert cut_by_ffmpeg(codec, packets) == packets
    assert keys_of(codec, extradata, packets[1:]) == keys[1:]


def changed(packets: list[bytes], rng: np.random.Generator) -> list[bytes]:
    """Return packets of which something is missing, moved, repeated or overwritten."""
    packets = list(packets)
    number = int(rng.integers(1, len(packets) - 1))
    packet = packets[number]
    units = [b"\0\0\1" + unit for unit in packet.split(b"\0\0\1")[1:]]
    chosen, other = (int(place) for place in rng.integers(len(units), size=2))
    match int(rng.integers(9)):
        case 0:
            del units[chosen]
        case 1:
            units[chosen], units[other] = units[other], units[chosen]
        case 2:
            units.insert(other, units[chosen])
        case 3 | 4:  # a unit of another kind, or another beginning of a slice
            unit = bytearray(units[chosen])
            place = min(3 + int(rng.integers(4)), len(unit) - 1)
            unit[place] = rng.choice([unit[place] ^ 1 << rng.integers(8), rng.integers(256)])
            units[chosen] = bytes(unit)
        case 5:
            units[chosen] = units[chosen][: int(rng.integers(3, 8))]
        case 6:
            units[chosen] += bytes(int(rng.integers(1, 4)))
        case 7:  # the end of one packet in another
            moved = int(rng.integers(1, 6))
            packets[number - 1] += packet[:moved]
            packets[number] = packet[moved:]
            return packets
        case _:
            packets[number - 1 : number + 1] = [packets[number - 1] + packet]
            return packets
    packets[number] = b"\0" * int(rng.integers(2)) + b"".join(units)
    return [packet for packet in packets if packet]


def test_whatever_changes_is_cut_alike_or_left_to_ffmpeg(stream):
    codec, extradata, packets = stream
    rng, known = np.random.default_rng(0), 0
    for _ in range(150):
        given = changed(packets, rng)
        if keys_of(codec, extradata, given) is not None:
            known += 1
            assert cut_by_ffmpeg(codec, given) == given
    assert 10 < known < 140


def test_a_packet_without_a_picture_is_left_to_ffmpeg(stream):
    codec, extradata, packets = stream
    units = nal_units(PacketBytes.joined(packets[0], [len(packets[0])]), 0)
    head = packets[0][: int(units.start[1]) - 3]
    assert keys_of(codec, extradata, [head, *packets[1:]]) is None
    assert keys_of(codec, extradata, [b"\1\2\3\4", *packets[1:]]) is None


def test_a_unit_without_a_header_is_left_to_ffmpeg(stream):
    """FFmpeg reads the next start code for it, and does not see the unit behind that."""
    codec, extradata, packets = stream
    at = packets[5].index(b"\0\0\1", 3)
    given = [*packets[:5], packets[5][:at] + b"\0\0\1" + packets[5][at:], *packets[6:]]
    assert keys_of(codec, extradata, given) is None
