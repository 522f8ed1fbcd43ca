"""Independent implementations with the same random weights give the same numbers.

The weights are drawn so that every block matters: layer scales near one, matrices that keep the
size of their input. Small sizes run always; the sizes in use are marked slow. What compares with
the authors' own code needs that code (see `authors_code`); `benchmarks/hub_parity.py` repeats it
for every model.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

import backbones
from backbones import clip, dinov2, vjepa2, weights
from tests.helpers.authors_code import authors_code

transformers = pytest.importorskip("transformers")


def shake(model: torch.nn.Module) -> Any:
    """Random weights under which no block can be left out unnoticed."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            scale = name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "lambda1"))
            if scale or "layrnorm.weight" in name or "layer_norm" in name:
                parameter.copy_(1 + 0.1 * drawn)
            elif parameter.ndim >= 2 and "position" not in name and "token" not in name:
                parameter.copy_(drawn / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.3 * drawn)
    return model.eval()


def pixels(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def hugging_face_dinov2(layers: int = 12) -> Any:
    config = transformers.Dinov2Config(
        hidden_size=384,
        num_attention_heads=6,
        num_hidden_layers=layers,
        image_size=518,
        patch_size=14,
    )
    return shake(transformers.Dinov2Model(config))


def saved(model: Any, folder: Path) -> Path:
    """The file that Hugging Face publishes for such a model."""
    model.save_pretrained(folder)
    return folder / "model.safetensors"


def test_the_dinov2_key_map_gives_timms_names_and_numbers(tmp_path: Path) -> None:
    import timm

    theirs = hugging_face_dinov2(layers=2)
    state = dinov2.official_names(weights.read(saved(theirs, tmp_path)))
    state.pop("mask_token")
    ours = timm.create_model("vit_small_patch14_dinov2", depth=2, num_classes=0).eval()
    weights.load_strictly(ours, state, "these weights")
    image = dinov2.PREPROCESSING["official"].normalise(pixels(1, 3, 518, 518))
    with torch.inference_mode():
        expected = theirs(image).last_hidden_state
        found = ours.forward_features(image)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("output", ["cls", "patch_mean"])
def test_dinov2_is_transformers_with_the_official_positions(tmp_path: Path, output: str) -> None:
    folder = authors_code(dinov2.REPOSITORY)
    theirs = hugging_face_dinov2()
    ours = backbones.load(
        "dinov2_vits14",
        device="cpu",
        weights=saved(theirs, tmp_path),
        hub_dir=folder,
        output=output,
    )
    assert ours.fingerprint["revision"] == dinov2.REPOSITORY.commit
    batch = pixels(1, 1, 3, 224, 224)
    found = ours.forward(batch)[0]

    # Official: bicubic, an offset of 0.1 in the scale factors, no antialiasing.
    table = theirs.embeddings.position_embeddings.detach()
    grid = table[:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
    scale = (16.1 / 37, 16.1 / 37)
    grid = torch.nn.functional.interpolate(grid, scale_factor=scale, mode="bicubic")
    official = torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], 1)
    image = ours.preprocess.normalise(batch[0])

    def features() -> torch.Tensor:
        with torch.inference_mode():
            tokens = theirs(image).last_hidden_state
        return tokens[:, 0] if output == "cls" else tokens[:, 1:].mean(1)

    naive = features()
    theirs.embeddings.interpolate_pos_encoding = lambda *_: official
    torch.testing.assert_close(found, features(), rtol=0, atol=1e-5)
    assert (naive - found).abs().max() > 1e-3  # the trap: theirs interpolates otherwise


def hugging_face_clip(layers: int) -> Any:
    config = transformers.CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        projection_dim=768,
        num_hidden_layers=layers,
        num_attention_heads=16,
        patch_size=14,
        image_size=224,
        hidden_act="quick_gelu",
    )
    return shake(transformers.CLIPVisionModelWithProjection(config))


def timm_clip(layers: int, state: dict[str, torch.Tensor]) -> Any:
    import timm

    model = timm.create_model(clip.TIMM_NAME, num_classes=768, depth=layers).eval()
    weights.load_strictly(model, clip.timm_names(state), "these weights")
    return model


def test_clip_is_transformers(tmp_path: Path) -> None:
    theirs = hugging_face_clip(layers=2)
    ours = timm_clip(2, weights.read(saved(theirs, tmp_path)))
    image = clip.PREPROCESSING["official"].normalise(pixels(2, 3, 224, 224))
    with torch.inference_mode():
        expected = theirs(image)
        found = ours(image)
        pooled = ours.forward_head(ours.forward_features(image), pre_logits=True)
    torch.testing.assert_close(found, expected.image_embeds, rtol=0, atol=1e-5)
    with torch.inference_mode():
        projected = pooled @ theirs.visual_projection.weight.T
    torch.testing.assert_close(projected, expected.image_embeds, rtol=0, atol=1e-5)


def test_clip_is_open_clip() -> None:
    open_clip = pytest.importorskip("open_clip")
    theirs = open_clip.CLIP(
        embed_dim=768,
        vision_cfg={"layers": 2, "width": 1024, "patch_size": 14, "image_size": 224},
        text_cfg={"layers": 1, "width": 64, "heads": 1, "vocab_size": 100},
        quick_gelu=True,
    ).eval()
    ours = timm_clip(2, theirs.state_dict())
    image = clip.PREPROCESSING["official"].normalise(pixels(2, 3, 224, 224))
    with torch.inference_mode():
        torch.testing.assert_close(ours(image), theirs.encode_image(image), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_clip_at_full_size_is_transformers(tmp_path: Path) -> None:
    theirs = hugging_face_clip(layers=24)
    ours = backbones.load("clip_vitl14", device="cpu", weights=saved(theirs, tmp_path))
    batch = pixels(1, 1, 3, 224, 224)
    with torch.inference_mode():
        expected = theirs(ours.preprocess.normalise(batch[0])).image_embeds
    torch.testing.assert_close(ours.forward(batch)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_vjepa2_is_transformers(tmp_path: Path) -> None:
    pytest.importorskip("einops")
    folder = authors_code(vjepa2.REPOSITORY)
    config = transformers.VJEPA2Config(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, pred_num_hidden_layers=1
    )
    theirs = shake(transformers.VJEPA2Model(config))
    ours = backbones.load(
        "vjepa2_vitl", device="cpu", weights=saved(theirs, tmp_path), hub_dir=folder
    )
    assert ours.fingerprint["revision"] == vjepa2.REPOSITORY.commit
    batch = pixels(1, 16, 3, 256, 256)
    found = ours.forward(batch)
    assert found.shape == (1, 8, 1024)
    with torch.inference_mode():
        video = ours.preprocess.normalise(batch)
        tokens = theirs(video, skip_predictor=True).last_hidden_state  # (1, 8 * 256, 1024)
    expected = torch.stack([part.mean(1) for part in tokens.split(256, 1)], 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
