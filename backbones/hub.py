"""Model code from GitHub through torch.hub, at a pinned commit, or from a local copy.

Three things that plain `torch.hub.load` leaves open are closed here. A repository's package names
(`src`, `evals`) neither meet nor replace modules of the same name in the user's process. Random
initialisation is skipped, since published weights overwrite it. And the revision that goes into a
fingerprint is told from the code's bytes, however they arrived.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from backbones.errors import BackboneError


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A GitHub repository with a `hubconf.py`, at one commit.

    `packages` are the top-level names that its code imports itself by, and `sources_sha256` is
    `sources_sha256(folder)` of that commit.
    """

    github: str
    commit: str
    packages: tuple[str, ...]
    sources_sha256: str

    @property
    def folder_name(self) -> str:
        """What torch.hub calls its copy of this commit."""
        return f"{self.github.replace('/', '_')}_{self.commit}"


def find(repository: Repository, hub_dir: Path | None) -> Path | None:
    """The folder with the repository's code on this machine, or None.

    `hub_dir` may be a clone, a folder of clones, a TORCH_HOME, or torch.hub's own folder; in the
    last two the pinned commit is preferred to what torch.hub keeps as `main`. Without it
    torch.hub's folder is asked.
    """
    import torch

    name = repository.folder_name
    if hub_dir is None:
        places = [Path(torch.hub.get_dir()) / name]
    else:
        main = f"{repository.github.replace('/', '_')}_main"
        roots = [hub_dir, hub_dir / "hub"]
        clone = hub_dir / repository.github.split("/")[1]
        places = [hub_dir, clone, *(root / folder for folder in (name, main) for root in roots)]
    for place in places:
        if (
            all((place / package).is_dir() for package in repository.packages)
            and (place / "hubconf.py").is_file()
        ):
            return place
    return None


def sources_sha256(folder: Path, packages: tuple[str, ...]) -> str:
    """The SHA-256 of a repository's Python files (names and bytes, in the order of names)."""
    files = [folder / "hubconf.py"]
    files += [path for package in packages for path in (folder / package).rglob("*.py")]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def load(repository: Repository, entry: str, *, hub_dir: Path | None) -> tuple[Any, str]:
    """Build a model without weights from the repository's code.

    Args:
        repository: whose code to run, at its pinned commit.
        entry: the name of the model in its `hubconf.py`.
        hub_dir: a local clone or TORCH_HOME; None asks torch.hub, which fetches what it lacks.

    Returns:
        What the entry returns, its parameters on the meta device, and the revision of the code:
        the pinned commit, or `modified-` and a digest if the files differ from it.

    Raises:
        BackboneError: the code cannot be had or does not run; the sentence says what to do.
    """
    import torch

    folder = find(repository, hub_dir)
    if folder is None and hub_dir is not None:
        raise BackboneError(
            f"{hub_dir} is neither a clone of github.com/{repository.github}, nor a folder with "
            f"one, nor a TORCH_HOME that holds hub/{repository.folder_name}"
        )
    try:
        with _code_of(repository, folder), _skeleton(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "xFormers is disabled" and deprecations, at import
            if folder is not None:
                model = torch.hub.load(str(folder), entry, source="local", pretrained=False)
            else:
                model = torch.hub.load(
                    f"{repository.github}:{repository.commit}",
                    entry,
                    trust_repo=True,
                    skip_validation=True,  # asks the GitHub API for branches; a commit is none
                    verbose=False,
                    pretrained=False,
                )
    except Exception as error:  # of the network, or in somebody else's code
        if folder is None and find(repository, None) is None:
            raise BackboneError(
                f"the code of {repository.github} is not here and cannot be fetched ({error}): "
                f"clone https://github.com/{repository.github} at {repository.commit} and name the "
                "clone with --hub-dir, or put it at "
                f"{Path(torch.hub.get_dir()) / repository.folder_name}"
            ) from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BackboneError(
            f"the code of {repository.github} in {folder or torch.hub.get_dir()} does not run "
            f"here: {reason}"
        ) from error
    folder = folder or find(repository, None)
    assert folder is not None, "torch.hub.load leaves its copy in its folder"
    digest = sources_sha256(folder, repository.packages)
    matches = digest == repository.sources_sha256
    return model, repository.commit if matches else f"modified-{digest[:12]}"


@contextmanager
def _code_of(repository: Repository, folder: Path | None) -> Iterator[None]:
    """Let a repository import its own packages, whatever the process has under those names.

    Its packages may lack an `__init__.py`, and then a package of the user's with one would win
    wherever it stands on the path; so they are put in place by hand, and taken out afterwards.
    xformers is switched off, since its kernels change the numbers of DINOv2.
    """
    import torch

    root = folder or Path(torch.hub.get_dir()) / repository.folder_name

    def ours(name: str) -> bool:
        return name.partition(".")[0] in repository.packages

    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if ours(name)}
    for package in repository.packages:
        if not (root / package / "__init__.py").is_file():
            module = ModuleType(package)
            module.__path__ = [str(root / package)]
            sys.modules[package] = module
    before = os.environ.get("XFORMERS_DISABLED")
    os.environ["XFORMERS_DISABLED"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["XFORMERS_DISABLED"]
        else:
            os.environ["XFORMERS_DISABLED"] = before
        for name in [name for name in sys.modules if ours(name)]:
            del sys.modules[name]
        sys.modules.update(hidden)


@contextmanager
def _skeleton() -> Iterator[None]:
    """Build modules with their parameters on the meta device: no memory, no random numbers.

    Plain `torch.device("meta")` would also take small tensors that constructors read values from.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Skeleton(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            kwargs = dict(kwargs or {})
            if func in (torch.empty, torch.zeros, torch.ones):
                kwargs["device"] = "meta"
            return func(*args, **kwargs)

    with Skeleton():
        yield
