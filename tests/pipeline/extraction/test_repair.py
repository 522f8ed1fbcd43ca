"""Repair of damaged caches: what is extracted again, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data import cache
from data.cache.parts import INDEX, files_of_index
from data.clips import Clip
from data.files import sha256_file
from data.manifests import write_manifest
from data.video.info import VARIES
from tests.helpers.clips import encode
from tests.helpers.command import run
from tests.helpers.films import make_film


def flip(path: Path, content: bytes) -> None:
    """Turns a bit within these bytes of a file."""
    data = bytearray(path.read_bytes())
    data[data.find(content) + 1] ^= 4
    path.write_bytes(data)


class TestRepair:
    @pytest.fixture
    def films(self, folder, tmp_path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "films"))

    @pytest.fixture
    def target(self, films, tmp_path, tiny) -> Path:
        """A cache of six clips, the third and fifth damaged."""
        clips = [
            Clip(id=f"{n}", path=films / f"{n}.mp4", object=f"o{n}", labels={"mass": n})
            for n in range(6)
        ]
        write_manifest(clips, films / "clips.jsonl")
        path = tmp_path / "c.h5"
        run("extract", films / "clips.jsonl", "-o", path, "--backbone", "tiny", "--frames", 4)
        shutil.copy(path, tmp_path / "whole.h5")
        features = cache.load(path).features
        for row in (2, 4):
            flip(path, features[row].tobytes())
        return path

    def test_just_the_damaged_clips_are_extracted_again(self, target):
        before = len(cache.read_ledger(target))
        shown = run("cache", "verify", target)
        assert shown.exit_code == 1
        assert shown.stdout.split("\n")[:2] == [
            "2: its features are damaged",
            "4: its features are damaged",
        ]
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 0, shown.stderr
        assert "2 clips extracted" in shown.stderr
        assert f"{target} is sound; 0 clips had to leave it" in shown.stderr
        lines = cache.read_ledger(target)[before:]
        assert sorted(line["clip"] for line in lines) == ["2", "4"]
        whole = cache.load(target.with_name("whole.h5"))
        assert cache.load(target).differences(whole) == []
        assert run("cache", "verify", target).exit_code == 0

    def test_a_clip_whose_source_is_gone_or_changed_leaves_the_cache(self, target, films):
        make_film(films / "2.mp4", 99)
        (films / "4.mp4").unlink()
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 3
        assert f"failed: 2: {films}/2.mp4 is another file than the one that it" in shown.stderr
        assert "failed: 4: " in shown.stderr
        assert "2 clips had to leave it" in shown.stderr
        found = cache.load(target)
        assert found.clip_id == ["0", "1", "3", "5"]
        assert [clip for clip, _ in found.failures] == ["2", "4"]
        assert cache.verify(target) == []

    def test_moved_videos_are_found_by_a_manifest(self, target, films):
        films.rename(films.with_name("moved"))
        moved = films.with_name("moved") / "clips.jsonl"
        shown = run("cache", "verify", target, "--repair", "--clips", moved)
        assert shown.exit_code == 0, shown.stderr
        whole = cache.load(target.with_name("whole.h5"))
        assert cache.load(target).differences(whole) == []

    @pytest.mark.parametrize("lines", [12, 6])
    def test_moved_videos_are_found_where_a_later_run_kept_them(self, target, films, lines):
        """Also without the lines of the first run: a kill can cost the line of a clip."""
        damaged = target.read_bytes()
        shutil.copy(target.with_name("whole.h5"), target)
        films.rename(films.with_name("moved"))
        moved = films.with_name("moved") / "clips.jsonl"
        assert (
            run("extract", moved, "-o", target, "--backbone", "tiny", "--frames", 4).exit_code == 0
        )
        target.write_bytes(damaged)
        ledger = cache.ledger_path(target)
        ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[-lines:]))
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 0, shown.stderr
        whole = cache.load(target.with_name("whole.h5"))
        assert cache.load(target).differences(whole) == []

    def test_without_a_ledger_the_videos_have_to_be_named(self, target, films):
        before = target.read_bytes()
        cache.ledger_path(target).unlink()
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 1
        assert "has no ledger that says where the videos of 2 clips are (2)" in shown.stderr
        assert "name them with --clips" in shown.stderr
        assert target.read_bytes() == before
        shown = run("cache", "verify", target, "--repair", "--clips", films / "clips.jsonl")
        assert shown.exit_code == 0, shown.stderr

    def test_damaged_thumbnails_are_named_and_made_again(self, target, films):
        """The manifest names all clips: those that are sound are not called strangers to it."""
        shutil.copy(target.with_name("whole.h5"), target)
        flip(target, np.asarray(cache.load(target).thumbnails)[3].tobytes())
        shown = run("cache", "verify", target)
        assert shown.stdout.splitlines() == ["3: its thumbnails are damaged"]
        cache.ledger_path(target).unlink()
        shown = run("cache", "verify", target, "--repair", "--clips", films / "clips.jsonl")
        assert shown.exit_code == 0, shown.stderr
        assert "1 clip extracted" in shown.stderr
        assert "not in the table" not in shown.stderr
        whole = cache.load(target.with_name("whole.h5"))
        assert cache.load(target).differences(whole) == []

    def test_a_missing_shard_is_made_again(self, target, films, tmp_path, tiny):
        shutil.copy(target.with_name("whole.h5"), target)
        one = make_film(films / "more.mp4", 7)
        key = "0" * 64
        entry = cache.read_ledger(target)[0] | {"clip": "more", "path": str(one), "key": key}
        entry["source_sha256"] = sha256_file(one)
        with cache.ledger_path(target).open("a") as ledger:
            ledger.write(json.dumps(entry) + "\n")
        assert [str(p) for p in cache.verify(target)] == ["more: its shard is missing"]
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 0, shown.stderr
        assert cache.load(target).clip_id == ["0", "1", "2", "3", "4", "5", "more"]

    def test_damage_outside_the_features_is_mended_with_the_ledger(self, target):
        """The two clips with damaged features are extracted again, the rest is kept."""
        flip(target, b"o3")
        shown = run("cache", "verify", target)
        assert shown.exit_code == 1
        assert f"1 problem; heliograph cache verify --repair {target} saves what" in shown.stderr
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 0, shown.stderr
        assert "was damaged outside its features: the content that was written is" in shown.stderr
        assert "again; the features of 2 clips are damaged as well" in shown.stderr
        assert "2 clips extracted" in shown.stderr
        assert cache.load(target).differences(cache.load(target.with_name("whole.h5"))) == []

    def test_what_cannot_be_mended_is_said_with_what_works(self, target, films):
        """Of the frames of a clip there is no other record."""
        shutil.copy(target.with_name("whole.h5"), target)
        flip(target, cache.load(target).pts_seconds[3].tobytes())
        before = target.read_bytes()
        words = ("extract", films / "clips.jsonl", "-o", target, "--backbone", "tiny")
        words = (*words, "--frames", 4)
        assert f"verify --repair {target} saves what can be saved" in run(*words).stderr
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 1
        said = f"nothing shows what was there; move it away (mv {target} {target}.damaged), and"
        assert said in shown.stderr
        assert target.read_bytes() == before
        target.rename(f"{target}.damaged")
        assert run(*words).exit_code == 0
        whole = cache.load(target.with_name("whole.h5"))
        assert cache.load(target).differences(whole) == []

    def test_a_damaged_copy_of_the_seal_is_written_again(self, target):
        shutil.copy(target.with_name("whole.h5"), target)
        sound = target.read_bytes()
        target.write_bytes(sound[:257] + b"?" + sound[258:])
        shown = run("cache", "verify", target)
        assert shown.exit_code == 1
        said = "the second of the two copies of its seal is damaged; its content is sound"
        assert f"{target}: {said}" in shown.stdout
        assert len(cache.load(target)) == 6
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 0, shown.stderr
        assert target.read_bytes() == sound

    def test_another_decoder_is_refused_by_name(self, target, monkeypatch):
        monkeypatch.setattr(
            "pipeline.extraction.stages.decoder_record",
            lambda name: {"name": name, "version": "0"},
        )
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 1
        assert "was made with decoder." in shown.stderr

    def test_a_sound_cache_needs_no_repair(self, target):
        shown = run("cache", "verify", target.with_name("whole.h5"), "--repair")
        assert shown.exit_code == 0
        assert "whole.h5 is sound" in shown.stderr


class TestRepairOfParts:
    """A folder of three parts, of two clips each."""

    @pytest.fixture
    def films(self, folder, tmp_path) -> Path:
        films = Path(shutil.copytree(folder, tmp_path / "films"))
        (films / "none.mp4").unlink()
        rows = "".join(f"{n}.mp4,o{n},{n}\n" for n in (3, 1, 0, 5, 2, 4))
        (films / "clips.csv").write_text(f"path,object,mass\n{rows}")
        return films

    @pytest.fixture
    def target(self, films, tmp_path, tiny, monkeypatch) -> Path:
        words = ("extract", films / "clips.csv", "--backbone", "tiny", "--frames", 4, "-o")
        assert run(*words, tmp_path / "whole.h5").exit_code == 0
        whole = cache.load(tmp_path / "whole.h5")
        of_a_clip = whole.features[:1].nbytes + np.asarray(whole.thumbnails)[:1].nbytes
        monkeypatch.setattr("data.cache.parts.PART_BYTES", 2 * of_a_clip)
        assert run(*words, tmp_path / "c.h5").exit_code == 0
        assert len(files_of_index(tmp_path / "c.h5")) == 3
        return tmp_path / "c.h5"

    @pytest.fixture
    def whole(self, target) -> cache.Features:
        return cache.load(target.with_name("whole.h5"))

    @staticmethod
    def sizes(target: Path) -> list[int]:
        return [len(cache.load(part)) for part in files_of_index(target)]

    @pytest.mark.parametrize(
        ("row", "what"), [(0, "features"), (3, "features"), (3, "thumbnails"), (5, "thumbnails")]
    )
    def test_just_the_damaged_clip_is_extracted_again(self, target, whole, row, what):
        parts = files_of_index(target)
        flip(parts[row // 2], np.asarray(getattr(whole, what))[row].tobytes())
        before = [part.stat().st_mtime_ns for part in parts]
        shown = run("cache", "verify", target)
        said = f"{whole.clip_id[row]}: its {what} are damaged (in {parts[row // 2]})"
        assert (shown.exit_code, shown.stdout.splitlines()) == (1, [said])
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 0, shown.stderr
        assert "1 clip extracted" in shown.stderr
        assert f"{target} is sound; 0 clips had to leave it" in shown.stderr
        assert cache.load(target).differences(whole) == []
        assert cache.load(target).content_sha256 == whole.content_sha256
        after = files_of_index(target)
        for number in {0, 1, 2} - {row // 2}:
            assert after[number].stat().st_mtime_ns == before[number]
        assert sorted(target.iterdir()) == sorted([*after, target / INDEX])
        assert run("cache", "verify", target, "--repair").stderr == f"{target} is sound\n"

    def test_a_clip_whose_source_is_gone_leaves_the_cache(self, target, films, whole):
        flip(files_of_index(target)[0], whole.features[1].tobytes())
        (films / whole.clip_id[1]).unlink()
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 3
        assert "1 clip had to leave it" in shown.stderr
        assert cache.load(target).clip_id == [*whole.clip_id[:1], *whole.clip_id[2:]]
        assert [clip for clip, _ in cache.load(target).failures] == [whole.clip_id[1]]
        assert cache.verify(target) == []

    @pytest.mark.parametrize(
        ("numbers", "how"),
        [([0], "gone"), ([1], "cut"), ([2], "frames"), ([0, 2], "exchanged"), ([1], "no cache")],
    )
    def test_the_clips_of_a_lost_part_are_extracted_again(self, target, films, whole, numbers, how):
        parts = files_of_index(target)
        for number in numbers:
            part = parts[number]
            if how == "gone":
                part.unlink()
            elif how == "cut":
                part.write_bytes(part.read_bytes()[:-100])
            elif how == "frames":
                flip(part, whole.pts_seconds[2 * number].tobytes())
            elif how == "exchanged":
                shutil.copy(parts[1 - number % 2], part)
            else:
                part.write_bytes(b"")
        shown = run("cache", "verify", target)
        assert len(shown.stdout.splitlines()) == len(numbers)
        words = ("extract", films / "clips.csv", "--backbone", "tiny", "--frames", 4, "-o", target)
        assert f"heliograph cache verify --repair {target} saves" in run(*words).stderr
        shown = run("cache", "verify", target, "--repair", "--clips", films / "clips.csv")
        assert shown.exit_code == 0, shown.stderr
        assert f"{2 * len(numbers)} clips extracted" in shown.stderr
        found = cache.load(target)
        assert found.clip_id == whole.clip_id
        assert found.differences(whole) == []
        assert found.content_sha256 == whole.content_sha256
        assert self.sizes(target) == [2, 2, 2]
        assert cache.verify(target) == []

    @pytest.mark.parametrize("relabelled", [False, True])
    def test_the_table_of_labels_stays_or_is_said_to_be_lost(
        self, target, films, whole, relabelled
    ):
        if relabelled:
            (films / "new.csv").write_text(
                "path,mass\n" + "".join(f"{n}.mp4,7\n" for n in range(6))
            )
            assert run("cache", "label", target, films / "new.csv").exit_code == 0
        before = cache.load(target)
        lost = files_of_index(target)[1]
        clips = cache.load(lost).clip_id
        lost.unlink()
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 0, shown.stderr
        found = cache.load(target)
        said = (
            f"note: 2 clips ({', '.join(sorted(clips))}): their labels are those of the ledger, "
            "which were set anew since, and which table they came from is not known any more: "
            f"heliograph cache label {target} TABLE sets both"
        )
        assert (said in shown.stderr) == relabelled
        if not relabelled:
            assert found.label_tables == before.label_tables != {}
            assert set(found.clip_id) == set(before.clip_id)

    def test_parts_under_each_others_names_are_not_lost(self, target, films, whole):
        first, second, _ = files_of_index(target)
        spare = target / "spare"
        for source, name in ((first, spare), (second, first), (spare, second)):
            source.rename(name)
        films.rename(films.with_name("moved"))
        assert len(run("cache", "verify", target).stdout.splitlines()) == 2
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 0, shown.stderr
        assert "it was written again" in shown.stdout + shown.stderr
        assert cache.load(target).differences(whole) == []
        assert cache.load(target).content_sha256 == whole.content_sha256
        assert cache.verify(target) == []

    @pytest.mark.parametrize("clips", [False, True])
    def test_a_lost_part_without_a_ledger(self, target, films, whole, clips):
        files_of_index(target)[1].unlink()
        cache.ledger_path(target).unlink()
        before = (target / INDEX).read_bytes()
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 1
        assert f"with 2 clips in all, and {target} has no ledger that names them: name" in (
            shown.stderr
        )
        shown = run("cache", "verify", target, "--repair", "--clips", films / f"{0}.mp4")
        assert "and --clips names 1 that no other part has: name just" in shown.stderr
        assert (target / INDEX).read_bytes() == before
        if clips:
            shown = run("cache", "verify", target, "--repair", "--clips", films / "clips.csv")
            assert shown.exit_code == 0, shown.stderr
            assert cache.load(target).content_sha256 == whole.content_sha256

    def test_without_any_part_the_cache_is_made_again(self, target):
        for part in files_of_index(target):
            part.unlink()
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 1
        assert f"every part of {target} is gone or damaged; move it away (mv" in shown.stderr

    @pytest.mark.parametrize("where", ["write_rows", "write_index"])
    def test_killed_in_mid_repair(self, target, films, whole, monkeypatch, where):
        files_of_index(target)[0].unlink()
        flip(files_of_index(target)[2], whole.features[5].tobytes())
        before, problems = (target / INDEX).read_bytes(), cache.verify(target)
        words = ("cache", "verify", target, "--repair", "--clips", films / "clips.csv")
        calls = []

        def killed(*_):
            calls.append(1)
            if where == "write_index" or len(calls) > 1:
                raise KeyboardInterrupt
            return write_rows(*_)

        from data.cache.parts import write_rows

        with monkeypatch.context() as patch:
            patch.setattr(f"data.cache.parts.{where}", killed)
            assert run(*words).exit_code == 130
        assert (target / INDEX).read_bytes() == before
        assert cache.verify(target) == problems
        shown = run(*words)
        assert shown.exit_code == 0, shown.stderr
        assert "0 clips extracted" in shown.stderr
        assert cache.load(target).content_sha256 == whole.content_sha256
        assert sorted(target.iterdir()) == sorted([*files_of_index(target), target / INDEX])
        assert not target.with_name("c.h5.parts").exists()

    def test_clips_that_no_part_has_are_missing(self, target, whole):
        """As in a file: what the ledger calls done is there."""
        index = json.loads((target / INDEX).read_text())
        del index["parts"][2]
        (target / INDEX).write_text(json.dumps(index))
        missing = {f"{clip}: its shard is missing" for clip in whole.clip_id[4:]}
        assert set(map(str, cache.verify(target))) == missing


def test_a_clip_sampled_by_time_is_sampled_by_time_again(tmp_path, tiny):
    ticks = [*range(0, 40, 2), *range(40, 60)]  # half as fast at first
    film = encode(tmp_path / "uneven.mkv", codec="mpeg4", frames=40, pts=ticks)
    target = tmp_path / "c.h5"
    options = ("--backbone", "tiny", "--frames", 4, "--sampler", "uniform-time")
    shown = run("extract", film, "-o", target, *options)
    assert f"note: 1 clip (uneven.mkv): {VARIES}" in shown.stderr
    assert VARIES in cache.read_ledger(target)[-1]["notes"]
    whole = cache.load(target)
    assert whole.frame_index.tolist() == [[0, 9, 19, 39]]  # `uniform` would take 0, 13, 26, 39
    flip(target, whole.features[0].tobytes())
    assert run("cache", "verify", target, "--repair").exit_code == 0
    assert cache.load(target).differences(whole) == []
    shown = run("extract", film, "-o", target, *options[:-1], "uniform")
    assert shown.exit_code == 1
    assert "'uniform-time', and this run has 'uniform'" in shown.stderr
