"""The index of a stream's packets."""

import numpy as np
import pytest

from data.video import Limits, read
from data.video.pyav import open_video, packet_index, seek
from tests.helpers import clips


def test_large_files_are_read_again_instead_of_kept(clip_file, monkeypatch):
    for name in ("h264_short_gop", "hevc_open_gop", "vp9"):
        expected = read(clip_file(name), [31, 2, 17]).frames
        monkeypatch.setattr(packet_index, "MAX_PACKET_BYTES", 0)
        np.testing.assert_array_equal(read(clip_file(name), [31, 2, 17]).frames, expected)
        monkeypatch.undo()


@pytest.mark.parametrize("late", [False, True])
def test_a_long_matroska_is_sought_instead_of_read_again(late, clip_file, tmp_path, monkeypatch):
    path = clips.remuxed(clip_file("h264_short_gop"), tmp_path / "long.mkv")
    wanted = [55, 2, 31, 58]
    expected = read(path, wanted).frames
    monkeypatch.setattr(packet_index, "MAX_PACKETS", 10)
    monkeypatch.setattr(seek, "WORTH_A_SEEK", 3)
    go_to, sought = seek._PacketSource._seek, []

    def counted(source, number):
        sought.append(number)
        if late:  # as if FFmpeg landed after the packet
            last = list(source.reopened.packets())[-1]
            monkeypatch.setattr(source.reopened, "packets", lambda: iter([last]))
        go_to(source, number)

    monkeypatch.setattr(seek._PacketSource, "_seek", counted)
    np.testing.assert_array_equal(read(path, wanted, threads=1).frames, expected)
    assert sought == ([24] if late else [24, 48])


@pytest.mark.parametrize("name", ["h264_short_gop", "h264_transport", "vp9", "mpeg4"])
def test_packets_are_the_same_in_batches_of_any_size(name, clip_file, monkeypatch):
    def index():
        with open_video(clip_file(name), limits=Limits(), quick=True) as container:
            return container.packet_index

    whole = index()
    assert len(whole.pts) == whole.presented_frames == len(whole.packets) == len(whole.order)
    for packets, size in ((1, 1 << 20), (7, 1 << 20), (4096, 1)):
        monkeypatch.setattr(packet_index, "BATCH_PACKETS", packets)
        monkeypatch.setattr(packet_index, "BATCH_BYTES", size)
        batched = index()
        for key in ("pts", "key", "hidden", "entry", "droppable", "order"):
            np.testing.assert_array_equal(getattr(batched, key), getattr(whole, key))
        assert (batched.doubt, batched.countable, batched.damage) == (None, True, ())
