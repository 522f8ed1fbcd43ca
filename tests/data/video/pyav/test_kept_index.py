"""What is known about a file is kept, used again, and never for another file."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.video import Limits, VideoError, probe, read
from data.video.pyav import DecodeSession, container, kept_index, open_video, sample_tables, session
from tests.helpers.indexes import assert_equal

# Found by tables, by blocks, of fields, decoded whole: twice as it starts open, with joints.
KINDS = (
    "h264_short_gop", "vp9", "hevc_open_gop", "fields_h264_mp4", "fields_h264_mkv", "open_h264_mkv",
    "restarted_webm", "duplicate_times",
)  # fmt: skip


@pytest.fixture(autouse=True)
def small_and_settled(tmp_path, monkeypatch):
    """Short files have tables too, and those that were just made are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 1)
    monkeypatch.setattr(kept_index, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(container, "_LAST_INDEX", {})


def entries() -> list[Path]:
    folder = Path(os.environ["XDG_CACHE_HOME"], "heliograph", "openings")
    return sorted(folder.iterdir()) if folder.exists() else []


def opened(path, **limits):
    container._LAST_INDEX.clear()
    with open_video(path, limits=Limits(**limits), threads=1, quick=True) as video:
        decoded = DecodeSession(video, accept_damaged=False)
        frames = decoded.frames(np.array([7, 2], np.int64))
        return video.packet_index, decoded.info(), frames


def known(info):
    return {name: value for name, value in vars(info).items() if name != "pts_seconds"}


def refused(*given, **named):
    raise AssertionError("the file is read or decoded whole again")


@pytest.mark.parametrize("name", KINDS)
def test_the_second_opening_shows_what_the_first_did(name, clip_file, tmp_path, monkeypatch):
    path = tmp_path / clip_file(name).name
    path.write_bytes(clip_file(name).read_bytes())
    index, info, frames = opened(path)
    assert len(entries()) == 1
    whole = session.decode_fully
    monkeypatch.setattr(container, "read_packet_index", refused)
    monkeypatch.setattr(container, "find_samples", refused)
    monkeypatch.setattr(
        session, "decode_fully",
        lambda *given, **named: refused() if len(given) == 1 else whole(*given, **named),
    )  # fmt: skip
    again, info_again, frames_again = opened(path)
    assert_equal(replace(again, doubt=index.doubt), index)
    assert known(info_again) == known(info)
    np.testing.assert_array_equal(info_again.pts_seconds, info.pts_seconds)
    np.testing.assert_array_equal(frames_again, frames)
    assert again.packets is None


def test_a_file_that_is_short_and_sound_is_not_kept(clip_file, monkeypatch):
    monkeypatch.setattr(sample_tables, "FEWEST_SAMPLES", 2_000)
    opened(clip_file("h264_short_gop"))
    probe(clip_file("h264_short_gop"), decoders=())  # which decodes it whole
    assert not entries()


def test_a_damaged_file_is_not_kept(clip_file, tmp_path):
    path = tmp_path / "damaged.h264"
    data = bytearray(clip_file("h264_paff").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(range(200))
    path.write_bytes(data)
    with pytest.raises(VideoError, match="damaged"):
        opened(path)
    assert not entries()


def test_a_changed_file_is_opened_anew(clip_file, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip_file("h264_short_gop").read_bytes())
    opened(path)
    times = os.stat(path)
    path.write_bytes(clip_file("h264_no_b").read_bytes())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    expected = opened(clip_file("h264_no_b"))[2]
    np.testing.assert_array_equal(opened(path)[2], expected)


def test_a_file_that_was_just_written_is_not_kept(clip_file, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_index, "SETTLED_SECONDS", 3600.0)
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip_file("h264_short_gop").read_bytes())
    opened(path)
    assert not entries()


def test_a_file_that_was_just_written_may_say_that_it_was_written_in_the_future(
    clip_file, tmp_path, monkeypatch
):
    monkeypatch.setattr(kept_index, "SETTLED_SECONDS", 3600.0)
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip_file("h264_short_gop").read_bytes())
    os.utime(path, (4e9, 4e9))
    opened(path)
    assert not entries()


def test_the_entry_of_another_file_is_none_of_this_one(clip_file, tmp_path):
    """Not even where somebody who may write to the folder has moved it there."""
    paths = [tmp_path / "one.mp4", tmp_path / "other.mp4"]
    for path, name in zip(paths, ("h264_short_gop", "h264_no_b"), strict=True):
        path.write_bytes(clip_file(name).read_bytes())
    opened(paths[0])
    (entry,) = entries()
    index, _, frames = opened(paths[1])
    (other,) = set(entries()) - {entry}
    os.replace(entry, other)
    again, _, frames_again = opened(paths[1])
    assert_equal(again, index)
    np.testing.assert_array_equal(frames_again, frames)


@pytest.mark.parametrize("content", [b"", b"x" * 500, "flipped", "shortened", "link", "others"])
def test_an_entry_that_is_not_what_was_written_is_made_again(content, clip_file, tmp_path):
    path = clip_file("h264_short_gop")
    index, _, frames = opened(path)
    (entry,) = entries()
    sound = entry.read_bytes()
    if content == "flipped":
        entry.write_bytes(sound[:90] + bytes([sound[90] ^ 1]) + sound[91:])
    elif content == "shortened":
        entry.write_bytes(sound[:-10])
    elif content == "link":
        (tmp_path / "elsewhere").write_bytes(sound)
        entry.unlink()
        entry.symlink_to(tmp_path / "elsewhere")
    elif content == "others":
        entry.chmod(0o666)
    else:
        entry.write_bytes(content)
    assert kept_index.read_entry(entry, path) is None
    again, _, frames_again = opened(path)
    assert_equal(again, index)
    np.testing.assert_array_equal(frames_again, frames)
    if content != "link":
        assert kept_index.read_entry(entry, path) is not None


def test_limits_hold_for_what_is_kept(clip_file):
    path = clip_file("restarted_webm")
    opened(path)
    for limits in ({"frames": 10}, {"seconds": 0.5}):
        with pytest.raises(VideoError, match="the limit"):
            opened(path, **limits)


def test_the_folder_stays_small_and_keeps_what_was_used_last(clip_file, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_index, "MOST_ENTRIES", 2)
    paths = [tmp_path / f"{number}.mp4" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(clip_file("h264_short_gop").read_bytes())
        opened(path)
        if number == 0:
            (first,) = entries()
            os.utime(first, (1, 1))
    assert len(entries()) == 2
    assert first not in entries()


def test_where_nothing_can_be_kept_files_are_read_all_the_same(clip_file, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = clip_file("h264_short_gop")
    container._LAST_INDEX.clear()
    assert len(read(path, [1, 2]).frames) == 2
