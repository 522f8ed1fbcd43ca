"""What the bitstream of a packet tells: whether decoding may start here, what depends on it.

Container flags are claims (an MP4 without a sync table calls every packet a keyframe), so the
bitstream decides where decoding may start. A codec without a parser here is decoded from the start,
which is always right.

Sources: ITU-T H.264 7.3.1, 7.3.3 and D.2.8 (NAL unit types, slice types, recovery points); ITU-T
H.265 7.4.2.2 (NAL unit types, TemporalId); RFC 6386 9.1 (VP8); VP9 bitstream 6.2 and annex B; AV1
bitstream 5.3 to 5.9; ISO/IEC 14496-2 6.2.5 (vop_coding_type); ISO/IEC 13818-2 6.2.3
(picture_coding_type).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CLOSED_ENTRY = 2
OPEN_ENTRY = 1
NO_ENTRY = 0


@dataclass(frozen=True, slots=True)
class PacketFacts:
    """What a packet's bitstream tells.

    Attributes:
        entry: `CLOSED_ENTRY` where all packets that follow can be decoded from here, `OPEN_ENTRY`
            where those can that are shown at or after this one, otherwise `NO_ENTRY`.
        droppable: Whether no packet depends on this one, if its `layer` is the stream's highest.
        shown: Whether the decoder shows a frame for it.
        layer: Its temporal layer.
        bidirectional: Whether it may be shown before packets that it follows in the file.
        parameters: Its parameter sets, which later packets may use.
        ambiguous: Whether only decoding it tells if it is exactly one frame.
    """

    entry: int = NO_ENTRY
    droppable: bool = False
    shown: bool = True
    layer: int = 0
    bidirectional: bool = False
    parameters: tuple[bytes, ...] = ()
    ambiguous: bool = False


AMBIGUOUS = PacketFacts(ambiguous=True)


def _nal_units(data: memoryview, length_size: int) -> list[memoryview]:
    """Return the NAL units of a packet; `length_size` 0 means start codes (Annex B)."""
    units: list[memoryview] = []
    if length_size:
        at = 0
        while at + length_size < len(data):
            size = int.from_bytes(data[at : at + length_size], "big")
            at += length_size
            units.append(data[at : at + size])
            at += size
        return units
    text = bytes(data)
    at = text.find(b"\0\0\1")
    while at >= 0:
        end = text.find(b"\0\0\1", at + 3)
        units.append(data[at + 3 : end if end >= 0 else len(data)])
        at = end
    return units


def _exp_golomb(data: memoryview, count: int) -> list[int]:
    """Return the first `count` ue(v) codes of `data`; fewer where it ends."""
    bits = int.from_bytes(data, "big")
    at = 8 * len(data)
    values = []
    for _ in range(count):
        zeros = at - (bits & ((1 << at) - 1)).bit_length()
        if 2 * zeros + 1 > at:
            break
        at -= 2 * zeros + 1
        values.append((bits >> at & ((1 << (zeros + 1)) - 1)) - 1)
    return values


def _h264(data: memoryview, length_size: int) -> PacketFacts:
    idr = recovers = referenced = bidirectional = False
    parameters: tuple[bytes, ...] = ()
    slices = 0
    for unit in _nal_units(data, length_size):
        if not len(unit):
            continue
        kind = unit[0] & 31
        if 1 <= kind <= 5:
            slices += 1
            referenced |= bool(unit[0] & 0x60)
            idr |= kind == 5
            if kind in (1, 2) and not bidirectional:
                header = _exp_golomb(unit[1:17], 2)  # first_mb_in_slice, slice_type
                bidirectional = len(header) == 2 and header[1] % 5 == 1
        elif kind == 6:
            recovers |= _recovers_at_once(unit)
        elif kind in (7, 8, 13, 15):
            parameters += (bytes(unit),)
    return PacketFacts(
        entry=CLOSED_ENTRY if idr else OPEN_ENTRY if recovers else NO_ENTRY,
        droppable=not referenced,
        bidirectional=bidirectional,
        parameters=parameters,
        ambiguous=not slices,
    )


def _recovers_at_once(sei: memoryview) -> bool:
    """Return whether the SEI unit holds a recovery point that is exact and takes no frames."""
    at = 1
    while at + 2 < len(sei):
        numbers = []
        for _ in range(2):  # payload type, payload size
            value = 0
            while at < len(sei) and sei[at] == 255:
                value, at = value + 255, at + 1
            if at >= len(sei):
                return False
            numbers.append(value + sei[at])
            at += 1
        if numbers[0] == 6 and at < len(sei):
            # recovery_frame_cnt 0 is the bit 1 in ue(v); exact_match_flag is the next bit.
            return sei[at] & 0xC0 == 0xC0
        at += numbers[1]
    return False


def _hevc(data: memoryview, length_size: int) -> PacketFacts:
    parameters: tuple[bytes, ...] = ()
    picture: PacketFacts | None = None
    for unit in _nal_units(data, length_size):
        if len(unit) < 2:
            continue
        kind, layer = (unit[0] >> 1) & 63, (unit[1] & 7) - 1
        if kind in (32, 33, 34):
            parameters += (bytes(unit),)
        elif kind < 32 and picture is None:
            no_reference = kind < 16 and not kind & 1
            picture = PacketFacts(
                entry=CLOSED_ENTRY
                if kind in (19, 20)
                else OPEN_ENTRY
                if 16 <= kind <= 21
                else NO_ENTRY,
                droppable=no_reference,
                layer=layer,
                bidirectional=no_reference or 6 <= kind <= 9,
            )
    if picture is None:
        return PacketFacts(parameters=parameters, ambiguous=True)
    return PacketFacts(
        entry=picture.entry,
        droppable=picture.droppable,
        layer=picture.layer,
        bidirectional=picture.bidirectional,
        parameters=parameters,
    )


def _vp8(data: memoryview, _: int) -> PacketFacts:
    return PacketFacts(entry=NO_ENTRY if data[0] & 1 else CLOSED_ENTRY, shown=bool(data[0] & 0x10))


def _vp9(data: memoryview, _: int) -> PacketFacts:
    if data[0] >> 6 != 2:
        return AMBIGUOUS
    shift = 2 if data[0] & 0x30 == 0x30 else 3  # profile 3 has a reserved bit
    if data[0] >> shift & 1:  # show_existing_frame
        return PacketFacts()
    key = not data[0] >> (shift - 1) & 1
    shown = bool(data[0] >> (shift - 2) & 1)
    superframe = data[-1] & 0xE0 == 0xC0
    return PacketFacts(entry=CLOSED_ENTRY if key and shown else NO_ENTRY, shown=shown or superframe)


def _av1(data: memoryview, _: int) -> PacketFacts:
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
            return PacketFacts(entry=CLOSED_ENTRY if sequence and data[at] >> 4 == 1 else NO_ENTRY)
        at += size
    return AMBIGUOUS


def _mpeg4(data: memoryview, _: int) -> PacketFacts:
    text = bytes(data)
    at = text.find(b"\0\0\1\xb6")
    # Two pictures in a packet, or one of a few bytes that repeats the last and shows nothing.
    if at < 0 or len(text) < at + 16 or text.find(b"\0\0\1\xb6", at + 4) >= 0:
        return AMBIGUOUS
    kind = text[at + 4] >> 6
    layers = any(code in text[:at] for code in (b"\0\0\1\x20", b"\0\0\1\x00", b"\0\0\1\xb0"))
    return PacketFacts(
        entry=OPEN_ENTRY if kind == 0 else NO_ENTRY,
        bidirectional=kind == 2,
        parameters=(text[:at],) if layers else (),
    )


def _mpeg2(data: memoryview, _: int) -> PacketFacts:
    text = bytes(data)
    at = text.find(b"\0\0\1\0")
    if at < 0 or at + 5 >= len(text):
        return AMBIGUOUS
    kind = text[at + 5] >> 3 & 7
    starts = kind == 1 and text.startswith(b"\0\0\1\xb3")  # with a sequence header of its own
    return PacketFacts(entry=OPEN_ENTRY if starts else NO_ENTRY, bidirectional=kind == 3)


def _mjpeg(data: memoryview, _: int) -> PacketFacts:
    # A JPEG that leaves out its tables uses those of an earlier one.
    head = bytes(data[:4096])
    return PacketFacts(
        entry=CLOSED_ENTRY if b"\xff\xdb" in head and b"\xff\xc4" in head else NO_ENTRY
    )


def _in_order(data: memoryview, _: int) -> PacketFacts:
    return PacketFacts()


def _intra(data: memoryview, _: int) -> PacketFacts:
    return PacketFacts(entry=CLOSED_ENTRY)


PacketParser = Callable[[memoryview, int], PacketFacts]

# By FFmpeg's name of the codec.
PARSERS: dict[str, PacketParser] = {
    "h264": _h264,
    "hevc": _hevc,
    "vp8": _vp8,
    "vp9": _vp9,
    "av1": _av1,
    "mpeg4": _mpeg4,
    "mpeg1video": _mpeg2,
    "mpeg2video": _mpeg2,
    "mjpeg": _mjpeg,
}
# Each frame of these is a keyframe; of the last three it is known only that a packet is a frame.
INTRA_ONLY = ("prores", "dnxhd", "rawvideo", "huffyuv", "ffvhuff", "utvideo", "png")
PARSERS.update(dict.fromkeys(INTRA_ONLY, _intra))
PARSERS.update(dict.fromkeys(("ffv1", "gif", "qtrle"), _in_order))


def _unknown(data: memoryview, _: int) -> PacketFacts:
    return AMBIGUOUS


def parser_for(codec: str, extradata: bytes) -> tuple[PacketParser, int]:
    """Return the parser of a codec's packets, and the bytes of a NAL unit's length.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: The container's description of the stream.

    Returns:
        The parser; and the bytes of a length, 0 where NAL units are separated by start codes.
    """
    length_size = 0
    configured = extradata.startswith(b"\1")  # avcC and hvcC begin with a version
    if configured and codec == "h264" and len(extradata) > 4:
        length_size = (extradata[4] & 3) + 1
    if configured and codec == "hevc" and len(extradata) > 21:
        length_size = (extradata[21] & 3) + 1
    return PARSERS.get(codec, _unknown), length_size
