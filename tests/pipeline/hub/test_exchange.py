"""Runs pushed to a hub on this machine and pulled again: nothing of the user's goes with them."""

import io
import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from data.clips import Clip
from data.errors import HeliographError, InvalidValueError
from data.screening import is_recorded
from data.video import Sampling
from pipeline.extraction import extract
from pipeline.hub import prepare, pull, push
from pipeline.message import load_lexicon
from pipeline.runs import Run, load_inputs
from pipeline.training import train
from tests.helpers.films import make_film
from tests.helpers.hub import Hub
from tests.pipeline.hub.conftest import CLIP, HOST, OBJECT, PLACE

PLANTED = (CLIP, OBJECT, PLACE, HOST, str(Path.home()))


@pytest.fixture(autouse=True)
def _host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)


def found_in(sent: list[bytes], needles: tuple[str, ...]) -> set[str]:
    return {name for name in needles for body in sent if name.encode() in body}


@pytest.mark.usefixtures("logged_in")
def test_no_byte_of_a_push_holds_a_name_of_the_users(hub: Hub, planted: Run):
    inside = [path.read_bytes() for path in planted.folder.rglob("*") if path.is_file()]
    assert found_in(inside, (CLIP, OBJECT, PLACE, HOST)) == {CLIP, OBJECT, PLACE, HOST}

    push(planted, "user/ramp")
    assert len(hub.sent) > len(hub.files("user/ramp"))
    assert found_in(hub.sent, (*PLANTED, str(planted.folder))) == set()
    assert "report.html" not in hub.files("user/ramp")
    notes = json.loads(hub.files("user/ramp")["metrics.json"])["notes"]
    assert notes[-1] == "note: videos/clip 1 of object 1 on this machine, clip 2"


@pytest.mark.usefixtures("logged_in")
def test_names_of_clips_go_when_they_are_asked_for_and_paths_still_do_not(hub: Hub, planted: Run):
    push(planted, "user/ramp", with_ids=True)
    assert found_in(hub.sent, (*PLANTED, str(planted.folder))) == {CLIP, OBJECT}


@pytest.mark.usefixtures("logged_in", "no_record")
def test_what_was_pushed_is_pulled_checked_and_the_same(hub: Hub, planted: Run, tmp_path: Path):
    address = push(planted, "user/ramp")
    commit = hub.commits["user/ramp"][-1][0]
    assert address == f"hf://user/ramp@{commit}"
    manifest = json.loads(hub.files("user/ramp")["manifest.json"])
    assert manifest["id"] != planted.id
    assert set(hub.files("user/ramp")) - set(manifest["files"]) >= {"README.md", "lexicon.png"}

    run = pull("user/ramp", tmp_path / "pulled")
    assert run.metrics().pulled_from == address
    assert run.id == manifest["id"]
    assert not run.unchecked
    assert is_recorded(run.files.identity)
    for seed in (None, *planted.seeds):
        assert (run.tokens(seed) == planted.tokens(seed)).all()
    for mine, theirs in [(run, planted), (run.control(), planted.control())]:
        weights = theirs.sender().state_dict()
        for name, value in mine.sender().state_dict().items():
            assert torch.equal(value, weights[name])
    weights = torch.load(tmp_path / "pulled" / "model.pt", weights_only=True)
    assert set(weights) == {"sender_2x8", "receiver_2x8", "sender_1x64", "receiver_1x64"}
    assert len(run.null) == len(planted.null) == 1
    assert not (tmp_path / "pulled" / "README.md").exists()

    place = planted.sources[0].path
    inputs = load_inputs(run, {"made": place})
    assert list(inputs.clips.object) == list(load_inputs(planted).clips.object)


