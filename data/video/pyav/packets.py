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

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from data.video.pyav.hevc_parameters import slice_coding
from data.video.pyav.nal_units import (
    PacketBytes,
    nal_units,
    recovers_at_once,
    slice_types,
)
from data.video.pyav.picture_structure import (
    BOTTOM_FIELD,
    FRAME,
    TOP_FIELD,
    UNKNOWN,
    Counts,
    frame_coding,
    mpeg2_coding,
    mpeg2_fields,
    mpeg2_pictures,
    mpeg4_delays,
)

CLOSED_ENTRY = 2
OPEN_ENTRY = 1
NO_ENTRY = 0

# Of MPEG-4: the start of a picture, the vop_coding_type of a B-picture, the fewest bytes of one
# that is known to be coded, and what DivX says of its stream (`p` where pictures are packed).
_VOP, _B_VOP, _LEAST_VOP = b"\0\0\1\xb6", 2, 16
_DIVX = re.compile(rb"\x00\x00\x01\xb2DivX\d+(?:Build|b)\d+(p?)")


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
        structure: int8, whether it is a frame, a field or both (`picture_structure.FRAME` ...).
        number: uint8, low bits of a field's frame's number.
        packed: Whether a second picture is in it, shown in place of the next packet's, so that
            times do not tell the order of showing.
        parameters: Its parameter sets, which later packets may use, by the numbers of the packets
            that have any.
        counts: How the pictures count, which tells the order of showing; None where not known.
    """

    entry: npt.NDArray[np.int8]
    droppable: npt.NDArray[np.bool_]
    shown: npt.NDArray[np.bool_]
    layer: npt.NDArray[np.int8]
    bidirectional: npt.NDArray[np.bool_]
    ambiguous: npt.NDArray[np.bool_]
    structure: npt.NDArray[np.int8]
    number: npt.NDArray[np.uint8]
    packed: npt.NDArray[np.bool_]
    parameters: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    counts: Counts | None = None

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
            structure=np.full(count, UNKNOWN, np.int8),
            number=np.zeros(count, np.uint8),
            packed=np.zeros(count, np.bool_),
        )

    @classmethod
    def joined(cls, parts: Sequence[PacketFacts]) -> PacketFacts:
        """Return the facts of the packets of all `parts`, one part after the other."""
        parameters: dict[int, tuple[bytes, ...]] = {}
        first = 0
        for part in parts:
            parameters |= {first + number: sets for number, sets in part.parameters.items()}
            first += len(part.entry)
        names = (
            "entry", "droppable", "shown", "layer", "bidirectional", "ambiguous", "structure",
            "number", "packed",
        )  # fmt: skip
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        counts = [part.counts for part in parts if part.counts is not None]
        return cls(
            **arrays,
            parameters=parameters,
            counts=Counts.joined(counts) if len(counts) == len(parts) else None,
        )


class _H264:
    """The parser of H.264."""

    def __init__(self, extradata: bytes, *, counts: bool) -> None:
        configured = extradata.startswith(b"\1") and len(extradata) > 4  # an avcC box
        self.length_size = (extradata[4] & 3) + 1 if configured else 0
        self.coding, self.counts = frame_coding(extradata), counts

    def __call__(self, packets: PacketBytes) -> PacketFacts:
        facts, units = PacketFacts.of(len(packets)), nal_units(packets, self.length_size)
        head = packets.data[units.start]
        kind = head & 31
        is_slice = (kind >= 1) & (kind <= 5)
        slices = units.packet[is_slice]
        facts.ambiguous[:] = True
        facts.ambiguous[slices] = False
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
        if self.coding is not None and self.coding.frames_only and not self.counts:
            facts.structure[slices] = FRAME
        elif self.coding is not None:
            found = self.coding.pictures(packets, units)
            facts.structure, facts.number = found.structure, found.number
            if self.counts and (self.coding.order_bits or self.coding.in_order):
                bits = self.coding.order_bits
                facts.counts = Counts(found.low, idr, ~facts.droppable, bits)
        return facts


class _Hevc:
    """The parser of HEVC, which remembers what the start was that pictures follow."""

    def __init__(self, extradata: bytes, *, counts: bool) -> None:
        configured = extradata.startswith(b"\1") and len(extradata) > 21  # an hvcC box
        self.length_size = (extradata[21] & 3) + 1 if configured else 0
        self.coding, self.counts = slice_coding(extradata), counts
        self.ended = True  # whether the sequence before has ended
        self.fresh = False  # whether the latest start has nothing before it
        self.begun = False  # whether there was a picture

    def __call__(self, packets: PacketBytes) -> PacketFacts:
        facts, units = (
            PacketFacts.of(len(packets)),
            nal_units(packets, self.length_size, shortest=2),
        )
        kind = packets.data[units.start] >> 1 & 63
        pictures = np.flatnonzero(kind < 32)
        first_of_packet, position = np.unique(units.packet[pictures], return_index=True)
        first = pictures[position]
        picture_kind = kind[first]
        no_reference = (picture_kind < 16) & (picture_kind & 1 == 0)
        leading = (picture_kind >= 6) & (picture_kind <= 9)
        starts = (picture_kind >= 16) & (picture_kind <= 21)
        idr = (picture_kind == 19) | (picture_kind == 20)
        facts.ambiguous[:] = True
        facts.ambiguous[first_of_packet] = False
        facts.structure[first_of_packet] = FRAME
        facts.entry[first_of_packet] = np.where(
            idr, CLOSED_ENTRY, np.where(starts, OPEN_ENTRY, NO_ENTRY)
        )
        facts.droppable[first_of_packet] = no_reference
        layer = (packets.data[units.start[first] + 1] & 7).astype(np.int8) - 1
        facts.layer[first_of_packet] = layer
        facts.bidirectional[first_of_packet] = no_reference | leading
        facts.parameters = units.contents(packets, (kind >= 32) & (kind <= 34))
        fresh = self._fresh(kind, pictures, first, picture_kind)
        skipped = (picture_kind >= 8) & (picture_kind <= 9) & fresh
        facts.shown[first_of_packet] = ~skipped
        # A start may drop what waits to be shown, which decoding from it does not tell: it says
        # so, or is a CRA picture, which always does (C.5.2.2).
        third = np.minimum(units.start[first] + 2, len(packets.data) - 1)
        drops = starts & fresh & ((packets.data[third] & 0x40 != 0) | (picture_kind == 21))
        drops[:1] &= self.begun
        self.begun |= len(first) > 0
        facts.ambiguous[first_of_packet] |= drops
        if self.coding is not None and (self.counts or self.coding.hides):
            low, shown = self.coding.read(
                packets.data, units.start[first], units.end[first], picture_kind
            )
            facts.shown[first_of_packet] &= shown
            if self.counts:
                count, bits = len(packets), self.coding.order_bits
                restarts, anchors = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
                facts.counts = Counts(np.full(count, -1, np.int32), restarts, anchors, bits)
                facts.counts.low[first_of_packet] = low
                restarts[first_of_packet] = starts & fresh
                anchors[first_of_packet] = (layer == 0) & ~no_reference & ~leading
        return facts

    def _fresh(
        self,
        kind: npt.NDArray[Any],
        pictures: npt.NDArray[np.int64],
        first: npt.NDArray[np.int64],
        picture_kind: npt.NDArray[Any],
    ) -> npt.NDArray[np.bool_]:
        """Return whether the start that each picture follows, or is, has nothing before it.

        Args:
            kind: The type of each NAL unit.
            pictures: int64, the numbers of the units that hold pictures.
            first: int64 (m,), of these the first of each packet.
            picture_kind: (m,), their types.
        """
        ends = np.flatnonzero((kind == 36) | (kind == 37))
        starts = np.flatnonzero((picture_kind >= 16) & (picture_kind <= 21))
        of_start = np.zeros(len(starts) + 1, np.bool_)
        of_start[0] = self.fresh
        for number, start in enumerate(starts.tolist(), 1):
            at = int(first[start])
            before = int(np.searchsorted(pictures, at)) - 1
            since = int(pictures[before]) if before >= 0 else -1
            ended = bool(((ends > since) & (ends < at)).any()) or (since < 0 and self.ended)
            of_start[number] = picture_kind[start] != 21 or ended  # 21 is a CRA picture
        fresh = of_start[np.searchsorted(starts, np.arange(len(first)), side="right")]
        self.fresh = bool(of_start[-1])
        last = int(pictures[-1]) if len(pictures) else -1
        self.ended = bool((ends > last).any()) or (last < 0 and self.ended)
        return fresh


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
    structure: int = UNKNOWN
    packed: bool = False
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
    facts.structure[:] = [picture.structure for picture in pictures]
    facts.packed[:] = [picture.packed for picture in pictures]
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


class _Mpeg4:
    """The parser of MPEG-4, which remembers a picture that waits.

    DivX packs a B-picture behind the one that comes before it in the stream; a picture that is not
    coded, of a few bytes, then fills its place ("packed bitstream"). FFmpeg's decoder shows what is
    packed in place of the next packet. Where that is a picture, it waits for the one after it.
    """

    def __init__(self, extradata: bytes) -> None:
        self.packed = _says_packed(extradata)
        self.headers, self.delays = extradata, mpeg4_delays(extradata)
        self.waiting = False

    def __call__(self, packets: PacketBytes) -> PacketFacts:
        return _one_by_one(packets, self._picture)

    def _picture(self, data: bytes) -> _Picture:
        at = data.find(_VOP)
        if at < 0 or len(data) < at + 5:
            return _AMBIGUOUS
        kind, coded = data[at + 4] >> 6, len(data) >= at + _LEAST_VOP
        second = data.find(_VOP, at + 4)
        if self.waiting:
            self.waiting = coded
            # FFmpeg keeps B-pictures, and I-pictures and uncoded ones by accident; headers end it.
            other = kind != _B_VOP if coded else kind in (0, _B_VOP) and len(data) > 7
            if at or second >= 0 or other:
                return _AMBIGUOUS
            return _Picture(bidirectional=True, structure=FRAME)
        if _says_packed(data[:at]) not in (None, self.packed):
            self.packed = None  # which holds where decoding begins is not known
        if second >= 0:
            is_pair = len(data) >= second + _LEAST_VOP and data[second + 4] >> 6 == _B_VOP
            if not self.packed or not is_pair or data.find(_VOP, second + 4) >= 0:
                return _AMBIGUOUS
            self.waiting = True
        elif not coded:  # it repeats the last picture, and shows nothing
            return _AMBIGUOUS
        # What comes before a picture: headers of the stream, or only the time of its group.
        units = [b"\0\0\1" + unit for unit in data[:at].split(b"\0\0\1")[1:]]
        headers = b"".join(unit for unit in units if unit[3:4] != b"\xb3")
        layers = any(unit[3:4] in (b"\x20", b"\x00", b"\xb0") for unit in units)
        if layers and headers != self.headers:
            self.headers, self.delays = headers, mpeg4_delays(headers)
        return _Picture(
            entry=OPEN_ENTRY if kind == 0 else NO_ENTRY,
            bidirectional=kind == _B_VOP,
            # FFmpeg shows the picture before it twice.
            ambiguous=not self.delays and (kind == _B_VOP or self.waiting),
            structure=FRAME,
            packed=self.waiting,
            parameters=(headers,) if layers else (),
        )


def _says_packed(headers: bytes) -> bool | None:
    """Return whether the user data of DivX says that pictures are packed; None without any."""
    said = _DIVX.findall(headers)
    return said[-1] == b"p" if said else None


class _Mpeg2:
    """The parser of MPEG-1 and MPEG-2, which remembers how the latest sequence is coded."""

    def __init__(self) -> None:
        self.coding: bytes | None = None

    def __call__(self, packets: PacketBytes) -> PacketFacts:
        facts, pictures = PacketFacts.of(len(packets)), mpeg2_pictures(packets)
        owner, kind = pictures.packet, pictures.kind
        headers = np.zeros(len(packets), np.bool_)
        headers[pictures.headers] = True
        facts.ambiguous[:] = True
        facts.ambiguous[owner] = False
        facts.entry[owner[headers[owner] & (kind == 1)]] = OPEN_ENTRY
        facts.bidirectional[owner] = kind == 3
        facts.structure[owner] = pictures.structure
        facts.number[owner] = pictures.number & 255
        fields = (facts.structure == TOP_FIELD) | (facts.structure == BOTTOM_FIELD)
        for number in np.flatnonzero(fields).tolist():
            facts.structure[number] = mpeg2_fields(packets.packet(number))
        for number in pictures.headers.tolist():
            coding = mpeg2_coding(packets.packet(number))
            # The decoder may leave out a frame there, or show one twice.
            facts.ambiguous[number] |= self.coding not in (None, coding)
            self.coding = coding or self.coding
        return facts


def _mjpeg(data: bytes) -> _Picture:
    # A JPEG that leaves out its tables uses those of an earlier one.
    head = data[:4096]
    return _CLOSED_ENTRY if b"\xff\xdb" in head and b"\xff\xc4" in head else _NO_ENTRY


def _in_order(packets: PacketBytes) -> PacketFacts:
    return PacketFacts.of(len(packets))


def _intra(packets: PacketBytes) -> PacketFacts:
    facts = PacketFacts.of(len(packets))
    facts.entry[:], facts.structure[:] = CLOSED_ENTRY, FRAME
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
    "mjpeg": partial(_one_by_one, parse=_mjpeg),
}
# Each frame of these is a keyframe; of the last three it is known only that a packet is a frame.
INTRA_ONLY = (
    "prores", "dnxhd", "rawvideo", "huffyuv", "ffvhuff", "utvideo", "png", "dvvideo", "jpeg2000",
    "jpegls", "magicyuv", "asv1", "asv2", "speedhq", "v210", "r10k", "r210", "y41p",
)  # fmt: skip
PARSERS.update(dict.fromkeys(INTRA_ONLY, _intra))
PARSERS.update(dict.fromkeys(("ffv1", "gif", "qtrle"), _in_order))


def parser_for(codec: str, extradata: bytes, *, counts: bool) -> PacketParser:
    """Return the parser of a codec's packets, which are given to it in their order.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: The container's description of the stream, which says how long the length before
            each NAL unit is; where it does not, start codes separate the units.
        counts: Whether to find out how pictures count, where their times may not tell their order.
    """
    if codec in ("h264", "hevc"):
        return (_H264 if codec == "h264" else _Hevc)(extradata, counts=counts)
    if codec == "mpeg4":
        return _Mpeg4(extradata)
    if codec in ("mpeg1video", "mpeg2video"):
        return _Mpeg2()
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
