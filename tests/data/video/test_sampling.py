"""Which frames are picked."""

import json

import numpy as np
import pytest

from data.video import Sampling
from data.video.sampling import SAMPLERS, ClipTooShort

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
        ({"name": "random"}, "no sampling 'random'; there are uniform, fps, window, middle, pub"),
        ({"frames": 0}, "frames must be at least 1, not 0"),
        ({"frames": 10**19}, "frames must be at most 1,000,000,000,000, not 1000"),
        ({"name": "window", "stride": 10**19}, "stride must be at most 1,000,"),
        ({"stride": 2}, "stride belongs to the sampling window, not to uniform"),
        ({"fps": 3.0}, "the sampling fps needs a rate, and no other sampling takes one"),
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
