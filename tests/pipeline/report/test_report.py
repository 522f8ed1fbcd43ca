"""The page of a run: whole, self-contained, and deaf to whatever its data try to tell a browser."""

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from data import cache
from data.cache import Features
from data.clips import Clip
from data.errors import HeliographError
from data.manifests import write_manifest
from data.video import Sampling
from pipeline.cli import main
from pipeline.evaluation import evaluate
from pipeline.extraction import extract
from pipeline.message import load_lexicon
from pipeline.report import interval_of, write_report
from pipeline.report.charts import Axis
from pipeline.report.provenance import command_to_repeat
from pipeline.report.sections.accuracy import panels
from pipeline.report.sections.positions import causal
from pipeline.report.summary import headline
from pipeline.report.thumbnails import find_clips, overlay
from pipeline.runs import Run, RunMetrics, Spread
from pipeline.training import train

EVIL = "<script>alert('x')</script>"
EVIL_REASON = '"><img src=x onerror=alert(2)>'


class Page(HTMLParser):
    """What a browser would find: tags with their attributes, and the text outside of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        elif not self._inside:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def read(path: Path) -> Page:
    return Page(path.read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory, features: Features) -> Run:
    """A run on imported features, one clip and one failure of which would like to be code."""
    folder = tmp_path_factory.mktemp("report")
    named = dict(vars(features)) | {
        "clip_id": [EVIL, *features.clip_id[1:]],
        "failures": [("broken/clip.mp4", EVIL_REASON)],
    }
    cache.save(Features(**named), folder / "made.h5")
    return train(folder / "made.h5", folder / "run", properties=["mass"], seeds=range(3), epochs=20)


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return read(write_report(run.folder).path)


def test_the_page_has_every_section_and_the_honest_number(run, page):
    sections = {one["id"] for one in page.all("section")}
    assert sections == {
        "accuracy", "positions", "lexicon", "learning", "messages", "provenance", "numbers",
    }  # fmt: skip
    honest = run.metrics().accuracy_test.mean
    assert f"{100 * honest:.1f} %" in page.words
    assert "chosen on the test clips themselves" in page.words
    assert run.metrics().notes[0][1:] in page.words
    links = {one["href"] for one in page.all("a")}
    assert links == {f"#{name}" for name in sections}


def test_nothing_is_loaded_from_anywhere_and_no_data_become_code(page):
    assert page.all("link") == page.all("iframe") == []
    assert all(one["src"].startswith("data:image/") for one in page.all("img"))
    assert all("src" not in one for one in page.all("script"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(one["content"] for one in page.all("meta") if "http-equiv" in one)
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_a_clip_named_like_a_script_is_shown_and_does_not_run(page):
    assert EVIL in "".join(page.text)
    assert not any("alert" in script for script in page.scripts)
    assert EVIL_REASON in "".join(page.text)
    assert "broken/clip.mp4" in page.words


def test_every_clip_is_in_the_table_with_its_message_and_meaning(run, page):
    rows = page.words
    gloss = load_lexicon(run)
    for line in run.messages()[::9]:
        assert line["message"] in rows
        assert gloss.gloss(line["tokens"])[0][0] in rows
    assert len(page.all("tr")) >= len(run.messages())


def test_the_page_says_where_the_features_come_from_and_how_to_repeat_it(run, page):
    for fact in (run.source.sha256, str(run.source.path), "imported features, of unknown origin"):
        assert fact in page.words
    assert command_to_repeat(run) in page.words
    assert command_to_repeat(run) == (
        f"heliograph train {run.source.path} -o {run.folder} --property mass --seeds 3 "
        "--preset default --epochs 20"
    )


def test_the_command_repeats_the_run(run, tmp_path):
    words = command_to_repeat(run).split()[1:]
    words[words.index("-o") + 1] = str(tmp_path / "again")
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    again = Run.open(tmp_path / "again")
    assert again.config == run.config
    assert again.messages() == run.messages()


def test_the_command_repeats_a_control_and_a_number_of_many_digits(run, tmp_path):
    odd = {"sender_lr": 0.000123456789, "tie_margin": {"mass": 0.123456789}}
    out = tmp_path / "run"
    again = train(
        run.source.path, out, properties=["mass"], seeds=1, epochs=1, vocab=2, control=True, **odd
    )
    words = command_to_repeat(again)
    assert "--control" in words
    assert "--sender-lr 0.000123456789" in words
    assert "--tie-margin mass=0.123456789" in words
    assert "--control" not in command_to_repeat(Run.open(out / "control"))


def test_a_run_whose_properties_never_differ_together_has_a_page(features, tmp_path):
    values = {"a": [0.0, 3.0, 1.5, 0.0], "b": [0.0, 1.0, 3.0, 0.0]}
    labels = {name: np.tile(own, len(features) // 4) for name, own in values.items()}
    cache.save(replace(features, labels=labels), tmp_path / "made.h5")
    margins = {"a": 2.0, "b": 2.0}
    brief = {"seeds": 1, "epochs": 1, "oracle_epochs": 0}
    own = train(tmp_path / "made.h5", tmp_path / "run", tie_margin=margins, **brief)
    assert own.metrics().accuracy_test.mean is None
    for _ in range(2):
        words = read(write_report(own.folder).path).words
        assert "No two test clips can be compared" in words
        evaluate(own.folder, permutations=10)


def test_the_same_run_gives_the_same_page(run, page, tmp_path):
    again = write_report(run.folder, tmp_path / "other.html")
    assert again.path.read_text() == (run.folder / "report.html").read_text()
    assert again.bytes == again.path.stat().st_size < 400_000


def test_what_is_missing_is_named_with_the_command_that_adds_it(run, page):
    assert f"heliograph evaluate {run.folder}" in page.words
    assert "no thumbnails, because no video of the clips was found" in page.words


def test_a_run_whose_cache_is_gone_still_has_its_page(run, tmp_path):
    moved = run.source.path.rename(run.source.path.with_suffix(".away"))
    try:
        written = write_report(run.folder, tmp_path / "gone.html")
    finally:
        moved.rename(run.source.path)
    assert "is gone" in written.notes[0]
    words = read(written.path).words
    assert "Unknown, because the cache is not there." in words
    assert "Lexicon" in words


def test_evaluation_adds_baselines_and_the_causal_map(run, tmp_path):
    assert causal(run.metrics()) is None
    evaluate(run.folder, permutations=50)
    page = read(write_report(run.folder, tmp_path / "evaluated.html").path)
    assert f"heliograph evaluate {run.folder}" not in page.words
    assert "ridge regression on the raw features" in page.words
    assert "95 % interval over objects" in page.words
    found = run.metrics().interventions.resample.drop
    cells = causal(run.metrics())["cells"]
    assert [[cell["drop"] for cell in row] for row in cells] == found
    assert max(cell["shade"] for row in cells for cell in row) <= 100
    (panel,) = panels(run.metrics())
    assert {"own", "heard", "control", "baseline"} == {row.kind for row in panel.rows}
    assert all(0 <= row.low <= row.high <= 100 for row in panel.rows)


def test_a_run_that_was_never_trained_to_the_end_is_refused(tmp_path, run):
    with pytest.raises(HeliographError, match="is no run"):
        write_report(tmp_path)
    (tmp_path / "half").mkdir()
    for name in ("config.json", "messages.jsonl", "history.csv"):
        (tmp_path / "half" / name).write_text((run.folder / name).read_text())
    with pytest.raises(HeliographError, match="training did not finish"):
        write_report(tmp_path / "half")


# Scores


def test_the_best_baseline_is_named_even_where_it_wins():
    own, ridge, majority = (
        {"mean": mean, "std": 0.0, "per_seed": [mean]} for mean in (0.6, 0.8, 0.5)
    )
    unknown = {"interval": [None, None]}
    stored = {
        "accuracy_test": None,
        "accuracy_last_epoch": own,
        "accuracy_published_protocol": own,
        "properties": {},
        "baselines": {"majority": majority | unknown, "ridge": ridge | unknown, "volume": None},
    }
    found = headline(RunMetrics.read(stored, properties=(), seeds=1))
    assert (found.accuracy, found.chosen, found.chance) == (0.6, False, 0.5)
    assert (found.best, found.best_accuracy) == ("ridge regression on the raw features", 0.8)


def test_an_interval_over_seeds_is_students():
    low, high, over = interval_of(Spread(mean=0.6, std=0.1, per_seed=[0.5, 0.6, 0.7]))
    assert over == "seeds"
    assert (low, high) == pytest.approx((0.6 - 4.302653 * 0.1 / 3**0.5, 0.6 + 0.248414), abs=1e-5)


@pytest.mark.parametrize(("low", "high"), [(0.03, 0.97), (7.7, 269.9), (-3.0, 12.0), (1e-4, 2e-4)])
@pytest.mark.parametrize("number", [3, 5])
def test_ticks_are_round_and_where_they_say(low, high, number):
    axis = Axis(low, high)
    ticks = axis.ticks(number)
    assert 2 <= len(ticks) <= 2 * number
    for place, text in ticks:
        assert place == pytest.approx(100 * (float(text) - low) / (high - low), abs=0.02)


def test_an_axis_of_a_wide_range_is_logarithmic():
    axis = Axis.of([1.0, 10.0, 100.0])
    assert axis.log
    assert axis.at(10.0) == pytest.approx(50.0)
    assert not Axis.of([1.0, 10.0]).log
    assert Axis.of([5.0, 5.0]).at(5.0) == pytest.approx(50.0)


# Thumbnails


def make_video(path: Path, level: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for time in range(12):
            pixels = np.full((48, 64, 3), level, np.uint8)
            pixels[20:28, 5 * time : 5 * time + 8] = 255 - level // 2
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def filmed(tiny, tmp_path: Path) -> Run:
    """A run on features of real video files."""
    clips = [
        Clip(
            id=f"o{number // 2:02d}/{number % 2}.mp4",
            path=make_video(
                tmp_path / "clips" / f"o{number // 2:02d}/{number % 2}.mp4", 8 * number
            ),
            object=f"o{number // 2:02d}",
            labels={"mass": float(10 + number // 2)},
        )
        for number in range(24)
    ]
    write_manifest(clips, tmp_path / "clips" / "manifest.jsonl")
    extract(clips, tmp_path / "clips.h5", backbone=tiny(), sampling=Sampling(frames=8))
    return train(tmp_path / "clips.h5", tmp_path / "run", seeds=range(1), epochs=3)


def test_thumbnails_are_found_where_the_clips_were(filmed, tmp_path):
    written = write_report(filmed.folder)
    assert written.notes == ()
    images = read(written.path).all("img")
    assert len({(one["alt"], one["src"]) for one in images}) == written.pictures > 0
    lines = {line["clip"]: line["part"] for line in filmed.messages()}
    assert {lines[one["alt"]] for one in images} == {"train"}
    for image in images:
        kind, content = image["src"].split(",", 1)
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            assert picture.size == (64, 48)


def test_a_clip_that_has_changed_is_not_shown(filmed, tmp_path):
    before = write_report(filmed.folder)
    for line in filmed.messages():
        make_video(tmp_path / "clips" / line["clip"], 90)
    after = write_report(filmed.folder)
    assert before.pictures > after.pictures == 0
    assert any("is not the video that" in note for note in after.notes)


def test_clips_that_moved_are_found_by_their_manifest(filmed, tmp_path):
    (tmp_path / "clips").rename(tmp_path / "moved")
    assert write_report(filmed.folder).pictures == 0
    for place in ("moved/manifest.jsonl", "moved"):
        words = ["report", filmed.folder, "-o", tmp_path / "p.html", "--clips", tmp_path / place]
        done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert done.stdout == f"{tmp_path / 'p.html'}\n"
        assert read(tmp_path / "p.html").all("img")


def test_a_folder_that_is_not_there_is_one_sentence(filmed):
    done = CliRunner().invoke(main, ["report", str(filmed.folder), "--clips", "nowhere"])
    assert done.exit_code == 1
    assert done.stderr == "Error: nowhere does not exist\n"


def test_find_clips_takes_only_the_clips_of_the_cache(filmed, tmp_path):
    features = cache.load(filmed.source.path)
    make_video(tmp_path / "clips" / "stranger.mp4", 5)
    found = find_clips(features, filmed.source.path, [tmp_path / "clips"])
    assert sorted(found) == sorted(features.clip_id)


def test_what_moves_is_seen_wherever_it_was():
    frames = np.zeros((5, 4, 20, 3), np.uint8) + 50
    for time in range(5):
        frames[time, :, 4 * time : 4 * time + 2] = 250
    laid = overlay(frames)
    assert (laid[:, [0, 4, 8, 12, 16]] == 250).all()
    assert (laid[:, 2:4] == 50).all()


def test_the_lexicon_is_written_beside_the_page(filmed):
    write_report(filmed.folder)
    stored = json.loads((filmed.folder / "lexicon.json").read_text())
    assert stored == json.loads(json.dumps(load_lexicon(filmed).to_json()))
    assert [(one["agent"], one["head"]) for one in stored["positions"]] == [
        (0, 0), (0, 1), (1, 0), (1, 1),
    ]  # fmt: skip
