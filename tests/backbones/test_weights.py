"""Weight files: downloaded or refused with a sentence, read as data, loaded without a gap."""

import hashlib
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import huggingface_hub
import pytest
import torch
from safetensors.torch import save, save_file

import backbones
from backbones import BackboneError, clip, dinov2, downloads, vjepa2, weights
from tests.helpers.servers import LOGIN_PAGE, Answer, hub_of, serve

ROOT = Path(__file__).resolve().parents[2]

CONTENT = b"published weights"
PUBLISHED = weights.PublishedWeights(
    file="model.pth",
    url="https://example.org/model.pth",
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch.hub folder and no network; gives the folder."""

    def fail(*args: object, **kwargs: object) -> None:
        raise URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(downloads, "urlopen", fail)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: None)
    return tmp_path / "hub"


@pytest.mark.parametrize(
    ("name", "family", "file"),
    [
        ("dinov2_vits14", dinov2.PUBLISHED["dinov2_vits14"], "dinov2_vits14_pretrain.pth"),
        ("clip_vitl14", clip.PUBLISHED, "clip-vit-large-patch14.safetensors"),
        ("vjepa2_vitl", vjepa2.PUBLISHED, "vjepa2-vitl-fpc64-256.safetensors"),
    ],
)
def test_offline_says_what_to_download_and_where_to_put_it(
    offline: Path, name: str, family: weights.PublishedWeights, file: str
) -> None:
    with pytest.raises(BackboneError) as caught:
        backbones.load(name, device="cpu")
    sentence = str(caught.value)
    assert sentence.count("\n") == 0
    for part in (family.url, f"{family.size_bytes:,} bytes", family.sha256, "--weights"):
        assert part in sentence
    assert f"put it at {offline / 'checkpoints' / file}" in sentence


def test_a_mirror_is_asked_instead_of_the_hub(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/hf/")
    address = "https://mirror.example/hf/openai/clip-vit-large-patch14/resolve/"
    with pytest.raises(BackboneError, match=address):
        backbones.load("clip_vitl14", device="cpu")


def test_a_mirror_that_is_not_a_url_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "mirror.example")
    with pytest.raises(
        BackboneError, match=r"cannot be downloaded \(HF_ENDPOINT is mirror\.example, not an addr"
    ):
        weights.obtain(weights.hugging_face_file(
            "a/b", "main", name="x", file="a-b-x", size_bytes=1, sha256="0"
        ), weights=None, hub_dir=None)  # fmt: skip


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders of torch.hub and of the Hugging Face hub; gives torch.hub's."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(downloads, "POLL_SECONDS", 0.001)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    real = huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda *names, **kw: real(*names, cache_dir=tmp_path / "hf", **kw),
    )
    return tmp_path / "hub"


def test_what_is_downloaded_is_checked(online: Path) -> None:
    with serve(lambda *_: Answer(200, {}, CONTENT)) as server:
        published = replace(PUBLISHED, url=f"{server.url}/model.pth")
        path = weights.obtain(published, weights=None, hub_dir=None)
        assert path == online / "checkpoints" / "model.pth"
        assert path.read_bytes() == CONTENT
        assert weights.obtain(published, weights=None, hub_dir=None) == path
        assert len(server.requests) == 1


def test_a_damaged_file_is_replaced(online: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = online / "checkpoints" / "model.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[::-1])
    with serve(lambda *_: Answer(200, {}, CONTENT)) as server:
        published = replace(PUBLISHED, url=f"{server.url}/model.pth")
        assert weights.obtain(published, weights=None, hub_dir=None) == path
    assert path.read_bytes() == CONTENT
    assert f"{path} is not the published file: its sha256 is " in caplog.text
    assert "downloading it again" in caplog.text


def test_a_damaged_file_does_not_hide_a_good_one(
    offline: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = tmp_path / "mine" / "model.pth", offline / "checkpoints" / "model.pth"
    for path, content in ((bad, CONTENT[1:]), (good, CONTENT)):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    assert weights.obtain(PUBLISHED, weights=None, hub_dir=bad.parent) == good
    assert caplog.messages == [
        f"{bad} is not the published file: it has 16 bytes, not 17; delete it or download it again "
        f"from https://example.org/model.pth; {good} is used"
    ]
    assert weights.find(PUBLISHED, bad.parent) == good
    assert len(weights.faults(PUBLISHED, bad.parent)) == 1
    assert bad.read_bytes() == CONTENT[1:]


def test_a_damaged_file_without_a_network_is_named(offline: Path) -> None:
    path = offline / "checkpoints" / "model.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(LOGIN_PAGE)
    with pytest.raises(BackboneError) as caught:
        weights.obtain(PUBLISHED, weights=None, hub_dir=None)
    sentence = str(caught.value)
    assert (
        f"{path} is not the published file: it has 64 bytes, not 17: it is a web page" in sentence
    )
    assert "; the weights cannot be downloaded (Name or service not known): get https" in sentence


def test_four_processes_download_once(online: Path) -> None:
    fork = multiprocessing.get_context("fork")
    with serve(lambda *_: Answer(200, {}, CONTENT)) as server:
        published = replace(PUBLISHED, url=f"{server.url}/model.pth")
        children = [
            fork.Process(target=weights.obtain, args=(published,), kwargs=NOTHING) for _ in range(4)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    assert len(server.requests) == 1
    assert os.listdir(online / "checkpoints") == ["model.pth"]


ON_THE_HUB = weights.hugging_face_file(
    "timm/tiny", "main", name="model.safetensors", file="tiny.safetensors"
)
NOTHING = {"weights": None, "hub_dir": None}


def tensors(**state: torch.Tensor) -> bytes:
    return save(state or {"w": torch.ones(3)})


def test_a_file_of_the_hub_is_checked_against_the_hash_that_the_hub_publishes(
    online: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tensors()
    with serve(hub_of({"timm/tiny/model.safetensors": whole})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        path = weights.obtain(ON_THE_HUB, **NOTHING)
        assert path.read_bytes() == whole
        before = len(server.requests)
        assert weights.obtain(ON_THE_HUB, **NOTHING) == path
        assert len(server.requests) == before
        for damage in (whole[:-1], whole[:-1] + b"x", LOGIN_PAGE, b""):
            path.resolve().write_bytes(damage)
            assert weights.obtain(ON_THE_HUB, **NOTHING) == path
            assert path.read_bytes() == whole


def test_offline_a_good_file_of_the_hub_is_used_and_a_damaged_one_named(
    online: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(hub_of({"timm/tiny/model.safetensors": tensors()})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        path = weights.obtain(ON_THE_HUB, **NOTHING)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        before = len(server.requests)
        assert weights.obtain(ON_THE_HUB, **NOTHING) == path
        path.resolve().write_bytes(LOGIN_PAGE)
        with pytest.raises(BackboneError, match=r"web page.*downloaded \(HF_HUB_OFFLINE is set\)"):
            weights.obtain(ON_THE_HUB, **NOTHING)
        assert len(server.requests) == before


def test_the_token_is_sent_to_the_hub(tmp_path: Path) -> None:
    """In a process of its own: huggingface_hub reads its settings when it is imported."""
    script = (
        "from backbones.downloads import HubFile, fetch_from_hub\n"
        "print(fetch_from_hub(HubFile('timm/tiny', 'main', 'model.safetensors')))"
    )
    files = {"timm/tiny/model.safetensors": tensors()}
    with serve(hub_of(files, token="secret")) as server:
        settings = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "HF_TOKEN": "secret"}
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | settings | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == files["timm/tiny/model.safetensors"]


def test_weights_without_a_published_hash_stay_what_they_were_at_their_first_use(
    offline: Path,
) -> None:
    path = offline / "checkpoints" / "tiny.safetensors"
    path.parent.mkdir(parents=True)
    model = torch.nn.Linear(2, 3)
    path.write_bytes(tensors(**model.state_dict()))
    for _ in range(2):
        assert weights.obtain(ON_THE_HUB, **NOTHING) == path
        weights.load_into(model, path, dict)
    path.write_bytes(tensors(**torch.nn.Linear(2, 3).state_dict()))
    with pytest.raises(
        BackboneError, match=r"tiny\.safetensors has changed since its first use: if"
    ):
        weights.obtain(ON_THE_HUB, **NOTHING)
    with pytest.raises(
        BackboneError, match=r"tiny\.safetensors has changed since its first use: if"
    ):
        weights.check_file(path, None)  # with --weights, too: nobody edits a cache
    mine = path.rename(offline.parent / "finetuned.safetensors")
    weights.check_file(mine, None)
    weights.load_into(model, mine, dict)
    mine.write_bytes(tensors(**torch.nn.Linear(2, 3).state_dict()))
    weights.check_file(mine, None)


def test_new_weights_in_place_of_old_ones_are_taken_when_they_are_downloaded(
    online: Path,
) -> None:
    old, new = tensors(a=torch.ones(1)), tensors(b=torch.ones(1))
    content = [old]
    with serve(lambda *_: Answer(200, {}, content[0])) as server:
        published = weights.PublishedWeights(file="m.safetensors", url=f"{server.url}/m")
        path = weights.obtain(published, **NOTHING)
        path.unlink()
        content[0] = new
        assert weights.obtain(published, **NOTHING).read_bytes() == new
        assert weights.obtain(published, **NOTHING).read_bytes() == new
    path.write_bytes(tensors(c=torch.ones(1)))
    with pytest.raises(BackboneError, match="has changed since its first use"):
        weights.check(path, published)


@pytest.mark.parametrize("subfolder", [".", "checkpoints", "hub/checkpoints"])
def test_weights_are_found_below_the_hub_dir(offline: Path, tmp_path: Path, subfolder: str) -> None:
    folder = tmp_path / "mine" / subfolder
    folder.mkdir(parents=True)
    (folder / "model.pth").write_bytes(CONTENT)
    assert weights.find(PUBLISHED, None) is None
    found = weights.obtain(PUBLISHED, weights=None, hub_dir=tmp_path / "mine")
    assert found.samefile(folder / "model.pth")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(CONTENT[:-1], r"it has 16 bytes, not 17"), (CONTENT[:-1] + b"S", r"its sha256 is [0-9a-f]+")],
)
def test_a_file_under_the_published_name_must_be_it(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=rf"model\.pth is not the published file: {reason}"):
        weights.obtain(PUBLISHED, weights=path, hub_dir=None)
    other = path.rename(tmp_path / "finetuned.pth")
    assert weights.obtain(PUBLISHED, weights=other, hub_dir=None) == other


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"the weights .*nothing\.pth are not a file"):
        backbones.load("efficientnet_lite0", weights=tmp_path / "nothing.pth")


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "ran"
    trap = {"weight": Trap(f"touch {mark}")}
    if zipped:
        torch.save(trap, path)
    else:
        path.write_bytes(pickle.dumps(trap))
    with pytest.raises(BackboneError, match=r"evil\.pth cannot be read as tensors: "):
        weights.read(path)
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all" * 10])
def test_a_broken_file_is_named_with_the_reason(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=r"broken\.\w+ cannot be read as tensors: .+"):
        weights.read(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_damage_anywhere_in_a_file_is_reported(tmp_path: Path, zipped: bool) -> None:
    """Torch's reader fails on it in a dozen ways, with KeyError and the like."""
    path = tmp_path / "damaged.pth"
    torch.save({"w": torch.ones(9)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    reported = 0
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            weights.read(path)  # some bytes say nothing: of padding, of numbers
        except BackboneError:
            reported += 1
    assert reported > 20


def test_a_file_that_holds_no_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(BackboneError, match=r"tensor\.pth hold a Tensor, not a state dict"):
        weights.read(tmp_path / "tensor.pth")


def test_the_digest_is_of_the_weights_and_not_of_the_file(tmp_path: Path) -> None:
    state = {"b": torch.randn(3, 4), "a": torch.arange(5.0)}
    torch.save(state, tmp_path / "new.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "safe.safetensors")
    digests = {weights.state_sha256(weights.read(path)) for path in tmp_path.iterdir()}
    assert len(digests) == 1
    state["a"][0] += 1e-6
    assert weights.state_sha256(state) not in digests


def test_loading_is_strict_and_names_what_does_not_fit() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))
    state = dict(model.state_dict())
    state["extra"] = state.pop("1.bias")
    state["0.weight"] = state["0.weight"].T
    with pytest.raises(BackboneError) as caught:
        weights.load_strictly(model, state, "w.pth")
    assert str(caught.value) == (
        "the weights w.pth do not fit this model: "
        "1 missing (1.bias); 1 unknown (extra); 1 misshapen (0.weight)"
    )


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"_conv_stem.weight": 0, "_blocks.0._se_reduce.bias": 0}, r"1 unknown \(_blocks\.0\._se"),
        ({"_conv_stem.weight": 0, "_blocks.16._bn0.weight": 0}, r"1 unknown \(_blocks\.16\._bn0"),
        ({"_conv_stem.weight": 0, "_other.weight": 0}, r"1 unknown \(_other\.weight\)"),
        ({"_conv_stem.weight": 0, "a.b.c": 0}, r"1 unknown \(a\.b\.c\)"),
    ],
)
def test_efficientnets_of_another_size_are_refused(
    tmp_path: Path, state: dict[str, int], reason: str
) -> None:
    torch.save({name: torch.zeros(1) for name in state}, tmp_path / "lite4.pth")
    with pytest.raises(BackboneError, match=rf"lite4\.pth do not fit this model: .*{reason}"):
        backbones.load("efficientnet_lite0", device="cpu", weights=tmp_path / "lite4.pth")