def test_a_run_that_was_changed_on_the_hub_is_not_pulled(hub: Hub, planted: Run, tmp_path: Path):
    copy = tmp_path / "copy"
    prepare(planted, "user/ramp", copy)
    files = {
        path.relative_to(copy).as_posix(): path.read_bytes()
        for path in copy.rglob("*")
        if path.is_file()
    }
    seed = "seeds/1/messages.jsonl"
    hub.add("user/ramp", files | {seed: files[seed].replace(b'"train"', b'"test"', 1)})
    with pytest.raises(HeliographError, match=r"seeds/1/messages\.jsonl is damaged"):
        pull("user/ramp", tmp_path / "pulled")
    assert not (tmp_path / "pulled" / "config.json").exists()

    hub.add("user/ramp", {name: files[name] for name in files if name != "manifest.json"})
    with pytest.raises(HeliographError):
        pull("user/ramp", tmp_path / "pulled")

    manifest = json.loads(files["manifest.json"])
    outside = "../../planted.json"
    manifest["files"][outside] = manifest["files"]["config.json"]
    hub.add("user/ramp", files | {"manifest.json": json.dumps(manifest).encode()})
    pull("user/ramp", tmp_path / "deep" / "er" / "pulled")
    assert not list(tmp_path.glob("**/planted.json"))


@pytest.mark.usefixtures("logged_in")
def test_a_push_takes_the_place_of_the_last_one_whole(hub: Hub, planted: Run):
    push(planted, "user/ramp", private=True)
    assert hub.private == {"user/ramp"}
    first = hub.files("user/ramp")
    stale = {"seeds/7/messages.jsonl": b"old", "notes.txt": b"by hand"}
    hub.add("user/ramp", first | stale)
    push(planted, "user/ramp")
    assert set(hub.files("user/ramp")) == set(first) | {"notes.txt"}
    assert len(hub.commits["user/ramp"]) == 3


@pytest.mark.usefixtures("logged_in")
def test_a_model_that_is_no_run_is_not_replaced(hub: Hub, planted: Run):
    hub.add("user/bert", {"config.json": b"{}", "README.md": b"# BERT"})
    with pytest.raises(HeliographError, match=r"something else than a run, whose README\.md"):
        push(planted, "user/bert")
    assert len(hub.commits["user/bert"]) == 1


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("user/ramp@v9", r"user/ramp has no revision v9 on http"),
        ("user/nothing", r"there is no repository user/nothing on http.*, or it is private"),
        ("user/secret", r"there is no repository user/secret on http.*log in with `hf auth login`"),
        ("user/ramp", r"hf://user/ramp is no run: it has no config\.json.*FILE: clips\.h5"),
        (
            "user/sender",
            r"^hf://user/sender@\w+ is no run: it is a Comp.*, which Comp",
        ),
        ("user/bert", r"^hf://user/bert@\w+ is no run: its config\.json is that of something"),
    ],
)
def test_what_cannot_be_pulled_is_said(hub: Hub, tmp_path: Path, wanted: str, sentence: str):
    hub.add("user/ramp", {"clips.h5": b"features"})
    hub.add("user/sender", {"config.json": b'{"n_heads": 2, "vocab_size": 5}'})
    hub.add("user/bert", {"config.json": b'{"n_heads": 12, "model_type": "distilbert"}'})
    hub.add("user/secret", {"config.json": b"{}"})
    hub.private.add("user/secret")
    with pytest.raises(HeliographError, match=sentence):
        pull(wanted, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["ramp", "a/b/c", "user/", "../x", "user/-x"])
def test_a_name_that_no_repository_has_is_a_wrong_value(planted: Run, tmp_path: Path, name: str):
    with pytest.raises(InvalidValueError, match="write user/name"):
        push(planted, name)
    with pytest.raises(InvalidValueError, match="user/name"):
        pull(name, tmp_path / "run")


