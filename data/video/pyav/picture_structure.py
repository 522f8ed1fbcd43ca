"""What packets of H.264 are: frames, or fields that are packets of their own; and their order.

Source: ITU-T H.264, 7.3.2.1.1 (sequence parameter sets), 7.3.3 (slice headers) and 8.2.1.1 (order).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from data.video.pyav.nal_units import PacketBytes, nal_units

_IDR = 5
_BATCH_PACKETS = 4096

# Profiles whose parameter sets say how chroma is sampled.
_CHROMA_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}


class _Bits:
    """Bits read one after the other; beyond the end it raises EOFError."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
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
        for _ in range(count):
            self.code()


def _without_escapes(unit: bytes) -> bytes:
    """Return a NAL unit without the bytes that keep start codes out of it."""
    return unit.replace(b"\0\0\3", b"\0\0")


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

    def is_frame(self, slice_unit: bytes) -> bool:
        """Return whether a slice is known to be part of a frame, not of a field.

        Args:
            slice_unit: The first bytes of its NAL unit, 64 or more, or all of them.
        """
        if self.frames_only:
            return True
        bits = _Bits(_without_escapes(slice_unit)[1:64])
        try:
            bits.skip_codes(3)  # first_mb_in_slice, slice_type, pic_parameter_set_id
            bits.read(2 * self.planes + self.frame_number_bits)
            return not bits.read(1)
        except EOFError:
            return False

    def order_count(self, slice_unit: bytes) -> int | None:
        """Return the low bits of a frame's place in the order of output; None for a field's.

        Args:
            slice_unit: As of `is_frame`.
        """
        bits = _Bits(_without_escapes(slice_unit)[1:64])
        try:
            bits.skip_codes(3)
            bits.read(2 * self.planes + self.frame_number_bits)
            if not self.frames_only and bits.read(1):
                return None
            if slice_unit[0] & 31 == _IDR:
                bits.code()  # idr_pic_id
            return bits.read(self.order_bits)
        except EOFError:
            return None


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


def _frame_coding(unit: bytes) -> FrameCoding:
    data = _without_escapes(unit)
    profile, bits, planes = data[1], _Bits(data[4:]), False
    bits.code()  # seq_parameter_set_id
    if profile in _CHROMA_PROFILES:
        chroma = bits.code()
        planes = chroma == 3 and bool(bits.read(1))
        bits.skip_codes(2)  # bit depths
        bits.read(1)
        if bits.read(1):  # scaling matrices: FFmpeg knows them, this does not
            raise EOFError
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


def picture_order(packets: Iterable[bytes], extradata: bytes) -> npt.NDArray[np.int64] | None:
    """Return the place of each packet in the order in which the frames are shown.

    Args:
        packets: What is in each packet, a whole frame, in decoding order.
        extradata: The container's description of the stream.

    Returns:
        int64 (n,), each number up to n once; None where the packets do not tell.
    """
    coding = frame_coding(extradata)
    if coding is not None and coding.in_order:
        return np.arange(sum(1 for _ in packets))
    if coding is None or not coding.order_bits:
        return None
    length_size = (extradata[4] & 3) + 1 if extradata.startswith(b"\1") else 0
    whole, period, high, low = 1 << coding.order_bits, -1, 0, 0
    places: list[tuple[int, int]] = []  # the number of the IDR picture before, the count after it
    for unit in _first_slices(iter(packets), length_size):
        count = coding.order_count(unit) if unit else None
        if count is None:
            return None
        if unit[0] & 31 == _IDR:
            period, high, low = period + 1, 0, 0
        step = high
        if count < low and low - count >= whole // 2:
            step += whole
        elif count > low and count - low > whole // 2:
            step -= whole
        places.append((period, step + count))
        if unit[0] & 0x60:  # a picture that others refer to
            high, low = step, count
    if len(set(places)) < len(places):
        return None
    order = np.lexsort(np.array(places, np.int64).T[::-1])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def _first_slices(packets: Iterator[bytes], length_size: int) -> Iterator[bytes]:
    """Yield the first bytes of each packet's first slice; none of a packet without one."""
    while batch := list(islice(packets, _BATCH_PACKETS)):
        sizes = [len(packet) for packet in batch]
        together = PacketBytes.joined(b"".join(batch), sizes)
        units = nal_units(together, length_size)
        kind = together.data[units.start] & 31
        slices = np.flatnonzero((kind >= 1) & (kind <= _IDR))
        numbers, first = np.unique(units.packet[slices], return_index=True)
        found = dict(zip(numbers.tolist(), slices[first].tolist(), strict=True))
        for number in range(len(batch)):
            if (unit := found.get(number)) is None:
                yield b""
                continue
            start = int(units.start[unit])
            yield together.data[start : min(int(units.end[unit]), start + 80)].tobytes()
