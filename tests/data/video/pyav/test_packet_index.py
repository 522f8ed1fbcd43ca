"""The index of a stream's packets."""

import numpy as np
import pytest

from data.video import Limits, read
from data.video.pyav import open_video, packet_index


def test_large_files_are_read_again_instead_of_kept(clip_file, monkeypatch):
    for name in ("h264_short_gop", "hevc_open_gop", "vp9"):
        expected = read(clip_file(name), [31, 2, 17]).frames
        monkeypatch.setattr(packet_index, "MAX_PACKET_BYTES", 0)
        np.testing.assert_array_equal(read(clip_file(name), [31, 2, 17]).frames, expected)
        monkeypatch.undo()


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
