"""Windows of a video: where they lie, and what they are called."""

import math

import pytest

from data.windows import Window, Windows, video_of


@pytest.mark.parametrize(
    ("windows", "start", "end", "expected"),
    [
        (Windows(every=2, span=2), 0, 6, [(0, 2), (2, 4), (4, 6)]),
        (Windows(every=2, span=2), 0, 5.9, [(0, 2), (2, 4)]),
        (Windows(every=2, span=3), 0, 7, [(0, 3), (2, 5), (4, 7)]),
        (Windows(every=2, span=1), 1.5, 5, [(1.5, 2.5), (3.5, 4.5)]),
        (Windows(every=2, span=2), 0, 1.9, []),
    ],
)
def test_windows_lie_inside_and_a_partial_last_one_is_left_out(windows, start, end, expected):
    assert windows.cut(start, end) == expected
    assert windows.count(start, end) == len(expected)


def test_a_last_window_may_lack_less_than_the_slack():
    windows = Windows(every=2, span=2)
    assert len(windows.cut(0, 3.99, slack=0.02)) == 2
    assert len(windows.cut(0, 3.97, slack=0.02)) == 1


def test_times_do_not_drift_over_a_day():
    found = Windows(every=0.1, span=0.3).cut(0, 86_400)
    assert len(found) == 863_998
    assert found[-1] == (86_399.7, 86_400.0)
    assert all(window.start == round(n / 10, 6) for n, window in enumerate(found))


def test_ids_sort_by_time_and_are_equal_for_equal_times():
    found = Windows(every=0.75, span=1).cut(0, 120_000)[::7]
    ids = [window.id("a.mp4") for window in found]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert Window(0.3, 1.0).id("a") == Window(round(3 * 0.1, 6), 1.0).id("a") == "a#000000.3-000001"


@pytest.mark.parametrize("video", ["a.mp4", "b/c#1.mp4", "a#000000-000001", "a\x85b"])
def test_the_video_of_a_window_is_known_by_its_id(video):
    for window in (Window(0.0, 2.0), Window(86_399.7, 1_234_567.25)):
        assert video_of(window.id(video)) == video


@pytest.mark.parametrize("clip", ["a.mp4", "a#1-2", "#000000-000001", "a#000000-000001.mp4"])
def test_other_ids_are_of_no_window(clip):
    assert video_of(clip) == ""


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.0009, math.inf, math.nan])
def test_a_window_has_a_length(seconds):
    with pytest.raises(ValueError, match=r"span must be 0\.001 seconds or more"):
        Windows(every=1, span=seconds)
