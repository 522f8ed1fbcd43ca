"""The doctor: green where all is well, and one sentence with the remedy where it is not."""

import hashlib
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import backbones
from backbones import BackboneError, weights
from data import copies, video
from data.video.pyav import DecodeSession
from pipeline import doctor
from pipeline.doctor import BROKEN, NOTE, OK, CheckOptions, HostCheck
from tests.helpers.command import run

CONTENT = b"published weights"
PUBLISHED = weights.PublishedWeights(
    file="model.pth",
    url="https://example.org/model.pth",
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> backbones.Entry:
    """The only backbone: with a published file, and an empty torch.hub folder."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    entry = replace(backbones.BACKBONES["dinov2_vits14"], name="mine", published=PUBLISHED)
    monkeypatch.setattr(backbones, "BACKBONES", {"mine": entry})
    return entry


def versions(monkeypatch: pytest.MonkeyPatch, **known: str | None) -> None:
    """Pretend that these packages are installed in these versions (None: not at all)."""
    real = metadata.version

    def version(name: str) -> str:
        found = known.get(name, "real")
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return real(name) if found == "real" else found

    monkeypatch.setattr("pipeline.doctor.metadata.version", version)


def test_a_healthy_machine_is_green_without_a_network() -> None:
    rows = {row.name: row for row in doctor.examine(network=False)}
    for name in ("torchvision", "decord", "CPU", "GPU", "decoder pyav", "decoder decord"):
        assert rows[name].level == OK, rows[name].sentence
    embedded = rows["features of efficientnet_lite0"]
    assert embedded.level == OK, embedded.sentence
    assert rows["weights of efficientnet_lite0"].sentence.endswith("is the published file")
    assert all("\n" not in row.sentence for row in rows.values())
    assert {row.level for row in rows.values()} <= {OK, NOTE}


def test_torch_and_torchvision_that_do_not_fit_are_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mismatch(*args: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr("torchvision.ops.nms", mismatch)
    versions(monkeypatch, torch="2.9.0", torchvision="0.19.0")
    row = next(doctor.check_torch(CheckOptions()))
    assert row.level == BROKEN
    assert row.sentence == (
        "torch 2.9.0 with torchvision 0.19.0 do not belong together (operator torchvision::nms "
        "does not exist): pip install --upgrade torch torchvision"
    )


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, einops=None)
    assert list(doctor.check_torch(CheckOptions()))[-1] == (
        "einops",
        BROKEN,
        "vjepa2_vitl needs the package einops: pip install einops",
    )
    versions(monkeypatch, timm=None)
    assert (
        next(doctor.check_torch(CheckOptions())).sentence
        == "timm is not installed: pip install timm"
    )


def test_two_decords_at_once_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, decord="0.6.0", decord2="3.0.0")
    (row,) = doctor.check_decoder_packages(CheckOptions())
    assert row.level == BROKEN
    assert "decord 0.6.0 and decord2 3.0.0 are both installed" in row.sentence
    versions(monkeypatch, decord=None, decord2=None)
    assert next(doctor.check_decoder_packages(CheckOptions())).level == OK


def test_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = set(metadata.metadata("heliograph").get_all("Provides-Extra") or [])
    assert set(doctor.EXTRAS) == declared - {"docs", "embedded", "lint", "test"}
    lacking = {"s3fs", "ray"}
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name in lacking else name)
    (row,) = doctor.check_extras(CheckOptions())
    assert row.level == NOTE
    assert "ray (--ray), remote (files at addresses): pip install 'heliograph[" in row.sentence
    assert row.sentence.startswith("arrow, flow, lance, pandas, tensorboard, torchcodec; not")
    lacking.clear()
    assert next(doctor.check_extras(CheckOptions())).level == OK


def test_weights_are_intact_broken_or_to_download(entry: backbones.Entry, tmp_path: Path) -> None:
    def look(reachable: bool) -> doctor.Finding:
        (row,) = doctor.check_weights(CheckOptions(can_reach=lambda url: reachable))
        return row

    assert look(True) == (
        "weights of mine",
        OK,
        "not here yet; 0 MB will be downloaded on first use",
    )
    assert look(False).level == NOTE
    assert (
        "example.org cannot be reached: get https://example.org/model.pth" in look(False).sentence
    )
    assert PUBLISHED.sha256 in look(False).sentence
    path = tmp_path / "hub" / "checkpoints" / "model.pth"
    assert str(path) in look(False).sentence
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[::-1])
    assert look(True).level == BROKEN
    assert "model.pth is not the published file: its sha256 is" in look(True).sentence
    path.write_bytes(CONTENT)
    assert look(False) == ("weights of mine", OK, f"{path} is the published file")


def test_a_damaged_file_next_to_a_good_one_is_a_note(
    entry: backbones.Entry, tmp_path: Path
) -> None:
    bad, good = tmp_path / "mine" / "model.pth", tmp_path / "hub" / "checkpoints" / "model.pth"
    for path, content in ((bad, CONTENT[::-1]), (good, CONTENT)):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    (row,) = doctor.check_weights(CheckOptions(bad.parent))
    assert row.level == NOTE
    assert row.sentence.startswith(f"{bad} is not the published file: its sha256 is ")
    assert row.sentence.endswith(f"; {good} is the published file, and is used")


def test_weights_of_the_hub_are_not_promised_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = backbones.BACKBONES["clip_vitl14"]
    monkeypatch.setattr(weights, "candidates", lambda published, hub_dir: iter(()))
    monkeypatch.setattr(backbones, "BACKBONES", {"clip_vitl14": clip})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (row,) = doctor.check_weights(CheckOptions(can_reach=lambda url: True))
    assert row.level == NOTE
    assert row.sentence.startswith(
        "not here, and HF_HUB_OFFLINE is set: get https://huggingface.co"
    )


def test_code_is_here_changed_or_to_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    rows = list(doctor.check_code(CheckOptions(can_reach=lambda url: False)))
    assert [row.level for row in rows] == [NOTE, NOTE]
    assert "clone https://github.com/facebookresearch/dinov2 at b8931f7b" in rows[0].sentence
    clone = tmp_path / "dinov2"
    (clone / "dinov2").mkdir(parents=True)
    (clone / "hubconf.py").write_text("")
    row = next(doctor.check_code(CheckOptions(clone, can_reach=lambda url: True)))
    assert row.level == NOTE
    assert row.sentence.startswith(f"{clone} differs from our commit b8931f7b")


def test_a_host_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(doctor, "answers", lambda url: bool(asked.append(url)) or True)
    rows = list(doctor.check_weights(CheckOptions(can_reach=HostCheck())))
    assert len(asked) == len({url.split("/")[2] for url in asked}) <= 2
    assert {row.level for row in rows} == {OK}


def test_a_mirror_that_is_not_a_url_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "mirror.example")
    clip = backbones.BACKBONES["clip_vitl14"]
    monkeypatch.setattr(weights, "candidates", lambda published, hub_dir: iter(()))
    monkeypatch.setattr(backbones, "BACKBONES", {"clip_vitl14": clip})
    (row,) = doctor.check_weights(CheckOptions())
    assert row.level == NOTE
    assert "cannot be reached: get mirror.example/openai/clip" in row.sentence


@pytest.mark.parametrize(
    ("capability", "words"),
    [
        ((7, 5), "precision auto is fp32, since it has no bfloat16"),
        ((9, 0), "auto is bf16 (fp32 for motion)"),
    ],
)
def test_a_gpu_is_reported_with_its_precision(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], words: str
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for name, answer in {
        "is_available": True,
        "is_bf16_supported": True,
        "get_device_capability": capability,
        "get_device_name": "Card",
        "get_device_properties": SimpleNamespace(total_memory=16 << 30),
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *device, answer=answer: answer)
    row = list(doctor.check_devices(CheckOptions()))[-1]
    assert row.sentence.startswith("Card, 16 GiB; --precision auto is ")
    assert row.sentence.endswith(words)


def test_a_decoder_that_reads_other_frames_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(session: DecodeSession, indices: np.ndarray, device: str) -> np.ndarray:
        return session.frames(np.maximum(indices - 1, 0))

    decord = replace(video.DECODERS["decord"], read=late)
    monkeypatch.setitem(video.DECODERS, "decord", decord)
    rows = {row.name: row for row in doctor.check_decoders(CheckOptions())}
    assert rows["decoder pyav"].level == OK
    assert rows["decoder decord"] == (
        "decoder decord",
        BROKEN,
        "reads other frames than asked",
    )


def test_features_that_differ_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "GOLDEN_LENGTHS", tuple(v * 1.02 for v in doctor.GOLDEN_LENGTHS))
    (row,) = doctor.check_embedded_backbone(CheckOptions())
    assert row.level == BROKEN
    assert row.sentence.startswith("differ from those of other machines by 2.0%")


def test_a_backbone_that_does_not_load_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise BackboneError("the weights are gone")

    monkeypatch.setattr(backbones, "load", fail)
    (row,) = doctor.check_embedded_backbone(CheckOptions())
    assert row == ("features of efficientnet_lite0", BROKEN, "the weights are gone")


def test_a_backbone_without_its_weights_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find", lambda published, hub_dir: None)
    (row,) = doctor.check_embedded_backbone(CheckOptions())
    assert row == (
        "features of efficientnet_lite0",
        NOTE,
        "not checked, since its weights are not here",
    )


@pytest.mark.parametrize(("level", "code"), [(OK, 0), (NOTE, 0), (BROKEN, 1)])
def test_the_command_fails_only_where_something_is_broken(
    monkeypatch: pytest.MonkeyPatch, level: str, code: int
) -> None:
    rows = [doctor.Finding("one", level, "as it is."), doctor.Finding("two", OK, "well.")]
    monkeypatch.setattr(doctor, "examine", lambda **options: iter(rows))
    result = run("doctor", "--offline")
    assert result.exit_code == code
    assert result.stdout.splitlines() == [f"{level:6}  one: as it is.", "ok      two: well."]


def test_lines_are_folded_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"https://example.org/{'a' * 80}"
    row = doctor.Finding("one", OK, f"{'many words ' * 12}and {url}")
    monkeypatch.setattr(doctor, "examine", lambda **options: iter([row]))
    lines = run("doctor", "--offline").stdout.splitlines()
    assert max(len(line) for line in lines if url not in line) in range(71, 81)
    assert " ".join(line.strip() for line in lines) == f"ok      one: {row.sentence}"
    assert lines[-1] == f"        {url}"
    assert all(line.startswith("        many") for line in lines[1:-1])


def test_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    assert next(doctor.check_devices(CheckOptions())).sentence.startswith("1 thread, ")


class TestCopies:
    """Those of what is at addresses, in a folder of the user's that grows unseen."""

    @pytest.fixture(autouse=True)
    def _home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def found(self) -> tuple[str, str]:
        (finding,) = doctor.check_copies(CheckOptions())
        return finding.level, finding.sentence

    def add(self, name: str, size: int, *, is_copy: bool) -> None:
        folder = copies.root() / "0a" / name
        folder.mkdir(parents=True)
        (folder.parent / "address").write_text("s3://bucket/a.h5")
        (folder / "a.h5").write_bytes(bytes(size))
        if is_copy:
            (folder / ".used").touch()

    def test_there_are_none(self) -> None:
        assert self.found() == (OK, "none of what is at addresses")

    def test_they_are_counted_and_can_be_removed(self) -> None:
        for name in ("1", "2"):
            self.add(name, 1_250_000, is_copy=True)
        folder = copies.root()
        assert self.found() == (
            OK,
            f"2.5 MB of what is at addresses are in {folder}: rm -r {folder} removes them; beyond "
            "20 GiB the oldest go",
        )

    def test_what_is_not_sent_is_not_to_be_removed(self) -> None:
        self.add("1", 1_250_000, is_copy=True)
        self.add("staged", 700_000, is_copy=False)
        level, sentence = self.found()
        assert level == OK
        assert "and 700.0 kB of outputs that are not sent yet: run their commands" in sentence
        assert "rm -r" not in sentence
