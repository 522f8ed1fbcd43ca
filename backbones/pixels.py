"""No network: the grey pixels of a frame, as few as a thumbnail has.

The eye of an agent that knows nothing, and what a network must beat. A frame is the means of its
grey over 16 x 16 cells: what the thumbnails of a cache hold, from 0 to 1 and not rounded. They are
a map of one number at each place, so that `gridN` and `motionN` are of pixels too: `motion16` are
their absolute differences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backbones import weights
from backbones.base import Backbone, Entry, LoadOptions, Preprocess, choose
from backbones.errors import BackboneValueError
from backbones.outputs import MAPS, Maps, Outputs

if TYPE_CHECKING:
    import torch

NAME = "pixels"
SIDE = 16
CROP = 224
LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey: Rec. 601."""
OUTPUTS = Outputs(
    vectors={"grey": SIDE * SIDE},
    maps=Maps(of="grey pixels", height=SIDE, width=SIDE, channels=1),
)
PREPROCESSING = {
    "official": Preprocess(
        name="official", short_side=256, crop=CROP, mean=(0.0,) * 3, std=(1.0,) * 3
    ),
}


def build(options: LoadOptions) -> Backbone:
    """Build what takes frames to their grey cells.

    Raises:
        BackboneValueError: weights are named, and there are none.
    """
    import torch

    if options.weights is not None:
        raise BackboneValueError(f"{NAME} is no network: it takes no weights")
    preprocess = choose("preprocessing", options.preprocess, PREPROCESSING)
    output = OUTPUTS.choose(NAME, options.output)
    device = torch.device("cpu") if options.device.type == "mps" else options.device  # has float64
    luma = torch.tensor(LUMA, dtype=torch.float64).to(device)[:, None, None]

    def encode(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        # Sums in float64, which rounding to float32 hides: of any batch they are the same bits.
        exact = pixels.to(device).double()
        cells = exact.unflatten(4, (SIDE, -1)).unflatten(3, (SIDE, -1)).mean((4, 6))
        grey = (cells * luma).sum(2).to(pixels.dtype)
        return {"grey": grey.flatten(2), MAPS: grey[..., None]}

    model = torch.nn.Identity()
    return Backbone(
        name=NAME,
        dim=output.dim,
        model=model,
        encode=encode,
        preprocess=preprocess,
        options=options,
        source="heliograph",
        revision="1",
        weights_sha256=weights.state_sha256(model.state_dict()),
        output=output,
        shares="frames",
    )


ENTRY = Entry(
    name=NAME,
    family="no network",
    dim=OUTPUTS.vectors["grey"],
    frames_per_step=1,
    parameters=0,
    licence="none needed",
    build=build,
    preprocessings=tuple(PREPROCESSING),
    outputs=OUTPUTS,
)
