"""Where FFmpeg cuts a stream into packets by what is in it, as it does in MPEG's systems.

The packets of a transport or program stream need not be frames: FFmpeg joins them, and cuts where a
picture begins. It cuts as the stream's own packets do if each holds one picture from its first byte
on.

Source: FFmpeg 8, libavcodec: h264_parser.c, hevc/parser.c, mpegvideo_parser.c.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data.video.pyav.nal_units import Bytes, NalUnits, PacketBytes, Places
from data.video.pyav.packets import NO_ENTRY, PacketFacts, facts_of, parser_for
from data.video.pyav.picture_structure import FRAME, UNKNOWN
from data.video.pyav.sample_tables.table import UnusualTable

if TYPE_CHECKING:
    from av.video.stream import VideoStream

Flags = npt.NDArray[np.bool_]
Kinds = npt.NDArray[np.integer[Any]]

# A code that starts a unit, 0 0 1, and the longer form with a zero before it.
SHORT_CODE, LONG_CODE = 3, 4
# Of a message that tells from where decoding comes right again: what FFmpeg calls a keyframe.
RECOVERY_POINT = 6
MOST_NUMBER_BYTES = 300
_PICTURE, _SEQUENCE, _SEQUENCE_END, _GROUP = 0x00, 0xB3, 0xB7, 0xB8


class CutPackets:
    """The packets that FFmpeg cuts a stream into, taken in batch by batch.

    Attributes:
        codec: FFmpeg's name of their codec.
        size: Their bytes.
        key: Whether FFmpeg calls them keyframes.
        facts: What the bitstream tells about them.
    """

    def __init__(self, stream: VideoStream) -> None:
        self.codec = stream.codec_context.codec.canonical_name
        if self.codec not in CODECS:
            raise UnusualTable
        self._extradata = stream.codec_context.extradata or b""
        self._parse = parser_for(self.codec, self._extradata, counts=False)
        self._before = b""
        self.size: list[Places] = []
        self.key: list[Flags] = []
        self.facts: list[PacketFacts] = []

    def take(self, packets: PacketBytes) -> None:
        """Take in packets that follow those before without a gap.

        Raises:
            UnusualTable: FFmpeg does not cut the stream into these, or it is not known.
        """
        if not len(packets):
            return
        facts = facts_of(packets, self._parse, self._extradata)
        self.key.append(keys_of_cuts(self.codec, packets, facts, self._before))
        self.facts.append(facts)
        self.size.append(packets.end - packets.start)
        self._before = packets.data[packets.start[-1] : packets.end[-1]][-3:].tobytes()


def cuts_of(codec: str, data: Bytes, codes: Places) -> tuple[Places, Places]:
    """Return where FFmpeg cuts a stream that begins with a packet, if it is as `keys_of_cuts` says.

    Args:
        codec: FFmpeg's name of the codec, one of `CODECS`.
        data: The bytes.
        codes: Where the start codes lie in them, each with three bytes or more behind it.

    Returns:
        Where all packets but the first begin, and by which byte FFmpeg sees that, both int64.
    """
    header = codes + SHORT_CODE
    kind: Kinds = data[header]
    after = data[header + 1]
    if codec == "h264":
        kind = kind & 31
        holds = (kind == 1) | (kind == 2) | (kind == 5)
        opens = ((kind >= 6) & (kind <= 9)) | (holds & (after & 0x80 != 0))
        seen = header + holds
    elif codec == "hevc":
        kind = kind >> 1 & 63
        holds = (kind <= 9) | ((kind >= 16) & (kind <= 21))
        holds &= data[header + 2] & 0x80 != 0
        opens = holds | _opens_hevc(kind)
        seen = header + 2
    else:
        holds = _is_slice(kind) | (kind == _SEQUENCE_END)
        opens, seen = ~holds, header
    opening = np.flatnonzero(opens)
    before = np.concatenate([[0], np.cumsum(holds)])[opening]
    opening = opening[np.diff(before, prepend=0) > 0]
    begin, seen = codes[opening], seen[opening]
    if codec.startswith("mpeg"):  # which is cut behind the end of a sequence, whatever follows
        return begin, np.where(kind[opening - 1] == _SEQUENCE_END, begin, seen)
    return begin - ((begin > 0) & (data[begin - 1] == 0)), seen


def keys_of_cuts(codec: str, packets: PacketBytes, facts: PacketFacts, before: bytes) -> Flags:
    """Return which packets FFmpeg calls keyframes, if it cuts a stream into these packets.

    Args:
        codec: FFmpeg's name of the codec, one of `CODECS`.
        packets: The packets, one after the other without a gap.
        facts: What is known about them.
        before: What the packet before them ends with, three bytes or more; nothing for the first.

    Raises:
        UnusualTable: It does not, or it is not known whether it does.
    """
    units = packets.coded_units
    if bool((units.end <= units.start).any()):  # its header would lie in the next unit's code
        raise UnusualTable
    first = np.searchsorted(units.packet, np.arange(len(packets)))
    if len(units.packet) == 0 or first[-1] >= len(units.packet):
        raise UnusualTable
    code = units.start[first] - packets.start
    long = (code == LONG_CODE) & (packets.data[packets.start] == 0)
    if not bool((long | (code == SHORT_CODE)).all()):
        raise UnusualTable
    tails = _tails(packets, before)
    zeros = (tails[:-1, 2] == 0) & ~long  # taken for the longer form of the next code
    cut_code = (tails == (0, 0, 1)).all(1)
    unusual = long if codec.startswith("mpeg") else zeros
    if bool(cut_code.any() or unusual.any()):
        raise UnusualTable
    if bool(facts.ambiguous.any()):
        raise UnusualTable
    return CODECS[codec](packets, units, facts, first)


def _tails(packets: PacketBytes, before: bytes) -> npt.NDArray[np.uint8]:
    """Return the last three bytes before each packet and in the last, uint8 (n + 1, 3)."""
    places = packets.end[:, None] + np.arange(-3, 0)
    inside = np.where(places >= packets.start[:, None], packets.data[places.clip(0)], 255)
    return np.concatenate([np.frombuffer((b"\xff" * 3 + before)[-3:], np.uint8)[None], inside])


def _first_of_packets(owners: Places, count: int) -> Places:
    """Return the place of each packet's first unit among units, each packet having one."""
    found, place = np.unique(owners, return_index=True)
    if len(found) != count:
        raise UnusualTable
    return place


