"""What packets of H.264 are: frames, or fields of which two are one frame; and their order.

Of MPEG-2 and MPEG-4 too what their headers tell.

Source: ITU-T H.264, 7.3.2.1.1 (sequence parameter sets), 7.3.3 (slice headers) and 8.2.1.1 (order);
for the order of HEVC ITU-T H.265, 8.3.1; ISO/IEC 13818-2, 6.2.2 and 6.2.3; ISO/IEC 14496-2, 6.2.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.video.pyav.nal_units import HeaderBits, NalUnits, PacketBytes

# What a packet holds: a frame, one of its fields, both one after the other, or what is not known.
UNKNOWN, TOP_FIELD, BOTTOM_FIELD, FRAME, BOTH_FIELDS = 0, 1, 2, 3, 4

_IDR = 5

# Profiles whose parameter sets say how chroma is sampled.
_CHROMA_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}


class Bits:
    """Bits read one after the other; beyond the end it raises EOFError."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        """Return a number of `count` bits."""
        self.left -= count
        if self.left < 0:
            raise EOFError
        return self.value >> self.left & ((1 << count) - 1)

    def code(self) -> int:
        """Return a ue(v) code; an se(v) code is as long."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def skip_codes(self, count: int) -> None:
        """Leave out codes."""
        for _ in range(count):
            self.code()


def without_escapes(unit: bytes) -> bytes:
    """Return a NAL unit without the bytes that keep start codes out of it."""
    return unit.replace(b"\0\0\3", b"\0\0")


@dataclass(frozen=True)
class Counts:
    """How packets count their pictures, which tells the order of showing; all arrays are (n,).

    Attributes:
        low: int32, the low bits of a picture's place in the order of output; -1 where unknown.
        restarts: Whether a picture starts a new count, and is shown after all before it.
        anchors: Whether the next picture counts on from this one.
        bits: How many low bits there are; 0 where pictures are shown in decoding order.
    """

    low: npt.NDArray[np.int32]
    restarts: npt.NDArray[np.bool_]
    anchors: npt.NDArray[np.bool_]
    bits: int

    @classmethod
    def joined(cls, parts: Sequence[Counts]) -> Counts:
        """Return the counts of the packets of all `parts`, one part after the other."""
        names = ("low", "restarts", "anchors")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(**arrays, bits=parts[0].bits)


@dataclass(frozen=True)
class FrameCoding:
    """What the parameter sets of a stream tell about its slices.

    Attributes:
        frames_only: Whether no picture is a field.
        frame_number_bits: Bits of a frame's number in a slice header.
        planes: Whether a slice header says which plane of colour it is of.
        order_bits: Bits of a picture's place in the order of output, in a slice header; 0 where
            there is none.
        in_order: Whether pictures are shown in decoding order.
    """

    frames_only: bool
    frame_number_bits: int
    planes: bool
    order_bits: int = 0
    in_order: bool = False

    def pictures(self, packets: PacketBytes, units: NalUnits) -> Pictures:
        """Return what the headers of the slices that begin a picture tell.

        Args:
            packets: The packets.
            units: Their NAL units.
        """
        count, kind = len(packets), packets.data[units.start] & 31
        slices = np.flatnonzero((kind == 1) | (kind == 2) | (kind == _IDR))
        of_packet = units.packet[slices]
        begins = np.ones(len(slices), np.bool_)  # the first of its packet, or of its picture
        begins[1:] = of_packet[1:] != of_packet[:-1]
        second_byte = np.minimum(units.start[slices] + 1, len(packets.data) - 1)
        begins |= packets.data[second_byte] >= 128  # first_mb_in_slice 0
        first, of_packet = slices[begins], of_packet[begins]
        bits = HeaderBits(packets.data, units.start[first] + 1, units.end[first])
        for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
            bits.code()
        bits.read(2 * self.planes)
        number = bits.read(self.frame_number_bits)
        field = np.zeros(len(first), np.int64)
        if not self.frames_only:
            field = bits.read(1)
        bottom = bits.read(field)
        structure = np.where(field == 0, FRAME, TOP_FIELD + bottom)
        structure = np.where(bits.known, structure, UNKNOWN)
        bits.code(where=kind[first] == _IDR)  # idr_pic_id
        low = bits.read(self.order_bits)
        found = Pictures(
            np.zeros(count, np.int8), np.zeros(count, np.uint8), np.full(count, -1, np.int32)
        )
        leads = np.ones(len(first), np.bool_)
        leads[1:] = of_packet[1:] != of_packet[:-1]
        of_lead = of_packet[leads]
        found.structure[of_lead] = FRAME if self.frames_only else structure[leads]
        found.number[of_lead] = number[leads] & 255
        if self.order_bits:
            found.low[of_lead] = np.where(bits.known, low, -1)[leads]
        # Both fields of a frame in one packet, or something else.
        several = np.bincount(of_packet, minlength=count)
        fields = (several > 1) & (found.structure != FRAME)
        found.structure[fields] = UNKNOWN
        pair = np.flatnonzero(leads)[(several[of_lead] == 2) & fields[of_lead]]
        is_frame = (
            (structure[pair] + structure[pair + 1] == FRAME)
            & (structure[pair] * structure[pair + 1] == TOP_FIELD * BOTTOM_FIELD)
            & (number[pair] == number[pair + 1])
        )
        found.structure[of_packet[pair[is_frame]]] = BOTH_FIELDS
        return found


