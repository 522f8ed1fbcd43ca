import pytest

from data.cache.joined.states import ClipStates, State, stretch_of_clip
from data.clips import Clip
from data.digests import digest_of

CLIP = Clip(id="a", path="/films/a.mp4", start=1, end=2.5)
HERE = stretch_of_clip(CLIP)
FIRST, SECOND = "2026-01-31T12:00:00.000+00:00", "2026-01-31T12:00:00.001+00:00"


def done(time, key="k"):
    entry = {"outcome": "done", "path": HERE[0], "start": 1.0, "end": 2.5, "key": key}
    return State.of({**entry, "time": time})


def failed(time):
    return State.of({"outcome": "failed", "path": HERE[0], "reason": "bad", "time": time})


@pytest.mark.parametrize("many", [False, True])
def test_the_last_that_became_of_a_clip_counts_in_whatever_order_it_is_read(many):
    states = ClipStates()
    for number in range(5000 if many else 0):  # enough for the table to be sorted
        states.note(f"other {number}", done(FIRST, str(number)))
    states.note("a", done(SECOND))
    assert states.key("a", HERE) == digest_of("k")
    states.note("a", failed(FIRST))  # older
    assert (states.key("a", HERE), states.failure("a")) == (digest_of("k"), None)
    states.note("a", failed(SECOND))
    assert (states.key("a", HERE), states.failure("a").reason) == (None, "bad")
    states.note("a", done(FIRST))
    assert states.failure("a")
    states.note("a", done(SECOND, "later"))
    assert (states.key("a", HERE), states.failure("a")) == (digest_of("later"), None)


def test_another_stretch_is_another_clip():
    states = ClipStates()
    states.note("a", done(FIRST))
    for path, times in [("/films/b.mp4", (1.0, 2.5)), (HERE[0], (1.0, None))]:
        assert states.key("a", (path, times)) is None
    assert states.key("b", HERE) is None
