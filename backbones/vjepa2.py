"""V-JEPA 2 ViT-L, from the authors' code through torch.hub.

A feature is the mean over the 256 patch tokens of one time step, and a step is a tubelet of two
frames. The maps of `gridN` and `motionN` are these tokens, 16 x 16 a step, so that a difference
is one between tubelets. The published weights are those of `facebook/vjepa2-vitl-fpc64-256`
(1.3 GB); the authors' own `vitl.pt`, a training checkpoint of 5.1 GB, gives the same encoder
through `weights=`. Their loader is not used: its URL points at localhost, and it loads with
`strict=False`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from backbones import hub, weights
from backbones.base import Backbone, Entry, LoadOptions, Preprocess, choose
from backbones.errors import BackboneError
from backbones.outputs import MAPS, Maps, Outputs

if TYPE_CHECKING:
    import torch

NAME = "vjepa2_vitl"
DIM = 1024
FRAMES_PER_STEP = 2
SIDE = 16  # patches along each side
OUTPUTS = Outputs(
    vectors={"patch_mean": DIM},
    maps=Maps(of="patch tokens", height=SIDE, width=SIDE, channels=DIM),
)

REPOSITORY = hub.Repository(
    github="facebookresearch/vjepa2",
    commit="c2963a47433ecca0ad4f06ec28bcfa8cb5b5cefb",
    packages=("src", "evals"),
    sources_sha256="54792dff7cf2488d39cb5439905081b0382cab49159a7e784360dbdf271c9ac7",
)
PUBLISHED = weights.hugging_face_file(
    "facebook/vjepa2-vitl-fpc64-256",
    "b3c1679b7c34d3255ef3547f27c7b226aefab26f",
    name="model.safetensors",
    file="vjepa2-vitl-fpc64-256.safetensors",
    size_bytes=1_303_947_864,
    sha256="25466aef85727d16546c6cf8c99f12fcfad9cbca8225d45f23685e2e025b786b",
)

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
PREPROCESSING = {
    name: Preprocess(
        name=name, short_side=short_side, crop=256, interpolation="bilinear", mean=MEAN, std=STD
    )
    for name, short_side in {"official": 292, "paper": 256}.items()
}


CHECKPOINT_RULES: list[tuple[str, str | None]] = [
    (r"(?:module\.)?(?:backbone\.)?pos_embed", None),  # stale: the encoder is rotary
    (r"(?:module\.)?(?:backbone\.)?(.+)", r"\1"),
]
HUGGING_FACE_RULES: list[tuple[str, str | None]] = [
    (r"predictor\..+", None),
    (r"encoder\.embeddings\.patch_embeddings\.proj\.(\w+)", r"patch_embed.proj.\1"),
    (r"encoder\.layernorm\.(\w+)", r"norm.\1"),
    (r"encoder\.layer\.(\d+)\.attention\.query\.(\w+)", r"blocks.\1.attn.qkv.\2#0"),
    (r"encoder\.layer\.(\d+)\.attention\.key\.(\w+)", r"blocks.\1.attn.qkv.\2#1"),
    (r"encoder\.layer\.(\d+)\.attention\.value\.(\w+)", r"blocks.\1.attn.qkv.\2#2"),
    (r"encoder\.layer\.(\d+)\.attention\.proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layer\.(\d+)\.(.+)", r"blocks.\1.\2"),
]


def official_names(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the encoder's state dict under the authors' names.

    Args:
        state: the authors' training checkpoint (its `encoder` is used), Hugging Face's layout (its
            predictor is left out), or a state dict with the authors' names.
    """
    if isinstance(state.get("encoder"), Mapping):
        return weights.rename(state["encoder"], CHECKPOINT_RULES)
    return weights.rename(state, HUGGING_FACE_RULES)


def build(options: LoadOptions) -> Backbone:
    """Build the authors' encoder with the published weights, or those of `options.weights`."""
    preprocess = choose("preprocessing", options.preprocess, PREPROCESSING)
    output = OUTPUTS.choose(NAME, options.output)
    if importlib.util.find_spec("einops") is None:
        raise BackboneError(f"{NAME} needs the package einops: pip install einops")
    path = weights.obtain(PUBLISHED, weights=options.weights, hub_dir=options.hub_dir)
    (encoder, _predictor), revision = hub.load(
        REPOSITORY, "vjepa2_vit_large", hub_dir=options.hub_dir
    )
    digest = weights.load_into(encoder, path, official_names)

    def encode(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        steps = pixels.shape[1] // FRAMES_PER_STEP
        tokens = encoder(pixels.transpose(1, 2))  # (B, steps * patches, dim), steps outermost
        of_steps = tokens.unflatten(1, (steps, -1))  # (B, steps, patches, dim)
        found = {}
        if "patch_mean" in output.needed:
            found["patch_mean"] = of_steps.mean(2)
        if output.maps is not None:
            found[MAPS] = of_steps.unflatten(2, (SIDE, SIDE))
        return found

    return Backbone(
        name=NAME,
        dim=output.dim,
        frames_per_step=FRAMES_PER_STEP,
        model=encoder,
        encode=encode,
        preprocess=preprocess,
        options=options,
        source=f"github.com/{REPOSITORY.github}",
        revision=revision,
        weights_sha256=digest,
        output=output,
        shares="clips",
    )


ENTRIES = [
    Entry(
        name=NAME,
        family="V-JEPA 2",
        dim=DIM,
        frames_per_step=FRAMES_PER_STEP,
        parameters=303_885_312,
        licence="MIT, Apache-2.0",  # the code, the weights
        build=build,
        preprocessings=tuple(PREPROCESSING),
        outputs=OUTPUTS,
        published=PUBLISHED,
        repository=REPOSITORY,
    )
]
