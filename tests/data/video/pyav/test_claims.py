"""What the header of a file claims, against what is in the file."""

import struct

import pytest

from data.video import VideoError, probe, read
from data.video.pyav.claims import joined_segments, told_bytes
from tests.helpers import clips, recordings


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("dropped_mjpeg_avi", "header claims 50 frames, 40 are in the file: 10 chunks are empty"),
        ("piped_ivf", "header claims 4,294,967,295 frames, 40 are in the file: the count is wrong"),
        ("duration_ivf", "header claims 800 frames, 20 are in the file: the count is wrong"),
    ],
)
def test_a_count_that_means_nothing_is_a_note(name, note, clip_file):
    info = probe(clip_file(name), decoders=())
    assert (info.damage, info.notes[0]) == ((), note)


def test_frames_that_are_missing_are_damage(clip_file, tmp_path):
    def claim(data: bytearray) -> None:
        struct.pack_into("<I", data, 24, 60)

    counted = clips.encode(tmp_path / "a.ivf", **recordings.VP8)
    ivf = clips.patched(counted, tmp_path / "b.ivf", claim)
    avi = tmp_path / "b.avi"
    data = clip_file("dropped_mjpeg_avi").read_bytes()
    avi.write_bytes(data[: len(data) * 8 // 10])
    for path in (ivf, avi):
        with pytest.raises(VideoError, match=r"damaged: header claims [56]0 frames"):
            read(path, [0])


def test_which_files_tell_how_long_they_are(clip_file):
    for name in ("h264_short_gop", "h264_no_count", "mjpeg"):
        size = clip_file(name).stat().st_size
        assert told_bytes(clip_file(name), size - 100) == size
    for name in ("h264_transport", "mpeg2", "piped_mkv", "h264_flv", "h264_raw"):
        assert told_bytes(clip_file(name), clip_file(name).stat().st_size) is None


def test_breaks_are_told_apart_by_where_they_are(clip_file, tmp_path):
    path = clip_file("going_on_ts")
    assert joined_segments(path, 256) == 2
    data = path.read_bytes()
    inside = next(at for at in range(0, len(data), 188) if data[at + 1 : at + 3] == b"\x01\0")
    lost = tmp_path / "lost.ts"
    lost.write_bytes(data[:inside] + data[inside + 188 :])
    assert joined_segments(lost, 256) is None
    lost.write_bytes(data[: inside + 7] + data[inside + 188 :])
    assert joined_segments(lost, 256) is None