def test_a_push_without_a_token_or_the_right_to_write_sends_nothing(
    hub: Hub, planted: Run, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(HeliographError, match="nobody is logged in; log in with `hf auth login`"):
        push(planted, "user/ramp")
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(HeliographError, match=r"the server answers 401: .*give a token"):
        push(planted, "user/ramp")
    assert hub.commits == {}


@pytest.mark.usefixtures("logged_in")
def test_a_token_that_may_only_read_is_said(hub: Hub, planted: Run):
    hub.may_write = False
    with pytest.raises(HeliographError, match=r"the server answers 403: .*give a token"):
        push(planted, "user/ramp")


@pytest.mark.usefixtures("logged_in")
def test_offline_what_is_in_the_cache_is_used(
    hub: Hub, planted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    address = push(planted, "user/ramp")
    pull("user/ramp", tmp_path / "first")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert pull("user/ramp", tmp_path / "second").metrics().pulled_from == address
    with pytest.raises(HeliographError, match="hf://user/other is not on this machine, and HF_HUB"):
        pull("user/other", tmp_path / "third")
    with pytest.raises(HeliographError, match="HF_HUB_OFFLINE is set; unset it"):
        push(planted, "user/ramp")


@pytest.mark.usefixtures("logged_in", "hub")
def test_no_network_is_said_at_once(planted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HeliographError, match="hf://user/ramp cannot be had: Connection refused"):
        pull("user/ramp", tmp_path / "run")
    with pytest.raises(HeliographError, match="Connection refused"):
        push(planted, "user/ramp")


def test_pictures_that_cannot_be_had_are_said(planted: Run, tmp_path: Path):
    with pytest.raises(HeliographError, match="There are no pictures"):
        prepare(planted, "user/ramp", tmp_path / "copy", with_pictures=True)
    assert not (tmp_path / "copy").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(HeliographError, match="nosuch"):
        prepare(
            planted, "user/ramp", tmp_path / "empty", with_pictures=True, clips=[Path("nosuch")]
        )
    assert not list((tmp_path / "empty").iterdir())
    with pytest.raises(HeliographError, match="is not an empty folder: choose another"):
        prepare(planted, "user/ramp", tmp_path)
    assert (tmp_path / "empty").is_dir()


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on features of video files whose every name is planted; no test changes it."""
    folder = tmp_path_factory.mktemp("filmed") / PLACE
    folder.mkdir()
    clips = [
        Clip(
            id=f"{CLIP}_{number}.mp4",
            path=make_film(folder / f"{CLIP}_{number}.mp4", number, title=f"{HOST} {PLACE}"),
            object=f"{OBJECT}_{number // 2}",
            labels={"mass": float(10 + number // 2)},
        )
        for number in range(24)
    ]
    extract(clips, folder / "films.h5", backbone="pixels", sampling=Sampling(frames=4))
    return train(folder / "films.h5", folder / "run", seeds=1, epochs=2)


@pytest.mark.usefixtures("logged_in")
def test_pictures_of_clips_go_when_they_are_asked_for_and_nothing_else_of_the_videos(
    hub: Hub, filmed: Run
):
    (video,) = filmed.folder.parent.glob(f"{CLIP}_1.mp4")
    assert found_in([video.read_bytes()], (HOST, PLACE)) == {HOST, PLACE}
    push(filmed, "user/film")
    plain = hub.files("user/film")
    push(filmed, "user/film", with_pictures=True)
    shown = hub.files("user/film")

    assert found_in(hub.sent, (*PLANTED, str(filmed.folder), "ftyp")) == set()
    assert set(shown) == set(plain)
    same = {name for name in plain if name.endswith((".jsonl", ".csv", ".safetensors"))}
    assert {name: shown[name] for name in same} == {name: plain[name] for name in same}
    symbols = sum(len(one.meanings) for one in load_lexicon(filmed).positions)
    with (
        Image.open(io.BytesIO(plain["lexicon.png"])) as without,
        Image.open(io.BytesIO(shown["lexicon.png"])) as picture,
    ):
        assert (picture.info, dict(picture.getexif())) == ({}, {})
        coloured, pixels = np.ptp(np.asarray(picture), axis=2) >= 40, symbols * 64 * 48
        assert pixels / 2 < coloured.sum() <= pixels
        assert (np.ptp(np.asarray(without), axis=2) < 40).all()
    assert b"nor are pictures of them" in plain["README.md"]
    assert b"the picture above shows one clip with each symbol" in shown["README.md"]
