"""The NAL units of many packets of H.264 or HEVC at once, and codes in their headers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]

# Pairs of bytes among which start codes are looked for at a time.
STRETCH = 1 << 17


@dataclass(frozen=True)
class PacketBytes:
    """Packets that lie one after the other in an array of bytes, gaps between them allowed.

    Attributes:
        data: uint8, the bytes.
        start: int64 (n,), where each packet starts, in growing order; no packet is empty.
        end: int64 (n,), where each packet ends, not later than the next one starts.
        codes: int64, where the start codes 0 0 1 lie in the bytes, if that is known.
    """

    data: Bytes
    start: Places
    end: Places
    codes: Places | None = None

    @classmethod
    def joined(cls, data: bytes, sizes: list[int]) -> PacketBytes:
        """Return the packets of `sizes` bytes that `data` consists of."""
        end = np.cumsum(sizes, dtype=np.int64)
        return cls(np.frombuffer(data, np.uint8), end - sizes, end)

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def coded_units(self) -> NalUnits:
        """The units that the start code 0 0 1 stands before (Annex B)."""
        return _units_by_code(self)

    def packet(self, number: int) -> bytes:
        """Return the bytes of one packet."""
        return self.data[self.start[number] : self.end[number]].tobytes()


@dataclass(frozen=True)
class NalUnits:
    """The NAL units of packets in the order of the packets; all arrays are int64 (m,).

    Attributes:
        packet: The number of the packet that each unit is in.
        start: Where its header starts in the packets' bytes.
        end: Where it ends.
    """

    packet: Places
    start: Places
    end: Places

    def contents(
        self, packets: PacketBytes, chosen: npt.NDArray[np.bool_]
    ) -> dict[int, tuple[bytes, ...]]:
        """Return the bytes of the units `chosen`, bool (m,), by the numbers of their packets."""
        found: dict[int, tuple[bytes, ...]] = {}
        for unit in np.flatnonzero(chosen).tolist():
            number = int(self.packet[unit])
            # A unit never ends with zeros: those belong to the next start code.
            content = packets.data[self.start[unit] : self.end[unit]].tobytes().rstrip(b"\0")
            found[number] = (*found.get(number, ()), content)
        return found


def nal_units(packets: PacketBytes, length_size: int, *, shortest: int = 1) -> NalUnits:
    """Return the NAL units of packets.

    Args:
        packets: The packets.
        length_size: Bytes of the length before each unit; 0 for start codes (Annex B).
        shortest: Fewest bytes of a unit that is returned.
    """
    units = _units_by_length(packets, length_size) if length_size else packets.coded_units
    long_enough = units.end - units.start >= shortest
    if bool(long_enough.all()):
        return units
    return NalUnits(units.packet[long_enough], units.start[long_enough], units.end[long_enough])


def _units_by_length(packets: PacketBytes, length_size: int) -> NalUnits:
    """Return the units that a length stands before: the first of all packets, the second, ..."""
    data, owner = packets.data, np.arange(len(packets))
    at, limit = packets.start, packets.end
    rounds: list[NalUnits] = []
    while True:
        more = at + length_size < limit
        if not bool(more.all()):
            owner, at, limit = owner[more], at[more], limit[more]
        if not len(owner):
            break
        size = np.zeros(len(owner), np.int64)
        for place in range(length_size):
            size = size << 8 | data[at + place]
        start = at + length_size
        at = start + size
        rounds.append(NalUnits(owner, start, np.minimum(at, limit)))
    if len(rounds) == 1:
        return rounds[0]
    packet, start, end = (
        np.concatenate([getattr(found, name) for found in rounds] or [np.zeros(0, np.int64)])
        for name in ("packet", "start", "end")
    )
    order = np.argsort(packet, kind="stable")
    return NalUnits(packet[order], start[order], end[order])


def _units_by_code(packets: PacketBytes) -> NalUnits:
    """Return the units that the start code 0 0 1 stands before."""
    code = packets.codes
    if code is None:
        first, last = (packets.start[0], packets.end[-1]) if len(packets) else (0, 0)
        code = start_codes(packets.data[first:last]) + first
    packet = np.searchsorted(packets.start, code, side="right") - 1
    inside = code + 3 <= packets.end[packet]  # not one that begins at the end of another packet
    code, packet = code[inside], packet[inside]
    end = packets.end[packet]
    if len(code):
        end[:-1] = np.where(packet[1:] == packet[:-1], code[1:], end[:-1])
    return NalUnits(packet, code + 3, end)


def start_codes(data: Bytes) -> Places:
    """Return where the start code 0 0 1 lies in bytes, int64, growing."""
    pairs = data[: len(data) // 2 * 2].view("<u2")
    # 0 0, which a 1 follows, or 0 1, which a 0 precedes; in stretches that stay in a core's cache.
    place = np.concatenate(
        [
            at + np.flatnonzero(pairs[at : at + STRETCH] & 0xFEFF == 0)
            for at in range(0, max(len(pairs), 1), STRETCH)
        ]
    )
    zeros = pairs[place] == 0
    other = 2 * place + np.where(zeros, 2, -1)
    if len(other) and (other[0] < 0 or other[-1] >= len(data)):
        inside = (other >= 0) & (other < len(data))
        place, zeros, other = place[inside], zeros[inside], other[inside]
    return np.minimum(other, 2 * place)[data[other] == zeros]


class HeaderBits:
    """The first 64 bits of many headers, from which numbers are taken, all headers at once.

    Bytes that keep start codes out of a NAL unit are left out.
    """

    def __init__(self, data: Bytes, start: Places, end: Places) -> None:
        """Start at the first bit of each header.

        Args:
            data: uint8, the bytes.
            start: int64 (m,), where the headers start.
            end: int64 (m,), where their units end.
        """
        place = start[:, None] + np.arange(12)
        first = np.where(place < end[:, None], data[np.minimum(place, len(data) - 1)], 0)
        escaped = (first[:, :-2] == 0) & (first[:, 1:-1] == 0) & (first[:, 2:] == 3)
        for number in np.flatnonzero(escaped.any(1)).tolist():
            plain = first[number].tobytes().replace(b"\0\0\3", b"\0\0")[:8]
            first[number, :8] = np.frombuffer(plain, np.uint8)
        eight = np.ascontiguousarray(first[:, :8])
        self._bits = eight.view(">u8").reshape(-1).astype(np.uint64)
        self._left = np.minimum(8 * (end - start), 64)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether each header held what was taken from it, (m,)."""
        return self._left >= 0

    def read(self, count: int | Places) -> Places:
        """Take numbers of `count` bits, int64 (m,); of no bits it is 0."""
        count = np.minimum(count, 64)
        shift = (64 - np.maximum(count, 1)).astype(np.uint64)
        value = np.where(count > 0, self._bits >> shift, 0).astype(np.int64)
        self._skip(count)
        return value

    def code(self, where: npt.NDArray[np.bool_] | None = None) -> Places:
        """Take ue(v) codes, int64 (m,), from the headers `where`; an se(v) code is as long."""
        zeros = _leading_zeros(self._bits)
        count = 2 * zeros + 1
        if where is not None:
            count = np.where(where, count, 0)
        shift = (63 - np.minimum(2 * zeros, 63)).astype(np.uint64)
        value = (self._bits >> shift).astype(np.int64) - 1
        self._skip(count)
        return value

    def _skip(self, count: Places) -> None:
        self._left = self._left - count
        rest = self._bits << np.minimum(count, 63).astype(np.uint64)
        self._bits = np.where(count < 64, rest, 0).astype(np.uint64)


