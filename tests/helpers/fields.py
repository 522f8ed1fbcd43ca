"""Streams whose fields are pictures of their own, which no encoder here makes: written by hand.

Each is of 32 x 32 pixels. Macroblocks are grey, or taken from the frame that they refer to, in
turns, so that a frame shows which one it was decoded after.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tests.helpers.clips import bits_of, bytes_of

# Frames of a group in the order in which they are coded, by their place in that of showing; those
# that no other refers to are odd.
GROUP = (0, 2, 1, 4, 3, 6, 5, 8, 7)

MPEG2_ROWS = 3  # of macroblocks in a field


def escaped(unit: bytes) -> bytes:
    """Return a NAL unit with the bytes that keep start codes out of it."""
    return re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", unit)


def h264_fields(path: Path, *, groups: int = 3) -> Path:
    """Raw H.264 of fields that refer to others, and are shown in another order than coded.

    After ITU-T H.264 7.3.2.1, 7.3.2.2, 7.3.3, 7.3.5 and E.1.1.
    """
    flag = ("u1", 0)
    sequence = [
        ("u8", 77), ("u8", 0), ("u8", 30), ("ue", 0),  # Main profile, level 3
        ("ue", 0), ("ue", 0), ("ue", 2), ("ue", 2), flag,  # 4 bits of frame_num, 6 of the order
        ("ue", 1), ("ue", 0), flag, flag, ("u1", 1), flag,  # 2 x 1 macroblocks a field
        ("u1", 1), ("u8", 0), ("u1", 1), ("u1", 1),  # of what may be said of use only the last:
        ("ue", 0), ("ue", 0), ("ue", 9), ("ue", 9), ("ue", 1), ("ue", 2), ("u1", 1),  # one waits
    ]  # fmt: skip
    picture = [
        ("ue", 0), ("ue", 0), flag, flag, ("ue", 0), ("ue", 0), ("ue", 0), flag, ("u2", 0),
        ("se", 0), ("se", 0), ("se", 0), ("u1", 1), flag, flag, ("u1", 1),
    ]  # fmt: skip
    sets = [b"\x67" + bytes_of(bits_of(*sequence)), b"\x68" + bytes_of(bits_of(*picture))]
    units = list(sets)
    for group in range(groups):
        number = 0
        for place in GROUP:
            refers_to_it = place % 2 == 0
            for bottom in (0, 1):
                intra, idr = place == 0, place == 0 and not bottom
                kind = 7 if intra else 5 if refers_to_it else 6  # I, P or B
                head = [("ue", 0), ("ue", kind), ("ue", 0), ("u4", number % 16)]
                head += [("u1", 1), ("u1", bottom), *([("ue", group % 2)] if idr else [])]
                head += [("u6", 2 * place + bottom), *{7: [], 5: [flag] * 2, 6: [flag] * 4}[kind]]
                head += [] if not refers_to_it else [("u2", 0)] if idr else [flag]
                head += [("se", 0), ("ue", 1)]
                grey = 40 + 6 * (9 * group + place) % 180 + 20 * bottom
                unit = bytes([0x65 if idr else 0x61 if refers_to_it else 0x01])
                unit += _h264_blocks(bits_of(*head), grey, kind=kind, second=place // 2 % 2 > 0)
                units.append(unit)
            number += refers_to_it
    path.write_bytes(b"".join(b"\0\0\0\1" + escaped(unit) for unit in units))
    return path


def _h264_blocks(bits: str, grey: int, *, kind: int, second: bool) -> bytes:
    """Return two macroblocks after the bits of a slice header: of one grey (I_PCM), or taken over.

    Args:
        bits: The header.
        grey: The grey.
        kind: The type of the slice; in an I slice both are grey.
        second: Whether else the second is, not the first.
    """
    pixels, content = bytes([grey]) * 256 + bytes([128]) * 128, b""
    if kind == 7:
        for _ in range(2):
            content += bytes_of(bits + bits_of(("ue", 25))) + pixels
            bits = ""
    else:
        content += (
            bytes_of(bits + bits_of(("ue", int(second)), ("ue", {5: 30, 6: 48}[kind]))) + pixels
        )
        bits = "" if second else bits_of(("ue", 1))
    return content + bytes_of(bits + "1")


def mpeg2_fields(path: Path, *, groups: int = 3) -> Path:
    """Raw MPEG-2 of fields, frames of which are shown in another order than coded.

    After ISO/IEC 13818-2 6.2 and tables B.2 to B.4 and B.12 to B.14.
    """
    content = b""
    for group in range(groups):
        content += b"\0\0\1\xb3" + bytes_of(
            bits_of(("u12", 32), ("u12", 32 * MPEG2_ROWS), ("u4", 1), ("u4", 3), ("u18", 1000),
                    ("u1", 1), ("u10", 20), ("u3", 0))
        )  # fmt: skip
        content += b"\0\0\1\xb5" + bytes_of(
            bits_of(("u4", 1), ("u8", 0x48), ("u1", 0), ("u2", 1), ("u4", 0), ("u12", 0),
                    ("u1", 1), ("u8", 0), ("u1", 0), ("u7", 0))
        )  # fmt: skip
        content += b"\0\0\1\xb8" + bytes_of(bits_of(("u25", 1 << 12), ("u2", 2)))
        for place in GROUP:
            kind = 1 if place == 0 else 2 + place % 2
            for bottom in (0, 1):
                content += _mpeg2_field(place, kind, bottom, 9 * group + place)
    path.write_bytes(content + b"\0\0\1\xb7")
    return path


def _mpeg2_field(place: int, kind: int, bottom: int, number: int) -> bytes:
    """Return a field of a picture of type 1, 2 or 3 (I, P, B)."""
    head = [("u10", place), ("u3", kind), ("u16", 0xFFFF)]
    head += [("u4", 7)] * (kind - 1) + [("u1", 0)]
    codes = [("u4", 15), ("u4", 15)] * 2
    if kind > 1:
        codes[:2] = [("u4", 1), ("u4", 1)]
    if kind > 2:
        codes[2:] = [("u4", 1), ("u4", 1)]
    coding = [("u4", 8), *codes, ("u2", 0), ("u2", 1 + bottom), *[("u1", 0)] * 10]
    level = 6 * number % 60 + 3 * bottom + 1  # above 128
    grey = {1: "1", 2: "00011", 3: "00011"}[kind] + _mpeg2_grey(level)
    # Motion compensated, not coded: from the field of the same parity that is shown before.
    taken = {1: "", 2: "001", 3: "0010"}[kind] + "01" + str(bottom) + "11"
    if kind == 1:
        blocks = [grey, "1" + _mpeg2_grey(0)]
    else:
        blocks = [taken, grey] if place // 2 % 2 else [grey, taken]
    text = bits_of(("u5", 1)) + "0" + "".join("1" + block for block in blocks)
    return (
        b"\0\0\1\0" + bytes_of(bits_of(*head))
        + b"\0\0\1\xb5" + bytes_of(bits_of(*coding))
        + b"".join(b"\0\0\1" + bytes([row + 1]) + bytes_of(text) for row in range(MPEG2_ROWS))
    )  # fmt: skip


def _mpeg2_grey(level: int) -> str:
    """Return the bits of an intra macroblock whose grey is `level` above the one before it."""
    sizes = {0: "100", 1: "00", 2: "01", 3: "101", 4: "110", 5: "1110", 6: "11110", 7: "111110"}
    size = level.bit_length()
    first = sizes[size] + (f"{level:0{size}b}" if size else "") + "10"
    return first + 3 * (sizes[0] + "10") + 2 * ("00" + "10")


def stamped(raw: Path, path: Path, *, packets: int, joined: bool = False) -> Path:
    """Write the packets of a raw stream of groups with the times at which they are shown.

    Args:
        raw: The stream.
        path: The file to write.
        packets: Packets that are one frame.
        joined: Whether they are written as one.
    """
    step = 3600  # of 90,000 a second
    with av.open(str(raw)) as given, av.open(str(path), "w") as out:
        copy: Any = out.add_stream_from_template(given.streams.video[0])
        coded = [packet for packet in given.demux(video=0) if packet.size]
        for first in range(0, len(coded), packets):
            frame = first // packets
            group, number = divmod(frame, len(GROUP))
            parts = coded[first : first + packets]
            contents = [b"".join(map(bytes, parts))] if joined else [*map(bytes, parts)]
            for rest, content in enumerate(contents):
                packet = av.Packet(content)
                packet.stream, packet.time_base = copy, Fraction(1, 90_000)
                packet.pts = step * (len(GROUP) * group + GROUP[number] + 1) + step // 2 * rest
                packet.dts = step * frame + step // 2 * rest
                packet.duration = step // len(contents)
                packet.is_keyframe = number == 0 and rest == 0
                out.mux(packet)
    return path