@dataclass(frozen=True)
class Pictures:
    """What the first picture of each of n packets is; all arrays have shape (n,).

    Attributes:
        structure: int8, `FRAME`, `BOTH_FIELDS`, `TOP_FIELD`, `BOTTOM_FIELD` or `UNKNOWN`.
        number: uint8, low bits of the frame's number, which both its fields have.
        low: int32, as of `Counts`.
    """

    structure: npt.NDArray[np.int8]
    number: npt.NDArray[np.uint8]
    low: npt.NDArray[np.int32]


def second_fields(
    structure: npt.NDArray[np.int8], number: npt.NDArray[np.uint8]
) -> npt.NDArray[np.bool_] | None:
    """Return which packets are the second field of the frame that the packet before begins, (n,).

    None where a packet is of unknown structure, or a field has no other one next to it.

    Args:
        structure: int8 (n,), as of `Pictures`.
        number: uint8 (n,), as of `Pictures`.
    """
    if not structure.all():
        return None
    fields = np.flatnonzero(structure < FRAME)
    second = np.zeros(len(structure), np.bool_)
    if len(fields) % 2:
        return None
    first, other = fields[::2], fields[1::2]
    paired = (
        (other == first + 1)
        & (structure[first] + structure[other] == FRAME)
        & (number[first] == number[other])
    )
    if not bool(paired.all()):
        return None
    second[other] = True
    return second


def frame_coding(extradata: bytes) -> FrameCoding | None:
    """Return what the container's parameter sets tell; None where they tell nothing, or disagree.

    Args:
        extradata: The container's description of the stream.
    """
    try:
        found = {_frame_coding(unit) for unit in _sequence_sets(extradata)}
    except (EOFError, IndexError):
        return None
    return found.pop() if len(found) == 1 else None


def _sequence_sets(extradata: bytes) -> Iterator[bytes]:
    """Yield the sequence parameter sets in an avcC box, or between start codes."""
    if extradata.startswith(b"\1"):
        at = 6
        for _ in range(extradata[5] & 31):
            length = int.from_bytes(extradata[at : at + 2], "big")
            yield extradata[at + 2 : at + 2 + length]
            at += 2 + length
    else:
        units = extradata.split(b"\0\0\1")[1:]
        yield from (unit for unit in units if unit and unit[0] & 31 == 7)


