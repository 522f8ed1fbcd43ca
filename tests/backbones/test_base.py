"""The contract: shapes, types, refusals, and numbers that depend on nothing but the clip."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from backbones import BackboneError, Preprocess, clip, dinov2, efficientnet, vjepa2
from tests.helpers.frames import noise, waves

FAMILIES = {"dinov2": dinov2, "clip": clip, "vjepa2": vjepa2, "efficientnet": efficientnet}


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
    frames = waves(*size)
    found = official(frames)[0].numpy().astype(np.int16)
    difference = np.abs(found - pil_pixels(official, frames[0]))
    assert difference.max() <= 2
    assert (difference > 1).mean() < 1e-3


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


def test_frames_that_would_be_huge_once_resized_are_refused_before() -> None:
    """65,535 x 1 pixels with a short side of 256 are 12.9 GB."""
    official = dinov2.PREPROCESSING["official"]
    for shape in ((8, 1, 65_535, 3), (8, 65_535, 1, 3), (1, 4, 129, 3)):
        frames = np.zeros(shape, np.uint8)
        height, width = shape[1:3]
        with pytest.raises(BackboneError, match=f"frames of {width}x{height} are [0-9,.]+ times"):
            official(frames)
    assert official(np.zeros((1, 128, 4, 3), np.uint8)).shape == (1, 3, 224, 224)


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_resized_one_at_a_time_are_the_same_to_the_bit(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = FAMILIES[family].PREPROCESSING["official"]
    frames = noise(5, 60, 90, 3)
    whole = official(frames)
    monkeypatch.setattr("backbones.base.RESIZED_BYTES", 1)
    torch.testing.assert_close(official(frames), whole, rtol=0, atol=0)


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
    with pytest.raises(BackboneError, match=f"tiny reads 2 frames per step, and {frames} frames?"):
        tiny().forward(torch.zeros(1, frames, 3, 28, 28, dtype=torch.uint8))


@pytest.mark.parametrize(
    "batch", [torch.zeros(1, 2, 3, 28, 28), torch.zeros(2, 3, 28, 28, dtype=torch.uint8)]
)
def test_another_batch_is_refused_with_its_shape(tiny, batch: torch.Tensor) -> None:
    with pytest.raises(BackboneError, match=r"takes batches uint8 \(B, T, 3, 28, 28\), got"):
        tiny().forward(batch)


def test_fingerprints_are_json_and_tell_features_apart(tiny) -> None:
    model = tiny()
    assert json.loads(json.dumps(model.fingerprint)) == model.fingerprint
    assert model.fingerprint == tiny().fingerprint
    assert model.fingerprint != tiny(precision="bf16").fingerprint
    assert "cpu" not in json.dumps(model.fingerprint)
