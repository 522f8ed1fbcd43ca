import math
import random

import pytest

from data import duplicates
from data.digests import Digests, digest_of
from data.duplicates import Stretch, share_objects, share_objects_of_many


def whole(clip: str, object: str = "", source: str = "x") -> Stretch:
    return Stretch(clip, object, source)


def part(clip: str, object: str, start: float, end: float) -> Stretch:
    return Stretch(clip, object, "x", start, end)


class TestOverlaps:
    @pytest.mark.parametrize(
        ("first", "second", "overlap"),
        [
            ((math.nan, math.nan), (math.nan, math.nan), True),
            ((math.nan, math.nan), (3, 4), True),
            ((0, 2), (1, 3), True),
            ((0, 2), (math.nan, 1), True),
            ((0, 2), (2, 4), False),
            ((0, 2), (2 - 1e-9, 4), False),
            ((0, 2), (2 - 1 / 30, 4), False),  # one frame
            ((0, 2), (2 - 2 / 24, 4), True),
            ((1, 1.02), (1, 1.02), True),  # less than a frame, twice
            ((1, 1.02), (0, 4), True),
            ((0, 1), (2, math.nan), False),
        ],
    )
    def test_stretches_of_one_file(self, first, second, overlap):
        one, two = Stretch("a", "", "x", *first), Stretch("b", "", "x", *second)
        assert one.overlaps(two) is two.overlaps(one) is overlap
        groups = share_objects([one, two]).united
        assert bool(groups) is overlap

    def test_other_files_and_unknown_ones_do_not(self):
        assert not whole("a").overlaps(whole("b", source="y"))
        assert not whole("a", source="").overlaps(whole("b", source=""))


class TestShareObjects:
    def test_one_that_is_given_is_for_all(self):
        shared = share_objects([whole("a"), whole("b", "thing"), whole("c", "c")])
        assert shared.objects == ("thing",) * 3
        assert not shared.contradictions
        assert shared.note == (
            "2 clips have the content of another clip and no object, and share its object: 'a' "
            "that of 'b', 'thing'"
        )

    def test_none_given_is_the_first_id(self):
        shared = share_objects([whole("b"), whole("other", source="y"), whole("a")])
        assert shared.objects == ("b", "other", "b")
        assert shared.note.startswith("1 clip has the content of another clip")

    def test_two_given_ones_contradict_each_other_and_stay(self):
        shared = share_objects([whole("n"), whole("a0", "t"), whole("b0", "t_b"), whole("c", "t")])
        assert shared.objects == ("n", "t", "t_b", "t")
        (contradiction,) = shared.contradictions
        assert contradiction.numbers == (1, 2)
        assert str(contradiction) == (
            "'a0' and 'b0' have the same content, but the objects 't' and 't_b'"
        )

    def test_what_was_shared_before_does_not_count_as_given(self):
        once = share_objects([whole("a"), whole("b")])
        united = [whole("a", once.objects[0]), whole("b", once.objects[1])]
        assert share_objects(united).objects == ("a", "a")
        assert share_objects([*united, whole("c", "thing")]).objects == ("thing",) * 3
        assert share_objects([whole("c", "thing"), *united]).objects == ("thing",) * 3

    def test_an_object_that_is_known_elsewhere_stays_whole(self):
        shared = share_objects([whole("y"), whole("x2", "x"), whole("x", "x", source="y")])
        assert shared.objects == ("x", "x", "x")

    def test_overlaps_link_clips_through_others(self):
        chain = [part("c", "", 2.5, 4), part("a", "", 0, 2), part("b", "o", 1, 3)]
        assert share_objects(chain).objects == ("o",) * 3
        chain[0] = part("c", "other", 2.5, 4)
        assert share_objects(chain).contradictions[0].numbers == (0, 2)

    def test_a_contradiction_names_clips_that_overlap(self):
        chain = [part("a", "o", 0, 2), part("b", "o", 1, 3), part("c", "other", 2.5, 4)]
        assert share_objects(chain).contradictions[0].numbers == (1, 2)

    def test_a_long_stretch_links_short_ones_that_follow(self):
        clips = [part("a", "o", 0, 10), part("b", "", 1, 2), part("c", "", 8, 9)]
        assert share_objects(clips).objects == ("o",) * 3

    def test_stretches_that_touch_keep_their_objects(self):
        clips = [part("a", "p", 0, 2), part("b", "q", 2, 4), part("c", "r", 4, 6)]
        assert share_objects(clips).objects == ("p", "q", "r")
        assert not share_objects(clips).note

    def test_of_the_same_id_nothing_is_said(self):
        shared = share_objects([whole("a"), whole("a", "thing")])
        assert shared.objects == ("thing", "thing")
        assert not shared.note

    def test_no_clips(self):
        assert share_objects([]).objects == ()


@pytest.mark.parametrize("at_once", [1, 5, 1000])
def test_many_are_done_as_few_and_only_those_with_one_source_are_asked_for(monkeypatch, at_once):
    monkeypatch.setattr(duplicates, "_AT_ONCE", at_once)
    draw = random.Random(0)
    for _ in range(30):
        clips = [
            Stretch(
                f"c{number}",
                draw.choice([f"c{number}", "a", "b"]),
                draw.choice(["", *(f"s{number // 7 + step}" for step in range(3))]),
                start := draw.random() * 3,
                start + 0.5,
            )
            for number in range(60)
        ]
        asked: list[int] = []

        def stretch(number: int, clips=clips, asked=asked) -> Stretch:
            asked.append(number)
            return clips[number]

        sources = [clip.source for clip in clips]
        whole = share_objects(clips)
        found = share_objects_of_many(Digests(map(digest_of, sources)), stretch, none=digest_of(""))
        now = [found.objects.get(number, clip.object) for number, clip in enumerate(clips)]
        assert tuple(now) == whole.objects
        assert (found.contradictions, found.note) == (whole.contradictions, whole.note)
        assert asked == [
            number for number, one in enumerate(sources) if one and sources.count(one) > 1
        ]