def _skip_scaling(bits: Bits, size: int) -> None:
    """Leave out a scaling list of `size` numbers (7.3.2.1.1.1)."""
    last = scale = 8
    for _ in range(size):
        if scale:
            code = bits.code()
            scale = (last + (code + 1 >> 1) * (1 if code & 1 else -1)) % 256
        last = scale or last


def _frame_coding(unit: bytes) -> FrameCoding:
    data = without_escapes(unit)
    profile, bits, planes = data[1], Bits(data[4:]), False
    bits.code()  # seq_parameter_set_id
    if profile in _CHROMA_PROFILES:
        chroma = bits.code()
        planes = chroma == 3 and bool(bits.read(1))
        bits.skip_codes(2)  # bit depths
        bits.read(1)
        if bits.read(1):
            for size in (*[16] * 6, *[64] * (6 if chroma == 3 else 2)):
                if bits.read(1):
                    _skip_scaling(bits, size)
    frame_number_bits = bits.code() + 4
    order, order_bits = bits.code(), 0
    if order == 0:
        order_bits = bits.code() + 4
    elif order == 1:
        bits.read(1)
        bits.skip_codes(2)
        bits.skip_codes(bits.code())
    bits.code()  # max_num_ref_frames
    bits.read(1)
    bits.skip_codes(2)  # width, height
    return FrameCoding(bool(bits.read(1)), frame_number_bits, planes, order_bits, order == 2)


def picture_order(counts: Counts, second: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64] | None:
    """Return the place of each packet in the order in which the frames are shown.

    Args:
        counts: How the packets count.
        second: (n,), whether a packet completes the frame that the one before it begins.

    Returns:
        int64 (n,), each number up to that of the frames once, a second field's that of the first;
        None where the packets do not tell.
    """
    frame = np.cumsum(~second) - 1
    if not counts.bits:
        return frame
    if bool((counts.low < 0).any()):
        return None
    whole, period, high, low = 1 << counts.bits, -1, 0, 0
    places: list[tuple[int, int]] = []  # the number of the restart before, the count after it
    columns = (counts.low, counts.restarts, counts.anchors, second)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for count, restarts, anchors, completes in rows:
        if restarts and not completes:
            period, high, low = period + 1, 0, count
        step = high
        if count < low and low - count >= whole // 2:
            step += whole
        elif count > low and count - low > whole // 2:
            step -= whole
        if not completes:
            places.append((period, step + count))
        if anchors:
            high, low = step, count
    if len(set(places)) < len(places):
        return None
    order = np.lexsort(np.array(places, np.int64).T[::-1])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[frame]


def mpeg4_delays(headers: bytes) -> bool:
    """Return whether FFmpeg waits for B-pictures of MPEG-4 from the start on.

    Otherwise it shows pictures at once until a B-picture comes, and the one before that twice.

    Args:
        headers: What comes before a picture, or the container's description of the stream.
    """
    layer = re.search(rb"\0\0\x01[\x20-\x2f]", headers)
    bits = Bits(headers[layer.end() : layer.end() + 8] if layer else b"")
    try:
        bits.read(1)
        kind = bits.read(8)  # video_object_type_indication
        bits.read(7 * bits.read(1))
        if bits.read(4) == 15:  # aspect_ratio_info
            bits.read(16)
        if not bits.read(1):  # vol_control_parameters
            return kind not in (1, 17)  # Simple, Advanced Simple
        bits.read(2)
        return not bits.read(1)  # low_delay
    except EOFError:
        return False