@pytest.mark.parametrize(
    "state",
    [
        {"visual.conv1.weight": 1, "visual.proj": [1.0]},
        {"vision_model.embeddings.class_embedding": 1},
        {"vision_model.encoder.layers.0.self_attn.q_proj.weight": "w"},
        {"cls_token": {"a": 1}},
        {0: torch.zeros(1)},
        {"\x1b[2J" * 99: torch.zeros(1)},
    ],
)
def test_what_is_no_tensor_does_not_fit(tmp_path: Path, state: dict[object, object]) -> None:
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(BackboneError, match=r"odd\.pth do not fit this model: 29\d missing"):
        backbones.load("clip_vitl14", device="cpu", weights=tmp_path / "odd.pth")


def test_loading_fills_a_model_without_memory() -> None:
    with torch.device("meta"):
        model = torch.nn.Linear(2, 3)
    state = {"weight": torch.randn(3, 2, dtype=torch.float16), "bias": torch.ones(3)}
    digest = weights.load_strictly(model, state, "w.pth")
    assert model.weight.dtype == torch.float32
    assert torch.equal(model.weight, state["weight"].float())
    state["bias"].zero_()  # the model has its own copy
    assert torch.equal(model.bias, torch.ones(3))
    assert digest == weights.state_sha256(model.state_dict())


def test_renaming_joins_parts_and_drops_tensors_without_a_name() -> None:
    rules = [(r"gone\..+", None), (r"v", "qk#2"), (r"q", "qk#0"), (r"k(\w*)", r"q\g<0>#1")]
    state = {"v": torch.tensor([3]), "q": torch.tensor([1]), "k": torch.tensor([2])}
    state |= {"gone.x": torch.zeros(1), "stays": torch.ones(1)}
    renamed = weights.rename(state, rules)
    assert sorted(renamed) == ["qk", "stays"]
    assert renamed["qk"].tolist() == [1, 2, 3]


def test_the_authors_vjepa2_checkpoint_is_stripped_of_what_is_known_alone() -> None:
    state = {
        "encoder": {f"module.backbone.{n}": torch.zeros(1) for n in ("norm.bias", "pos_embed")}
    }
    state["target_encoder"] = {"module.backbone.norm.bias": torch.ones(1)}
    assert vjepa2.official_names(state) == {"norm.bias": torch.zeros(1)}
    state["encoder"]["module.backbone.other"] = torch.zeros(1)
    assert "other" in vjepa2.official_names(state)  # for the strict load to refuse
