import random

import numpy as np
import pytest

from data import columns, digests
from data.digests import DigestMap, Digests, DigestTable, digest_of


def test_texts_that_are_no_unicode_have_a_digest_each():
    texts = ["", "a", "\udce9", "\ud800", "é"]
    assert len({digest_of(text) for text in texts}) == len(texts)


@pytest.fixture(params=[1, 7, 10_000])
def sorted_in_after(request, monkeypatch):
    monkeypatch.setattr(digests, "_LEAST", request.param)


@pytest.fixture(params=["in memory", "in files"])
def limits(request, monkeypatch):
    """Have small tables in files, and look at few rows at once, as with large ones."""
    if request.param == "in files":
        for module, name, number in (
            (columns, "_IN_MEMORY", 0), (columns, "BLOCK", 5), (digests, "BLOCK", 5),
            (digests, "_TOGETHER", 8), (digests, "_RATIO", 3),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, number)


@pytest.mark.parametrize("halves", ["far apart", "with few first halves"])
def test_it_is_a_dictionary(halves, sorted_in_after, limits):
    draw = random.Random(0)
    most = 2**128 if halves == "far apart" else 3 << 64
    some = [draw.randrange(most) for _ in range(300)]
    table, known = DigestTable([("file", "i4"), ("row", "i8")]), {}
    for step in range(1000):
        digest = draw.choice(some)
        if draw.random() < 0.1:
            table.remove([digest])
            known.pop(digest, None)
        else:
            table[digest] = known[digest] = (step % 7, step)
        assert (digest in table) == (digest in known)
        asked = draw.choice(some)
        assert table.get(asked) == known.get(asked)
    assert {table.digests[row]: table.records[row].item() for row in range(len(table))} == known
    rows = table.rows_of(Digests(some))
    assert [table.records[row].item() if row >= 0 else None for row in rows] == [
        known.get(digest) for digest in some
    ]
    found = [
        (own[row], records[row].item())
        for own, records in table.pieces()
        for row in range(len(records))
    ]
    assert dict(found) == known
    assert len(found) == len(known)
    gone = table.pop_where("file", 3)
    assert sorted(gone) == sorted(digest for digest, (file, _) in known.items() if file == 3)
    assert len(table) == len(known) - len(gone)


def test_an_entry_takes_its_bytes_and_no_more():
    table = DigestTable([("row", "i8")])
    for number in range(100_000):
        table[digest_of(str(number))] = (number,)
    assert table.nbytes == 24 * 100_000
    assert table.get(digest_of("77777")) == (77777,)


def test_a_map_forgets_what_is_taken_out(sorted_in_after, limits):
    draw, own, known = random.Random(1), DigestMap(), {}
    for _ in range(500):
        digest, value = draw.randrange(40) << 64 | 7, draw.randrange(2**128)
        if draw.random() < 0.3:
            own.pop(digest)
            known.pop(digest, None)
        else:
            own[digest] = known[digest] = value
        assert own.get(digest) == known.get(digest)
    values = [some[row] for some in own.values() for row in range(len(some))]
    assert sorted(values) == sorted(known.values())


def test_groups_of_many_are_those_of_a_dictionary(limits):
    draw = random.Random(2)
    some = [draw.randrange(2**128) for _ in range(20)] + [0]
    drawn = [draw.choice(some) for _ in range(200)]
    column, found = Digests(drawn), {}
    assert [column[row] for row in range(200)] == drawn
    for rows, begins in column.groups(but=some[3]):
        for group in np.split(rows, np.flatnonzero(begins)[1:]):
            if len(group):
                assert drawn[group[0]] not in found
                found[drawn[group[0]]] = group.tolist()
    assert found == {
        digest: [row for row in range(200) if drawn[row] == digest]
        for digest in some
        if digest != some[3] and digest in drawn
    }


def test_equal_ones_are_grouped_in_their_order():
    column = Digests([5, 1 << 64, 5, 5 << 64, 1 << 64])
    ((rows, begins),) = column.groups()
    assert [each.tolist() for each in np.split(rows, np.flatnonzero(begins)[1:])] == [
        [0, 2],
        [1, 4],
        [3],
    ]
    assert column[1] == 1 << 64
    ((rows, begins),) = Digests().groups()
    assert len(rows) == len(begins) == 0
