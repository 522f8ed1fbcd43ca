"""Any image model of timm, by its name there: `timm:resnet50`, `timm:vit_base_patch16_224.dino`.

Features are what timm gives for `num_classes=0`: the image's vector before the classifier, pooled
as the model was trained (`output="pooled"`). The maps of `gridN` and `motionN` are the last ones of
a stride up to 16 that timm's `feature_info` has: of a ViT the patch tokens after the last block and
the final norm; of a CNN, or of a transformer in stages, those of stride 16, and the network ends
there. `Maps.of` names the layer.

Preprocessing is that of timm's configuration for the weights. These come from timm's repositories
on the Hugging Face hub, whose state dicts are under timm's names.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from backbones import weights
from backbones.base import Backbone, Entry, LoadOptions, Preprocess, choose
from backbones.errors import BackboneError, BackboneValueError
from backbones.outputs import MAPS, Maps, Outputs

PREFIX = "timm:"
STRIDE = 16  # pixels from one place of a map to the next, at most


@dataclass(frozen=True)
class _Layer:
    """One of a model's `feature_info`: its index, and whether the model's last norm is for it."""

    index: int
    norm: bool

    def maps(self, model: Any, images: Any, **only: Any) -> Any:
        """Return what `forward_intermediates` gives: the maps (B, channels, height, width)."""
        return model.forward_intermediates(
            images, indices=[self.index], norm=self.norm, output_fmt="NCHW", **only
        )


def make_entry(name: str) -> Entry:
    """Return the entry of a model of timm.

    Args:
        name: `timm:<model>`, or `timm:<model>.<tag>` for one of its weights. The name of the entry
            has the tag, timm's usual one if none is given.

    Raises:
        BackboneError: a name that timm does not have (the sentence has similar ones), or a model
            whose preprocessing `Preprocess` cannot do.
    """
    import timm
    import torch

    asked = name.removeprefix(PREFIX)
    model, _, tag = asked.partition(".")
    if not timm.is_model(model) or (tag and not timm.is_model_pretrained(asked)):
        known = timm.list_pretrained(f"{model}.*") or timm.list_models()
        near = difflib.get_close_matches(asked, known, cutoff=0) or known[:3]
        raise BackboneValueError(f"timm has no model {asked!r}; near it: {', '.join(near)}")
    with torch.device("meta"), torch.inference_mode():
        blank: Any = timm.create_model(asked, num_classes=0).eval()
        config: dict[str, Any] = blank.pretrained_cfg
        official = _preprocess(asked, config)
        image = torch.zeros(1, 3, official.crop, official.crop)
        dim = blank(image).shape[-1]
        layer, maps = _maps(blank, image)
    outputs = Outputs(vectors={"pooled": dim}, maps=maps)
    whole = ".".join(part for part in (model, config.get("tag")) if part)
    published = _published(whole, config)
    return Entry(
        name=PREFIX + whole,
        family="timm",
        dim=dim,
        frames_per_step=1,
        parameters=sum(parameter.numel() for parameter in blank.parameters()),
        licence=config.get("license") or "unknown",
        build=partial(_build, whole, outputs, config, official, published, layer),
        preprocessings=("official",),
        outputs=outputs,
        published=published,
    )


def _preprocess(name: str, config: Mapping[str, Any]) -> Preprocess:
    """Return what timm's `create_transform` does to an image at evaluation."""
    channels, height, width = config["input_size"]
    squash = config["crop_mode"] == "squash"
    if (
        (channels, height) != (3, width)
        or config["crop_mode"] not in ("center", "squash")
        or (squash and config["crop_pct"] != 1)
    ):
        raise BackboneError(
            f"timm's model {name} takes {channels} x {height} x {width} pixels in crop mode "
            f"{config['crop_mode']!r}: no preprocessing of ours does that"
        )
    return Preprocess(
        name="official",
        crop=height,
        short_side=None if squash else math.floor(height / config["crop_pct"]),
        squash=squash,
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
    )


def _maps(model: Any, image: Any) -> tuple[_Layer | None, Maps | None]:
    """Return the layer of a model whose maps are pooled, and their size; None if it has none.

    Args:
        model: on the meta device.
        image: what it takes (1, 3, height, width).
    """
    try:
        infos = list(getattr(model.feature_info, "info", model.feature_info))
        strides = [info["reduction"] for info in infos]
        finest = min(strides)
        index = max(i for i, stride in enumerate(strides) if stride <= max(STRIDE, finest))
        layer = _Layer(index, norm=index == len(infos) - 1)
        (found,) = layer.maps(model, image, stop_early=True, intermediates_only=True)
        _, channels, height, width = found.shape
    except Exception:  # timm has hundreds of models, and some have nothing of this kind
        return None, None
    normed = ", normed" if layer.norm else ""
    of = f"{infos[index]['module']} (stride {strides[index]}{normed})"
    return layer, Maps(of=of, height=height, width=width, channels=channels)


def _published(name: str, config: Mapping[str, Any]) -> weights.PublishedWeights | None:
    """Return timm's own weight file on the Hugging Face hub; None if there is none."""
    repository = config.get("hf_hub_id") or ""
    if not repository.startswith("timm/"):
        return None
    return weights.hugging_face_file(
        repository, "main", name="model.safetensors", file=f"{name}.safetensors"
    )


def _build(
    name: str,
    outputs: Outputs,
    config: Mapping[str, Any],
    official: Preprocess,
    published: weights.PublishedWeights | None,
    layer: _Layer | None,
    options: LoadOptions,
) -> Backbone:
    import timm
    import torch

    preprocess = choose("preprocessing", options.preprocess, {"official": official})
    output = outputs.choose(PREFIX + name, options.output)
    if published is not None:
        path = weights.obtain(published, weights=options.weights, hub_dir=options.hub_dir)
    elif options.weights is not None:
        path = options.weights
        if path != weights.RANDOM:
            weights.check_file(path, None)
    else:
        raise BackboneError(
            f"timm publishes no weights of {name} on the Hugging Face hub: name a file of them "
            "with --weights, or take --weights random"
        )
    classifier = config.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)

    def without_classifier(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        dropped = tuple(f"{head}." for head in heads)
        return {key: tensor for key, tensor in state.items() if not key.startswith(dropped)}

    model: Any = timm.create_model(name, num_classes=0)
    digest = weights.load_into(model, path, without_classifier)
    model.to(memory_format=torch.channels_last)

    def encode(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        images = pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        found = {}
        if output.maps is None or layer is None:
            found["pooled"] = model(images)  # (B * T, dim)
        else:
            if "pooled" in output.needed:
                last, (maps,) = layer.maps(model, images)
                found["pooled"] = model.forward_head(last)
            else:
                (maps,) = layer.maps(model, images, stop_early=True, intermediates_only=True)
            found[MAPS] = maps.permute(0, 2, 3, 1)
        return {name: tensor.unflatten(0, pixels.shape[:2]) for name, tensor in found.items()}

    return Backbone(
        name=PREFIX + name,
        dim=output.dim,
        model=model,
        encode=encode,
        preprocess=preprocess,
        options=options,
        source=f"timm:{name}",
        revision=str(config.get("tag") or "none"),
        weights_sha256=digest,
        output=output,
        shares="frames",
    )
