"""Clips of equal content in an extraction: one object, or a refusal that names both."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from data import cache
from data.clips import Clip
from data.errors import HeliographError
from data.manifests import write_manifest
from data.video import Sampling
from pipeline.extraction import extract, repair_cache
from tests.helpers.command import run

SAMPLING = Sampling(frames=4)


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "c.h5"


@pytest.fixture
def copies(folder, tmp_path) -> Path:
    """The six films, and `copy.mp4` with the bytes of the first."""
    films = Path(shutil.copytree(folder, tmp_path / "films"))
    shutil.copy(films / "0.mp4", films / "copy.mp4")
    return films


def objects(target: Path) -> dict[str, str]:
    found = cache.load(target)
    return dict(zip(found.clip_id, found.object, strict=True))


class TestOnePathTwice:
    @pytest.mark.parametrize("link", [False, True])
    def test_two_objects_are_refused_before_any_work(self, clips, target, tiny, tmp_path, link):
        path = clips[2].path
        if link:
            path = tmp_path / "link.mp4"
            os.symlink(clips[2].path, path)
        model, twice = tiny(), [*clips, Clip(id="b2", path=path, object="o0_b")]
        model.forward = None  # nothing may be computed
        with pytest.raises(HeliographError) as refusal:
            extract(twice, target, backbone=model, sampling=SAMPLING)
        for named in (str(clips[2].path), "'2'", "'b2'", "'o0'", "'o0_b'"):
            assert named in str(refusal.value)
        assert os.listdir(tmp_path) == ["link.mp4"] * link

    def test_overlapping_stretches_too(self, clips, target, tiny):
        parts = [replace(clips[0], id="x", end=0.3), replace(clips[0], id="y", start=0.2)]
        parts[1] = replace(parts[1], object="another")
        with pytest.raises(HeliographError, match="'x' and 'y' have the same content"):
            extract(parts, target, backbone=tiny(), sampling=SAMPLING)

    def test_stretches_that_touch_are_two_things(self, clips, target, tiny):
        first = replace(clips[0], id="x", object="p", end=0.25)
        second = replace(clips[0], id="y", object="q", start=0.25)
        summary = extract([first, second], target, backbone=tiny(), sampling=Sampling(frames=2))
        assert not summary.failed
        assert not summary.notes
        assert objects(target) == {"x": "p", "y": "q"}

    def test_one_without_an_object_gets_the_others(self, clips, target, tiny):
        twice = [Clip(id="again", path=clips[1].path), *clips]
        summary = extract(twice, target, backbone=tiny(), sampling=SAMPLING)
        assert summary.notes == [
            "1 clip has the content of another clip and no object, and share its object: 'again' "
            "that of '1', 'o1'"
        ]
        assert objects(target)["again"] == "o1"
        assert extract(twice, target, backbone=tiny(), sampling=SAMPLING).kept == 7
        assert objects(target)["again"] == "o1"


@pytest.mark.usefixtures("tiny")
class TestEqualBytes:
    def test_the_later_clip_fails_by_name_and_the_rest_is_cached(self, copies, target):
        table = [
            Clip(id="a0", path=copies / "0.mp4", object="thing00", labels={"mass": 1.0}),
            Clip(id="b0", path=copies / "copy.mp4", object="thing00_b", labels={"mass": 1.0}),
            Clip(id="a1", path=copies / "1.mp4", object="thing01", labels={"mass": 2.0}),
        ]
        write_manifest(table, copies / "clips.jsonl")
        words = ("extract", copies / "clips.jsonl", "-o", target, "--backbone", "tiny")
        # Of equal files the one that is decoded first is extracted, and a0 kept if it is b0.
        first = "(2 clips extracted, 0 kept|1 clip extracted, 1 kept)"
        for counts in (first, "0 clips extracted, 2 kept"):
            shown = run(*words, "--frames", 4)
            assert shown.exit_code == 3
            reason = "same content as 'a0' of object 'thing00', but object 'thing00_b'"
            assert f"failed: b0: {reason}" in shown.stderr
            assert re.search(f"{counts}, 1 failed", shown.stderr)
            assert objects(target) == {"a0": "thing00", "a1": "thing01"}
            ((clip, why),) = cache.load(target).failures
            assert clip == "b0"
            assert why.startswith(reason)
        assert cache.verify(target) == []
        table[1] = replace(table[1], object="thing00")
        write_manifest(table, copies / "clips.jsonl")
        shown = run(*words, "--frames", 4)
        assert "0 clips extracted, 3 kept, 0 failed" in shown.stderr  # no work was lost
        assert shown.exit_code == 0
        assert cache.load(target).failures == []

    def test_without_objects_they_share_the_first_id(self, copies, target, tiny):
        bare = [Clip(id=name, path=copies / f"{name}.mp4") for name in ("1", "copy", "0")]
        summary = extract(bare, target, backbone=tiny(), sampling=SAMPLING)
        assert objects(target) == {"1": "1", "copy": "copy", "0": "copy"}
        assert len(summary.notes) == 1
        extract(bare, target, backbone=tiny(), sampling=SAMPLING)
        assert objects(target) == {"1": "1", "copy": "copy", "0": "copy"}

    def test_objects_that_come_later_are_for_the_clips_of_the_cache_too(
        self, clips, copies, target, tiny
    ):
        bare = [Clip(id=f"day 1/{n}", path=copies / f"{n}.mp4") for n in range(6)]
        extract(bare, target, backbone=tiny(), sampling=SAMPLING)
        summary = extract(clips, target, backbone=tiny(), sampling=SAMPLING)
        assert summary.kept == 6
        assert summary.notes[0].startswith("6 clips have the content of another clip")
        assert objects(target) == {
            f"{day}{n}": f"o{n % 2}" for day in ("day 1/", "") for n in range(6)
        }

    def test_another_object_than_in_the_cache_fails_and_the_cache_stays(self, copies, target, tiny):
        extract([Clip(id="a", path=copies / "0.mp4", object="thing")], target, backbone=tiny(),
                sampling=SAMPLING)  # fmt: skip
        later = [
            Clip(id="b", path=copies / "copy.mp4", object="other"),
            Clip(id="c", path=copies / "1.mp4", object="other"),
        ]
        summary = extract(later, target, backbone=tiny(), sampling=SAMPLING)
        assert list(summary.failed) == ["b"]
        assert "same content as 'a' of object 'thing', but object 'other'" in summary.failed["b"]
        assert (summary.done, summary.kept) == (1, 0)
        assert objects(target) == {"a": "thing", "c": "other"}

    def test_the_object_of_a_clip_may_change_in_the_table(self, copies, target, tiny):
        for name in ("thing", "renamed"):
            pair = [Clip(id=c, path=copies / f"{c}.mp4", object=name) for c in ("0", "copy")]
            assert not extract(pair, target, backbone=tiny(), sampling=SAMPLING).failed
            assert objects(target) == {"0": name, "copy": name}


class TestRepair:
    def test_it_changes_no_object_of_a_cache_of_an_older_version(self, copies, target, tiny):
        names = {"0": "thing", "copy": "other", "1": ""}
        films = [Clip(id=c, path=copies / f"{c}.mp4") for c in names]
        extract(films, target, backbone=tiny(), sampling=SAMPLING)
        older = replace(cache.load(target), object=[name or clip for clip, name in names.items()])
        cache.save(older, target)
        content = bytearray(target.read_bytes())
        content[content.find(older.features[1].tobytes())] ^= 4
        target.write_bytes(content)
        problems = cache.verify(target)
        assert {problem.clip for problem in problems} <= {"0", "copy"}
        summary = repair_cache(target, problems, sources=films)
        assert not summary.failed
        assert cache.load(target).differences(older) == []
