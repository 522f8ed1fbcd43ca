"""Differences between our backbones and the authors' own code, with the same random weights.

    python benchmarks/hub_parity.py --hub-dir FOLDER      # with the clones dinov2 and vjepa2

Takes about three minutes on two cores and 5 GB of memory. The authors' side is their hub entry
called directly, initialised by them, fed with float pixels as their README does; ours is
`backbones.load` on a file of those weights. `transformers` is the third, independent side, where it
is installed. Expected: zero, or rounding (below 1e-5), for features whose largest entry is near 3;
and pixels within two grey levels of the authors' own transforms on these hard frames (within one on
photographs). Their V-JEPA 2 transform needs opencv-python.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import backbones
from backbones import dinov2, vjepa2

warnings.filterwarnings("ignore")


def shake(model: Any) -> Any:
    """Random weights under which every block matters: gains near one, matrices that keep sizes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "gamma")):
                parameter.copy_(1 + 0.1 * drawn)
            elif parameter.ndim >= 2 and not name.endswith(("pos_embed", "token")):
                parameter.copy_(drawn / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.3 * drawn)
    return model.eval()


def official(folder: Path, entry: str) -> Any:
    """The authors' model, as torch.hub builds it when nothing of ours is in between."""
    os.environ["XFORMERS_DISABLED"] = "1"
    return torch.hub.load(str(folder), entry, source="local", pretrained=False)


def row(name: str, what: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    difference = float((ours - theirs).abs().max())
    print(f"{name:15} {what:44} {difference:10.2e} {float(theirs.abs().max()):10.3f}", flush=True)


def frames(count: int) -> np.ndarray:
    """Smooth frames uint8 (count, 270, 480, 3) that move."""
    y, x, t = np.mgrid[:270, :480, :count]
    waves = [np.sin(x * a + y * b + t) for a, b in ((0.02, 0.05), (0.2, 0.1), (0.4, 0.3))]
    return np.stack([127 + 90 * w for w in waves], -1).astype(np.uint8).transpose(2, 0, 1, 3)


def compare_dinov2(name: str, folder: Path, scratch: Path) -> None:
    """CLS and patch features at 224, against the authors' model; blocks ablated for contrast."""
    from PIL import Image

    sys.path.insert(0, str(folder))
    theirs = shake(official(folder, name))
    path = scratch / f"{name}.pth"
    torch.save(theirs.state_dict(), path)
    clip = frames(2)
    for output, key in (("cls", "x_norm_clstoken"), ("patch_mean", "x_norm_patchtokens")):
        ours = backbones.load(name, device="cpu", weights=path, hub_dir=folder, output=output)
        pixels = ours.preprocess(clip)
        with torch.inference_mode():
            found = theirs.forward_features(ours.preprocess.normalise(pixels))[key]
        expected = found if output == "cls" else found.mean(1)
        row(name, f"authors' code, {output}", ours.forward(pixels[None])[0], expected)
    with torch.inference_mode():
        theirs.blocks[-2] = torch.nn.Identity()
        ablated = theirs(ours.preprocess.normalise(pixels))
    ours = backbones.load(name, device="cpu", weights=path, hub_dir=folder)
    row(
        name, "without its last block but one (must differ)", ours.forward(pixels[None])[0], ablated
    )

    from dinov2.data.transforms import make_classification_eval_transform  # the authors'

    transform = make_classification_eval_transform()
    pil = torch.stack([transform(Image.fromarray(frame)) for frame in clip])
    grey = 255 * torch.tensor(dinov2.STD)[:, None, None]
    row(
        name,
        "pixels of the authors' transform, grey levels",
        ours.preprocess.normalise(pixels) * grey,
        pil * grey,
    )
    sys.path.remove(str(folder))
    path.unlink()


def compare_vjepa2(folder: Path, scratch: Path) -> None:
    """16 frames at 256 against the authors' encoder, from a checkpoint laid out as theirs."""
    encoder, _ = official(folder, "vjepa2_vit_large")
    encoder = shake(encoder)
    path = scratch / "vitl-random.pt"
    state = {f"module.backbone.{name}": tensor for name, tensor in encoder.state_dict().items()}
    stale = {"module.backbone.pos_embed": torch.zeros(1, 8192, 1024)}
    torch.save({"encoder": state | stale, "epoch": 1}, path)
    ours = backbones.load("vjepa2_vitl", device="cpu", weights=path, hub_dir=folder)
    clip = frames(16)
    pixels = ours.preprocess(clip)
    found = ours.forward(pixels[None])[0]
    with torch.inference_mode():
        tokens = encoder(ours.preprocess.normalise(pixels).transpose(0, 1)[None])
    expected = tokens.view(8, 256, 1024).mean(1)
    row("vjepa2_vitl", "authors' code, mean of patches", found, expected)
    moved = torch.cat([found[1:], found[:1]])
    row("vjepa2_vitl", "steps moved by one (must differ)", moved, expected)

    preprocessor = torch.hub.load(str(folder), "vjepa2_preprocessor", source="local")
    grey = 255 * torch.tensor(vjepa2.STD)[:, None, None]
    theirs = preprocessor(torch.from_numpy(clip).permute(0, 3, 1, 2))[0].transpose(0, 1)
    normalised = ours.preprocess.normalise(pixels)
    row(
        "vjepa2_vitl",
        "pixels of the authors' transform, grey levels",
        normalised * grey,
        theirs * grey,
    )

    try:
        from transformers import VJEPA2Config, VJEPA2Model
    except ImportError:
        return
    model = VJEPA2Model(
        VJEPA2Config(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, pred_num_hidden_layers=1
        )
    ).eval()
    del encoder, tokens
    shake(model).save_pretrained(scratch / "hf")
    ours = backbones.load(
        "vjepa2_vitl", device="cpu", weights=scratch / "hf" / "model.safetensors", hub_dir=folder
    )
    with torch.inference_mode():
        tokens = model(normalised[None], skip_predictor=True).last_hidden_state
    expected = tokens.view(8, 256, 1024).mean(1)
    row("vjepa2_vitl", "transformers, mean of patches", ours.forward(pixels[None])[0], expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hub-dir", type=Path, required=True, help="folder with both clones")
    parser.add_argument(
        "--only", choices=["dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14", "vjepa2_vitl"]
    )
    arguments = parser.parse_args()
    print(f"{'backbone':15} {'compared with':44} {'max |diff|':>10} {'max |them|':>10}")
    with tempfile.TemporaryDirectory() as scratch:
        for name in dinov2.PUBLISHED:
            if arguments.only in (None, name):
                compare_dinov2(name, arguments.hub_dir / "dinov2", Path(scratch))
        if arguments.only in (None, "vjepa2_vitl"):
            compare_vjepa2(arguments.hub_dir / "vjepa2", Path(scratch))


if __name__ == "__main__":
    main()
