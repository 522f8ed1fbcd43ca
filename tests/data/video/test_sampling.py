"""Which frames are picked."""

import json

import numpy as np
import pytest

from data.video import Sampling
from data.video.sampling import SAMPLERS, ClipTooShort, varies

TIMES = np.arange(10) / 10.0


@pytest.mark.parametrize(("n", "frames"), [(8, 8), (82, 8), (395, 16), (9, 1), (10_000, 7)])
def test_uniform_is_the_papers_linspace(n, frames):
    picked = Sampling(frames=frames).indices(np.arange(n) / 30)
    assert picked.dtype == np.int64
    assert picked.tolist() == [int(x) for x in np.linspace(0, n - 1, frames)]


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_indices_never_go_back_nor_outside(name):
    sampling = Sampling(
        name=name, frames=1 if name == "middle" else 6, fps=4.0 if name == "fps" else None, pad=True
    )
    for n in (1, 2, 5, 6, 7, 100):
        picked = sampling.indices(np.arange(n) / 24)
        assert picked.shape == (sampling.frames,)
        assert (np.diff(picked) >= 0).all()
        assert picked[0] >= 0
        assert picked[-1] < n


def test_fps_picks_what_is_shown_at_each_time():
    uneven = np.array([0.0, 0.1, 0.5, 0.9, 1.0, 1.4])
    assert Sampling(name="fps", fps=4, frames=5).indices(uneven).tolist() == [0, 1, 2, 2, 4]
    at_rate = Sampling(name="fps", fps=10, frames=10).indices(TIMES)
    assert at_rate.tolist() == list(range(10))
    later = Sampling(name="fps", fps=5, frames=5).indices(TIMES + 7.5)
    assert later.tolist() == [0, 2, 4, 6, 8]


def test_window_is_in_the_middle():
    assert Sampling(name="window", frames=4).indices(TIMES).tolist() == [3, 4, 5, 6]
    assert Sampling(name="window", frames=4, stride=3).indices(TIMES).tolist() == [0, 3, 6, 9]


def test_middle_is_the_papers_static_frame():
    assert Sampling(name="middle", frames=1).indices(TIMES).tolist() == [5]
    assert Sampling(name="middle", frames=1).indices(TIMES[:1]).tolist() == [0]


def test_published_counts_what_the_header_claims():
    sampling = Sampling(name="published", frames=4)
    assert sampling.indices(TIMES, claimed=13).tolist() == [0, 4, 8, 8]
    assert sampling.indices(TIMES, claimed=None).tolist() == [0, 3, 6, 9]
    assert Sampling(name="uniform", frames=4).indices(TIMES, claimed=13).tolist() == [0, 3, 6, 9]


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        (Sampling(frames=11), "the clip has 10 frames, 11 are asked for"),
        (Sampling(name="window", frames=4, stride=4), "the clip has 10 frames, 13 are asked for"),
        (
            Sampling(name="fps", fps=2, frames=3),
            "the clip lasts 1.000 s, 3 frames at 2 per second need more than 1.000 s",
        ),
    ],
)
def test_too_short_names_both_numbers_and_pad_repeats_the_last(sampling, words):
    with pytest.raises(ClipTooShort, match=words):
        sampling.indices(TIMES)
    padded = Sampling(**(sampling.describe() | {"pad": True})).indices(TIMES)
    assert padded[-1] == 9
    assert padded.shape == (sampling.frames,)


def test_an_empty_clip_cannot_even_be_padded():
    with pytest.raises(ClipTooShort, match="the clip has 0 frames, 8 are asked for"):
        Sampling(pad=True).indices(np.zeros(0))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"name": "random"},
            "no sampling 'random': choose one of uniform, uniform-time, fps, window, middle, pub",
        ),
        ({"frames": 0}, "frames must be at least 1, not 0"),
        ({"frames": 10**19}, "frames must be at most 1,000,000,000,000, not 1000"),
        ({"name": "window", "stride": 10**19}, "stride must be at most 1,000,"),
        ({"stride": 2}, r"a stride \(--stride\) is for the sampling window, not for uniform"),
        ({"fps": 3.0}, r"a rate \(--fps\) is for the sampling fps, not for"),
        ({"name": "fps"}, "the sampling fps needs a rate"),
        ({"name": "fps", "fps": -1.0}, "fps must be a positive number, not -1.0"),
        ({"name": "middle"}, "the sampling middle picks 1 frame, not 8"),
        ({"name": "window", "stride": 0}, "stride must be at least 1"),
    ],
)
def test_wrong_choices_are_refused_in_words(wrong, words):
    with pytest.raises(ValueError, match=words):
        Sampling(**wrong)


def test_describe_goes_through_json_and_back():
    sampling = Sampling(name="fps", fps=7.5, frames=3, pad=True)
    assert Sampling(**json.loads(json.dumps(sampling.describe()))) == sampling


@pytest.mark.parametrize("rule", [{}, {"name": "fps", "fps": 24.0}, {"name": "window"}])
def test_more_frames_than_memory_holds_are_refused_at_once(rule):
    with pytest.raises(ClipTooShort, match=r"the clip (has 9 frames|lasts 0.375 s), 1000000000000"):
        Sampling(frames=10**12, **rule).indices(np.arange(9) / 24)


def test_uniform_time_picks_what_is_shown_at_equal_times():
    slow_then_fast = np.array([0.0, 1.0, 2.0, 3.0, 3.25, 3.5, 3.75, 4.0])
    by_time = Sampling(name="uniform-time", frames=5)
    assert by_time.indices(slow_then_fast).tolist() == [0, 1, 2, 3, 7]
    assert by_time.indices(slow_then_fast + 100.1).tolist() == [0, 1, 2, 3, 7]
    assert Sampling(frames=5).indices(slow_then_fast).tolist() == [0, 1, 3, 5, 7]
    shown_for_long = np.array([0.0, 0.1, 0.2, 10.0])
    assert Sampling(name="uniform-time", frames=4).indices(shown_for_long).tolist() == [0, 2, 2, 3]


@pytest.mark.parametrize("rate", [24, 25, 30000 / 1001, 60, 120, 1200])
def test_uniform_time_is_the_same_on_a_clock_of_milliseconds(rate):
    exact = np.arange(61) / rate
    picked = Sampling(name="uniform-time", frames=13).indices(exact)
    assert picked.tolist() == list(range(0, 61, 5))
    if rate < 500:
        rounded = np.round(exact, 3)
        assert Sampling(name="uniform-time", frames=13).indices(rounded).tolist() == picked.tolist()


def test_uniform_time_refuses_and_pads_as_uniform_does():
    with pytest.raises(ClipTooShort, match="the clip has 10 frames, 11 are asked for"):
        Sampling(name="uniform-time", frames=11).indices(TIMES)
    padded = Sampling(name="uniform-time", frames=12, pad=True).indices(TIMES)
    assert padded.tolist() == [*range(10), 9, 9]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([0.04] * 100, False),
        ([0.008, 0.009] * 50, False),  # 120 frames a second on a clock of milliseconds
        ([0.04] * 50 + [0.05] * 50, True),
        ([0.04] * 50 + [0.042] * 50, False),
        ([0.033, 0.05] * 50, False),  # a pattern that repeats, as of films on television
        ([0.04] * 99 + [2.0], True),
        ([0.1], False),
        ([], False),
    ],
)
def test_a_rate_that_varies_by_over_a_tenth_is_noticed(steps, expected):
    assert varies(np.concatenate([[3.0], 3.0 + np.cumsum(steps)])) is expected
