"""NAL units of several packets at once, and the codes in their headers."""

import re

import numpy as np
import pytest

from data.video.pyav.nal_units import (
    HeaderBits,
    PacketBytes,
    nal_units,
    recovers_at_once,
    slice_types,
)


def contents(units, packets) -> list[tuple[int, bytes]]:
    return [
        (number, packets.data[start:end].tobytes())
        for number, start, end in zip(units.packet, units.start, units.end, strict=True)
    ]


@pytest.mark.parametrize("length_size", [0, 1, 2, 3, 4])
def test_units_are_those_that_were_put_in(length_size):
    written = [[b"\x67abc", b"\x65" * 40], [b"\x41"], [b"\x06\x05\x01", b"\x01x", b"\x41yz"]]
    packets = [
        b"".join(
            (len(unit).to_bytes(length_size, "big") if length_size else b"\0\0\1") + unit
            for unit in units
        )
        for units in written
    ]
    together = PacketBytes.joined(b"".join(packets), [len(packet) for packet in packets])
    found = contents(nal_units(together, length_size), together)
    assert found == [(n, unit) for n, units in enumerate(written) for unit in units]


def test_a_unit_longer_than_its_packet_ends_with_it_and_empty_ones_are_left_out():
    data = b"\0\0\0\x63abc" + b"\0\0\0\0\0\0\0\x02xy" + b"\0\0\0"
    packets = PacketBytes.joined(data, [7, 10, 3])
    assert contents(nal_units(packets, 4), packets) == [(0, b"abc"), (1, b"xy")]


def test_a_start_code_across_two_packets_is_none():
    packets = PacketBytes.joined(b"\0\0\1a\0" + b"\0\1\0\0\1b", [5, 6])
    assert contents(nal_units(packets, 0), packets) == [(0, b"a\0"), (1, b"b")]


def code(value: int) -> str:
    """Return the bits of ue(v)."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def escaped(data: bytes) -> bytes:
    """Return what is in a NAL unit with the bytes that keep start codes out of it."""
    return re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", data)


@pytest.mark.parametrize("first", [0, 1, 7, 36_863, 2**31 - 2, 2**40])
def test_the_type_of_a_slice(first):
    for value in range(10):
        bits = code(first) + code(value) + "1"
        data = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
        for tail in (b"", b"\xff" * 20):
            both = np.frombuffer(escaped(data) + tail, np.uint8)
            found = slice_types(both, np.array([0]), np.array([len(both)]))
            assert found.tolist() == [value % 5]


def test_a_slice_without_a_type():
    data = np.zeros(40, np.uint8)
    assert slice_types(data, np.array([0, 4, 40]), np.array([40, 5, 40])).tolist() == [-1, -1, -1]


def test_a_recovery_point_after_other_messages():
    recovery = b"\x06\x01\xc4"  # payload 6, exact at once
    for before in (b"", b"\x05\x03abc", b"\xff\x02\x02ab", b"\x05\xff\x01" + bytes(256)):
        sei = np.frombuffer(b"\x06" + before + recovery + b"\x80", np.uint8)
        assert recovers_at_once(sei, 0, len(sei))
    late = np.frombuffer(b"\x06\x06\x01\x44\x80", np.uint8)
    assert not recovers_at_once(late, 0, len(late))


def test_numbers_of_many_headers_at_once():
    """Of each header: a code, three bits, then four bits or none, then a code again."""
    rng = np.random.default_rng(0)
    headers, expected = [], []
    for number in range(200):
        first, three, some, last = (int(rng.integers(0, top)) for top in (300, 8, 16, 2000))
        more = number % 3 > 0
        bits = code(first) + f"{three:03b}" + more * f"{some:04b}" + code(last) + "1"
        bits = "0" * 16 * (number % 5 == 0) + bits  # bits that take escapes
        bits += "0" * (-len(bits) % 8)
        headers.append(escaped(int(bits, 2).to_bytes(len(bits) // 8, "big")))
        expected.append((first, three, more * some, last))
    end = np.cumsum([len(header) for header in headers])
    start = end - [len(header) for header in headers]
    found = HeaderBits(np.frombuffer(b"".join(headers), np.uint8), start, end)
    found.read(np.where(np.arange(200) % 5 == 0, 16, 0))
    more = np.where(np.arange(200) % 3 > 0, 4, 0)
    values = found.code(), found.read(3), found.read(more), found.code()
    assert list(zip(*(value.tolist() for value in values), strict=True)) == expected
    assert found.known.all()
    found.read(32)
    assert not found.known.any()
    assert found.code(where=np.zeros(200, bool)).shape == (200,)
