"""What a compressed packet says of itself: may decoding start here, does anything depend on it?

Container flags are claims (an MP4 without a sync table calls every packet a keyframe), so what
decides where decoding may start is the bitstream. A codec without a reader here is decoded from
the start, which is always right.

Sources: ITU-T H.264 7.3.1 and 7.4.1 (nal_unit_type, nal_ref_idc), D.2.8 (recovery point);
ITU-T H.265 7.4.2.2 (nal_unit_type, TemporalId) and C.5.2.2; the VP8 data format (RFC 6386 9.1);
VP9 bitstream 6.2 and annex B; AV1 bitstream 5.3 to 5.9; ISO/IEC 14496-2 6.2.5 (vop_coding_type);
ISO/IEC 13818-2 6.2.3 (picture_coding_type).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CLOSED = 2  # all packets that follow decode from here
OPEN = 1  # those that are shown at or after this one do
NOWHERE = 0

# Every frame of these codecs stands alone.
INTRA_ONLY = frozenset(
    {"mjpeg", "mjpegb", "ljpeg", "png", "apng_still", "prores", "dnxhd", "rawvideo", "v210",
     "huffyuv", "dvvideo", "jpeg2000", "v410", "r210", "cfhd"}
)  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """entry: CLOSED, OPEN or NOWHERE. droppable: no other packet depends on this one, provided
    that its temporal layer is the stream's highest. shown: the decoder shows a frame for it."""

    entry: int = NOWHERE
    droppable: bool = False
    shown: bool = True
    layer: int = 0


def _nal_units(data: memoryview, length_size: int) -> list[memoryview]:
    """The first bytes of each NAL unit; `length_size` 0 means start codes (Annex B)."""
    units = []
    if length_size:
        at = 0
        while at + length_size < len(data):
            size = int.from_bytes(data[at : at + length_size], "big")
            at += length_size
            units.append(data[at : at + min(size, 64)])
            at += size
        return units
    text = bytes(data)
    at = text.find(b"\0\0\1")
    while at >= 0:
        units.append(data[at + 3 : at + 67])
        at = text.find(b"\0\0\1", at + 3)
    return units


def _h264(data: memoryview, length_size: int) -> Unit:
    idr, recovers, slices, referenced = False, False, 0, False
    for unit in _nal_units(data, length_size):
        if not len(unit):
            continue
        kind = unit[0] & 31
        if 1 <= kind <= 5:
            slices += 1
            referenced |= bool(unit[0] & 0x60)
            idr |= kind == 5
        elif kind == 6 and len(unit) > 3:
            recovers |= _recovers_at_once(unit)
    entry = CLOSED if idr else OPEN if recovers else NOWHERE
    return Unit(entry=entry, droppable=slices > 0 and not referenced)


def _recovers_at_once(sei: memoryview) -> bool:
    """Whether the SEI unit holds a recovery point that is exact and takes no frames."""
    at = 1
    while at + 2 < len(sei):
        kind = size = 0
        while at < len(sei) and sei[at] == 255:
            kind, at = kind + 255, at + 1
        if at >= len(sei):
            return False
        kind, at = kind + sei[at], at + 1
        while at < len(sei) and sei[at] == 255:
            size, at = size + 255, at + 1
        if at >= len(sei):
            return False
        size, at = size + sei[at], at + 1
        if kind == 6 and at < len(sei):
            # recovery_frame_cnt ue(v) == 0 is the bit 1; exact_match_flag is the next.
            return sei[at] & 0xC0 == 0xC0
        at += size
    return False


def _hevc(data: memoryview, length_size: int) -> Unit:
    for unit in _nal_units(data, length_size):
        if len(unit) < 2:
            continue
        kind, layer = (unit[0] >> 1) & 63, (unit[1] & 7) - 1
        if kind > 31:
            continue
        entry = CLOSED if kind in (19, 20) else OPEN if 16 <= kind <= 21 else NOWHERE
        return Unit(entry=entry, droppable=kind in (0, 2, 4, 6, 8, 10, 12, 14), layer=layer)
    return Unit()


