"""Outputs: cells and differences of maps, against numpy and independent models of each family."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import backbones
from backbones import (
    MAPS,
    BackboneError,
    Maps,
    Outputs,
    dinov2,
    efficientnet,
    vjepa2,
    weights,
)
from backbones.outputs import cell_means
from backbones.passes import run_passes
from tests.helpers.authors_code import authors_code
from tests.helpers.frames import noise

Array = NDArray[np.float64]


def cells(maps: Array, n: int) -> Array:
    """Means (steps, n * n * channels) of maps (steps, channels, height, width), as torch cuts them.

    A cell begins at the floor of its share and ends at the ceiling of the next one's.
    """
    _, _, height, width = maps.shape
    means = []
    for row in range(n):
        top, bottom = math.floor(row * height / n), math.ceil((row + 1) * height / n)
        for column in range(n):
            left, right = math.floor(column * width / n), math.ceil((column + 1) * width / n)
            means.append(maps[:, :, top:bottom, left:right].mean((2, 3)))
    return np.concatenate(means, axis=1)


def pooled(maps: torch.Tensor, output: str) -> Array:
    """What `gridN`, `motionN` and sums of them are, of maps (steps, channels, height, width)."""
    values = maps.detach().double().numpy()
    parts = output.split("+")
    moving = any(part.startswith("motion") for part in parts)
    found = []
    for part in parts:
        n = int(part.removeprefix("motion").removeprefix("grid") or 1)
        if part.startswith("motion"):
            found.append(cells(np.abs(values[1:] - values[:-1]), n))
        else:
            found.append(cells(values, n)[moving:])
    return np.concatenate(found, axis=1)


def assert_same(found: torch.Tensor, expected: Array, tolerance: float = 2e-5) -> None:
    """Equal to a share of the largest value; features that hardly vary would prove nothing."""
    assert found.shape == expected.shape
    assert expected.std() > 1e-3
    assert np.abs(found.double().numpy() - expected).max() < tolerance * np.abs(expected).max()


def moving(count: int, side: int) -> torch.Tensor:
    """A picture (1, count, 3, side, side), uint8, that shifts by three pixels a frame."""
    coarse = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    size = side + 3 * count
    picture = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")[0]
    frames = [picture[:, :side, 3 * k : 3 * k + side] for k in range(count)]
    return torch.stack(frames).mul(255).clamp(0, 255).to(torch.uint8)[None]


def test_efficientnet_is_timms_map_of_stride_16() -> None:
    import timm

    path = weights.find(efficientnet.PUBLISHED, None)
    assert path is not None
    theirs = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(3,))
    state = efficientnet.timm_names(weights.read(path))
    theirs.load_state_dict(state, strict=False)  # the later stages are not there
    output = "grid3+motion1+motion4+grid14"
    ours = backbones.load("efficientnet_lite0", device="cpu", output=output)
    batch = moving(6, 224)
    with torch.inference_mode():
        (maps,) = theirs.eval()(ours.preprocess.normalise(batch[0]))
    assert maps.shape[1:] == (112, 14, 14)
    assert_same(ours.forward(batch)[0], pooled(maps, output))


def test_efficientnet_ends_after_the_stage_that_its_output_uses() -> None:
    """And what it gives does not depend on whether it goes on."""
    run: list[int] = []

    def stages(output: str) -> tuple[torch.Tensor, list[int]]:
        model = backbones.load("efficientnet_lite0", device="cpu", output=output)
        for number, block in enumerate(model._model.blocks):
            block.register_forward_hook(lambda *_, number=number: run.append(number))
        run.clear()
        return model.forward(moving(2, 224)), run.copy()

    maps, ended = stages("grid2")
    vector, whole = stages("pooled")
    both, sum_ = stages("pooled+grid2")
    assert ended == [0, 1, 2, 3, 4]
    assert whole == sum_ == [0, 1, 2, 3, 4, 5, 6]
    assert torch.equal(both, torch.cat([vector, maps], dim=2))


@pytest.mark.parametrize(("name", "norm"), [("vit_tiny_patch16_224", True), ("resnet18", False)])
def test_timms_models_have_the_maps_of_other_implementations(
    name: str, norm: bool, tmp_path: Path
) -> None:
    import timm
    import torchvision

    if name == "resnet18":
        theirs: Any = torchvision.models.resnet18()
    else:
        theirs = timm.create_model(name)
    theirs.load_state_dict(weights.random_state(theirs.state_dict()))
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = backbones.load(
        f"timm:{name}", device="cpu", weights=tmp_path / "w.pth", output="motion3+grid2"
    )
    batch = moving(5, ours.preprocess.crop)
    image = ours.preprocess.normalise(batch[0])
    theirs.eval()
    with torch.inference_mode():
        if norm:
            tokens = theirs.forward_features(image)[:, 1:]  # after the class token
            maps = tokens.transpose(1, 2).unflatten(2, (14, 14))
        else:
            early = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
            maps = theirs.layer3(theirs.layer2(theirs.layer1(early)))
    assert ours.fingerprint["maps"]["of"] == (
        "blocks.11 (stride 16, normed)" if norm else "layer3 (stride 16)"
    )
    assert_same(ours.forward(batch)[0], pooled(maps, "motion3+grid2"))


def test_timms_vector_beside_its_maps_is_the_one_alone() -> None:
    load = partial(backbones.load, "timm:resnet18", device="cpu", weights="random")
    both, vector, maps = (load(output=name) for name in ("grid2+pooled", None, "grid2"))
    batch = moving(2, both.preprocess.crop)
    expected = torch.cat([maps.forward(batch), vector.forward(batch)], dim=2)
    torch.testing.assert_close(both.forward(batch), expected, rtol=1e-5, atol=1e-5)


def test_timms_lite0_has_the_maps_of_the_embedded_one(tmp_path: Path) -> None:
    path = weights.find(efficientnet.PUBLISHED, None)
    assert path is not None
    classifier, _ = efficientnet.classifier(path)
    torch.save(classifier.state_dict(), tmp_path / "lite0.pth")
    ours = backbones.load("efficientnet_lite0", device="cpu", output="motion3")
    generic = backbones.load(
        "timm:tf_efficientnet_lite0", weights=tmp_path / "lite0.pth", device="cpu", output="motion3"
    )
    generic.preprocess = ours.preprocess
    assert torch.equal(generic.forward(moving(3, 224)), ours.forward(moving(3, 224)))


def test_dinov2_is_the_patch_tokens_of_transformers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its own code is stood in for by timm's model; `test_parity` has the authors' own."""
    transformers = pytest.importorskip("transformers")
    import timm

    config = transformers.Dinov2Config(
        hidden_size=384, num_attention_heads=6, num_hidden_layers=1, image_size=224, patch_size=14
    )
    torch.manual_seed(0)
    theirs = transformers.Dinov2Model(config).eval()
    theirs.save_pretrained(tmp_path)

    class StandIn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = timm.create_model(
                "vit_small_patch14_dinov2", depth=1, num_classes=0, img_size=224
            )

        def forward_features(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            tokens = self.vit.forward_features(image)
            return {"x_norm_clstoken": tokens[:, 0], "x_norm_patchtokens": tokens[:, 1:]}

    def names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        renamed = weights.rename(state, dinov2.HUGGING_FACE_RULES)
        return {f"vit.{name}": tensor for name, tensor in renamed.items() if name != "mask_token"}

    monkeypatch.setattr("backbones.hub.load", lambda *_, **__: (StandIn(), "stand-in"))
    monkeypatch.setattr(dinov2, "official_names", names)
    ours = backbones.load(
        "dinov2_vits14",
        device="cpu",
        weights=tmp_path / "model.safetensors",
        output="cls+grid5+motion2",
    )
    batch = moving(5, 224)
    with torch.inference_mode():
        tokens = theirs(ours.preprocess.normalise(batch[0])).last_hidden_state
    maps = tokens[:, 1:].transpose(1, 2).unflatten(2, (16, 16))
    expected = np.concatenate(
        [tokens[1:, 0].double().numpy(), pooled(maps, "grid5+motion2")], axis=1
    )
    assert_same(ours.forward(batch)[0], expected)


def test_clip_is_the_patch_tokens_of_transformers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After the norm that CLIP applies to its class token alone; two layers, at full width."""
    transformers = pytest.importorskip("transformers")
    import timm

    config = transformers.CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, projection_dim=768, num_hidden_layers=1,
        num_attention_heads=16, patch_size=14, image_size=224, hidden_act="quick_gelu",
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.CLIPVisionModelWithProjection(config).eval()
    with torch.no_grad():
        theirs.vision_model.post_layernorm.weight.normal_(1, 0.3)
    theirs.save_pretrained(tmp_path)
    monkeypatch.setattr("timm.create_model", partial(timm.create_model, depth=1))
    ours = backbones.load(
        "clip_vitl14",
        device="cpu",
        weights=tmp_path / "model.safetensors",
        output="projected+grid4+motion",
    )
    assert ours.dim == 768 + 16 * 1024 + 1024
    batch = moving(3, 224)
    with torch.inference_mode():
        found = theirs(ours.preprocess.normalise(batch[0]))
        tokens = theirs.vision_model.post_layernorm(found.last_hidden_state)[:, 1:]
    maps = tokens.transpose(1, 2).unflatten(2, (16, 16))
    expected = np.concatenate(
        [found.image_embeds[1:].double().numpy(), pooled(maps, "grid4+motion")], axis=1
    )
    assert_same(ours.forward(batch)[0], expected)


def test_vjepa2_compares_tubelets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its encoder is stood in for by its patch embedding; `test_parity` has the authors' code."""
    pytest.importorskip("einops")

    class StandIn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = torch.nn.Conv3d(3, 1024, (2, 16, 16), stride=(2, 16, 16))

        def forward(self, video: torch.Tensor) -> torch.Tensor:
            return self.proj(video).flatten(2).transpose(1, 2)

    monkeypatch.setattr("backbones.hub.load", lambda *_, **__: ((StandIn(), None), "stand-in"))
    ours = backbones.load("vjepa2_vitl", device="cpu", weights="random", output="motion2+grid3")
    assert (ours.frames_per_step, ours.frames_spanned, ours.dim) == (2, 4, 13 * 1024)
    batch = moving(8, 256)
    video = ours.preprocess.normalise(batch[0])
    kernel = ours._model.proj.weight
    maps = torch.stack(
        [
            sum(
                torch.nn.functional.conv2d(video[2 * step + part], kernel[:, :, part], stride=16)
                for part in (0, 1)
            )
            + ours._model.proj.bias[:, None, None]
            for step in range(4)
        ]
    )
    assert_same(ours.forward(batch)[0], pooled(maps, "motion2+grid3"))
    assert (ours.steps(8), ours.frames(3)) == (3, 8)


def test_features_of_differences_do_not_depend_on_cores_or_batches() -> None:
    """Four frames to a pass: differences cross the passes."""
    model = backbones.load("efficientnet_lite0", device="cpu", output="grid2+motion3+motion1")
    batch = torch.cat([moving(9, 224), moving(9, 224).flip(1)])
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found += [model.forward(batch), model.forward(batch, reproducible=False)]
    finally:
        torch.set_num_threads(before)
    assert found[0].shape == (2, 8, 4 * 112 + 9 * 112 + 112)
    assert all(torch.equal(features, found[0]) for features in found)
    assert torch.equal(model.forward(batch[1:]), found[0][1:])
    for frames in (2, 5):  # half a pass; a frame in one of its own
        assert torch.equal(model.forward(batch[:, :frames])[0], found[0][0, : frames - 1])


@pytest.mark.parametrize("side", [7, 14, 16])
def test_means_do_not_depend_on_the_batch_or_the_threads(side: int) -> None:
    maps = torch.randn(2, 5, side, side, 24, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        for n in range(1, side + 1):
            torch.set_num_threads(1)
            alone = [cell_means(maps[:1, [step]], n) for step in range(5)]
            torch.set_num_threads(3)
            assert torch.equal(cell_means(maps, n)[:1], torch.cat(alone, dim=1))
    finally:
        torch.set_num_threads(before)


def test_few_results_of_passes_are_held_at_a_time() -> None:
    """A long clip's maps must not pile up: with one pass at once, two more may have begun."""
    begun: list[int] = []

    def note(part: torch.Tensor) -> int:
        begun.append(int(part))
        return int(part)

    results = run_passes(note, list(torch.arange(100)), 1)
    for expected in range(100):
        assert next(results) == expected
        assert len(begun) <= expected + 3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_gives_nearly_the_same_features(precision: str) -> None:
    exact, rough = (
        backbones.load("efficientnet_lite0", device="cpu", output="motion3", precision=name)
        for name in ("fp32", precision)
    )
    batch = moving(2, 224)
    a, b = exact.forward(batch), rough.forward(batch)
    assert not torch.equal(a, b)
    assert float(torch.cosine_similarity(a, b, dim=2).min()) > 0.99


@pytest.mark.parametrize(
    ("name", "output", "sentence"),
    [
        (
            "efficientnet_lite0",
            "grid",
            r"no output 'grid': choose one of pooled, gridN, motionN \(N up to 14\), or several",
        ),
        ("efficientnet_lite0", "cls", "no output 'cls': choose one of pooled, gridN, motionN"),
        ("efficientnet_lite0", "grid4+", "no output '': choose one of pooled"),
        ("efficientnet_lite0", "grid²", "no output 'grid²': choose one of"),
        ("efficientnet_lite0", "motion" + "9" * 5000, "no output 'motion999"),
        (
            "efficientnet_lite0",
            "motion15",
            "motion15 has 15 x 15 cells, and the maps of efficientnet_lite0 have 14 x 14 places: "
            "take motion1 to motion14",
        ),
        ("dinov2_vits14", "grid17", "maps of dinov2_vits14 have 16 x 16 places: take grid1 to gri"),
        ("vjepa2_vitl", "grid0", "grid0 has 0 x 0 cells"),
        ("clip_vitl14", "motion+motion1", r"output 'motion\+motion1' has motion1 twice"),
        ("tiny", "motion", "tiny has no output 'motion': it gives 'mean' alone"),
    ],
)
def test_an_output_that_there_is_not_is_refused(
    name: str, output: str, sentence: str, tiny: object
) -> None:
    with pytest.raises(BackboneError, match=sentence):
        backbones.load(name, device="cpu", output=output)
    if name != "tiny":
        with pytest.raises(BackboneError, match=sentence):
            backbones.refuse_impossible(name, steps=1, dim=1, output=output)


def test_a_model_of_timm_without_maps_gives_its_vector_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("timm.models.resnet.ResNet.forward_intermediates", None)
    assert backbones.load("timm:resnet18", device="cpu", weights="random").dim == 512
    with pytest.raises(BackboneError, match=r"timm:resnet18\S* gives vectors alone, no maps that"):
        backbones.load("timm:resnet18", device="cpu", weights="random", output="motion")


def test_one_frame_has_no_motion() -> None:
    model = backbones.load("efficientnet_lite0", device="cpu", output="motion")
    with pytest.raises(BackboneError, match="needs at least 2 frames, and there is 1"):
        model.forward(moving(1, 224))
    assert model.forward(moving(2, 224)).shape == (1, 1, 112)
    assert model.forward(moving(2, 224)[:0]).shape == (0, 1, 112)


def test_a_fingerprint_says_what_an_output_is_and_leads_back_to_it() -> None:
    model = backbones.load("efficientnet_lite0", device="cpu", output="grid4+motion")
    assert model.fingerprint["output"] == "grid4+motion1"
    assert model.fingerprint["dim"] == model.dim == 17 * 112
    assert (model.fingerprint["frames_per_step"], model.fingerprint["frames_spanned"]) == (1, 2)
    assert model.fingerprint["maps"] == {
        "of": "blocks.4 (stride 16)",
        "height": 14,
        "width": 14,
        "channels": 112,
    }
    assert "absolute differences of successive maps" in model.fingerprint["pooling"]["motion"]
    assert "row by row" in model.fingerprint["pooling"]["grid"]
    again = backbones.load_from_fingerprint(model.fingerprint, device="cpu")
    assert again.fingerprint == model.fingerprint
    still = backbones.load("efficientnet_lite0", device="cpu", output="grid4")
    assert "frames_spanned" not in still.fingerprint
    assert "motion" not in still.fingerprint["pooling"]


def test_the_usual_output_by_name_has_the_fingerprint_of_older_caches() -> None:
    """To the letter: a cache that was made before goes on."""
    stored = {
        "name": "efficientnet_lite0",
        "source": "timm:tf_efficientnet_lite0",
        "revision": "efficientnet-lite0-57934424",
        "weights_sha256": "463637e95430c12ab9ea6088a29943e94261a2221092d03e054f8a6ee69c63bd",
        "output": "pooled",
        "dim": 1280,
        "frames_per_step": 1,
        "preprocess": {
            "name": "official",
            "crop": 224,
            "short_side": 256,
            "squash": False,
            "interpolation": "bicubic",
            "antialias": True,
            "mean": [127 / 255] * 3,
            "std": [128 / 255] * 3,
        },
        "precision": "fp32",
    }
    for output in (None, "pooled"):
        model = backbones.load("efficientnet_lite0", device="cpu", precision="fp32", output=output)
        assert model.fingerprint == stored
    assert torch.isfinite(model.forward(model.preprocess(noise(1, 60, 80, 3))[None])).all()


def test_what_features_somebody_declares_is_checked_with_their_output() -> None:
    check = partial(backbones.refuse_impossible, "vjepa2_vitl", frames=16)
    check(steps=8, dim=1024)
    check(steps=7, dim=9 * 1024, output="motion3")
    check(steps=8, dim=9 * 1024, output="grid3")
    with pytest.raises(BackboneError, match=r"gives 7 steps of 16 frames, and these .* have 8"):
        check(steps=8, dim=1024, output="motion")
    with pytest.raises(BackboneError, match=r"gives 9216 numbers a step, and these .* have 1024"):
        check(steps=7, dim=1024, output="motion3")


def test_a_backbone_of_ones_own_may_have_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/extending.md says: an entry with outputs, and `encode` that gives what is needed."""
    outputs = Outputs(
        vectors={"mean": 3}, maps=Maps(of="colours of 8 x 8", height=8, width=8, channels=3)
    )
    official = backbones.Preprocess(
        name="official", short_side=8, crop=8, mean=(0, 0, 0), std=(1, 1, 1)
    )

    def build(options: backbones.LoadOptions) -> backbones.Backbone:
        output = outputs.choose("colours", options.output)

        def encode(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"mean": pixels.mean((3, 4)), MAPS: pixels.permute(0, 1, 3, 4, 2)}

        return backbones.Backbone(
            name="colours", dim=output.dim, model=torch.nn.Identity(), encode=encode,
            preprocess=official, options=options, source="here", revision="1",
            weights_sha256="none", output=output, shares="frames",
        )  # fmt: skip

    entry = backbones.Entry(
        name="colours", family="tests", dim=3, frames_per_step=1, parameters=0, licence="MIT",
        build=build, outputs=outputs,
    )  # fmt: skip
    monkeypatch.setitem(backbones.BACKBONES, "colours", entry)
    batch = torch.randint(0, 256, (1, 6, 3, 8, 8), dtype=torch.uint8)
    model = backbones.load("colours", device="cpu", output="motion3+mean")
    found = model.forward(batch)[0]
    assert_same(found[:, :27], pooled(batch[0].double() / 255, "motion3"))
    assert_same(found[:, 27:], (batch[0].double() / 255).mean((2, 3))[1:].numpy())


def test_dinov2_is_the_authors_own_map_of_patches() -> None:
    folder = authors_code(dinov2.REPOSITORY)
    output = "motion3+grid4"
    ours = backbones.load(
        "dinov2_vits14", device="cpu", weights="random", hub_dir=folder, output=output
    )
    batch = moving(3, 224)
    image = ours.preprocess.normalise(batch[0])
    with torch.inference_mode():
        (maps,) = ours._model.get_intermediate_layers(image, n=1, reshape=True, norm=True)
    assert_same(ours.forward(batch)[0], pooled(maps, output))


@pytest.mark.slow
def test_vjepa2_is_the_authors_tokens_of_each_tubelet() -> None:
    pytest.importorskip("einops")
    folder = authors_code(vjepa2.REPOSITORY)
    output = "motion2+patch_mean+grid3"
    ours = backbones.load(
        "vjepa2_vitl", device="cpu", weights="random", hub_dir=folder, output=output
    )
    batch = moving(6, 256)
    with torch.inference_mode():
        tokens = ours._model(ours.preprocess.normalise(batch).transpose(1, 2))[0]  # (3 * 256, 1024)
    maps = tokens.unflatten(0, (3, 16, 16)).permute(0, 3, 1, 2)
    vector = maps.double().mean((2, 3))[1:].numpy()
    expected = np.concatenate([pooled(maps, "motion2"), vector, pooled(maps, "grid1+motion1")], 1)
    found = ours.forward(batch)[0]
    assert_same(found[:, : 5 * 1024], expected[:, : 5 * 1024])
    assert_same(found[:, 5 * 1024 :], cells(maps.double().numpy(), 3)[1:])
