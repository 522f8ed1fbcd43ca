"""Extraction of parts of a list of clips: merged in order they are the cache of the whole list."""

import shutil
from dataclasses import replace

import pytest

from data import cache
from data.clips import Clip, part_of
from data.errors import InvalidValueError
from data.video import Sampling
from data.windows import Windows
from pipeline.extraction import extract
from tests.helpers.command import run
from tests.helpers.films import make_film

SAMPLING = Sampling(frames=4)


@pytest.fixture
def films(folder, tmp_path):
    """Folders of films: equal names, equal content in other parts, and a file that is no film."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            make_film(tmp_path / name / f"{number}.mp4", number + 4 * (name == "b"))
    (tmp_path / "a" / "none.mp4").write_text("no film")
    for name in ("b/0.mp4", "b/3.mp4", "c.mp4"):
        shutil.copy(tmp_path / "a" / "1.mp4", tmp_path / name)
    return [tmp_path / "a", tmp_path / "b", tmp_path / "c.mp4"]


def extracted(films, out, *words):
    return run("extract", *films, "-o", out, "--backbone", "tiny", "--frames", 2, *words)


@pytest.mark.parametrize(("count", "words"), [(2, ("--every", 0.1, "--span", 0.2)), (3, ())])
def test_parts_merged_in_order_are_the_cache_of_all(films, tmp_path, tiny, count, words):
    assert extracted(films, tmp_path / "all.h5", *words).exit_code == 3
    parts = [tmp_path / f"{number}.h5" for number in range(1, count + 1)]
    for number, part in enumerate(parts, start=1):
        shown = extracted(films, part, "--part", f"{number}/{count}", *words)
        assert shown.exit_code == (3 if number == (5 * count + 9) // 10 else 0)
    assert run("cache", "merge", *parts, "-o", tmp_path / "m.h5").exit_code == 0
    whole, merged = (cache.load(tmp_path / f"{name}.h5") for name in ("all", "m"))
    assert "a/1.mp4" in " ".join(whole.clip_id)
    assert whole.differences(merged) == []
    assert whole.content_sha256 == merged.content_sha256


def test_labels_units_and_objects_are_those_of_the_whole_list(clips, tmp_path, tiny):
    labelled = [replace(clip, units={"mass": "g"}, table_sha256="1" * 64) for clip in clips]
    labelled[4] = replace(labelled[4], path=clips[0].path)
    extract(labelled, tmp_path / "all.h5", backbone=tiny(), sampling=SAMPLING)
    parts = [tmp_path / f"{number}.h5" for number in (1, 2, 3)]
    for number, out in enumerate(parts, start=1):
        extract(labelled, out, backbone=tiny(), sampling=SAMPLING, part=(number, 3))
    cache.merge(parts, tmp_path / "m.h5")
    assert cache.load(tmp_path / "all.h5").differences(cache.load(tmp_path / "m.h5")) == []


def test_the_windows_of_a_video_in_two_parts_have_one_object(folder, tmp_path, tiny):
    clips = [
        Clip(id=name, path=folder / "0.mp4", start=start, end=start + 0.16)
        for name, start in (("a", 0.0), ("b", 0.2))
    ]
    windows = Windows(every=0.08, span=0.08)
    out = tmp_path / "2.h5"
    extract(clips, out, backbone=tiny(), sampling=2, windows=windows, part=(2, 2))
    assert set(cache.load(out).object) == {"a"}


def test_each_clip_is_in_one_part(clips):
    for count in range(1, 7):
        parts = [part_of(clips, number, count) for number in range(1, count + 1)]
        assert [clip for part in parts for clip in part] == clips
        assert {len(part) for part in parts} <= {6 // count, 6 // count + 1}


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("3", "3 is not a part such as 2/8, the second of eight"),
        ("a/b", "a/b is not a part such as 2/8, the second of eight"),
        ("0/4", "there is no part 0/4: the first is 1/4, the last 4/4"),
        ("5/4", "there is no part 5/4: the first is 1/4, the last 4/4"),
        ("1/0", "there is no part 1/0: the first is 1/1"),
        ("9/99", "there is no part 9/99: 7 clips make 7 parts at most"),
    ],
)
def test_a_part_that_there_is_not_is_refused(folder, tmp_path, tiny, part, sentence):
    shown = extracted([folder], tmp_path / "c.h5", "--part", part)
    assert shown.exit_code == 2
    assert sentence in " ".join(shown.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_the_same_of_python(clips):
    with pytest.raises(InvalidValueError, match="no part 0/2: the first is 1/2, the last 2/2"):
        part_of(clips, 0, 2)
    with pytest.raises(InvalidValueError, match=r"no part 1/0: the first is 1/1$"):
        part_of(clips, 1, 0)


def test_a_cache_with_clips_of_other_parts_is_refused(films, tmp_path, tiny):
    """Otherwise they would come first, in that of all clips, too."""
    for name, words in (("all.h5", ()), ("2.h5", ("--part", "2/3"))):
        out = tmp_path / name
        extracted(films, out, *words)
        before = out.read_bytes()
        shown = extracted(films, out, "--part", "3/3")
        assert shown.exit_code == 2
        clip = cache.load(out).clip_id[0]
        said = f"{out} has clips of other parts ({clip}): give part 3/3 a cache of its own, or"
        assert said in " ".join(shown.stderr.split())
        assert out.read_bytes() == before
        assert not out.with_name(f"{name}.parts").exists()
    assert extracted(films, out, "--part", "2/3").exit_code == 3  # it goes on; one is no film


def test_windows_of_other_parts_are_refused(folder, tmp_path, tiny):
    clips = [Clip(id=name, path=folder / f"{n}.mp4") for n, name in enumerate("ab")]
    words = {"backbone": tiny(), "sampling": 2, "windows": Windows(every=0.1, span=0.2)}
    extract(clips, tmp_path / "c.h5", part=(1, 2), **words)
    with pytest.raises(InvalidValueError, match=r"has clips of other parts \(a#000000-000000\.2\)"):
        extract(clips, tmp_path / "c.h5", part=(2, 2), **words)