def _vp8(data: memoryview, _: int) -> Unit:
    if not len(data):
        return Unit()
    return Unit(entry=NOWHERE if data[0] & 1 else CLOSED, shown=bool(data[0] & 0x10))


def _vp9(data: memoryview, _: int) -> Unit:
    if not len(data) or data[0] >> 6 != 2:
        return Unit()
    superframe = data[-1] & 0xE0 == 0xC0
    shift = 3 if data[0] & 0x30 != 0x30 else 2  # profile 3 has a reserved bit
    repeats = bool(data[0] >> shift & 1)
    if repeats:
        return Unit()
    key = not data[0] >> (shift - 1) & 1
    shown = bool(data[0] >> (shift - 2) & 1)
    return Unit(entry=CLOSED if key and shown else NOWHERE, shown=shown or superframe)


def _av1(data: memoryview, _: int) -> Unit:
    at, sequence = 0, False
    while at < len(data):
        head = data[at]
        kind, extended, sized = head >> 3 & 15, head >> 2 & 1, head >> 1 & 1
        at += 1 + extended
        size, shift = len(data) - at, 0
        if sized:
            size = 0
            while at < len(data):
                byte = data[at]
                size |= (byte & 127) << shift
                at, shift = at + 1, shift + 7
                if byte < 128:
                    break
        if kind == 1 and at < len(data):
            # reduced_still_picture_header leaves out what is read below.
            sequence = not data[at] & 0x08
        elif kind in (3, 6) and at < len(data):
            # show_existing_frame 0, frame_type 0 (key), show_frame 1
            return Unit(entry=CLOSED if sequence and data[at] >> 4 == 1 else NOWHERE)
        at += size
    return Unit()


def _after(code: bytes) -> Callable[[memoryview], bytes]:
    def read(data: memoryview) -> bytes:
        text = bytes(data)
        at = text.find(code)
        return text[at + len(code) : at + len(code) + 2] if at >= 0 else b""

    return read


_vop, _picture = _after(b"\0\0\1\xb6"), _after(b"\0\0\1\0")


def _mpeg4(data: memoryview, _: int) -> Unit:
    header = _vop(data)
    return Unit(entry=OPEN if header and header[0] >> 6 == 0 else NOWHERE)


def _mpeg2(data: memoryview, _: int) -> Unit:
    header = _picture(data)
    with_sequence = bytes(data[:4]) == b"\0\0\1\xb3"
    intra = len(header) == 2 and header[1] >> 3 & 7 == 1
    return Unit(entry=OPEN if intra and with_sequence else NOWHERE)


def _intra(data: memoryview, _: int) -> Unit:
    return Unit(entry=CLOSED)


Reader = Callable[[memoryview, int], Unit]
READERS: dict[str, Reader] = {
    "h264": _h264,
    "hevc": _hevc,
    "vp8": _vp8,
    "vp9": _vp9,
    "av1": _av1,
    "mpeg4": _mpeg4,
    "mpeg1video": _mpeg2,
    "mpeg2video": _mpeg2,
} | dict.fromkeys(INTRA_ONLY, _intra)


def reader_for(codec: str, extradata: bytes | None) -> tuple[Reader | None, int]:
    """The reader of a codec's packets, and the bytes of a NAL unit's length (0: start codes)."""
    length_size = 0
    if codec == "h264" and extradata and len(extradata) > 6 and extradata[0] == 1:
        length_size = (extradata[4] & 3) + 1
    if codec == "hevc" and extradata and len(extradata) > 22 and extradata[:3] != b"\0\0\1":
        if extradata[:4] != b"\0\0\0\1":
            length_size = (extradata[21] & 3) + 1
    return READERS.get(codec), length_size
