"""On a GPU: what travels there, that float32 is float32, and what bfloat16 and batches change.

Random weights for all but the embedded backbone; the two ViT-L are marked slow.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import backbones
from backbones import Backbone, dinov2, vjepa2
from benchmarks import backbone_speed
from tests.helpers.authors_code import authors_code

pytestmark = pytest.mark.gpu
FRAMES = {"efficientnet_lite0": 8, "dinov2_vits14": 8, "clip_vitl14": 4, "vjepa2_vitl": 16}
EVERY = [
    "efficientnet_lite0",
    "dinov2_vits14",
    pytest.param("clip_vitl14", marks=pytest.mark.slow),
    pytest.param("vjepa2_vitl", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Backbone]:
    files: dict[str, Path] = {}

    def do(name: str, **options: Any) -> Backbone:
        options = {"device": "cuda", "precision": "fp32", **options}
        if name in ("dinov2_vits14", "vjepa2_vitl"):
            family = dinov2 if name == "dinov2_vits14" else vjepa2
            options["hub_dir"] = authors_code(family.REPOSITORY)
        if name != "efficientnet_lite0":
            if name not in files:
                folder = tmp_path_factory.mktemp(name)
                files[name] = backbone_speed.random_weights(name, folder, options.get("hub_dir"))
            options["weights"] = files[name]
        return backbones.load(name, **options)

    return do


def batch_for(model: Backbone, clips: int) -> torch.Tensor:
    """Clips of moving waves, preprocessed: uint8 (clips, T, 3, side, side)."""
    y, x, t = np.mgrid[:240, :320, : FRAMES[model.name]]
    pixels = []
    for clip in range(clips):
        waves = [np.sin(x * a + y * b + t + clip) for a, b in ((0.02, 0.05), (0.2, 0.1), (0.4, 0))]
        frames = np.stack([127 + 90 * wave for wave in waves], -1).astype(np.uint8)
        pixels.append(model.preprocess(frames.transpose(2, 0, 1, 3)))
    return torch.stack(pixels)


def least_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a.flatten(0, 1), b.flatten(0, 1)).min())


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", EVERY)
def test_float32_is_that_of_the_cpu(load, name: str) -> None:
    """TF32, which is off, would differ by about 1e-3."""
    model, reference = load(name), load(name, device="cpu")
    batch = batch_for(model, 1)
    found = model.forward(batch)
    assert (found.device.type, found.dtype) == ("cpu", torch.float32)
    assert relative(found, reference.forward(batch)) < 1e-4
    assert model.fingerprint == reference.fingerprint


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_keeps_the_direction_of_features(load, name: str, precision: str) -> None:
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bfloat16")
    exact, rough = load(name), load(name, precision=precision)
    batch = batch_for(exact, 2)
    a, b = exact.forward(batch), rough.forward(batch)
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    assert least_cosine(a, b) > (0.998 if name == "efficientnet_lite0" else 0.999)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-4), ("auto", 5e-2)])
def test_a_clip_hardly_depends_on_its_batch(load, name: str, precision: str, error: float) -> None:
    model = load(name, precision=precision)
    batch = batch_for(model, 5)
    whole = model.forward(batch)
    alone = torch.cat([model.forward(clip) for clip in batch.split(1)])
    assert relative(whole, alone) < error
    assert relative(whole, alone) < relative(whole.roll(1, 0), alone) / 2  # that is, of other clips


def test_auto_is_bfloat16_where_the_gpu_has_it(load) -> None:
    model = load("efficientnet_lite0", device="auto", precision="auto")
    assert model.device.type == "cuda"
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    assert model.precision == ("bf16" if bf16 else "fp32")


def test_pixels_travel_as_pinned_bytes(load, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load("efficientnet_lite0")
    batch = batch_for(model, 2)
    expected = model.forward(batch)
    sent: list[torch.Tensor] = []
    real = torch.Tensor.to

    def spy(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        moved = real(tensor, *args, **options)
        if tensor.device.type == "cpu" and moved.device.type == "cuda":
            sent.append(tensor)
        return moved

    monkeypatch.setattr(torch.Tensor, "to", spy)
    found = model.forward(batch)
    (pixels,) = sent
    assert pixels.dtype == torch.uint8
    assert pixels.is_pinned()
    assert torch.equal(pixels, batch)
    assert relative(found, expected) < 1e-5


def test_the_process_keeps_its_own_settings(load) -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    model = load("efficientnet_lite0")
    batch = batch_for(model, 1)
    expected = model.forward(batch)
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert relative(model.forward(batch), expected) < 1e-5
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def test_the_speed_script_runs(capsys: pytest.CaptureFixture[str]) -> None:
    backbone_speed.main(
        ["--only", "efficientnet_lite0", "--device", "cuda", "--clips", "1", "--batch", "4"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("efficientnet_lite0")] == [
        "plain", "fp32", "bf16", "fp16",
    ]  # fmt: skip
