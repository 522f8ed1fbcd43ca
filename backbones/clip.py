"""CLIP ViT-L/14 (OpenAI): timm's model with the published weights.

OpenAI trained with QuickGELU, so the timm name is the `quickgelu` one. Features are the projected
image embedding, 768 numbers per frame (`output="projected"`), not normalised; the 1024 before the
projection are `output="pooled"`. The maps of `gridN` and `motionN` are the 16 x 16 patch tokens
after the last block and the final norm (`ln_post`, of which CLIP itself reads the class token
alone), 1024 numbers each, not projected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from backbones import weights
from backbones.base import Backbone, Entry, LoadOptions, Preprocess, choose
from backbones.outputs import MAPS, Maps, Outputs

if TYPE_CHECKING:
    import torch

NAME = "clip_vitl14"
TIMM_NAME = "vit_large_patch14_clip_quickgelu_224"
PUBLISHED = weights.hugging_face_file(
    "openai/clip-vit-large-patch14",
    "32bd64288804d66eefd0ccbe215aa642df71cc41",
    name="model.safetensors",
    file="clip-vit-large-patch14.safetensors",
    size_bytes=1_710_540_580,
    sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
)

PREPROCESSING = {
    "official": Preprocess(
        name="official",
        short_side=224,
        crop=224,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )
}
SIDE = 16  # patches along each side
OUTPUTS = Outputs(
    vectors={"projected": 768, "pooled": 1024},
    maps=Maps(of="patch tokens after ln_post", height=SIDE, width=SIDE, channels=1024),
)


OPEN_CLIP_RULES: list[tuple[str, str | None]] = [
    (r"visual\.class_embedding", "cls_token"),
    (r"visual\.positional_embedding", "pos_embed"),
    (r"visual\.proj", "head.weight"),
    (r"visual\.conv1\.(\w+)", r"patch_embed.proj.\1"),
    (r"visual\.ln_pre\.(\w+)", r"norm_pre.\1"),
    (r"visual\.ln_post\.(\w+)", r"norm.\1"),
    (r"visual\.transformer\.resblocks\.(\d+)\.ln_(\d)\.(\w+)", r"blocks.\1.norm\2.\3"),
    (r"visual\.transformer\.resblocks\.(\d+)\.attn\.in_proj_(\w+)", r"blocks.\1.attn.qkv.\2"),
    (r"visual\.transformer\.resblocks\.(\d+)\.attn\.out_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"visual\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (r"visual\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"(?!visual\.).+", None),  # the text tower
]
HUGGING_FACE_RULES: list[tuple[str, str | None]] = [
    (r"vision_model\.embeddings\.class_embedding", "cls_token"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "pos_embed"),
    (r"vision_model\.embeddings\.position_ids", None),
    (r"vision_model\.embeddings\.patch_embedding\.(\w+)", r"patch_embed.proj.\1"),
    (r"vision_model\.pre_layrnorm\.(\w+)", r"norm_pre.\1"),  # spelt so
    (r"vision_model\.post_layernorm\.(\w+)", r"norm.\1"),
    (r"visual_projection\.weight", "head.weight"),
    (r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.q_proj\.(\w+)", r"blocks.\1.attn.qkv.\2#0"),
    (r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.k_proj\.(\w+)", r"blocks.\1.attn.qkv.\2#1"),
    (r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.v_proj\.(\w+)", r"blocks.\1.attn.qkv.\2#2"),
    (
        r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.(\w+)",
        r"blocks.\1.attn.proj.\2",
    ),
    (r"vision_model\.encoder\.layers\.(\d+)\.layer_norm(\d)\.(\w+)", r"blocks.\1.norm\2.\3"),
    (r"vision_model\.encoder\.layers\.(\d+)\.mlp\.(.+)", r"blocks.\1.mlp.\2"),
    (r"(?!vision_model\.).+", None),  # the text tower
]


def timm_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the image tower's state dict under timm's names.

    Args:
        state: under timm's, open_clip's or Hugging Face's names; the text tower of a whole CLIP
            and its constants are left out.
    """
    import torch

    if "cls_token" in state:
        return dict(state)
    open_clip = "visual.conv1.weight" in state
    renamed = weights.rename(state, OPEN_CLIP_RULES if open_clip else HUGGING_FACE_RULES)
    for name in ("cls_token", "pos_embed"):
        while name in renamed and renamed[name].ndim < 3:
            renamed[name] = renamed[name][None]
    if "head.weight" in renamed:
        if open_clip:
            renamed["head.weight"] = renamed["head.weight"].T
        renamed["head.bias"] = torch.zeros(len(renamed["head.weight"]))  # CLIP's has none
    return renamed


def build(options: LoadOptions) -> Backbone:
    """Build timm's image tower with the published weights, or those of `options.weights`."""
    import timm
    import torch

    preprocess = choose("preprocessing", options.preprocess, PREPROCESSING)
    output = OUTPUTS.choose(NAME, options.output)
    path = weights.obtain(PUBLISHED, weights=options.weights, hub_dir=options.hub_dir)
    with torch.device("meta"):  # published weights overwrite every number
        model: Any = timm.create_model(TIMM_NAME, num_classes=OUTPUTS.vectors["projected"])
    digest = weights.load_into(model, path, timm_names)

    def pick(needed: str, tokens: torch.Tensor) -> torch.Tensor:
        if needed == MAPS:
            return tokens[:, model.num_prefix_tokens :].unflatten(1, (SIDE, SIDE))
        return model.forward_head(tokens, pre_logits=needed == "pooled")  # (B * T, dim)

    def encode(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        tokens = model.forward_features(pixels.flatten(0, 1))  # (B * T, 257, 1024)
        return {
            needed: pick(needed, tokens).unflatten(0, pixels.shape[:2]) for needed in output.needed
        }

    return Backbone(
        name=NAME,
        dim=output.dim,
        model=model,
        encode=encode,
        preprocess=preprocess,
        options=options,
        source=f"timm:{TIMM_NAME}",
        revision="openai",
        weights_sha256=digest,
        output=output,
        shares="frames",
    )


ENTRIES = [
    Entry(
        name=NAME,
        family="CLIP",
        dim=OUTPUTS.vectors["projected"],
        frames_per_step=1,
        parameters=303_966_976,
        licence="MIT",
        build=build,
        preprocessings=tuple(PREPROCESSING),
        outputs=OUTPUTS,
        published=PUBLISHED,
    )
]