def _h264(packets: PacketBytes, units: NalUnits, facts: PacketFacts, first: Places) -> Flags:
    data, kind = packets.data, packets.data[units.start] & 31
    slices = np.flatnonzero((kind == 1) | (kind == 2) | (kind == 5))
    place = _first_of_packets(units.packet[slices], len(packets))
    opening = (kind >= 6) & (kind <= 9)
    late = opening & (np.arange(len(kind)) > slices[place][units.packet])
    macroblock = _first_macroblocks(data, units.start[slices] + 1, units.end[slices])
    goes_on = np.ones(len(slices), np.bool_)
    goes_on[1:] = macroblock[1:] > macroblock[:-1]
    goes_on[place] = True
    begins = opening[first] | ((slices[place] == first) & (macroblock[place] == 0))
    messages = np.flatnonzero((kind == 6) & (facts.entry[units.packet] == NO_ENTRY))
    recover = _have_recovery_points(data, units.start[messages], units.end[messages])
    if bool(late.any()) or not bool(goes_on.all() and begins.all()):
        raise UnusualTable
    key = facts.entry != NO_ENTRY
    key[units.packet[messages[recover]]] = True
    return key


def _first_macroblocks(data: Bytes, start: Places, end: Places) -> Places:
    """Return the number of each slice's first macroblock, the first ue(v) code of its header."""
    window = np.zeros(len(start), np.int64)
    for place in range(4):
        byte = data[np.minimum(start + place, len(data) - 1)]
        window = window << 8 | np.where(start + place < end, byte, 0)
    bits = 2 * (32 - np.frexp(window.astype(np.float64))[1].astype(np.int64)) + 1
    if bool((bits > 31).any() or (bits >= 8 * (end - start)).any()):
        raise UnusualTable
    return (window >> (32 - bits)) - 1


