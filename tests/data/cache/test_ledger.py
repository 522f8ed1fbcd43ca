import io
import random
from contextlib import suppress

import pytest

from data.cache import (
    CacheError,
    JoinedStore,
    ShardStore,
    ledger,
    ledger_path,
    load,
    merge,
    read_ledger,
    save,
    verify,
)
from data.cache.ledger import append_to_ledger, compact_ledger, new_entries
from data.clips import Clip
from data.files import UnsafeFileError
from tests.helpers.caches import MADE_WITH, clips, extract, full, outcomes


class TestLedger:
    def test_the_ledger_says_what_happened_to_each_clip(self, tmp_path):
        full(tmp_path / "c.h5")
        assert outcomes(tmp_path / "c.h5") == {"done": 11, "failed": 1}
        first = next(line for line in read_ledger(tmp_path / "c.h5") if line["outcome"] == "done")
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
        said = f"{ledger} is damaged in line 13"
        assert [str(problem) for problem in verify(tmp_path / "c.h5")] == [said]
        with pytest.raises(CacheError, match=f"^{said}; heliograph cache verify --repair "):
            read_ledger(tmp_path / "c.h5")

    @pytest.mark.parametrize("joined", [False, True])
    def test_a_run_beside_a_damaged_ledger_says_what_follows(self, tmp_path, caplog, joined):
        path = full(tmp_path / "c.h5")
        ledger_path(path).write_bytes(b"{\n" + ledger_path(path).read_bytes())
        with (JoinedStore if joined else ShardStore)(path, **MADE_WITH) as store:
            assert not store.deaths
        (said,) = [record.getMessage() for record in caplog.records]
        assert said == (
            f"warning: {ledger_path(path)} is damaged in line 1; heliograph cache verify --repair "
            f"{path} saves what can be saved; until then files that it names are read again"
        )

    def test_verify_reads_it_once(self, tmp_path, monkeypatch):
        path, read, lines = full(tmp_path / "c.h5"), [], ledger._lines
        monkeypatch.setattr(ledger, "_lines", lambda name: read.append(name) or lines(name))
        assert verify(path) == []
        assert read == [ledger_path(path)]

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

    def test_it_does_not_grow_with_the_number_of_runs(self, tmp_path):
        lines = []
        for _ in range(4):
            full(tmp_path / "c.h5")
            lines.append(len(read_ledger(tmp_path / "c.h5")))
        assert lines == [12, 24, 24, 24]
        first = next(
            line for line in read_ledger(tmp_path / "c.h5") if line["clip"] == "fall/000.mp4"
        )
        assert (first["claimed_frames"], first["outcome"]) == (9, "kept")

    def test_a_later_failure_does_not_lose_where_a_video_was(self, tmp_path):
        path, (clip,) = tmp_path / "c.h5", clips(1)
        full(path, 1)
        for _ in range(3):
            with ShardStore(path, **MADE_WITH) as store:
                store.fail(clip, "no such file")
        assert outcomes(path) == {"done": 1, "failed": 2}

    def test_a_flipped_bit_in_a_line_is_named_or_changes_nothing(self, tmp_path):
        full(tmp_path / "c.h5", 3)
        ledger, entries = ledger_path(tmp_path / "c.h5"), read_ledger(tmp_path / "c.h5")
        content = ledger.read_bytes()
        choice = random.Random(0)
        for _ in range(200):
            flipped = bytearray(content)
            flipped[choice.randrange(len(content) - 1)] ^= 1 << choice.randrange(8)
            ledger.write_bytes(flipped)
            with suppress(CacheError):
                found = read_ledger(tmp_path / "c.h5")
                # Of a line whose "xxh3" has another name, all else is as it was.
                assert all(a.items() <= b.items() for a, b in zip(entries, found, strict=True))

    def test_a_link_in_its_place_is_not_written_through(self, tmp_path):
        own = tmp_path / "own.txt"
        own.write_text("a user's file")
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            ledger_path(tmp_path / "c.h5").unlink(missing_ok=True)
            ledger_path(tmp_path / "c.h5").symlink_to(own)
            extract(store, clips(1))
            with pytest.raises(UnsafeFileError, match=r"ledger\.jsonl is not written: it is a sym"):
                store.flush()
            ledger_path(tmp_path / "c.h5").unlink()
        assert own.read_text() == "a user's file"

    def test_a_torn_line_of_the_ledger_is_cut_off(self, tmp_path):
        full(tmp_path / "c.h5")
        with open(ledger_path(tmp_path / "c.h5"), "a") as file:
            file.write('{"clip": "fall/0')
        assert len(read_ledger(tmp_path / "c.h5")) == 12
        full(tmp_path / "c.h5")
        assert len(read_ledger(tmp_path / "c.h5")) == 24

    def test_a_ledger_of_many_clips_is_compacted_in_pieces(self, tmp_path, monkeypatch):
        clips = [Clip(id=f"{number}.mp4", path=tmp_path / f"{number}.mp4") for number in range(7)]
        for outcome in ("done", "kept", "failed"):
            for clip in clips[:5] if outcome == "failed" else clips:
                append_to_ledger(tmp_path / "c.h5", clip, outcome, **{outcome: clip.id})
        append_to_ledger(tmp_path / "c.h5", clips[0], "done", done="again")
        ledger = ledger_path(tmp_path / "c.h5")
        content, found = ledger.read_bytes(), []
        for clips_at_once in (100, 3, 1):
            monkeypatch.setattr("data.cache.ledger._CLIPS_AT_ONCE", clips_at_once)
            ledger.write_bytes(content)
            assert compact_ledger(tmp_path / "c.h5") == ""
            found.append(ledger.read_bytes())
        assert found[0] == found[1] == found[2]
        left = [(line["clip"], line["outcome"]) for line in read_ledger(tmp_path / "c.h5")]
        assert left[:3] == [("0.mp4", "done"), ("1.mp4", "kept"), ("1.mp4", "failed")]
        assert len(left) == 1 + 2 * 4 + 2
        first, second, *_ = read_ledger(tmp_path / "c.h5")
        assert (first["done"], first["kept"]) == ("again", "0.mp4")
        assert (second["done"], second["kept"]) == ("1.mp4", "1.mp4")

    def test_a_line_that_is_written_while_it_is_read_is_read_whole_later(
        self, tmp_path, monkeypatch
    ):
        path = tmp_path / "c.h5.ledger.jsonl"
        for name in ("a", "b", "c"):
            append_to_ledger(tmp_path / "c.h5", Clip(id=name, path=name), "done")
        lines = path.read_bytes().splitlines(keepends=True)

        class GrowsAtItsEnd(io.BytesIO):
            """A file whose second line comes in two pieces, as one that another appends to."""

            def fileno(self):
                return file.fileno()

            def __iter__(self):
                return iter([lines[0], lines[1][:9], lines[1][9:], lines[2]])

        with open(path, "rb") as file, monkeypatch.context() as patch:
            patch.setattr(ledger, "open_regular", lambda _: GrowsAtItsEnd())
            ((entry, end),) = new_entries(path, 0)
        assert (entry["clip"], end) == ("a", len(lines[0]))
        assert [entry["clip"] for entry, _ in new_entries(path, end)] == ["b", "c"]