def slice_types(data: Bytes, start: Places, end: Places) -> Places:
    """Return the type of each slice of H.264, int64 (m,): 0 to 4 for P, B, I, SP, SI; -1 unknown.

    Args:
        data: uint8, the bytes.
        start: int64 (m,), where the slice headers start, after the byte of the NAL unit.
        end: int64 (m,), where the slices end.
    """
    bits = HeaderBits(data, start, end)
    bits.code()  # first_mb_in_slice
    types = bits.code() % 5
    for number in np.flatnonzero(~bits.known).tolist():  # of damage, or empty
        stop = min(int(end[number]), int(start[number]) + 16)
        plain = data[start[number] : stop].tobytes().replace(b"\0\0\3", b"\0\0")
        codes = _exp_golomb(plain, 2)
        types[number] = codes[1] % 5 if len(codes) == 2 else -1
    return types


def _leading_zeros(window: npt.NDArray[np.uint64]) -> Places:
    """Return how many zeros lead the upper 32 of 64 bits."""
    upper = (window >> np.uint64(32)).astype(np.float64)
    return 32 - np.frexp(upper)[1].astype(np.int64)


def _exp_golomb(data: bytes, count: int) -> list[int]:
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


def recovers_at_once(data: Bytes, start: int, end: int) -> bool:
    """Return whether the SEI unit holds a recovery point that is exact and takes no frames."""
    sei, at = data[start:end].tobytes(), 1
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
