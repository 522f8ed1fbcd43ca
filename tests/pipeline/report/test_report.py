"""The page of a run: whole, self-contained, and deaf to whatever its data try to tell a browser."""

import base64
import hashlib
import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from data import cache
from data.errors import HeliographError
from data.files import sha256_file
from pipeline.console import printable
from pipeline.evaluation import evaluate
from pipeline.message import load_lexicon, load_readout
from pipeline.report import score_rows, write_report
from pipeline.report.provenance import command_to_repeat
from pipeline.report.sections.accuracy import panels
from pipeline.report.sections.positions import causal
from pipeline.runs import Run
from pipeline.runs.manifest import MANIFEST, new_id
from pipeline.training import train
from tests.helpers.command import run as command
from tests.helpers.pages import EVIL, EVIL_REASON, TURNING, HtmlPage, read_page
from tests.helpers.runs import unseal


@pytest.fixture(scope="module")
def page(run: Run) -> HtmlPage:
    return read_page(write_report(run.folder).path)


def test_the_page_has_every_section_and_the_honest_number(run, page):
    sections = {one["id"] for one in page.all("section")}
    assert sections == {
        "accuracy", "positions", "lexicon", "scatter", "learning", "messages", "provenance",
        "numbers",
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


def test_names_turn_nothing_around_them(run):
    text = write_report(run.folder).path.read_text()
    assert printable(text, keep="\n\t") == text
    shown = rf"<bdi>{printable(TURNING)}</bdi>"
    assert rf'<td class="clip">{shown}</td>' in text
    assert rf"<td>{shown}</td><td>" in text
    assert rf'<tr><td class="code">{shown}</td><td>{shown}</td></tr>' in text
    assert text.count("<bdi>") == text.count("</bdi>") > 2 * len(run.messages())
    assert not re.search(r'="[^"]*<bdi>', text)
    assert not re.search(r'="[^"]*&lt;bdi', text)


def test_names_of_files_that_are_not_utf_8(tmp_path, features):
    names = [f"{name}\udcff" for name in features.clip_id]
    cache.save(replace(features, clip_id=names), tmp_path / "made.h5")
    run = train(tmp_path / "made.h5", tmp_path / "run", properties=["mass"], seeds=[0], epochs=2)
    written = write_report(run.folder)
    page = written.path.read_bytes()
    assert len(page) == written.bytes
    assert rf"{features.clip_id[0]}\udcff".encode() in page


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


def test_held_out_messages_come_first_and_say_whether_they_are_right(run, page):
    rows = [one for one in page.all("tr") if "data-verdict" in one]
    lines = run.messages()
    assert len(rows) == len(lines)
    parts = [one["data-part"] for one in rows]
    assert parts == sorted(parts, key=("test", "structure", "validation", "train", "").index)
    readout = load_readout(run)
    readings = readout.read(run.tokens())
    low, high = readout.properties["mass"].edges
    right = 0
    for line, (told,) in zip(lines, readings, strict=True):
        mass = line["labels"]["mass"]
        if mass is None:
            continue
        right += told.band == ("low" if mass < low else "high" if mass > high else "middle")
    assert [one["data-verdict"] for one in rows].count("right") == right
    assert {one["data-verdict"] for one in rows} == {"right", "wrong", ""}


def test_symbols_and_words_of_the_lexicon_say_which_messages_have_them(run, page):
    heads = run.config.heads
    asked = {
        (int(one["data-place"]), one["data-kind"])
        for one in page.all("span")
        if "data-place" in one
    }
    places = {place for place, _ in asked}
    assert {(place, "symbol") for place in places} <= asked
    assert places == set(range(run.config.agents * heads))
    assert next(one for one in page.all("table") if one.get("id") == "message-rows")[
        "data-heads"
    ] == str(heads)


def test_clips_are_drawn_by_their_symbols_and_their_features(run, page):
    shown = [one.get("aria-label", "") for one in page.all("svg")]
    places = run.config.agents * run.config.heads
    assert sum(label.startswith("mass by the symbol of agent ") for label in shown) == places
    maps = [label for label in shown if label.startswith("features of")]
    assert len(maps) == places + 1
    drawn = [one["d"].count("M") for one in page.all("path") if one.get("class", "")[:4] == "dots"]
    lines = run.messages()
    labelled = sum(line["labels"]["mass"] is not None for line in lines)
    assert sum(drawn) == labelled * places + len(lines) * len(maps)


def test_the_page_says_where_the_features_come_from_and_how_to_repeat_it(run, page):
    for fact in (
        run.source.content_sha256,
        str(run.source.path),
        "imported features, of unknown origin",
    ):
        assert fact in page.words
    assert command_to_repeat(run) in page.words
    assert command_to_repeat(run) == (
        f"heliograph train {run.source.path} -o {run.folder} --property mass --seeds 3 "
        "--preset default --epochs 10"
    )


def test_a_run_whose_properties_never_differ_together_has_a_page(features, tmp_path):
    values = {"a": [0.0, 3.0, 1.5, 0.0], "b": [0.0, 1.0, 3.0, 0.0]}
    labels = {name: np.tile(own, len(features) // 4) for name, own in values.items()}
    cache.save(replace(features, labels=labels), tmp_path / "made.h5")
    margins = {"a": 2.0, "b": 2.0}
    brief = {"seeds": 1, "epochs": 1, "oracle_epochs": 0}
    own = train(tmp_path / "made.h5", tmp_path / "run", tie_margin=margins, **brief)
    assert own.metrics().accuracy_test.mean is None
    for _ in range(2):
        words = read_page(write_report(own.folder).path).words
        assert "No two test clips can be compared" in words
        evaluate(own.folder, permutations=10)


def test_the_same_run_gives_the_same_page(run, page, tmp_path):
    again = write_report(run.folder, tmp_path / "other.html")
    assert again.path.read_text() == (run.folder / "report.html").read_text()
    assert again.bytes == again.path.stat().st_size < 400_000


def test_what_is_missing_is_named_with_the_command_that_adds_it(run, page):
    assert f"heliograph evaluate {run.folder}" in page.words
    assert "the features of made were imported, so that nothing says where the videos" in page.words
    assert "--clips names them" in page.words


def test_a_run_whose_cache_is_gone_still_has_its_page(run, tmp_path):
    moved = run.source.path.rename(run.source.path.with_suffix(".away"))
    try:
        written = write_report(run.folder, tmp_path / "gone.html")
    finally:
        moved.rename(run.source.path)
    assert "is gone" in written.notes[0]
    words = read_page(written.path).words
    assert "Unknown, because the cache is missing." in words
    assert "Lexicon" in words


def test_evaluation_adds_baselines_and_the_causal_map(run, tmp_path):
    assert causal(run.metrics()) is None
    evaluate(run.folder, permutations=50)
    page = read_page(write_report(run.folder, tmp_path / "evaluated.html").path)
    assert f"heliograph evaluate {run.folder}" not in page.words
    assert "baseline: ridge regression on the raw features" in page.words
    assert "95 % interval over objects" in page.words
    assert "TopSim, which says how far clips of unlike mass have unlike messages, is" in page.words
    assert "Residual entropy (smaller is better) is" in page.words
    assert "the kept receiver, on training clips" in page.words
    assert "best match “" in page.words
    _, rows = score_rows(run.metrics())
    assert "receiver kept, on training clips" in [row[0] for row in rows]
    assert "No pixels, differences, first frame: " in page.words
    assert not [text for text in page.text if re.search(r"[a-z%]\.[A-Z]", text)]  # no space lost
    found = run.metrics().interventions.resample.drop
    cells = causal(run.metrics())["cells"]
    assert [[cell["drop"] for cell in row] for row in cells] == found
    assert max(cell["shade"] for row in cells for cell in row) <= 100
    (panel,) = panels(run.metrics())
    assert {"own", "fresh", "control", "baseline"} == {row.kind for row in panel.rows}
    assert all(0 <= row.low <= row.high <= 100 for row in panel.rows)


def test_a_run_that_was_never_trained_to_the_end_is_refused(tmp_path, run):
    with pytest.raises(HeliographError, match="is no run"):
        write_report(tmp_path)
    (tmp_path / "half").mkdir()
    for name in ("config.json", "messages.jsonl", "history.csv"):
        (tmp_path / "half" / name).write_text((run.folder / name).read_text())
    with pytest.raises(HeliographError, match="training did not finish"):
        write_report(tmp_path / "half")


def test_the_command_replaces_no_page_but_one_of_this_run(run, tmp_path):
    page = tmp_path / "page.html"
    assert command("report", run.folder, "-o", page).exit_code == 0
    written = page.read_bytes()
    page.write_bytes(written.replace(b"</body>", b"<p>older</p></body>"))
    assert command("report", run.folder, "-o", page).exit_code == 0
    assert page.read_bytes() == written

    weights = sha256_file(run.folder / "model.safetensors").encode()
    equal_run = written.replace(run.id.encode(), new_id().encode())  # the same weights, too
    late = b" " * 10_000 + written  # not where a page of ours says whose it is
    for foreign in (b"my notes", equal_run, b"<title>mine</title>" + weights, late):
        page.write_bytes(foreign)
        refused = command("report", run.folder, "-o", page)
        assert refused.exit_code == 1
        assert f"{page} exists, and is something else" in refused.stderr
        assert page.read_bytes() == foreign
    assert command("report", run.folder, "-o", page, "--overwrite").exit_code == 0
    assert page.read_bytes() == written


def test_an_equal_run_has_another_page(run, tmp_path):
    """Two trainings of the same seeds differ in nothing but their ids."""
    equal, page = tmp_path / "equal", tmp_path / "page.html"
    write_report(run.folder)
    shutil.copytree(run.folder, equal)
    stored = json.loads((equal / MANIFEST).read_text()) | {"id": new_id()}
    (equal / MANIFEST).write_text(json.dumps(stored))
    assert command("report", run.folder, "-o", page).exit_code == 0
    refused = command("report", equal, "-o", page)
    assert refused.exit_code == 1
    assert f"{page} exists, and is something else" in refused.stderr
    refused = command("report", equal, "-o", run.folder / "report.html")
    assert refused.exit_code == 1
    assert command("report", equal).exit_code == 1  # the copy of a page of the run it was
    assert command("report", equal, "--overwrite").exit_code == 0
    assert command("report", equal).exit_code == 0


def test_a_page_of_any_size_is_not_read_to_know_whose_it_is(run, tmp_path):
    page = tmp_path / "page.html"
    with open(page, "wb") as file:
        file.truncate(1 << 42)  # more than any memory
    refused = command("report", run.folder, "-o", page)
    assert refused.exit_code == 1
    assert f"{page} exists, and is something else" in refused.stderr
    page.unlink()
    os.mkfifo(page)
    refused = command("report", run.folder, "-o", page)
    assert refused.exit_code == 1
    assert f"{page} is not written: it is a FIFO" in refused.stderr


def test_a_run_of_an_older_version_replaces_the_page_in_its_own_folder_only(run, tmp_path):
    old, page = tmp_path / "old", tmp_path / "page.html"
    shutil.copytree(run.folder, old, ignore=shutil.ignore_patterns("report.html"))
    unseal(old)
    for _ in range(2):
        assert command("report", old).exit_code == 0
    assert b"heliograph-run" not in (old / "report.html").read_bytes()
    assert command("report", old, "-o", page).exit_code == 0
    assert command("report", old, "-o", page).exit_code == 1
    assert command("report", old, "-o", page, "--overwrite").exit_code == 0
