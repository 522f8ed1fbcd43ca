"""What the parameter sets of HEVC tell about its slices.

Source: ITU-T H.265, 7.3.2.2 (sequence parameter sets), 7.3.2.3 (picture parameter sets), 7.3.3
(profile, tier and level) and 7.3.6.1 (slice headers).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data.video.pyav.nal_units import Bytes, HeaderBits, Places
from data.video.pyav.picture_structure import Bits, without_escapes

_SEQUENCE, _PICTURE = 33, 34


@dataclass(frozen=True)
class SliceCoding:
    """What comes before a picture's place in the order of output, in the headers of its slices.

    Attributes:
        order_bits: Bits of that place.
        planes: Whether a slice header says which plane of colour it is of.
        hides: Whether a slice header says that its picture is not shown.
        extra_bits: Bits that mean nothing yet.
    """

    order_bits: int
    planes: bool
    hides: bool
    extra_bits: int

    def read(
        self, data: Bytes, start: Places, end: Places, kind: npt.NDArray[Any]
    ) -> tuple[Places, npt.NDArray[np.bool_]]:
        """Return the low bits of each picture's place, int64 (m,); -1 unknown; and if it is shown.

        Args:
            data: uint8, the bytes.
            start: int64 (m,), where the first NAL unit of each picture starts.
            end: int64 (m,), where these units end.
            kind: (m,), their types.
        """
        bits = HeaderBits(data, start + 2, end)
        first = bits.read(1) == 1
        bits.read(((kind >= 16) & (kind <= 23)).astype(np.int64))  # no_output_of_prior_pics_flag
        bits.code()  # slice_pic_parameter_set_id
        bits.read(self.extra_bits)
        bits.code()  # slice_type
        shown = bits.read(1) == 1 if self.hides else np.ones(len(start), np.bool_)
        bits.read(2 * self.planes)
        is_idr = (kind == 19) | (kind == 20)
        low = bits.read(np.where(is_idr, 0, self.order_bits))
        known = bits.known & first
        return np.where(known, low, -1), shown | ~known


def slice_coding(extradata: bytes) -> SliceCoding | None:
    """Return what the container's parameter sets tell; None where they tell nothing, or disagree.

    Args:
        extradata: The container's description of the stream.
    """
    try:
        # Those of further layers, as of a second view, are not decoded.
        units = [unit for unit in _parameter_sets(extradata) if not (unit[0] & 1 or unit[1] >> 3)]
        sequences = {_sequence(unit) for unit in units if unit[0] >> 1 == _SEQUENCE}
        pictures = {_picture(unit) for unit in units if unit[0] >> 1 == _PICTURE}
    except (EOFError, IndexError):
        return None
    if len(sequences) != 1 or len(pictures) != 1:
        return None
    return SliceCoding(*sequences.pop(), *pictures.pop())


def _parameter_sets(extradata: bytes) -> Iterator[bytes]:
    """Yield the units in an hvcC box, or between start codes."""
    if not extradata.startswith(b"\1"):
        yield from (unit for unit in extradata.split(b"\0\0\1")[1:] if len(unit) > 2)
        return
    at = 23
    for _ in range(extradata[22]):
        count = int.from_bytes(extradata[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            length = int.from_bytes(extradata[at : at + 2], "big")
            yield extradata[at + 2 : at + 2 + length]
            at += 2 + length


def _sequence(unit: bytes) -> tuple[int, bool]:
    """Return the bits of a picture's place in the order of output, and whether planes are named."""
    bits = Bits(without_escapes(unit)[2:])
    bits.read(4)
    layers = bits.read(3)  # sps_max_sub_layers_minus1
    bits.read(1 + 96)  # the general profile, tier and level
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    if layers:
        bits.read(2 * (8 - layers))
    for profile, level in present:
        bits.read(88 * profile + 8 * level)
    bits.code()  # sps_seq_parameter_set_id
    planes = bits.code() == 3 and bool(bits.read(1))  # chroma_format_idc
    bits.skip_codes(2)  # width, height
    if bits.read(1):  # conformance_window_flag
        bits.skip_codes(4)
    bits.skip_codes(2)  # bit depths
    return bits.code() + 4, planes


def _picture(unit: bytes) -> tuple[bool, int]:
    """Return whether slice headers say that a picture is hidden, and their bits without meaning."""
    bits = Bits(without_escapes(unit)[2:])
    bits.skip_codes(2)  # ids
    bits.read(1)  # dependent_slice_segments_enabled_flag
    return bool(bits.read(1)), bits.read(3)
