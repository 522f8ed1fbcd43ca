"""The table is the truth: labels, objects and units follow it, and nothing else wipes them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data import cache
from data.cache import CacheError, ShardStore, read_metadata
from data.clips import Clip
from data.lock import BusyError
from tests.helpers.caches import MADE_WITH, extract, features, source
from tests.helpers.caches import clips as made_clips

ONE, TWO = "1" * 64, "2" * 64


def table(count: int = 6, sha256: str = ONE, **changes: object) -> list[Clip]:
    """Clips of a table with a mass in grams."""
    said = {"table_sha256": sha256, "units": {"mass": "g"}} | changes
    return [dataclasses.replace(clip, **said) for clip in made_clips(count)]


def bare(count: int = 6) -> list[Clip]:
    """The same clips, found in a folder."""
    return [Clip(id=clip.id, path=clip.path) for clip in made_clips(count)]


def run(target: Path, some: list[Clip]) -> cache.Features:
    with ShardStore(target, **MADE_WITH) as store:
        store.require_one_unit(some)
        extract(store, some)
        store.consolidate(some)
    return cache.load(target)


def kept(target: Path) -> tuple[object, ...]:
    """What labels have no part in."""
    metadata = read_metadata(target)
    clips = metadata.clips
    return list(clips.key), list(metadata.features.sha256), cache.load(target).features.tobytes()


def test_units_and_the_hash_of_the_table_are_kept(tmp_path):
    target = tmp_path / "c.h5"
    clips = run(target, table())
    assert clips.label_units == {"mass": "g"}
    assert clips.label_tables == {"mass": ONE}
    assert cache.info(target)["labels"]["mass"]["unit"] == "g"
    assert cache.info(target)["labels"]["mass"]["table_sha256"] == ONE


def test_a_bare_folder_never_wipes_what_the_cache_knows(tmp_path):
    target = tmp_path / "c.h5"
    before = run(target, table())
    content = target.read_bytes()
    after = run(target, bare())
    assert not before.differences(after)
    assert target.read_bytes() == content
    longer = run(target, bare(8))
    assert list(longer.object)[:6] == list(before.object)
    assert longer.label_units == before.label_units
    assert longer.label_tables == before.label_tables  # no value came from elsewhere
    np.testing.assert_array_equal(longer.labels["mass"][:6], before.labels["mass"])
    assert np.isnan(longer.labels["mass"][6:]).all()


def test_a_changed_table_is_followed_also_where_a_column_left_it(tmp_path):
    target = tmp_path / "c.h5"
    run(target, table())
    others = [
        dataclasses.replace(clip, labels={"size": 1.0}, units={}, object="new") for clip in table()
    ]
    after = run(target, others[:4])
    assert list(after.object) == ["object 4", "object 0", *["new"] * 4]
    assert set(after.labels) == {"mass", "size"}
    assert np.isnan(after.labels["mass"][2:]).all()
    after = run(target, others)
    assert set(after.labels) == {"size"}
    assert after.label_units == {}


def test_another_table_with_the_same_values_leaves_the_file(tmp_path):
    target = tmp_path / "c.h5"
    run(target, table())
    content = target.read_bytes()
    run(target, table(sha256=TWO))
    assert target.read_bytes() == content
    assert cache.label(target, table(sha256=TWO)) == cache.LabelChanges()
    assert target.read_bytes() == content


def test_the_key_of_a_clip_does_not_depend_on_its_labels(tmp_path):
    with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
        keys = {store.key(clip, source(clip)) for clip in (table(1)[0], bare(1)[0])}
    assert len(keys) == 1


def test_two_units_of_a_label_are_refused_before_anything_is_extracted(tmp_path):
    target = tmp_path / "c.h5"
    run(target, table())
    kilograms = table(8, sha256=TWO, units={"mass": "kg"})
    with pytest.raises(CacheError, match=r"mass is in 'g', and in 'kg' for fall/006.mp4"):
        run(target, kilograms[6:])
    with pytest.raises(
        CacheError, match=r"mass is in 'kg' for fall/000.mp4 and in 'g' for fall/001"
    ):
        cache.label(target, kilograms[:1])
    assert run(target, kilograms).label_units == {"mass": "kg"}  # all of them at once


def test_label_sets_labels_anew_and_says_what_changed(tmp_path):
    target = tmp_path / "c.h5"
    run(target, table())
    before = kept(target)
    anew = table(6, TWO)
    anew[1] = dataclasses.replace(anew[1], labels={"mass": 62.5}, object="cup")
    anew[2] = dataclasses.replace(anew[2], labels={"mass": np.nan})
    anew = [*anew[:5], Clip(id="elsewhere.mp4", path=Path("e.mp4"), table_sha256=TWO)]
    changes = cache.label(target, anew)
    assert changes.columns == (
        "object: 1 changed (fall/001.mp4: 'object 1' -> 'cup')",
        "mass: 1 changed (fall/001.mp4: 0.333333 -> 62.5), 1 now unknown",
    )
    assert changes.unnamed == ("fall/005.mp4",)
    assert changes.missing == ("elsewhere.mp4",)
    assert kept(target) == before
    assert cache.verify(target) == []
    after = cache.load(target)
    assert after.labels["mass"][1] == 62.5
    assert after.object[5] == "object 0"
    assert not target.with_name("c.h5.parts").exists()
    assert cache.label(target, anew).columns == ()


@pytest.mark.parametrize("relabel", [cache.label, lambda target, clips: run(target, clips)])
def test_a_label_that_is_new_is_set(tmp_path, relabel):
    target = tmp_path / "c.h5"
    run(target, bare())
    assert not cache.load(target).labels
    relabel(target, table())
    volumes = [
        dataclasses.replace(clip, labels={"volume": 3.0}, units={"volume": "ml"})
        for clip in table(6, TWO)
    ]
    relabel(target, volumes)
    after = cache.load(target)
    assert list(after.labels) == ["volume"]
    assert after.label_units == {"volume": "ml"}
    assert after.label_tables == {"volume": TWO}


def test_prune_removes_the_clips_that_the_table_does_not_name(tmp_path):
    target = tmp_path / "c.h5"
    run(target, table(9))  # of which one fails
    before = cache.load(target)
    changes = cache.label(target, table(4), prune=True)
    assert changes.unnamed == tuple(before.clip_id[4:])
    after = cache.load(target)
    assert list(after.clip_id) == list(before.clip_id)[:4]
    assert after.failures == []
    assert np.array_equal(after.features, before.features[:4])
    assert cache.verify(target) == []  # nobody looks for the others
    run(target, table(9))
    assert cache.load(target).clip_id == before.clip_id
    assert cache.verify(target) == []


def test_an_imported_cache_is_labelled_by_its_ids(tmp_path):
    made = features(4, fingerprint={"imported": True, "source": "a.pt"}, source_sha256=())
    cache.save(made, tmp_path / "c.h5")
    clips = [Clip(id=made.clip_id[1], path=Path("x"), labels={"mass": 5.0}, table_sha256=ONE)]
    mapped = cache.load(tmp_path / "c.h5", mapped=True)
    changes = cache.label(tmp_path / "c.h5", clips)
    assert any(line.startswith("mass: 1 changed") for line in changes.columns)
    assert cache.load(tmp_path / "c.h5").labels["mass"][1] == 5.0
    assert np.array_equal(mapped.features[:], made.features)  # the file that was open is the old


def test_what_cannot_be_labelled_is_one_sentence(tmp_path):
    target = tmp_path / "c.h5"
    run(target, table())
    content = target.read_bytes()
    with pytest.raises(CacheError, match=r"has none of the 1 clip of the table: 'x' is in the"):
        cache.label(target, [Clip(id="x", path=Path("x"))])
    part = [dataclasses.replace(clip, start=1.0, end=2.0) for clip in table()]
    with pytest.raises(CacheError, match=r"is the whole file in .* and 1 s to 2 s in the table"):
        cache.label(target, part)
    with ShardStore(target, **MADE_WITH), pytest.raises(BusyError, match=r"is being written"):
        cache.label(target, table(4))
    assert target.read_bytes() == content
