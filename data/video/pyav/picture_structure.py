"""Whether packets of H.264 are frames or fields: a field may be a packet of its own.

Source: ITU-T H.264, 7.3.2.1.1 (sequence parameter sets) and 7.3.3 (slice headers).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
    """

    frames_only: bool
    frame_number_bits: int
    planes: bool

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
    order = bits.code()
    if order == 0:
        bits.code()
    elif order == 1:
        bits.read(1)
        bits.skip_codes(2)
        bits.skip_codes(bits.code())
    bits.code()  # max_num_ref_frames
    bits.read(1)
    bits.skip_codes(2)  # width, height
    return FrameCoding(bool(bits.read(1)), frame_number_bits, planes)
