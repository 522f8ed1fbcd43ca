import random

import numpy as np
import pytest

from data import digests
from data.digests import Digests, DigestTable, digest_of


def test_texts_that_are_no_unicode_have_a_digest_each():
    texts = ["", "a", "\udce9", "\ud800", "é"]
    assert len({digest_of(text) for text in texts}) == len(texts)


@pytest.fixture(params=[1, 7, 10_000])
def sorted_in_after(request, monkeypatch):
    monkeypatch.setattr(digests, "_LEAST", request.param)


@pytest.mark.parametrize("halves", ["far apart", "with few first halves"])
def test_it_is_a_dictionary(halves, sorted_in_after):
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
    gone = table.pop_where("file", 3)
    assert sorted(gone) == sorted(digest for digest, (file, _) in known.items() if file == 3)
    assert len(table) == len(known) - len(gone)


def test_an_entry_takes_its_bytes_and_no_more():
    table = DigestTable([("row", "i8")])
    for number in range(100_000):
        table[digest_of(str(number))] = (number,)
    assert table.nbytes == 24 * 100_000
    assert table.get(digest_of("77777")) == (77777,)


def test_equal_ones_are_grouped_in_their_order():
    column = Digests([5, 1 << 64, 5, 5 << 64, 1 << 64])
    rows, begins = column.groups()
    assert [each.tolist() for each in np.split(rows, np.flatnonzero(begins)[1:])] == [
        [0, 2],
        [1, 4],
        [3],
    ]
    assert column[1] == 1 << 64
    assert len(Digests().groups()[0]) == 0
