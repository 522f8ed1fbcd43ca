"""Any image model of timm, by its name there: `timm:resnet50`, `timm:vit_base_patch16_224.dino`.

Features are what timm gives for `num_classes=0`: the image's vector before the classifier, pooled
as the model was trained. Preprocessing is that of timm's configuration for the weights. These come
from timm's repositories on the Hugging Face hub, whose state dicts are under timm's names.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from backbones import weights
from backbones.base import Backbone, Entry, LoadOptions, Preprocess, choose
from backbones.errors import BackboneError, BackboneValueError

PREFIX = "timm:"


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
        dim = blank(torch.zeros(1, 3, official.crop, official.crop)).shape[-1]
    whole = ".".join(part for part in (model, config.get("tag")) if part)
    published = _published(whole, config)
    return Entry(
        name=PREFIX + whole,
        family="timm",
        dim=dim,
        frames_per_step=1,
        parameters=sum(parameter.numel() for parameter in blank.parameters()),
        licence=config.get("license") or "unknown",
        build=partial(_build, whole, dim, config, official, published),
        preprocessings=("official",),
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
    dim: int,
    config: Mapping[str, Any],
    official: Preprocess,
    published: weights.PublishedWeights | None,
    options: LoadOptions,
) -> Backbone:
    import timm
    import torch

    preprocess = choose("preprocessing", options.preprocess, {"official": official})
    output = options.output or "pooled"
    choose("output", output, {"pooled": None})
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

    model = timm.create_model(name, num_classes=0)
    digest = weights.load_into(model, path, without_classifier)
    model.to(memory_format=torch.channels_last)

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        images = pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features = model(images)  # (B * T, dim)
        return features.unflatten(0, pixels.shape[:2])

    return Backbone(
        name=PREFIX + name,
        dim=dim,
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
