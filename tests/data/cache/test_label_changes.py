import math
import random
from dataclasses import replace

import pytest

from data.cache import Features, ShardStore, label, label_changes, load, parts, row_batches
from data.clips import Clip
from tests.helpers.caches import MADE_WITH, clips, extract


def table(seed: int, count: int, unit: str = "g") -> list[Clip]:
    """Some of 30 clips in any order, with other objects, scenarios and labels in each table."""
    choice = random.Random(seed)
    names = choice.sample(["mass", "size", "drag"], 2)
    made = []
    for clip in choice.sample(clips(30), count):
        labels = {name: choice.choice([1.0, 2.0, math.nan]) for name in names}
        units = {names[0]: unit}
        object = choice.choice([clip.object, "another"])
        scenario = choice.choice(["", "fall", "ramp"])
        said = {"labels": labels, "units": units, "object": object, "scenario": scenario}
        made.append(replace(clip, table_sha256=f"{seed:064x}", **said))
    return made


def changes_of(before: Features, after: Features) -> tuple[str, ...]:
    """Compare two caches clip by clip, as the sentences are meant."""
    rows = {clip: row for row, clip in enumerate(after.clip_id)}
    pairs = [(clip, row, rows[clip]) for row, clip in enumerate(before.clip_id) if clip in rows]
    found = []
    for name in ("object", "scenario"):
        values = [(clip, getattr(before, name)[m], getattr(after, name)[n]) for clip, m, n in pairs]
        if wrong := [one for one in values if one[1] != one[2]]:
            clip, old, new = wrong[0]
            found.append(f"{name}: {len(wrong)} changed ({clip}: {old!r} -> {new!r})")
    for name in dict.fromkeys([*before.labels, *after.labels]):
        old, new = (
            [each.labels[name][pair[side]] if name in each.labels else math.nan for pair in pairs]
            for side, each in ((1, before), (2, after))
        )
        had, has = ([not math.isnan(value) for value in values] for values in (old, new))
        if name not in after.labels:
            clips = "1 clip" if sum(had) == 1 else f"{sum(had)} clips"
            found.append(f"{name}: no longer a label ({clips} had it)")
            continue
        said = []
        both = [n for n in range(len(pairs)) if had[n] and has[n] and old[n] != new[n]]
        if both:
            first = f"{pairs[both[0]][0]}: {old[both[0]]:g} -> {new[both[0]]:g}"
            said.append(f"{len(both)} changed ({first})")
        if appeared := sum(b and not a for a, b in zip(had, has, strict=True)):
            said.append(f"{appeared} new")
        if vanished := sum(a and not b for a, b in zip(had, has, strict=True)):
            said.append(f"{vanished} now unknown")
        units = [each.label_units.get(name, "unknown") for each in (before, after)]
        if units[0] != units[1]:
            said.append(f"its unit {units[0]} -> {units[1]}")
        if said:
            found.append(f"{name}: {', '.join(said)}")
    return tuple(found)


@pytest.mark.parametrize("most", [3, 1000])
@pytest.mark.parametrize(("seed", "count"), [(0, 30), (2, 30), (4, 12), (6, 25)])
def test_a_few_clips_at_a_time_say_what_the_whole_says(tmp_path, monkeypatch, most, seed, count):
    monkeypatch.setattr(label_changes, "_AT_ONCE", most)
    monkeypatch.setattr(row_batches, "_AT_ONCE", most - 1)
    monkeypatch.setattr(parts, "PART_CLIPS", most + 1)
    target = tmp_path / "c.h5"

    def write(some: list[Clip]) -> ShardStore:
        with ShardStore(target, **MADE_WITH) as store:
            extract(store, some)
            store.consolidate(some)
        return store

    assert write(table(seed, 24)).changes is None
    before, some = load(target), table(seed + 1, count, "kg" if count == 30 else "g")
    found = write(some).changes
    after = load(target)
    assert found.columns == changes_of(before, after) != ()
    given = {clip.id for clip in some}
    assert found.unnamed == tuple(clip for clip in before.clip_id if clip not in given)
    relabelled = label(target, table(seed + 2, 9), prune=True)
    assert relabelled.columns == changes_of(after, load(target))
