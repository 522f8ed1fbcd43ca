"""What the bitstream of packets tells: whether decoding may start here, what depends on them.

Container flags are claims (an MP4 without a sync table calls every packet a keyframe), so the
bitstream decides where decoding may start. A codec without a parser here is decoded from the start,
which is always right.

Packets are parsed many at a time, so that a packet costs no Python of its own where its codec's
files have many (H.264, HEVC); the other parsers look at one packet after the other.

Sources: ITU-T H.264 7.3.1, 7.3.3 and D.2.8 (NAL unit types, slice types, recovery points); ITU-T
H.265 7.4.2.2 (NAL unit types, TemporalId); RFC 6386 9.1 (VP8); VP9 bitstream 6.2 and annex B; AV1
bitstream 5.3 to 5.9; ISO/IEC 14496-2 6.2.5 (vop_coding_type); ISO/IEC 13818-2 6.2.3
(picture_coding_type).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from data.video.pyav.nal_units import (
    PacketBytes,
    nal_units,
    recovers_at_once,
    slice_types,
)
from data.video.pyav.picture_structure import FrameCoding, frame_coding

CLOSED_ENTRY = 2
OPEN_ENTRY = 1
NO_ENTRY = 0


@dataclass
class PacketFacts:
    """What the bitstream of n packets tells; all arrays have shape (n,).

    Attributes:
        entry: int8, `CLOSED_ENTRY` where all packets that follow can be decoded from here,
            `OPEN_ENTRY` where those can that are shown at or after this one, else `NO_ENTRY`.
        droppable: Whether no packet depends on this one, if its `layer` is the stream's highest.
        shown: Whether the decoder shows a frame for it.
        layer: int8, its temporal layer.
        bidirectional: Whether it may be shown before packets that it follows in the file.
        ambiguous: Whether only decoding it tells if it is exactly one frame.
        whole: Whether it is known to be a frame; others may be fields, two of them one frame.
        parameters: Its parameter sets, which later packets may use, by the numbers of the packets
            that have any.
    """

    entry: npt.NDArray[np.int8]
    droppable: npt.NDArray[np.bool_]
    shown: npt.NDArray[np.bool_]
    layer: npt.NDArray[np.int8]
    bidirectional: npt.NDArray[np.bool_]
    ambiguous: npt.NDArray[np.bool_]
    whole: npt.NDArray[np.bool_]
    parameters: dict[int, tuple[bytes, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, count: int) -> PacketFacts:
        """Return what holds for packets of which nothing is known but that each is one frame."""
        return cls(
            entry=np.full(count, NO_ENTRY, np.int8),
            droppable=np.zeros(count, np.bool_),
            shown=np.ones(count, np.bool_),
            layer=np.zeros(count, np.int8),
            bidirectional=np.zeros(count, np.bool_),
            ambiguous=np.zeros(count, np.bool_),
            whole=np.zeros(count, np.bool_),
        )

    @classmethod
    def joined(cls, parts: Sequence[PacketFacts]) -> PacketFacts:
        """Return the facts of the packets of all `parts`, one part after the other."""
        parameters: dict[int, tuple[bytes, ...]] = {}
        first = 0
        for part in parts:
            parameters |= {first + number: sets for number, sets in part.parameters.items()}
            first += len(part.entry)
        names = ("entry", "droppable", "shown", "layer", "bidirectional", "ambiguous", "whole")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(**arrays, parameters=parameters)


def _h264(packets: PacketBytes, length_size: int, coding: FrameCoding | None) -> PacketFacts:
    facts, units = PacketFacts.of(len(packets)), nal_units(packets, length_size)
    head = packets.data[units.start]
    kind = head & 31
    is_slice = (kind >= 1) & (kind <= 5)
    slices = units.packet[is_slice]
    facts.ambiguous[:] = True
    facts.ambiguous[slices] = False
    if coding is not None and coding.frames_only:
        facts.whole[slices] = True
    elif coding is not None:
        for unit in np.flatnonzero(is_slice)[np.unique(slices, return_index=True)[1]].tolist():
            start, end = int(units.start[unit]), int(units.end[unit])
            first_bytes = packets.data[start : min(end, start + 80)].tobytes()
            facts.whole[units.packet[unit]] = coding.is_frame(first_bytes)
    facts.droppable[:] = True
    facts.droppable[units.packet[is_slice & (head & 0x60 != 0)]] = False
    predicted = np.flatnonzero((kind == 1) | (kind == 2))
    types = slice_types(packets.data, units.start[predicted] + 1, units.end[predicted])
    facts.bidirectional[units.packet[predicted[types == 1]]] = True
    idr = np.zeros(len(packets), np.bool_)
    idr[units.packet[kind == 5]] = True
    for unit in np.flatnonzero((kind == 6) & ~idr[units.packet]).tolist():
        if recovers_at_once(packets.data, int(units.start[unit]), int(units.end[unit])):
            facts.entry[units.packet[unit]] = OPEN_ENTRY
    facts.entry[idr] = CLOSED_ENTRY
    is_parameters = (kind == 7) | (kind == 8) | (kind == 13) | (kind == 15)
    facts.parameters = units.contents(packets, is_parameters)
    return facts


def _hevc(packets: PacketBytes, length_size: int) -> PacketFacts:
    facts, units = PacketFacts.of(len(packets)), nal_units(packets, length_size, shortest=2)
    kind = packets.data[units.start] >> 1 & 63
    pictures = np.flatnonzero(kind < 32)
    first_of_packet, position = np.unique(units.packet[pictures], return_index=True)
    first = pictures[position]
    picture_kind = kind[first]
    no_reference = (picture_kind < 16) & (picture_kind & 1 == 0)
    closed = (picture_kind == 19) | (picture_kind == 20)
    open_or_closed = (picture_kind >= 16) & (picture_kind <= 21)
    facts.ambiguous[:] = True
    facts.ambiguous[first_of_packet] = False
    facts.entry[first_of_packet] = np.where(
        closed, CLOSED_ENTRY, np.where(open_or_closed, OPEN_ENTRY, NO_ENTRY)
    )
    facts.droppable[first_of_packet] = no_reference
    facts.layer[first_of_packet] = (packets.data[units.start[first] + 1] & 7).astype(np.int8) - 1
    facts.bidirectional[first_of_packet] = no_reference | (
        (picture_kind >= 6) & (picture_kind <= 9)
    )
    facts.parameters = units.contents(packets, (kind >= 32) & (kind <= 34))
    return facts


def _vp8(packets: PacketBytes) -> PacketFacts:
    facts, head = PacketFacts.of(len(packets)), packets.data[packets.start]
    facts.entry[head & 1 == 0] = CLOSED_ENTRY
    facts.shown = head & 0x10 != 0
    return facts


def _vp9(packets: PacketBytes) -> PacketFacts:
    facts, head = PacketFacts.of(len(packets)), packets.data[packets.start]
    facts.ambiguous = head >> 6 != 2
    shift = np.where(head & 0x30 == 0x30, 2, 3).astype(np.uint8)  # profile 3 has a reserved bit
    coded = ~facts.ambiguous & (head >> shift & 1 == 0)  # not show_existing_frame
    key = head >> (shift - 1) & 1 == 0
    shown = head >> (shift - 2) & 1 == 1
    superframe = packets.data[packets.end - 1] & 0xE0 == 0xC0
    facts.entry[coded & key & shown] = CLOSED_ENTRY
    facts.shown = ~coded | shown | superframe
    return facts


@dataclass(frozen=True, slots=True)
class _Picture:
    """What one packet tells, by the names of `PacketFacts`."""

    entry: int = NO_ENTRY
    bidirectional: bool = False
    ambiguous: bool = False
    whole: bool = False
    parameters: tuple[bytes, ...] = ()


_AMBIGUOUS = _Picture(ambiguous=True)
_NO_ENTRY = _Picture()
_CLOSED_ENTRY = _Picture(entry=CLOSED_ENTRY)


def _one_by_one(packets: PacketBytes, parse: Callable[[bytes], _Picture]) -> PacketFacts:
    """Return the facts of packets that are parsed one after the other."""
    pictures = [parse(packets.packet(number)) for number in range(len(packets))]
    facts = PacketFacts.of(len(packets))
    facts.entry[:] = [picture.entry for picture in pictures]
    facts.bidirectional[:] = [picture.bidirectional for picture in pictures]
    facts.ambiguous[:] = [picture.ambiguous for picture in pictures]
    facts.whole[:] = [picture.whole for picture in pictures]
    facts.parameters = {n: p.parameters for n, p in enumerate(pictures) if p.parameters}
    return facts


def _av1(data: bytes) -> _Picture:
    at, sequence = 0, False
    while at < len(data):
        head = data[at]
        kind, extended, sized = head >> 3 & 15, head >> 2 & 1, head >> 1 & 1
        at += 1 + extended
        size = len(data) - at
        if sized:
            size = shift = 0
            while at < len(data):
                byte = data[at]
                size |= (byte & 127) << shift
                at, shift = at + 1, shift + 7
                if byte < 128:
                    break
        if at >= len(data):
            break
        if kind == 1:
            sequence = not data[at] & 0x08  # reduced_still_picture_header
        elif kind in (3, 6):
            # show_existing_frame 0, frame_type 0 (key), show_frame 1
            return _CLOSED_ENTRY if sequence and data[at] >> 4 == 1 else _NO_ENTRY
        at += size
    return _AMBIGUOUS


def _mpeg4(data: bytes) -> _Picture:
    at = data.find(b"\0\0\1\xb6")
    # Two pictures in a packet, or one of a few bytes that repeats the last and shows nothing.
    if at < 0 or len(data) < at + 16 or data.find(b"\0\0\1\xb6", at + 4) >= 0:
        return _AMBIGUOUS
    kind = data[at + 4] >> 6
    # What comes before a picture: headers of the stream, or only the time of its group.
    units = [b"\0\0\1" + unit for unit in data[:at].split(b"\0\0\1")[1:]]
    headers = b"".join(unit for unit in units if unit[3:4] != b"\xb3")
    layers = any(unit[3:4] in (b"\x20", b"\x00", b"\xb0") for unit in units)
    return _Picture(
        entry=OPEN_ENTRY if kind == 0 else NO_ENTRY,
        bidirectional=kind == 2,
        whole=True,
        parameters=(headers,) if layers else (),
    )


def _mpeg2(data: bytes) -> _Picture:
    at = data.find(b"\0\0\1\0")
    if at < 0 or at + 5 >= len(data):
        return _AMBIGUOUS
    kind = data[at + 5] >> 3 & 7
    starts = kind == 1 and data.startswith(b"\0\0\1\xb3")  # with a sequence header of its own
    extension = data.find(b"\0\0\1\xb5", at + 4, at + 32)
    coding = extension >= 0 and len(data) > extension + 6 and data[extension + 4] >> 4 == 8
    return _Picture(
        entry=OPEN_ENTRY if starts else NO_ENTRY,
        bidirectional=kind == 3,
        whole=coding and data[extension + 6] & 3 == 3,  # picture_structure: 1 and 2 are fields
    )


def _mjpeg(data: bytes) -> _Picture:
    # A JPEG that leaves out its tables uses those of an earlier one.
    head = data[:4096]
    return _CLOSED_ENTRY if b"\xff\xdb" in head and b"\xff\xc4" in head else _NO_ENTRY


def _in_order(packets: PacketBytes) -> PacketFacts:
    return PacketFacts.of(len(packets))


def _intra(packets: PacketBytes) -> PacketFacts:
    facts = PacketFacts.of(len(packets))
    facts.entry[:] = CLOSED_ENTRY
    return facts


def _unknown(packets: PacketBytes) -> PacketFacts:
    facts = PacketFacts.of(len(packets))
    facts.ambiguous[:] = True
    return facts


PacketParser = Callable[[PacketBytes], PacketFacts]

# By FFmpeg's name of the codec.
PARSERS: dict[str, PacketParser] = {
    "vp8": _vp8,
    "vp9": _vp9,
    "av1": partial(_one_by_one, parse=_av1),
    "mpeg4": partial(_one_by_one, parse=_mpeg4),
    "mpeg1video": partial(_one_by_one, parse=_mpeg2),
    "mpeg2video": partial(_one_by_one, parse=_mpeg2),
    "mjpeg": partial(_one_by_one, parse=_mjpeg),
}
# Each frame of these is a keyframe; of the last three it is known only that a packet is a frame.
INTRA_ONLY = ("prores", "dnxhd", "rawvideo", "huffyuv", "ffvhuff", "utvideo", "png")
PARSERS.update(dict.fromkeys(INTRA_ONLY, _intra))
PARSERS.update(dict.fromkeys(("ffv1", "gif", "qtrle"), _in_order))


def parser_for(codec: str, extradata: bytes) -> PacketParser:
    """Return the parser of a codec's packets.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: The container's description of the stream, which says how long the length before
            each NAL unit is; where it does not, start codes separate the units.
    """
    configured = extradata.startswith(b"\1")  # avcC and hvcC begin with a version
    if codec == "h264":
        length_size = (extradata[4] & 3) + 1 if configured and len(extradata) > 4 else 0
        return partial(_h264, length_size=length_size, coding=frame_coding(extradata))
    if codec == "hevc":
        length_size = (extradata[21] & 3) + 1 if configured and len(extradata) > 21 else 0
        return partial(_hevc, length_size=length_size)
    return PARSERS.get(codec, _unknown)


def facts_of(packets: PacketBytes, parse: PacketParser, extradata: bytes) -> PacketFacts:
    """Return what packets tell, of their parameter sets only those that are not the container's.

    Args:
        packets: The packets.
        parse: The parser of their codec.
        extradata: The container's description of the stream.
    """
    facts = parse(packets)
    facts.parameters = {
        number: sets
        for number, sets in facts.parameters.items()
        if not all(item in extradata for item in sets)
    }
    return facts
