"""A tiny random backbone with tubelets of two frames, which keeps tests quick."""

from dataclasses import replace

import torch

from backbones import MAPS, Backbone, Entry, LoadOptions, Maps, Outputs, Preprocess

TINY_PREPROCESS = Preprocess(
    name="official", short_side=32, crop=28, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
)


def build_tiny(options: LoadOptions) -> Backbone:
    """Build the backbone: 5 numbers a step, drawn from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv3d(3, 16, (2, 7, 7), stride=(2, 7, 7)), torch.nn.GELU(), torch.nn.Flatten(3)
    )
    head = torch.nn.Linear(16, 5)
    with torch.no_grad():
        for parameter in [*model.parameters(), *head.parameters()]:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 8)
    whole = torch.nn.ModuleList([model, head])

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        tokens = model(pixels.transpose(1, 2))  # (B, 16, steps, 16)
        return head(tokens.mean(3).transpose(1, 2))  # (B, steps, 5)

    return Backbone(
        name="tiny",
        dim=5,
        frames_per_step=2,
        model=whole,
        encode=encode,
        preprocess=TINY_PREPROCESS,
        options=options,
        source="tests",
        revision="1",
        weights_sha256="none",
        output="mean",
    )


TINY_ENTRY = Entry(
    name="tiny",
    family="tests",
    dim=5,
    frames_per_step=2,
    parameters=2453,
    licence="MIT",
    build=build_tiny,
)


MAPPED_OUTPUTS = Outputs(
    vectors={"mean": 3}, maps=Maps(of="pixels of tubelets", height=28, width=28, channels=3)
)


def build_mapped(options: LoadOptions) -> Backbone:
    """Build a backbone with tubelets of two frames whose maps are their mean pixels."""
    output = MAPPED_OUTPUTS.choose("mapped", options.output)

    def encode(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = pixels.unflatten(1, (-1, 2)).mean(2).permute(0, 1, 3, 4, 2)
        return {"mean": maps.mean((2, 3)), MAPS: maps}

    return Backbone(
        name="mapped",
        dim=output.dim,
        frames_per_step=2,
        model=torch.nn.Identity(),
        encode=encode,
        preprocess=TINY_PREPROCESS,
        options=options,
        source="tests",
        revision="1",
        weights_sha256="none",
        output=output,
        shares="clips",
    )


MAPPED_ENTRY = replace(
    TINY_ENTRY, name="mapped", dim=3, parameters=0, build=build_mapped, outputs=MAPPED_OUTPUTS
)
