"""Splits never share an object, and the published ones are the paper's."""

import numpy as np
import pytest

from data.errors import HeliographError
from data.splits import PAPER_CELLS, SPLITS, is_grid, latin_square, levels, split_clips

OBJECTS = [f"object_{number % 26:02d}" for number in range(130)]
MASSES = np.repeat(np.linspace(7, 270, 26), 5).reshape(5, 26).T.reshape(-1, 1)


def grid(size: int, each: int = 2) -> tuple[list[str], np.ndarray]:
    cells = [(e, f) for e in range(size) for f in range(size) for _ in range(each)]
    return [f"e{e}_f{f}" for e, f in cells], np.array(cells) / 10 + 0.05


@pytest.mark.parametrize("rule", ["published", "objects"])
@pytest.mark.parametrize("seed", [0, 7])
def test_no_object_is_in_two_parts(rule, seed):
    split = split_clips(rule, OBJECTS, MASSES, seed)
    parts = [{OBJECTS[i] for i in part} for part in (split.train, split.validation, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert len(split.train) + len(split.validation) + len(split.test) == len(OBJECTS)
    assert len(parts[2]) == 5
    assert bool(parts[1]) == (rule == "objects")


def test_the_published_split_and_its_pairs_come_from_the_papers_generator():
    split = split_clips("published", OBJECTS, MASSES, 3)
    rng = np.random.RandomState(3 * 1000 + 42)
    held_out = set(rng.choice(sorted(set(OBJECTS)), 5, replace=False))
    assert {OBJECTS[i] for i in split.test} == held_out
    assert np.array_equal(split.generator.randint(0, 1000, 9), rng.randint(0, 1000, 9))


def test_our_split_tests_the_published_objects():
    ours, theirs = (split_clips(rule, OBJECTS, MASSES, 5) for rule in ("objects", "published"))
    assert np.array_equal(ours.test, theirs.test)


@pytest.mark.parametrize("size", [3, 4, 5, 6])
def test_held_out_cells_are_a_latin_square(size):
    objects, labels = grid(size)
    split = split_clips("auto", objects, labels, 1)
    for part, count in ((split.test, size), (split.validation, max(2, size - 2))):
        cells = np.unique(levels(labels)[part], axis=0)
        assert len(cells) == len(set(cells[:, 0])) == len(set(cells[:, 1])) == count
    assert not {objects[i] for i in split.test} & {objects[i] for i in split.validation}


@pytest.mark.parametrize(("each", "aside"), [(3, 0), (4, 2), (6, 2), (12, 3)])
def test_a_quarter_of_each_trained_cell_is_set_aside_for_structure(each, aside):
    objects, labels = grid(5, each)
    cells = levels(labels)
    one, other = (split_clips("cells-validated", objects, labels, seed) for seed in (1, 2))
    trained = np.unique(cells[one.train], axis=0)
    assert len(trained) == 25 - 5 - 3
    for cell in trained:
        assert (cells[one.structure] == cell).all(1).sum() == aside
        assert (cells[one.train] == cell).all(1).sum() == each - aside
    everyone = np.concatenate(list(one.parts().values()))
    assert sorted(everyone.tolist()) == list(range(len(objects)))
    assert bool(aside) == (not np.array_equal(one.structure, other.structure))
    assert len(split_clips("cells", objects, labels, 1).structure) == 0  # the paper's own
    assert np.array_equal(one.joined().structure, one.structure)


def test_one_cell_with_too_few_clips_leaves_none_aside():
    objects, labels = grid(3, 4)
    cells = levels(labels)
    split = split_clips("cells-validated", objects, labels, 0)
    short = split.train[0]
    kept = np.arange(len(objects)) != short
    less = split_clips("cells-validated", [o for o, k in zip(objects, kept, strict=True) if k],
                       labels[kept], 0)  # fmt: skip
    assert len(split.structure) == 2 * len(np.unique(cells[split.train], axis=0))
    assert len(less.structure) == 0


def test_whole_objects_are_set_aside_first():
    cells = [(e, f) for e in range(3) for f in range(3) for _ in range(16)]
    objects = [f"e{e}_f{f}_{number % 8}" for number, (e, f) in enumerate(cells)]
    split = split_clips("cells-validated", objects, np.array(cells, float), 0)
    aside, trained = ({objects[clip] for clip in own} for own in (split.structure, split.train))
    assert not aside & trained


def test_a_five_by_five_grid_holds_out_the_papers_cells():
    objects, labels = grid(5)
    split = split_clips("cells", objects, labels, 0)
    assert {tuple(cell) for cell in levels(labels)[split.test].tolist()} == set(PAPER_CELLS)
    assert len(split.validation) == 0
    assert latin_square(levels(labels)) == list(PAPER_CELLS)


def test_levels_follow_the_values_not_their_spelling():
    assert levels(np.array([[0.9, 10.0], [0.1, 9.0], [0.9, 11.0]])).tolist() == [
        [1, 1], [0, 0], [1, 2],
    ]  # fmt: skip


def test_an_incomplete_grid_is_none():
    objects, labels = grid(5)
    assert is_grid(labels)
    assert not is_grid(labels[2:])  # one cell is missing
    assert not is_grid(labels[:, :1])
    with pytest.raises(HeliographError, match="every cell of a square grid"):
        split_clips("cells", objects[2:], labels[2:], 0)


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(HeliographError) as error:
        split_clips("random", OBJECTS, MASSES, 0)
    assert all(name in str(error.value) for name in (*SPLITS, "auto"))


@pytest.mark.parametrize(("rule", "count"), [("published", 5), ("objects", 8)])
def test_too_few_objects_are_said_with_their_number(rule, count):
    objects = [f"o{i % count}" for i in range(40)]
    with pytest.raises(HeliographError, match=f"{count} objects are too few"):
        split_clips(rule, objects, np.arange(40.0)[:, None], 0)


@pytest.mark.parametrize(("rule", "folds"), [("kfold", 5), ("kfold-13", 13), ("kfold-3", 3)])
def test_folds_test_every_object_once_a_round(rule, folds):
    rounds = []
    for start in (0, folds):
        tested = []
        for seed in range(start, start + folds):
            split = split_clips(rule, OBJECTS, MASSES, seed)
            parts = [{OBJECTS[i] for i in p} for p in (split.train, split.validation, split.test)]
            assert sum(map(len, parts)) == len(set.union(*parts)) == 26
            following = split_clips(rule, OBJECTS, MASSES, start + (seed + 1 - start) % folds)
            assert np.array_equal(split.validation, following.test)
            tested.append(frozenset(parts[2]))
        assert sorted(name for fold in tested for name in fold) == sorted(set(OBJECTS))
        rounds.append(set(tested))
    assert rounds[0] != rounds[1]  # each round deals anew


def test_the_same_fold_trains_on_other_pairs_in_another_round():
    one, other = (split_clips("kfold", OBJECTS, MASSES, seed) for seed in (0, 5))
    assert not np.array_equal(one.generator.randint(0, 99, 9), other.generator.randint(0, 99, 9))


@pytest.mark.parametrize("rule", ["kfold-0", "kfold-2", "kfold-14"])
def test_too_few_or_too_many_folds_are_refused(rule):
    with pytest.raises(HeliographError, match="folds"):
        split_clips(rule, OBJECTS, MASSES, 0)