def _have_recovery_points(data: Bytes, start: Places, end: Places) -> Flags:
    """Return whether SEI units hold a recovery point.

    Args:
        data: The bytes.
        start: Where each unit's header starts.
        end: Where it ends.
    """
    at, found, active = start + 1, np.zeros(len(start), np.bool_), np.arange(len(start))
    while len(active := active[at[active] + 2 < end[active]]):
        kind, inside = _numbers(data, at[active])
        size, inside = _numbers(data, inside)
        found[active] |= (kind == RECOVERY_POINT) & (inside < end[active])
        at[active] = inside + size
    return found


def _numbers(data: Bytes, at: Places) -> tuple[Places, Places]:
    """Return numbers of SEI, each the sum of bytes up to one less than 255, and where they end."""
    value, more, last = np.zeros(len(at), np.int64), np.ones(len(at), np.bool_), len(data) - 1
    for _ in range(MOST_NUMBER_BYTES):
        byte = data[np.minimum(at, last)]
        value += np.where(more, byte, 0)
        at = at + more
        more &= byte == 255
        if not more.any():
            return value, at
    raise UnusualTable


def _hevc(packets: PacketBytes, units: NalUnits, facts: PacketFacts, first: Places) -> Flags:
    data, size = packets.data, units.end - units.start
    kind = data[units.start] >> 1 & 63
    is_slice = (kind <= 9) | ((kind >= 16) & (kind <= 21))
    if bool((size < np.where(is_slice, 3, 2)).any()):
        raise UnusualTable
    layered = (data[units.start] & 1 != 0) | (data[units.start + 1] >> 3 != 0)
    begins = is_slice & (data[np.minimum(units.start + 2, len(data) - 1)] >> 7 != 0)
    pictures = np.flatnonzero(begins)
    place = _first_of_packets(units.packet[pictures], len(packets))
    opening = begins | _opens_hevc(kind)
    late = opening & (np.arange(len(kind)) > pictures[place][units.packet])
    if bool(layered.any() or late.any()) or not bool(opening[first].all()):
        raise UnusualTable
    return facts.entry != NO_ENTRY


def _opens_hevc(kind: Kinds) -> Flags:
    opens = ((kind >= 32) & (kind <= 37)) | (kind == 39) | ((kind >= 41) & (kind <= 44))
    return opens | ((kind >= 48) & (kind <= 55))


def _is_slice(kind: Kinds) -> Flags:
    return (kind >= 0x01) & (kind <= 0xAF)


def _mpeg(
    packets: PacketBytes, units: NalUnits, facts: PacketFacts, first: Places, structure: int
) -> Flags:
    data, kind = packets.data, packets.data[units.start]
    is_slice = _is_slice(kind)
    slices, pictures = np.flatnonzero(is_slice), np.flatnonzero(kind == _PICTURE)
    place = _first_of_packets(units.packet[slices], len(packets))
    picture = _first_of_packets(units.packet[pictures], len(packets))
    is_end = (kind == _SEQUENCE_END) & (units.start + 1 == packets.end[units.packet])
    after = np.arange(len(kind)) > slices[place][units.packet]
    late = (after & ~is_slice & ~is_end) | (~after & (kind == _SEQUENCE_END))
    ordered = (len(pictures) == len(packets)) & (pictures[picture] < slices[place])
    opening = kind[first]
    begins = (opening == _PICTURE) | (opening == _SEQUENCE) | (opening == _GROUP)
    key = data[np.minimum(units.start[pictures] + 2, len(data) - 1)] >> 3 & 7 == 1
    if bool(late.any()) or not bool((ordered & begins & (facts.structure == structure)).all()):
        raise UnusualTable
    return key


# By FFmpeg's name of the codec.
CODECS: dict[str, Callable[[PacketBytes, NalUnits, PacketFacts, Places], Flags]] = {
    "h264": _h264,
    "hevc": _hevc,
    "mpeg1video": partial(_mpeg, structure=UNKNOWN),
    "mpeg2video": partial(_mpeg, structure=FRAME),
}
