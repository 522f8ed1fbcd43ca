"""The ledgers of the processes that write one cache."""

from pathlib import Path

import pytest

from data.cache.joined.shared_folder import shared_folder
from data.cache.joined.writer_ledgers import WriterLedgers
from data.cache.ledger import ledger_path, read_ledger
from data.digests import digest_of

ENTRY = {"clip": "a", "outcome": "done", "key": "1", "shard": "s", "row": 0}


@pytest.fixture
def ledgers(tmp_path) -> list[WriterLedgers]:
    """Those of two processes, as each of them sees them."""
    shared = shared_folder(tmp_path / "c.h5")
    return [WriterLedgers(shared, name) for name in ("one", "other")]


def test_news_are_of_others_and_come_once(ledgers: list[WriterLedgers]) -> None:
    one, other = ledgers
    one.append([ENTRY])
    assert list(one.news()) == []
    assert list(other.news()) == [ENTRY]
    one.append([{**ENTRY, "clip": "b"}])
    assert [entry["clip"] for entry in other.news()] == ["b"]
    other.read_again()
    assert [entry["clip"] for entry in other.news()] == ["a", "b"]


def test_a_ledger_stays_that_says_where_a_shard_is(
    ledgers: list[WriterLedgers], tmp_path: Path
) -> None:
    one, other = ledgers
    one.append([ENTRY])
    other.append([{**ENTRY, "clip": "b", "key": "2"}])
    target = tmp_path / "c.h5"
    one.merge(target, lambda key: key == digest_of("2"))
    assert read_ledger(target) == [{"clip": "a", "outcome": "done", "key": "1"}]
    assert [path.name for path in tmp_path.glob("c.h5.joined/writers/*")] == ["other.jsonl"]
    one.merge(target, lambda key: False)
    assert [entry["clip"] for entry in read_ledger(target)] == ["a", "b"]
    assert ledger_path(target).read_text().count("shard") == 0