def order_by_type(bidirectional: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the place of each picture in the order of showing, where types alone tell it.

    So it is in MPEG-4 (ISO/IEC 14496-2): a B-picture is shown at once, another one when the next
    such comes.

    Args:
        bidirectional: (n,), whether a picture is a B-picture, in decoding order.

    Returns:
        int64 (n,), each number up to n once.
    """
    order = np.lexsort((~bidirectional, np.cumsum(~bidirectional)))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def mpeg2_coding(data: bytes) -> bytes | None:
    """Return what sets up a decoder in the sequence that begins in a packet of MPEG-2, if one does.

    That is the size, progressive_sequence, chroma_format and low_delay (6.2.2.1, 6.2.2.3).
    """
    if not data.startswith(b"\0\0\1\xb3"):
        return None
    at = data.find(b"\0\0\1\xb5", 8, data.find(b"\0\0\1\0"))
    if at < 0 or len(data) < at + 10 or data[at + 4] >> 4 != 1:
        return data[4:7]
    return bytes([*data[4:7], data[at + 5] & 0x0F, data[at + 6] & 0xE0, data[at + 9] & 0x80])


@dataclass(frozen=True)
class Mpeg2Pictures:
    """The first picture of each packet of MPEG-1 or MPEG-2 that has one; all arrays are int64.

    Attributes:
        packet: (m,), the numbers of these packets.
        kind: (m,), their picture_coding_type.
        number: (m,), their temporal_reference.
        structure: (m,), their picture_structure, as of `Pictures`; `UNKNOWN` in MPEG-1.
        headers: The numbers of the packets that begin with the header of a sequence.
    """

    packet: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    number: npt.NDArray[np.int64]
    structure: npt.NDArray[np.int64]
    headers: npt.NDArray[np.int64]


def mpeg2_pictures(packets: PacketBytes) -> Mpeg2Pictures:
    """Return what the headers of pictures in packets of MPEG-1 or MPEG-2 tell."""
    data, units = packets.data, packets.coded_units
    inside = units.start < packets.end[units.packet]
    owner, start = units.packet[inside], units.start[inside]
    code = data[start]
    headers = owner[(code == 0xB3) & (start == packets.start[owner] + 3)]
    picture, extension = start[code == 0], start[code == 0xB5]
    owner = owner[code == 0]
    first = np.diff(owner, prepend=-1) > 0
    owner, picture = owner[first], picture[first]
    whole = picture + 2 < packets.end[owner]
    owner, picture = owner[whole], picture[whole]
    head, end = data[picture[:, None] + (1, 2)].astype(np.int64), packets.end[owner]
    structure = np.full(len(owner), UNKNOWN, np.int64)
    if len(extension):
        following = np.searchsorted(extension, picture + 4)
        near = extension[np.minimum(following, len(extension) - 1)]
        coded = (near >= picture + 4) & (near <= picture + 28) & (near + 3 < end)
        near = near[coded]
        structure[coded] = np.where(data[near + 1] >> 4 == 8, data[near + 3] & 3, UNKNOWN)
    number = (head[:, 0] << 8 | head[:, 1]) >> 6
    return Mpeg2Pictures(owner, head[:, 1] >> 3 & 7, number, structure, headers)


def mpeg2_fields(data: bytes) -> int:
    """Return what a packet of MPEG-2 holds whose first picture is a field, as of `Pictures`."""
    first = data.find(b"\0\0\1\0")
    structure, other = _mpeg2_structure(data, first), data.find(b"\0\0\1\0", first + 4)
    if other < 0:
        return structure
    both = {structure, _mpeg2_structure(data, other)} == {TOP_FIELD, BOTTOM_FIELD}
    alone = data.find(b"\0\0\1\0", other + 4) < 0
    same = _mpeg2_number(data, first) == _mpeg2_number(data, other)
    return BOTH_FIELDS if both and alone and same else UNKNOWN


def _mpeg2_number(data: bytes, picture: int) -> int:
    """Return the temporal_reference of the picture of MPEG-2 whose start code is at `picture`."""
    return int.from_bytes(data[picture + 4 : picture + 6], "big") >> 6


def _mpeg2_structure(data: bytes, picture: int) -> int:
    """Return the picture_structure of a picture of MPEG-2, as of `Pictures`."""
    at = data.find(b"\0\0\1\xb5", picture + 4, picture + 32)
    coding = at >= 0 and len(data) > at + 6 and data[at + 4] >> 4 == 8
    return data[at + 6] & 3 if coding else UNKNOWN
