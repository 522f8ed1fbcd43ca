"""The contract: shapes, types, refusals, and numbers that depend on nothing but the clip."""

import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import backbones
from backbones import BackboneError, Preprocess, clip, dinov2, efficientnet, vjepa2
from backbones.base import resolve_device, resolve_precision
from backbones.numerics import cpu_matmul_setting, forward_numerics

FAMILIES = {"dinov2": dinov2, "clip": clip, "vjepa2": vjepa2, "efficientnet": efficientnet}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture(height: int, width: int) -> np.ndarray:
    """Smooth and detailed at once, like a photograph."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * a + y * b) for a, b in [(0.02, 0.05), (0.3, 0.1), (0.7, 0.5)]]
    return np.stack([127 + 80 * w for w in waves], -1).astype(np.uint8)[None]


def pil_pixels(official: Preprocess, image: np.ndarray) -> np.ndarray:
    """The same preprocessing of one frame (H, W, 3), by PIL: int16 (3, crop, crop)."""
    height, width, _ = image.shape
    assert official.short_side is not None
    size = official.short_side
    new = (int(size * width / height), size)
    if height > width:
        new = (size, int(size * height / width))
    resample = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    resized = Image.fromarray(image).resize(new, resample[official.interpolation])
    left, top = (round((side - official.crop) / 2) for side in new)
    crop = resized.crop((left, top, left + official.crop, top + official.crop))
    return np.asarray(crop, np.int16).transpose(2, 0, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_official_pixels_of_a_photograph_are_pils_within_one_grey_level(family: str) -> None:
    data = pytest.importorskip("skimage.data")
    official = FAMILIES[family].PREPROCESSING["official"]
    for image in (data.astronaut(), data.chelsea(), data.coffee()):
        found = official(image[None])[0].numpy().astype(np.int16)
        assert np.abs(found - pil_pixels(official, image)).max() <= 1


@pytest.mark.parametrize("size", [(240, 320), (480, 270), (100, 90)])
@pytest.mark.parametrize("family", FAMILIES)
def test_official_pixels_of_a_test_card_are_pils_nearly(family: str, size: tuple[int, int]) -> None:
    official = FAMILIES[family].PREPROCESSING["official"]
    frames = picture(*size)
    found = official(frames)[0].numpy().astype(np.int16)
    difference = np.abs(found - pil_pixels(official, frames[0]))
    assert difference.max() <= 2
    assert (difference > 1).mean() < 1e-3


def test_the_papers_dinov2_squashes_without_antialiasing() -> None:
    frames = noise(2, 448, 896, 3)
    found = dinov2.PREPROCESSING["paper"](frames)
    assert found.shape == (2, 3, 224, 224)
    # Bilinear at half size samples between the two middle pixels of each cell, here 2 x 4.
    middle = frames.reshape(2, 224, 2, 224, 4, 3)[:, :, :, :, 1:3].mean((2, 4))
    assert np.abs(found.numpy().transpose(0, 2, 3, 1) - middle).max() <= 1


def test_the_papers_vjepa2_crops_what_the_official_one_shrinks_away() -> None:
    frames = picture(256, 340)
    paper = vjepa2.PREPROCESSING["paper"](frames)[0].numpy()
    assert np.array_equal(paper.transpose(1, 2, 0), frames[0][:, 42:298])
    official = vjepa2.PREPROCESSING["official"](frames)[0].numpy()
    assert np.abs(official.astype(int) - paper).mean() > 5


def test_pixels_stay_bytes_and_are_normalised_later() -> None:
    official = dinov2.PREPROCESSING["official"]
    pixels = official(noise(1, 300, 300, 3))
    assert pixels.dtype == torch.uint8
    expected = (pixels.double() / 255 - torch.tensor(dinov2.MEAN).double()[:, None, None]) / (
        torch.tensor(dinov2.STD).double()[:, None, None]
    )
    normalised = official.normalise(pixels)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised.double(), expected, rtol=0, atol=1e-6)


def test_a_read_only_frame_is_accepted_and_left_alone() -> None:
    frames = noise(1, 40, 50, 3)
    frames.setflags(write=False)
    before = frames.copy()
    assert dinov2.PREPROCESSING["official"](frames).shape == (1, 3, 224, 224)
    assert np.array_equal(frames, before)


def test_views_of_frames_are_accepted() -> None:
    """Reversed in time or in colour, as after OpenCV; every second one."""
    official = dinov2.PREPROCESSING["official"]
    frames = noise(4, 40, 50, 3)
    for view in (frames[::-1], frames[..., ::-1], frames[::2]):
        assert torch.equal(official(view), official(view.copy()))


@pytest.mark.parametrize(
    "frames",
    [np.zeros((1, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), noise(0, 8, 8, 3)],
)
def test_frames_of_another_kind_are_refused_with_their_shape(frames: np.ndarray) -> None:
    with pytest.raises(BackboneError, match=r"uint8 of shape \(T, H, W, 3\), got .*\("):
        dinov2.PREPROCESSING["official"](frames)


def test_a_preprocessing_must_say_what_it_does() -> None:
    with pytest.raises(ValueError, match="either squashes or resizes"):
        Preprocess(name="x", crop=8, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ValueError, match="short side 7 is below the crop 8"):
        Preprocess(name="x", crop=8, short_side=7, mean=(0, 0, 0), std=(1, 1, 1))


def test_features_have_the_promised_shape_and_type(tiny) -> None:
    model = tiny()
    batch = torch.stack([model.preprocess(noise(6, 40, 50, 3, seed=s)) for s in range(3)])
    features = model.forward(batch)
    assert features.shape == (3, 3, 5)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert model.forward(batch[:0]).shape == (0, 3, 5)


def test_a_head_can_be_trained_on_features(tiny) -> None:
    model, head = tiny(), torch.nn.Linear(5, 1)
    head(model.forward(model.preprocess(noise(4, 40, 50, 3))[None])).sum().backward()
    assert head.weight.grad is not None


def test_a_batch_equals_its_parts_to_the_bit(tiny) -> None:
    model = tiny()
    batch = torch.stack([model.preprocess(noise(4, 40, 50, 3, seed=s)) for s in range(5)])
    whole = model.forward(batch)
    assert torch.equal(whole, torch.cat([model.forward(part) for part in batch.split(2)]))
    assert torch.equal(whole.flip(0), model.forward(batch.flip(0)))


@pytest.mark.parametrize("frames", [1, 3, 0])
def test_frames_that_do_not_fill_their_steps_are_refused(tiny, frames: int) -> None:
    with pytest.raises(BackboneError, match=f"tiny reads 2 frames per step, and {frames} frames"):
        tiny().forward(torch.zeros(1, frames, 3, 28, 28, dtype=torch.uint8))


@pytest.mark.parametrize(
    "batch", [torch.zeros(1, 2, 3, 28, 28), torch.zeros(2, 3, 28, 28, dtype=torch.uint8)]
)
def test_another_batch_is_refused_with_its_shape(tiny, batch: torch.Tensor) -> None:
    with pytest.raises(BackboneError, match=r"takes batches uint8 \(B, T, 3, 28, 28\), got"):
        tiny().forward(batch)


def test_features_do_not_depend_on_what_the_process_has_set(tiny) -> None:
    model = tiny()
    batch = model.preprocess(noise(4, 40, 50, 3))[None]
    expected = model.forward(batch)
    mkldnn = torch.backends.mkldnn
    before = mkldnn.matmul.fp32_precision, torch.get_default_dtype(), torch.get_num_threads()
    try:
        mkldnn.matmul.fp32_precision = "ieee"
        torch.set_default_dtype(torch.float64)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(model.forward(batch), expected)
        assert mkldnn.matmul.fp32_precision == "ieee"
    finally:
        mkldnn.matmul.fp32_precision = before[0]
        torch.set_default_dtype(before[1])
    assert torch.get_num_threads() == before[2]


def test_settings_come_back_after_an_error() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision

    def fail() -> None:
        with forward_numerics(torch.device("cpu"), "fp32"):
            assert torch.backends.mkldnn.matmul.fp32_precision == cpu_matmul_setting()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_threads_do_not_disturb_each_other(tiny) -> None:
    model, half = tiny(), tiny(precision="bf16")
    batch = model.preprocess(noise(4, 40, 50, 3))[None]
    expected = {m.precision: m.forward(batch) for m in (model, half)}
    wrong: list[str] = []

    def work(m: backbones.Backbone) -> None:
        if not all(torch.equal(m.forward(batch), expected[m.precision]) for _ in range(20)):
            wrong.append(m.precision)

    threads = [threading.Thread(target=work, args=(m,)) for m in (model, half, model, half)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(("precision", "cosine"), [("bf16", 0.999), ("fp16", 0.9999)])
def test_lower_precision_gives_nearly_the_same_features(tiny, precision, cosine) -> None:
    exact, rough = tiny(), tiny(precision=precision)
    batch = exact.preprocess(noise(4, 40, 50, 3))[None]
    a, b = exact.forward(batch), rough.forward(batch)
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    assert float(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0)) > cosine


def test_the_float32_of_this_cpu_is_float32(tiny) -> None:
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(1))
    with forward_numerics(torch.device("cpu"), "fp32"):
        product = torch.nn.functional.linear(x, x)
    exact = x.double() @ x.double().T
    assert float((product - exact).norm() / exact.norm()) < 1e-6


def test_fingerprints_are_json_and_tell_features_apart(tiny) -> None:
    model = tiny()
    assert json.loads(json.dumps(model.fingerprint)) == model.fingerprint
    assert model.fingerprint == tiny().fingerprint
    assert model.fingerprint != tiny(precision="bf16").fingerprint
    assert "cpu" not in json.dumps(model.fingerprint)


def test_auto_precision_on_a_cpu_is_float32(tiny) -> None:
    assert tiny().precision == "fp32"
    assert repr(tiny()) == "Backbone(tiny, dim=5, frames_per_step=2, fp32 on cpu)"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "dino"}, r"unknown backbone 'dino'; choose from clip_vitl14, dinov2_vitb14, "),
        ({"device": "gpu"}, r"unknown device 'gpu'; choose auto, cpu or cuda"),
        ({"device": "meta"}, r"device 'meta' is not supported; choose auto, cpu or cuda"),
        ({"device": "mps"}, r"device 'mps' is not supported; choose auto, cpu or cuda"),
        ({"precision": "int8"}, r"unknown precision 'int8'; choose from auto, fp32, bf16, fp16"),
        ({"preprocess": "papers"}, r"unknown preprocessing 'papers'; choose from official"),
        ({"output": "cls"}, r"unknown output 'cls'; choose from pooled"),
    ],
)
def test_wrong_choices_list_the_right_ones(options: dict[str, str], sentence: str) -> None:
    arguments = {"name": "efficientnet_lite0", "device": "cpu", **options}
    with pytest.raises(BackboneError, match=sentence):
        backbones.load(arguments.pop("name"), **arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(tiny) -> None:
    with pytest.raises(BackboneError, match="'cuda' was asked for, but torch sees no CUDA GPU"):
        tiny(device="cuda")


def test_a_gpu_of_a_number_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(BackboneError, match="'cuda:2' was asked for, but torch sees 2 here"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp32"), ((8, 0), "bf16")])
def test_auto_takes_bfloat16_only_where_the_gpu_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    """Torch says of a T4 (7.5), too, that it supports bfloat16: it emulates it."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision("auto", torch.device("cuda", 0)) == precision


def test_a_backbone_may_be_made_of_others(tiny) -> None:
    inner, outer = tiny(), tiny()
    batch = inner.preprocess(noise(4, 40, 50, 3))[None]
    expected = inner.forward(batch)
    outer._encode = lambda pixels: inner.forward(batch)
    found: list[torch.Tensor] = []
    thread = threading.Thread(target=lambda: found.append(outer.forward(batch)), daemon=True)
    thread.start()
    thread.join(20)
    assert found, "it waits for itself"
    assert torch.equal(found[0], expected)


def test_the_table_names_every_backbone() -> None:
    rows = {str(row["name"]): row for row in backbones.describe()}
    assert list(rows)[:6] == [
        "dinov2_vits14",
        "dinov2_vitb14",
        "dinov2_vitl14",
        "clip_vitl14",
        "vjepa2_vitl",
        "efficientnet_lite0",
    ]
    assert rows["vjepa2_vitl"]["frames_per_step"] == 2
    assert str(rows["efficientnet_lite0"]["weights"]).endswith(".pth")
    json.dumps(list(rows.values()))
