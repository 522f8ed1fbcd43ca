"""Any image model of timm, against timm itself."""

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import backbones
from backbones import BackboneError, efficientnet, timm_models, weights


def pictures() -> np.ndarray:
    """Two smooth frames (2, 300, 420, 3): noise is not what resizing is for."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 10, 14, 3), dtype=np.uint8)
    return np.stack([Image.fromarray(small).resize((420, 300)) for small in noise])


def saved(name: str, path: Path) -> torch.nn.Module:
    """timm's whole model with weights that make each layer matter, and a file of them."""
    model = timm.create_model(name).eval()
    model.load_state_dict(weights.random_state(model.state_dict()))
    save_file(model.state_dict(), path)
    return model


def test_the_embedded_weights_give_the_embedded_features_to_the_bit(tmp_path: Path) -> None:
    path = weights.find(efficientnet.PUBLISHED, None)
    assert path is not None
    classifier, _ = efficientnet.classifier(path)
    torch.save(classifier.state_dict(), tmp_path / "lite0.pth")
    ours = backbones.load("efficientnet_lite0", device="cpu")
    generic = backbones.load(
        "timm:tf_efficientnet_lite0", weights=tmp_path / "lite0.pth", device="cpu"
    )
    assert generic.name == "timm:tf_efficientnet_lite0.in1k"
    assert generic.dim == ours.dim == 1280
    pixels = ours.preprocess(pictures())
    assert torch.equal(generic.preprocess(pictures()), pixels)
    assert generic.preprocess.mean == (0.5, 0.5, 0.5)  # where the model's authors have 127 / 255
    generic.preprocess = ours.preprocess
    assert torch.equal(generic.forward(pixels[None]), ours.forward(pixels[None]))


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224.augreg_in21k",  # a class token
        pytest.param(  # buffers that are not in the file
            "swin_tiny_patch4_window7_224.ms_in1k", marks=pytest.mark.slow
        ),
        "efficientformer_l1.snap_dist_in1k",  # two classifiers, and indices in the file
        "mobilenetv3_small_050.lamb_in1k",  # a layer between pooling and classifier
    ],
)
def test_features_are_those_before_the_classifier(name: str, tmp_path: Path) -> None:
    whole = saved(name, tmp_path / "w.safetensors")
    ours = backbones.load(f"timm:{name}", weights=tmp_path / "w.safetensors", device="cpu")
    pixels = ours.preprocess(pictures())
    with torch.inference_mode():
        tokens = whole.forward_features(ours.preprocess.normalise(pixels))
        expected = whole.forward_head(tokens, pre_logits=True)
    found = ours.forward(pixels[None])
    assert found.shape == (1, 2, ours.dim)
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18.a1_in1k",  # bicubic, a part cut off
        "cspresnet50.ra_in1k",  # bilinear
        "convnext_tiny.fb_in22k_ft_in1k_384",  # squashed
    ],
)
def test_preprocessing_is_timms(name: str) -> None:
    config = timm.get_pretrained_cfg(name).to_dict()
    ours = timm_models.make_entry(f"timm:{name}")
    official = ours.build.args[3]
    usual = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=config), is_training=False
    )
    expected = torch.stack([usual(Image.fromarray(frame)) for frame in pictures()])
    found = official.normalise(official(pictures()))
    assert found.shape == expected.shape
    grey_level = 1 / 255 / min(official.std)
    assert float((found - expected).abs().max()) <= 2.01 * grey_level


def test_the_name_says_which_weights() -> None:
    assert timm_models.make_entry("timm:resnet18").name == "timm:resnet18.a1_in1k"
    other = timm_models.make_entry("timm:resnet18.tv_in1k")
    assert (other.name, other.dim, other.licence) == ("timm:resnet18.tv_in1k", 512, "bsd-3-clause")
    assert other.parameters == 11_176_512
    assert other.published is not None
    assert other.published.hugging_face == ("timm/resnet18.tv_in1k", "main", "model.safetensors")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("timm:resnt18", r"timm has no model 'resnt18'; near it: resnet18, "),
        ("timm:resnet18.a1", r"timm has no model 'resnet18\.a1'; near it: .*resnet18\.a1_in1k"),
        ("timm:hf-hub:some/body", "timm has no model 'hf-hub:some/body'"),
        ("timm:deepseek_vit_412m", "crop mode 'border': no preprocessing of ours does that"),
        ("timm:davit_base_fl", "name a file of them with --weights, or take --weights random"),
        ("resnet18", "or timm:MODEL for an image model of timm"),
    ],
)
def test_what_cannot_be_loaded_is_named(name: str, sentence: str) -> None:
    with pytest.raises(BackboneError, match=sentence):
        backbones.load(name)


def test_weights_of_another_model_do_not_fit(tmp_path: Path) -> None:
    saved("resnet10t", tmp_path / "w.safetensors")
    with pytest.raises(BackboneError, match=r"w\.safetensors do not fit this model: .* missing"):
        backbones.load("timm:resnet18", weights=tmp_path / "w.safetensors")


def test_without_a_network_the_sentence_says_what_to_download(tmp_path, monkeypatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError(ConnectionRefusedError())

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("backbones.downloads.urlopen", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    path = tmp_path / "checkpoints" / "resnet10t.c3_in1k.safetensors"
    url = "https://huggingface.co/timm/resnet10t.c3_in1k/resolve/main/model.safetensors"
    with pytest.raises(BackboneError, match=f"get {url} and put it at {path}, or name it with"):
        backbones.load("timm:resnet10t")
    path.parent.mkdir()
    saved("resnet10t", path)
    assert backbones.load("timm:resnet10t").dim == 512
