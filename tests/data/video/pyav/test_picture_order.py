"""The order of H.264 pictures whose times do not tell it: as a decode from the start shows them."""

import numpy as np
import pytest

from data.video import Limits, VideoError
from data.video.pyav import DecodeSession, open_video, session
from data.video.pyav.picture_structure import picture_order
from tests.helpers.clips import X264, encode

LONG = X264 | {"g": "12", "bf": "3", "b-pyramid": "normal", "refs": "4"}
RECORDINGS = {
    "groups.avi": LONG,
    "groups.h264": LONG,
    "open.avi": LONG | {"x264-params": "open-gop=1"},
    "one_group.avi": LONG | {"g": "600"},
    "interlaced.avi": LONG | {"flags": "+ildct+ilme"},
    "in_order.h264": X264 | {"bf": "0"},
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_frames_and_times_are_those_of_a_whole_decode(name, tmp_path, monkeypatch):
    path = encode(tmp_path / name, frames=150, options=RECORDINGS[name])
    indices = np.array([149, 3, 70, 11, 12, 13, 148, 0], np.int64)
    with open_video(path, limits=Limits(), threads=1, quick=True) as opened:
        whole = DecodeSession(opened, accept_damaged=True)
        assert whole.full is not None
        assert not whole.mismatch
        monkeypatch.setattr(whole, "mismatch", "decoded whole")
        expected = whole.frames(indices), whole.pts(), whole.times()
    monkeypatch.setattr(session, "decode_fully", lambda *given, **named: pytest.fail("whole"))
    with open_video(path, limits=Limits(), threads=1, quick=True) as opened:
        decoded = DecodeSession(opened, accept_damaged=False)
        assert decoded.random_access
        np.testing.assert_array_equal(decoded.frames(indices), expected[0])
        assert decoded.pts() == expected[1]
        np.testing.assert_array_equal(decoded.times()[0], expected[2][0])
        assert decoded.times()[1] == expected[2][1]


def test_a_damaged_frame_is_noticed(tmp_path):
    path = encode(tmp_path / "groups.avi", frames=60, options=LONG)
    data = bytearray(path.read_bytes())
    keyframe = data.index(b"\0\0\1\x65", len(data) // 2)
    data[keyframe + 40 : keyframe + 200] = bytes(range(160))
    path.write_bytes(data)
    with (
        open_video(path, limits=Limits(), threads=1, quick=True) as opened,
        pytest.raises(VideoError, match="damaged"),
    ):
        DecodeSession(opened, accept_damaged=False).frames(np.arange(60))


def test_fields_and_packets_without_a_picture_have_no_order(clip_file):
    with open_video(clip_file("h264_paff"), limits=Limits(), quick=True) as opened:
        assert opened.packet_index.rank is None
    with open_video(clip_file("h264_raw"), limits=Limits(), quick=True) as opened:
        extradata = opened.stream.codec_context.extradata
        packets = [bytes(packet) for packet in opened.packets()]
    order = picture_order(packets, extradata)
    assert sorted(order.tolist()) == list(range(40))
    assert picture_order([*packets, b"\0\0\1\x09\xf0"], extradata) is None
    assert picture_order([*packets, packets[-1]], extradata) is None
    assert picture_order(packets, b"") is None


def test_a_stream_of_frames_is_in_the_order_of_pictures(tmp_path, monkeypatch):
    path = encode(tmp_path / "groups.avi", frames=60, options=LONG)
    monkeypatch.setattr(session, "decode_fully", lambda *given, **named: pytest.fail("whole"))
    indices = np.arange(5, 50, 3)
    with open_video(path, limits=Limits(), threads=1, quick=True) as opened:
        decoded = DecodeSession(opened, accept_damaged=False)
        numbers, frames = zip(*decoded.stream(indices), strict=True)
        assert list(numbers) == indices.tolist()
        np.testing.assert_array_equal(np.stack(frames), decoded.frames(indices))
