"""An actor without a cluster: clips that come a few at a time, and what it tells of them."""

import shutil

import pytest

from data import cache
from data.clips import Clip
from data.errors import HeliographError
from data.video import Limits, Sampling
from pipeline.extraction import extract
from pipeline.extraction.extractor import Extractor, ExtractorSettings

SETTINGS = ExtractorSettings(
    sampling=Sampling(frames=4),
    decoder="pyav",
    accept_damaged=False,
    dtype="float16",
    batch=1,
    rehash=False,
    retry_failed=False,
    limits=Limits(),
)


@pytest.fixture
def extractor(tiny):
    made = Extractor(tiny, SETTINGS, cores=2, where={"node": "n1"})
    made.describe()
    return made


def finish(extractor, clips=()):
    report = extractor.exchange(clips, last=True)
    outcomes = [*report.outcomes]
    while not report.ended:
        report = extractor.exchange([])
        outcomes += report.outcomes
    return outcomes


def test_clips_that_come_a_few_at_a_time(extractor, clips, folder, tmp_path, tiny):
    plain, target = tmp_path / "plain.h5", tmp_path / "c.h5"
    shutil.copy(folder / "0.mp4", tmp_path / "same.mp4")
    clips = [
        *clips,
        Clip(id="same", path=tmp_path / "same.mp4"),
        Clip(id="none", path=folder / "none.mp4"),
    ]
    extractor.begin(target, [folder / "0.mp4"])
    outcomes = [*extractor.exchange(clips[:3]).outcomes, *finish(extractor, clips[3:])]
    found = {outcome.clip: outcome for outcome in outcomes}
    assert len(outcomes) == len(found) == 8
    assert {found[f"{n}"].outcome for n in range(6)} == {"done"}
    assert (found["1"].frames, found["none"].outcome) == (4, "failed")
    assert "a text file" in found["none"].reason
    extract(clips, plain, backbone=tiny(), sampling=4, workers=1)
    extractor.begin(target, [])  # again, after it had ended: clips that another one lost
    assert {outcome.outcome for outcome in finish(extractor, clips[:6])} == {"kept"}
    extract(clips, target, backbone=tiny(), sampling=4, workers=1, join=True)
    assert cache.load(plain).differences(cache.load(target)) == []
    entries = cache.read_ledger(target)
    assert {(entry["node"], bool(entry["host"])) for entry in entries if "node" in entry} == {
        ("n1", True)
    }


def test_stopped_it_leaves_out_what_it_has_not_begun(extractor, clips, tmp_path):
    extractor.begin(tmp_path / "c.h5", [])
    report = extractor.exchange([clips[n % 6] for n in range(2000)], stop=True)
    while not report.ended:
        report = extractor.exchange([])
    assert report.waiting > 1900


def test_a_node_that_does_not_see_the_files(extractor, tmp_path):
    with pytest.raises(HeliographError, match=r"does not see .*gone.mp4: clips and --out must be"):
        extractor.begin(tmp_path / "c.h5", [tmp_path / "gone.mp4"])


def test_an_error_names_the_host(tmp_path, monkeypatch):
    def load():
        raise HeliographError("no weights")

    monkeypatch.setattr("socket.gethostname", lambda: "gpu-7")
    with pytest.raises(HeliographError, match=r"^no weights \(on gpu-7\)$"):
        Extractor(load, SETTINGS, cores=1, where={"node": "n1"}).describe()


def test_an_error_in_the_middle_is_reported(extractor, clips, tmp_path, monkeypatch):
    extractor.begin(tmp_path / "c.h5", [])
    monkeypatch.setattr(cache.JoinedStore, "flush", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        finish(extractor, clips[:1])
