"""DINOv2 ViT-S/14, ViT-B/14 and ViT-L/14, from the authors' code through torch.hub.

Features are the normalised CLS token of each frame (`output="cls"`) or the mean of its patch
tokens (`output="patch_mean"`); the maps of `gridN` and `motionN` are these patch tokens. xformers
is never used, installed or not: the numbers come from torch's own attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from backbones import hub, weights
from backbones.base import Backbone, Entry, LoadOptions, Preprocess, choose
from backbones.outputs import MAPS, Maps, Outputs

if TYPE_CHECKING:
    import torch

REPOSITORY = hub.Repository(
    github="facebookresearch/dinov2",
    commit="b8931f7bf91576930313be2c6d6af376033b35f0",
    packages=("dinov2",),
    sources_sha256="8e5e083f2fb5059ede93b8714b260424178778f9db79cdf8ca06632e9764e0a3",
)

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
PREPROCESSING = {
    "official": Preprocess(name="official", short_side=256, crop=224, mean=MEAN, std=STD),
    "paper": Preprocess(
        name="paper",
        squash=True,
        crop=224,
        interpolation="bilinear",
        antialias=False,
        mean=MEAN,
        std=STD,
    ),
}
PICK = {
    "cls": lambda tokens: tokens["x_norm_clstoken"],
    "patch_mean": lambda tokens: tokens["x_norm_patchtokens"].mean(1),
    MAPS: lambda tokens: tokens["x_norm_patchtokens"].unflatten(1, (SIDE, SIDE)),
}
SIDE = 16  # patches along each side


def outputs(dim: int) -> Outputs:
    """Return what a model of some width gives."""
    maps = Maps(of="x_norm_patchtokens", height=SIDE, width=SIDE, channels=dim)
    return Outputs(vectors={"cls": dim, "patch_mean": dim}, maps=maps)


def _published(name: str, size_bytes: int, sha256: str) -> weights.PublishedWeights:
    return weights.PublishedWeights(
        file=f"{name}_pretrain.pth",
        url=f"https://dl.fbaipublicfiles.com/dinov2/{name}/{name}_pretrain.pth",
        size_bytes=size_bytes,
        sha256=sha256,
    )


PUBLISHED = {
    "dinov2_vits14": _published(
        "dinov2_vits14",
        88_283_115,
        "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    ),
    "dinov2_vitb14": _published(
        "dinov2_vitb14",
        346_378_731,
        "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    ),
    "dinov2_vitl14": _published(
        "dinov2_vitl14",
        1_217_586_395,
        "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
    ),
}


HUGGING_FACE_RULES: list[tuple[str, str | None]] = [
    (r"embeddings\.(cls_token|mask_token)", r"\1"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (r"layernorm\.(\w+)", r"norm.\1"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.query\.(\w+)", r"blocks.\1.attn.qkv.\2#0"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.key\.(\w+)", r"blocks.\1.attn.qkv.\2#1"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.value\.(\w+)", r"blocks.\1.attn.qkv.\2#2"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"encoder\.layer\.(\d+)\.(.+)", r"blocks.\1.\2"),
]


def official_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict under the authors' names, from theirs or Hugging Face's."""
    return weights.rename(state, HUGGING_FACE_RULES)


def build(name: str, dim: int, options: LoadOptions) -> Backbone:
    """Build the authors' model with the published weights, or those of `options.weights`."""
    preprocess = choose("preprocessing", options.preprocess, PREPROCESSING)
    output = outputs(dim).choose(name, options.output)
    path = weights.obtain(PUBLISHED[name], weights=options.weights, hub_dir=options.hub_dir)
    model, revision = hub.load(REPOSITORY, name, hub_dir=options.hub_dir)
    digest = weights.load_into(model, path, official_names)

    def encode(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        tokens = model.forward_features(pixels.flatten(0, 1))  # (B * T, ...)
        return {
            needed: PICK[needed](tokens).unflatten(0, pixels.shape[:2]) for needed in output.needed
        }

    return Backbone(
        name=name,
        dim=output.dim,
        model=model,
        encode=encode,
        preprocess=preprocess,
        options=options,
        source=f"github.com/{REPOSITORY.github}",
        revision=revision,
        weights_sha256=digest,
        output=output,
        shares="frames",
    )


def _entry(name: str, dim: int, parameters: int) -> Entry:
    return Entry(
        name=name,
        family="DINOv2",
        dim=dim,
        frames_per_step=1,
        parameters=parameters,
        licence="Apache-2.0",
        build=partial(build, name, dim),
        preprocessings=tuple(PREPROCESSING),
        outputs=outputs(dim),
        published=PUBLISHED[name],
        repository=REPOSITORY,
    )


ENTRIES = [
    _entry("dinov2_vits14", 384, 22_056_576),
    _entry("dinov2_vitb14", 768, 86_580_480),
    _entry("dinov2_vitl14", 1024, 304_368_640),
]
