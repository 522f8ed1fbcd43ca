"""Clips that are one clip, or look like one: refused before training, or marked with the run."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data import cache
from data.cache import Features
from data.errors import HeliographError
from pipeline.evaluation import compare, evaluate
from pipeline.report import score_rows, write_report
from pipeline.runs import Run, load_inputs
from pipeline.training import train
from tests.helpers.command import run as run_command

QUICK = {"properties": ["mass"], "epochs": 2, "seeds": 2, "agents": 1}
OBJECTS, EACH = 14, 4


def unlike(*, objects: list[str] | None = None, sources: list[str] | None = None) -> Features:
    """Clips that are as unlike as clips can be, each of a file of its own."""
    rng = np.random.default_rng(1)
    count = OBJECTS * EACH
    return Features(
        features=rng.normal(size=(count, 4, 32)).astype(np.float32),
        clip_id=[f"c{number:02d}" for number in range(count)],
        object=objects or [f"thing{number // EACH:02d}" for number in range(count)],
        scenario=["fall"] * count,
        labels={"mass": rng.permutation(OBJECTS).repeat(EACH) + 1.0},
        fingerprint={"name": "fake"},
        source_sha256=sources or [f"{number:064x}" for number in range(count)],
    )


def copied(*, of_bytes: bool) -> Features:
    """The last object shows what the first one does: the same bytes, or encoded again."""
    clips = unlike()
    features = np.array(clips.features)
    features[-EACH:] = features[:EACH] + np.float32(0.01)
    sources = list(clips.source_sha256)
    if of_bytes:
        sources[-EACH:] = sources[:EACH]
    return replace(clips, features=features, source_sha256=sources)


@pytest.fixture
def save(tmp_path):
    def save(clips: Features, name: str = "made.h5") -> Path:
        cache.save(clips, tmp_path / name)
        return tmp_path / name

    return save


class TestRefusal:
    def test_equal_bytes_with_two_objects(self, save, tmp_path):
        path = save(copied(of_bytes=True))
        with pytest.raises(HeliographError) as refusal:
            train(path, tmp_path / "run", **QUICK)
        for named in (str(path), "4 clips have", "'c00' and 'c52'", "'thing00'", "'thing13'",
                      "and 1 more", "cache label", "--allow-leaks"):  # fmt: skip
            assert named in str(refusal.value)
        assert not (tmp_path / "run").exists()

    def test_near_duplicates_with_two_objects(self, save, tmp_path):
        path = save(copied(of_bytes=False))
        with pytest.raises(HeliographError) as refusal:
            train(path, tmp_path / "run", **QUICK)
        for named in ("4 pairs of clips of different objects look the same", "'c00'", "'c52'",
                      "'thing00'", "'thing13'", "cache label", "--allow-leaks"):  # fmt: skip
            assert named in str(refusal.value)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("words", [(), ("--sweep", "vocab=3,4")])
    def test_the_command_says_so_in_a_line(self, save, tmp_path, words):
        path = save(copied(of_bytes=False))
        shown = run_command(
            "train", path, "-o", tmp_path / "run", "--seeds", 2, "--epochs", 1, *words
        )
        assert shown.exit_code == 1
        assert "look the same" in shown.stderr
        assert "Traceback" not in shown.stderr


class TestAllowed:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory) -> Path:
        """A folder with two runs, one of them with leaks."""
        folder = tmp_path_factory.mktemp("leaks")
        for name, clips in (("leaky", copied(of_bytes=True)), ("good", unlike())):
            cache.save(clips, folder / f"{name}.h5")
        said: list[str] = []
        train(folder / "leaky.h5", folder / "leaky", allow_leaks=True, log=said.append, **QUICK)
        train(folder / "good.h5", folder / "good", log=said.append, **QUICK)
        assert said == []  # nothing to say about good clips
        return folder

    def test_the_run_is_marked(self, folder):
        leaks = Run.open(folder / "leaky").metrics().leaks
        assert (leaks.same_content, leaks.near_duplicates) == (4, 4)
        assert leaks.mark == (
            "with leaks allowed: 4 clips have the content of a clip of another object, 4 pairs of "
            "clips of different objects look the same"
        )
        assert Run.open(folder / "good").metrics().leaks is None
        assert "leaks" not in json.loads((folder / "good/metrics.json").read_text())

    def test_compare_and_the_page_say_so(self, folder):
        assert list(compare(folder / "leaky", folder / "good")["leaks"]) == [str(folder / "leaky")]
        shown = run_command("compare", folder / "leaky", folder / "good")
        assert f"{folder / 'leaky'}: with leaks allowed: 4 clips" in " ".join(shown.stdout.split())
        for name, count in (("leaky", 2), ("good", 0)):
            page = write_report(folder / name).path.read_text()
            assert page.count("With leaks allowed: 4 clips") == count

    def test_the_table_and_evaluation(self, folder):
        shown = run_command("evaluate", folder / "leaky", "--permutations", 10)
        assert shown.exit_code == 0, shown.stderr
        assert "with leaks allowed" in shown.stdout
        run = Run.open(folder / "leaky")
        columns, rows = score_rows(run.metrics())
        assert columns[0] == "accuracy on test clips"
        rest = run.metrics().without_near_duplicates
        expected = []
        for seed in run.seeds:
            parts = {line["clip"]: line["part"] for line in run.messages(seed)}
            twins = [(f"c{n:02d}", f"c{OBJECTS * EACH - EACH + n}") for n in range(EACH)]
            expected.append(
                sum({parts[one], parts[two]} == {"train", "test"} for one, two in twins)
            )
        if any(expected):
            assert rest.left_out == expected
            assert rest.kept_receiver.mean is not None
            name = "receiver kept, without test clips that look like training clips"
            assert name in [row[0] for row in rows]
        assert evaluate(folder / "good", permutations=10).without_near_duplicates is None

    def test_a_sweep_marks_its_cells(self, save, tmp_path):
        out = tmp_path / "sweep"
        shown = run_command(
            "train", save(copied(of_bytes=False)), "-o", out, "--allow-leaks", "--seeds", 2,
            "--epochs", 1, "--agents", 1, "--property", "mass", "--sweep", "vocab=3,4",
        )  # fmt: skip
        assert shown.exit_code == 0, shown.stderr
        rows = list(csv.DictReader((out / "sweep.csv").open()))
        assert all(row["leaks"].startswith("with leaks allowed: 4 pairs") for row in rows)
        assert "vocab-3: with leaks allowed" in shown.stdout


class TestUnited:
    def test_clips_without_an_object_share_one_and_the_run_keeps_it(self, save, tmp_path):
        clips = copied(of_bytes=True)
        objects = [*clips.object[:-EACH], *clips.clip_id[-EACH:]]
        path, said = save(replace(clips, object=objects)), []
        run = train(path, tmp_path / "run", log=said.append, **QUICK)
        assert said[0].startswith("4 clips have the content of another clip and no object")
        assert run.metrics().leaks is None
        assert load_inputs(run).clips.object == [*clips.object[:-EACH], *["thing00"] * EACH]
        for seed in run.seeds:
            lines = run.messages(seed)
            parts = {line["part"] for line in lines if line["object"] == "thing00"}
            assert len(parts) == 1
            assert [line["object"] for line in lines[-EACH:]] == ["thing00"] * EACH
        evaluate(run.folder, permutations=10)  # on the same splits

    def test_a_run_of_an_older_version_keeps_its_objects(self, save, tmp_path, monkeypatch):
        clips = copied(of_bytes=True)
        objects = [*clips.object[:-EACH], *clips.clip_id[-EACH:]]
        path = save(replace(clips, object=objects))
        module = sys.modules["pipeline.training.plan"]
        with monkeypatch.context() as older:
            older.setattr(module, "settle_objects", lambda inputs, **_: (inputs, "", []))
            run = train(path, tmp_path / "run", allow_leaks=True, **QUICK)
        assert list(load_inputs(run).clips.object) == objects

    def test_where_no_object_is_given_a_note_says_so(self, save, tmp_path):
        ids = list(unlike().clip_id)
        run = train(save(unlike(objects=ids)), tmp_path / "run", **QUICK)
        assert any("every clip is an object of its own" in note for note in run.metrics().notes)
        run = train(save(unlike(), "good.h5"), tmp_path / "good", **QUICK)
        assert not any("object of its own" in note for note in run.metrics().notes)
