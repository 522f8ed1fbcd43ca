"""What the bitstream of packets tells."""

from collections.abc import Callable
from functools import partial

import av
import numpy as np
import pytest

from data.video.pyav.nal_units import PacketBytes
from data.video.pyav.packets import (
    CLOSED_ENTRY,
    NO_ENTRY,
    OPEN_ENTRY,
    PacketFacts,
    PacketParser,
    parser_for,
)


def packets_of(path) -> tuple[list[bytes], Callable[[], PacketParser]]:
    """Return the packets of a file's first video stream, and what makes the parser of their codec.

    A parser remembers the packets before those that it is given.
    """
    with av.open(str(path)) as opened:
        context = opened.streams.video[0].codec_context
        codec, extradata = context.codec.canonical_name, context.extradata or b""
        make = partial(parser_for, codec, extradata, counts=True)
        return [bytes(packet) for packet in opened.demux(video=0) if packet.size], make


def facts_of(packets: list[bytes], make: Callable[[], PacketParser]) -> PacketFacts:
    return make()(PacketBytes.joined(b"".join(packets), [len(packet) for packet in packets]))


def assert_equal(facts: PacketFacts, others: PacketFacts) -> None:
    for one, other in ((facts, others), (facts.counts, others.counts)):
        if one is None or other is None:
            assert one is other
            continue
        for key, value in vars(one).items():
            if key != "counts":
                np.testing.assert_equal(vars(other)[key], value, err_msg=key)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("h264_short_gop", CLOSED_ENTRY),
        ("hevc_open_gop", OPEN_ENTRY),
        ("mpeg2", OPEN_ENTRY),
        ("mpeg4", OPEN_ENTRY),
        ("vp9", CLOSED_ENTRY),
        ("av1", CLOSED_ENTRY),
    ],
)
def test_later_groups_begin_with_an_entry_and_hold_none(name, entry, clip_file):
    entries = facts_of(*packets_of(clip_file(name))).entry.tolist()
    assert entries[0] != NO_ENTRY
    assert entries.count(entry) >= 2
    assert entries.count(NO_ENTRY) > len(entries) / 2


def test_every_frame_of_an_intra_codec_is_an_entry(clip_file):
    for name in ("prores", "mjpeg_mov"):
        assert set(facts_of(*packets_of(clip_file(name))).entry.tolist()) == {CLOSED_ENTRY}


def test_frames_that_no_other_uses_are_droppable(clip_file):
    facts = facts_of(*packets_of(clip_file("h264_long_gop")))
    assert 0 < facts.droppable.sum() < len(facts.droppable)
    assert not facts.droppable[0]
    assert facts.bidirectional[facts.droppable].all()


@pytest.mark.parametrize(
    "name",
    ["h264_short_gop", "h264_transport", "h264_paff", "hevc_open_gop", "mpeg4", "vp9", "av1"],
)
def test_packets_tell_the_same_one_by_one_and_all_at_once_damaged_or_not(name, clip_file):
    packets, make = packets_of(clip_file(name))
    rng = np.random.default_rng(0)
    for damaged in (False, True):
        if damaged:
            for number, packet in enumerate(packets):
                changed = bytearray(packet[: rng.integers(1, len(packet) + 1)])
                for place in rng.integers(0, min(len(changed), 12), 3).tolist():
                    changed[place] = rng.integers(0, 256)
                packets[number] = bytes(changed)
        parse = make()
        alone = [parse(PacketBytes.joined(packet, [len(packet)])) for packet in packets]
        assert_equal(facts_of(packets, make), PacketFacts.joined(alone))


def test_packets_may_lie_apart(clip_file):
    for name in ("h264_short_gop", "h264_transport", "vp9"):
        packets, make = packets_of(clip_file(name))
        gap = b"\0\0\1\x65\xff"  # looks like a keyframe
        sizes = np.array([len(packet) for packet in packets])
        end = np.cumsum(sizes + len(gap))
        data = np.frombuffer(b"".join(gap + packet for packet in packets), np.uint8)
        assert_equal(make()(PacketBytes(data, end - sizes, end)), facts_of(packets, make))


