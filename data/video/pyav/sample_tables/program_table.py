"""Packets whose bytes lie in pieces in a program stream, between those of other streams.

Source: ISO/IEC 13818-1, 2.5.3 (packs), 2.4.3.6 (PES packets); ISO/IEC 11172-1, 2.4.3 (both of
MPEG-1).
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from data.video.pyav.nal_units import PacketBytes
from data.video.pyav.sample_tables.pes import PES_BYTES
from data.video.pyav.sample_tables.table import SampleTable, read_at

END, PACK, FIRST_PACKET = 0x1B9, 0x1BA, 0x1BB
# Of a packet before what it says to be long, and of a pack's header: MPEG-1's, MPEG-2's at least.
LENGTH_BYTES = 6
PACK_BYTES = (12, 14)
_head = Struct(">IH").unpack_from


@dataclass(frozen=True, kw_only=True)
class ProgramTable(SampleTable):
    """The packets of a stream in a program stream, in decoding order.

    `position` is where the first byte of a packet lies.

    Attributes:
        left: int32 (n,), how many bytes there are from there to the end of the first piece.
        stream: The number of the stream.
        end: Where the last piece of all ends.
    """

    ARRAYS: ClassVar = (*SampleTable.ARRAYS, "left")
    LATE: ClassVar = slice(1, 64)

    left: npt.NDArray[np.int32]
    stream: int
    end: int

    @property
    def values(self) -> dict[str, int]:
        """What is no array in it, for `restored`."""
        return {"stream": self.stream, "end": self.end}

    def content(self, file: int, number: int) -> bytes:
        """Return the bytes of one packet (`SampleTable.content`)."""
        return self._joined(file, number, number + 1, int(self.size[number]))

    def _read(self, file: int, first: int, last: int) -> PacketBytes:
        """Return the packets from `first` to `last`, which is not one of them."""
        end = np.cumsum(self.size[first:last], dtype=np.int64)
        data = self._joined(file, first, last, int(end[-1]))
        return PacketBytes(np.frombuffer(data, np.uint8), end - self.size[first:last], end)

    def _joined(self, file: int, first: int, last: int, size: int) -> bytes:
        """Return the `size` bytes of the packets from `first` to the one before `last`."""
        start = int(self.position[first])
        end = int(self.position[last]) if last < len(self) else self.end
        data, at = read_at(file, start, end - start), int(self.left[first])
        pieces = [data[:at]]
        while at + PES_BYTES < len(data):
            code, length = _head(data, at)
            if code == PACK:
                at += pack_bytes(data, at)
            elif code == END:
                at += 4
            elif code < FIRST_PACKET:
                break
            else:
                following = at + LENGTH_BYTES + length
                if code & 0xFF == self.stream:
                    pieces.append(data[_payload(data, at) : following])
                at = following
        content = b"".join(pieces)[:size]
        if len(content) < size:
            raise OSError("the file has changed")
        return content


def pack_bytes(data: bytes, at: int) -> int:
    """Return how long the header of the pack at `at` is."""
    return PACK_BYTES[1] + (data[at + 13] & 7) if data[at + 4] >> 6 == 1 else PACK_BYTES[0]


def _payload(data: bytes, at: int) -> int:
    """Return where the payload of the PES packet at `at` begins."""
    if data[at + LENGTH_BYTES] >> 6 == 2:
        return at + PES_BYTES + data[at + PES_BYTES - 1]
    at += LENGTH_BYTES
    at = next(place for place in range(at, len(data)) if data[place] != 0xFF)
    at += 2 * (data[at] >> 6 == 1)
    return at + {2: 5, 3: 10}.get(data[at] >> 4, 1)
