"""What parameter sets of HEVC tell about slices."""

import re

import numpy as np
import pytest

from data.video import Limits
from data.video.pyav import open_video
from data.video.pyav.hevc_parameters import SliceCoding, slice_coding
from tests.helpers.clips import bits_of, bytes_of, encode

OPTIONS = {"x265-params": "log-level=none:pools=1:keyint=12"}


@pytest.mark.parametrize("name", ["a.mp4", "a.hevc", "a.ts"])
def test_what_parameter_sets_tell(name, tmp_path):
    path = encode(tmp_path / name, codec="libx265", frames=3, options=OPTIONS)
    with open_video(path, limits=Limits(), quick=True) as container:
        extradata = container.stream.codec_context.extradata
    assert slice_coding(extradata) == SliceCoding(8, planes=False, hides=False, extra_bits=0)
    assert slice_coding(extradata[:40]) is None


def parameter_sets(*, layers: int = 0, hides: int = 0) -> bytes:
    level = [("u1", 1), ("u1", 1)] * layers + [("u2", 0)] * ((8 - layers) if layers else 0)
    profiles = [("u88", 1), ("u8", 93)] * layers
    sequence = [
        ("u4", 0), ("u3", layers), ("u1", 1), ("u88", 1 << 80), ("u8", 93), *level, *profiles,
        ("ue", 0), ("ue", 3), ("u1", 1), ("ue", 96), ("ue", 64), ("u1", 1), *[("ue", 1)] * 4,
        ("ue", 0), ("ue", 0), ("ue", 5), ("u1", 1),
    ]  # fmt: skip
    picture = [("ue", 0), ("ue", 0), ("u1", 1), ("u1", hides), ("u3", 2), ("u1", 1)]
    units = [b"\x42\1" + bytes_of(bits_of(*sequence)), b"\x44\1" + bytes_of(bits_of(*picture))]
    return b"".join(b"\0\0\0\1" + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", u) for u in units)


def test_layers_planes_and_hidden_pictures():
    expected = SliceCoding(9, planes=True, hides=True, extra_bits=2)
    assert slice_coding(parameter_sets(layers=2, hides=1)) == expected
    both = parameter_sets() + parameter_sets(hides=1)
    assert slice_coding(both) is None  # they disagree
    assert slice_coding(b"") is None
    assert slice_coding(b"\1" + bytes(10)) is None


def test_what_slice_headers_tell():
    coding = SliceCoding(9, planes=False, hides=True, extra_bits=2)
    headers = {
        1: [("u1", 1), ("ue", 0), ("u2", 3), ("ue", 1), ("u1", 1), ("u9", 300)],
        21: [("u1", 1), ("u1", 0), ("ue", 0), ("u2", 0), ("ue", 2), ("u1", 0), ("u9", 7)],
        19: [("u1", 1), ("u1", 0), ("ue", 0), ("u2", 0), ("ue", 2), ("u1", 1), ("u9", 511)],
        0: [("u1", 0), ("ue", 0)],  # not the first slice of its picture
    }
    units = [bytes([kind << 1, 1]) + bytes_of(bits_of(*head)) for kind, head in headers.items()]
    end = np.cumsum([len(unit) for unit in units])
    start = end - [len(unit) for unit in units]
    data = np.frombuffer(b"".join(units), np.uint8)
    low, shown = coding.read(data, start, end, np.array(list(headers)))
    assert low.tolist() == [300, 7, 0, -1]
    assert shown.tolist() == [True, False, True, True]