def test_the_header_of_vp8_tells_keyframes_and_hidden_frames():
    facts = facts_of([b"\x10\0\0", b"\x01\0\0"], partial(parser_for, "vp8", b"", counts=True))
    assert facts.entry.tolist() == [CLOSED_ENTRY, NO_ENTRY]
    assert facts.shown.tolist() == [True, False]


def test_packets_of_an_unknown_codec_are_ambiguous():
    make = partial(parser_for, "theora", b"", counts=True)
    assert facts_of([b"anything"], make).ambiguous.all()


def hevc(*kinds: int) -> bytes:
    """Return a packet of NAL units of these types."""
    return b"".join(b"\0\0\1" + bytes([kind << 1, 1, 0x80, 0x80]) for kind in kinds)


@pytest.mark.parametrize("apart", [False, True])
def test_leading_pictures_of_a_start_without_anything_before_it_are_not_shown(apart):
    """CRA 21, BLA 16, IDR 19, RASL 8 and 9, RADL 7, the end of a sequence 36."""
    kinds = [(21,), (9,), (7,), (1,), (21,), (9,), (1,), (16,), (8,), (9,), (1, 36), (21,), (8,),
             (1,), (36, 21), (9,), (19,), (1,)]  # fmt: skip
    hidden = {1, 8, 9, 12, 15}
    packets = [hevc(*of_packet) for of_packet in kinds]
    make = partial(parser_for, "hevc", b"", counts=False)
    if apart:
        parse = make()
        parts = [parse(PacketBytes.joined(packet, [len(packet)])) for packet in packets]
        facts = PacketFacts.joined(parts)
    else:
        facts = facts_of(packets, make)
    assert set(np.flatnonzero(~facts.shown).tolist()) == hidden
    # CRA pictures after an end drop what waits to be shown.
    assert np.flatnonzero(facts.ambiguous).tolist() == [11, 14]


def test_a_later_start_that_drops_what_waits_to_be_shown_is_ambiguous():
    """By no_output_of_prior_pics_flag, the second bit of its slice header."""
    drops = b"\0\0\1" + bytes([19 << 1, 1, 0xC0, 0x80])
    make = partial(parser_for, "hevc", b"", counts=False)
    assert facts_of([drops, hevc(1), drops], make).ambiguous.tolist() == [False, False, True]


def mpeg2(*, width: int = 96, low_delay: bool = False, progressive: bool = True) -> bytes:
    """Return an I picture of MPEG-2 with a sequence header, 64 rows high."""
    sequence = b"\0\0\1\xb3" + (width << 12 | 64).to_bytes(3, "big") + b"\x13\xff\xff\xe0\x18"
    extension = bytes([0x14, 0x82 | progressive << 3, 0, 1, 0, low_delay << 7])
    return sequence + b"\0\0\1\xb5" + extension + b"\0\0\1\0\0\x0f\xff\xf8" + bytes(8)


@pytest.mark.parametrize("apart", [False, True])
def test_a_sequence_that_is_coded_in_another_way_is_ambiguous(apart):
    """FFmpeg sets up its decoder anew there, and leaves out a frame or shows one twice."""
    make = partial(parser_for, "mpeg2video", b"", counts=False)
    packets = [
        mpeg2(), mpeg2(), mpeg2(low_delay=True), mpeg2(low_delay=True), mpeg2(), mpeg2(width=128),
        mpeg2(width=128, progressive=False), mpeg2(width=128, progressive=False),
    ]  # fmt: skip
    parse = make()
    groups = [[packet] for packet in packets] if apart else [packets]
    found = [parse(PacketBytes.joined(b"".join(g), [*map(len, g)])) for g in groups]
    facts = PacketFacts.joined(found)
    assert np.flatnonzero(facts.ambiguous).tolist() == [2, 4, 5, 6]
