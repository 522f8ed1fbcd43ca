"""What the bitstream of single packets tells."""

import av
import pytest

from data.video.pyav.packets import CLOSED_ENTRY, NO_ENTRY, OPEN_ENTRY, PacketFacts, parser_for


def facts_of(path) -> list[PacketFacts]:
    with av.open(str(path)) as opened:
        context = opened.streams.video[0].codec_context
        parse, length_size = parser_for(context.codec.canonical_name, context.extradata or b"")
        return [
            parse(memoryview(packet), length_size)
            for packet in opened.demux(video=0)
            if packet.size
        ]


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
    entries = [facts.entry for facts in facts_of(clip_file(name))]
    assert entries[0] != NO_ENTRY
    assert entries.count(entry) >= 2
    assert entries.count(NO_ENTRY) > len(entries) / 2


def test_every_frame_of_an_intra_codec_is_an_entry(clip_file):
    for name in ("prores", "mjpeg_mov"):
        assert {facts.entry for facts in facts_of(clip_file(name))} == {CLOSED_ENTRY}


def test_frames_that_no_other_uses_are_droppable(clip_file):
    facts = facts_of(clip_file("h264_long_gop"))
    droppable = [packet.droppable for packet in facts]
    assert 0 < sum(droppable) < len(facts)
    assert not facts[0].droppable
    assert all(packet.bidirectional for packet in facts if packet.droppable)


def test_the_header_of_vp8_tells_keyframes_and_hidden_frames():
    parse, _ = parser_for("vp8", b"")
    assert parse(memoryview(b"\x10\0\0"), 0) == PacketFacts(entry=CLOSED_ENTRY, shown=True)
    assert parse(memoryview(b"\x01\0\0"), 0) == PacketFacts(entry=NO_ENTRY, shown=False)


def test_packets_of_an_unknown_codec_are_ambiguous():
    parse, _ = parser_for("theora", b"")
    assert parse(memoryview(b"anything"), 0).ambiguous
