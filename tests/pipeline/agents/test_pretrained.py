"""Senders saved, pushed to a hub on this machine, and opened again: the same messages."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin, constants

from data.errors import HeliographError
from data.screening import record
from pipeline.agents import CompositionalSender, MultiAgentSender, Sender, build_sender, seeded
from pipeline.hub import prepare
from pipeline.runs import Run
from tests.helpers.hub import TOKEN, Hub, serve_hub

CONFIG, WEIGHTS = "config.json", "model.safetensors"
CLIPS = torch.randn(9, 8, 6, generator=torch.Generator().manual_seed(0))
STILL = CLIPS[:, :1, :4]
ALONE = {"input_dim": 6, "steps": 8, "agents": 1}
TWO_CACHES = {"input_dim": (6, 4), "steps": (8, 1), "caches": (0, 1, 0), "names": ["film", "still"]}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    hub = Hub()
    with serve_hub(hub, monkeypatch, tmp_path / "hub cache"):
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def made(sizes: dict, **others: float) -> Sender:
    sizes = {"agents": 3, "heads": 2, "vocab": 5} | sizes | others
    return seeded(1, lambda: build_sender(**sizes)).eval()


@pytest.mark.parametrize(
    ("sender", "features"),
    [
        (made(ALONE), CLIPS),
        (made(ALONE, heads=1, logit_clamp=0.05), CLIPS),
        (made(ALONE, scores=2), CLIPS),
        (made({"input_dim": 6, "steps": 8}), CLIPS),
        (made(TWO_CACHES, scores=1), {"still": STILL, "film": CLIPS}),
    ],
    ids=["one agent", "one head", "ridge", "three agents", "two caches"],
)
def test_a_sender_that_was_saved_says_the_same(sender: Sender, features, tmp_path: Path):
    assert isinstance(sender, PyTorchModelHubMixin)
    sender.save_pretrained(tmp_path / "sender")
    opened = type(sender).from_pretrained(tmp_path / "sender")
    assert torch.equal(opened.logits(features), sender.logits(features))
    assert list(opened.state_dict()) == list(sender.state_dict())
    assert not opened.training
    names = sorted(path.name for path in (tmp_path / "sender").iterdir())
    assert names == ["README.md", "config.json", "model.safetensors"]
    opened.save_pretrained(tmp_path / "again")
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "sender" / name).read_bytes()


def test_a_sender_is_pushed_pinned_and_opened_without_a_network(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    first, second = made(ALONE), made(ALONE, vocab=7)
    first.push_to_hub("user/sender")
    commit = hub.commits["user/sender"][-1][0]
    second.push_to_hub("user/sender", private=True)
    assert CompositionalSender.from_pretrained("user/sender").vocab_size == 7
    pinned = CompositionalSender.from_pretrained("user/sender", revision=commit)
    assert torch.equal(pinned.logits(CLIPS), first.logits(CLIPS))
    card = ModelCard(hub.files("user/sender")["README.md"].decode())
    assert (card.data.library_name, 'from_pretrained("user/sender")' in card.text) == (
        "heliograph",
        True,
    )

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for reason in ("cannot be reached: Connection refused", "HF_HUB_OFFLINE or local_files_only"):
        assert CompositionalSender.from_pretrained("user/sender", revision=commit).vocab_size == 5
        with pytest.raises(HeliographError, match=f"no config.json of it, and .*{reason}"):
            CompositionalSender.from_pretrained("user/other")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_the_sender_of_a_run_opens_from_its_folder_and_from_what_was_pushed(
    hub: Hub, spoken_run: Run, tmp_path: Path
):
    kind = type(spoken_run.sender())
    copy = tmp_path / "copy"
    prepare(spoken_run, "user/ramp", copy)
    paths = [path for path in copy.rglob("*") if path.is_file()]
    hub.add("user/ramp", {path.relative_to(copy).as_posix(): path.read_bytes() for path in paths})
    assert f'{kind.__name__}.from_pretrained("user/ramp")' in (copy / "README.md").read_text()
    for folder in (spoken_run.folder, copy):  # as if both had been read before
        record(f"sha256:{hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()}")
    for place in (spoken_run.folder, "user/ramp"):
        opened = kind.from_pretrained(place).state_dict()
        wanted = spoken_run.sender().state_dict()
        assert list(opened) == list(wanted)
        assert all(torch.equal(opened[name], wanted[name]) for name in wanted)

    other = MultiAgentSender if kind is CompositionalSender else CompositionalSender
    with pytest.raises(HeliographError, match=f"{kind.__name__}.from_pretrained opens it"):
        other.from_pretrained(spoken_run.folder)
    with pytest.raises(HeliographError, match="user/ramp holds a run: choose another name"):
        made(ALONE).push_to_hub("user/ramp")
    for _ in range(2):
        with pytest.raises(HeliographError, match="copy holds a run: choose another folder"):
            made(ALONE).save_pretrained(copy)
        (copy / "manifest.json").unlink(missing_ok=True)  # as of an older run
    assert len(hub.commits["user/ramp"]) == 1


FOREIGN = {CONFIG: b'{"model_type": "distilbert", "n_heads": 12}', WEIGHTS: b"theirs"}


@pytest.mark.parametrize(
    ("files", "lost"),
    [
        (FOREIGN, CONFIG),
        ({CONFIG: b"{"}, CONFIG),
        ({WEIGHTS: b"theirs"}, WEIGHTS),
        ({"README.md": b"theirs"}, "README.md"),
    ],
)
def test_a_sender_replaces_no_other_model(hub: Hub, files: dict, lost: str, tmp_path: Path):
    hub.add("user/bert", files)
    sentence = f"holds something else than a sender, whose {lost} would be replaced: choose another"
    with pytest.raises(HeliographError, match=f"user/bert {sentence} name"):
        made(ALONE).push_to_hub("user/bert")
    assert len(hub.commits["user/bert"]) == 1
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    if lost != "README.md":  # which save_pretrained leaves
        with pytest.raises(HeliographError, match=f"{tmp_path} {sentence} folder"):
            made(ALONE).save_pretrained(tmp_path)
    else:
        made(ALONE).save_pretrained(tmp_path)
        made({"input_dim": 6, "steps": 8}).save_pretrained(tmp_path)  # of a sender
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


def test_options_of_huggingface_hub_are_taken_or_refused_in_a_sentence(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    sender, folder, file = made(ALONE), tmp_path / "sender", tmp_path / "file"
    file.touch()
    sender.save_pretrained(folder, push_to_hub=True, repo_id="user/sender")
    opened = CompositionalSender.from_pretrained(folder, map_location="meta", strict=True)
    assert {value.device.type for value in opened.state_dict().values()} == {"meta"}
    with pytest.raises(HeliographError, match=r"gives no .*: Expected one of cpu, cuda"):
        CompositionalSender.from_pretrained(folder, map_location="nowhere")
    with pytest.raises(HeliographError, match="it is a folder, which has no revisions"):
        CompositionalSender.from_pretrained(folder, revision="v2")
    for save in (sender.save_pretrained, sender.push_to_hub):
        with pytest.raises(HeliographError, match=r"config is not taken: config\.json holds"):
            save("user/other", config={"note": 1})
    with pytest.raises(HeliographError, match=f"{file} cannot be written: "):
        sender.save_pretrained(file)
    hub.may_write = False
    with pytest.raises(HeliographError, match="user/sender cannot be had: the server answers 403"):
        sender.push_to_hub("user/sender")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HeliographError, match="user/sender is not pushed: HF_HUB_OFFLINE is set"):
        sender.push_to_hub("user/sender")
    assert len(hub.commits["user/sender"]) == 1


@pytest.mark.parametrize("sizes", [ALONE, {"input_dim": 6, "steps": 8}])
def test_arrays_are_features_too(sizes: dict):
    sender, half = made(sizes), CLIPS.numpy().astype(np.float16)
    assert torch.equal(sender(half), sender(torch.from_numpy(half).float()))


def broken(name: str, content: bytes | None) -> dict[str, bytes]:
    """Return the files of a sender of which one is something else, or missing."""
    state = {name: value.clone() for name, value in made(ALONE).state_dict().items()}
    config = {"input_dim": 6, "vocab_size": 5, "n_heads": 2}
    files: dict[str, bytes | None] = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": safetensors.torch.save(state),
    }
    return {name: value for name, value in (files | {name: content}).items() if value is not None}


NANS = {name: value * float("nan") for name, value in made(ALONE).state_dict().items()}


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (broken(CONFIG, None), "it has no config.json; of a checkpoint of the paper"),
        (broken(WEIGHTS, None), "it has no model.safetensors; of a checkpoint of the paper"),
        (broken(CONFIG, b"{"), "Expecting property name"),
        (broken(CONFIG, b"[1]"), "its config.json is no object"),
        (broken(CONFIG, b'{"hidden_size": 768}'), "its config.json is that of something else"),
        (broken(CONFIG, b'{"n_heads": 2, "size": 3}'), "unexpected keyword argument 'size'"),
        (broken(CONFIG, b'{"n_heads": 2}'), r"encoder.temporal.0.weight is \[256, 6, 3\], not"),
        (broken(CONFIG, b'{"n_heads": 1000000000}'), "has 1,000,000,000 heads, and its weights"),
        (broken(CONFIG, b'{"n_heads": 2, "hidden_dim": 100000000000000}'), "is .*, not|too large"),
        (broken(CONFIG, b'{"n_heads": 2, "logit_clamp": "all"}'), "could not convert string"),
        (broken(CONFIG, b'{"config": {}, "caches": []}'), "properties is missing"),
        (broken(WEIGHTS, safetensors.torch.save(NANS)), "has numbers that no training gives"),
    ],
)
def test_what_is_no_sender_costs_a_sentence(files: dict, sentence: str, hub: Hub, tmp_path: Path):
    folder = tmp_path / "sender"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    hub.add("user/sender", files)
    record(f"sha256:{hashlib.sha256(files.get(WEIGHTS, b'')).hexdigest()}")
    for place in (folder, "user/sender"):
        with pytest.raises(HeliographError, match=sentence) as caught:
            CompositionalSender.from_pretrained(place)
        assert str(caught.value).startswith(f"{place} gives no CompositionalSender: ")
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_record")
def test_weights_that_are_no_tensors_are_met_in_another_process(tmp_path: Path):
    made(ALONE).save_pretrained(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"PK\3\4 a pickle")
    with pytest.raises(HeliographError, match="cannot be read as tensors: it is not a"):
        CompositionalSender.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "revision", "sentence"),
    [
        ("user/none", None, "there is no repository user/none on http.*, or it is private"),
        ("user/ramp", "v9", "user/ramp has no revision v9 on http"),
        ("runs/mine/v1", None, "there is no such folder, and no repository is called so"),
    ],
)
def test_what_the_hub_has_not_is_said(hub: Hub, name: str, revision: str | None, sentence: str):
    hub.add("user/ramp", {})
    with pytest.raises(HeliographError, match=sentence):
        MultiAgentSender.from_pretrained(name, revision=revision)
