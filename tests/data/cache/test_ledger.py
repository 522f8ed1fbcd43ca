import pytest

from data.cache import CacheError, ledger_path, load, merge, read_ledger, save, verify
from tests.helpers.caches import full, outcomes


class TestLedger:
    def test_the_ledger_says_what_happened_to_each_clip(self, tmp_path):
        full(tmp_path / "c.h5")
        assert outcomes(tmp_path / "c.h5") == {"done": 11, "failed": 1}
        first = read_ledger(tmp_path / "c.h5")[0]
        assert (
            first.items()
            >= {
                "clip": "fall/000.mp4",
                "outcome": "done",
                "claimed_frames": 9,
                "decoded_frames": 4,
                "seconds": 0.1,
                "source_bytes": 1000,
            }.items()
        )

    def test_a_removed_cache_starts_a_new_ledger(self, tmp_path):
        full(tmp_path / "c.h5")
        (tmp_path / "c.h5").unlink()
        full(tmp_path / "c.h5", 3)
        assert outcomes(tmp_path / "c.h5") == {"done": 3}
        assert verify(tmp_path / "c.h5") == []

    @pytest.mark.parametrize("line", [b"\xff", b"{", b"[1]", b'{"clip": "x"}'])
    def test_a_damaged_line_of_the_ledger_is_named(self, tmp_path, line):
        ledger = ledger_path(full(tmp_path / "c.h5"))
        ledger.write_bytes(ledger.read_bytes() + line + b"\n")
        with pytest.raises(CacheError, match=r"ledger\.jsonl is damaged in line 13"):
            verify(tmp_path / "c.h5")

    def test_a_cache_of_another_make_in_its_place_has_no_ledger(self, tmp_path):
        for put in (
            lambda path: save(load(full(tmp_path / "d.h5", 3)), path),
            lambda path: merge([full(tmp_path / "e.h5", 3)], path),
        ):
            put(full(tmp_path / "c.h5"))
            assert verify(tmp_path / "c.h5") == []
            assert read_ledger(tmp_path / "c.h5") == []
        merge([full(tmp_path / "c.h5")], tmp_path / "c.h5")
        assert len(read_ledger(tmp_path / "c.h5")) == 12

    def test_a_torn_line_of_the_ledger_is_cut_off(self, tmp_path):
        full(tmp_path / "c.h5")
        with open(ledger_path(tmp_path / "c.h5"), "a") as file:
            file.write('{"clip": "fall/0')
        assert len(read_ledger(tmp_path / "c.h5")) == 12
        full(tmp_path / "c.h5")
        assert len(read_ledger(tmp_path / "c.h5")) == 24
