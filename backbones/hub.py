"""Model code from GitHub through torch.hub, at a pinned commit, or from a local copy.

This adds three things to plain `torch.hub.load`. A repository's packages (`src`, `evals`) do not
clash with modules of the same name in the user's process. Random initialisation is skipped, because
published weights overwrite it. And the revision in a fingerprint is computed from the bytes of the
code, however they arrived.
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

    Attributes:
        github: `owner/name`.
        commit: its hash.
        packages: the top-level packages of its code.
        sources_sha256: `sources_sha256(folder, packages)` at that commit.
    """

    github: str
    commit: str
    packages: tuple[str, ...]
    sources_sha256: str

    @property
    def folder_name(self) -> str:
        """The name of torch.hub's copy of this commit."""
        return f"{self.github.replace('/', '_')}_{self.commit}"


def find(repository: Repository, hub_dir: Path | None) -> Path | None:
    """Return the folder with a repository's code on this machine, or None.

    Args:
        repository: whose code.
        hub_dir: a clone, a folder of clones, a TORCH_HOME, or a folder like torch.hub's own; in the
            last two the pinned commit is preferred to what torch.hub keeps as `main`. None is
            torch.hub's folder.
    """
    import torch

    name = repository.folder_name
    if hub_dir is None:
        folders = [Path(torch.hub.get_dir()) / name]
    else:
        main = f"{repository.github.replace('/', '_')}_main"
        roots = [hub_dir, hub_dir / "hub"]
        clone = hub_dir / repository.github.split("/")[1]
        folders = [hub_dir, clone, *(root / copy for copy in (name, main) for root in roots)]
    for folder in folders:
        if (
            all((folder / package).is_dir() for package in repository.packages)
            and (folder / "hubconf.py").is_file()
        ):
            return folder
    return None


def sources_sha256(folder: Path, packages: tuple[str, ...]) -> str:
    """Return the SHA-256 of a repository's Python files: names and bytes, in the order of names.

    Args:
        folder: of the repository.
        packages: of its folders that are hashed, next to `hubconf.py`.
    """
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
        hub_dir: a local clone or TORCH_HOME; None lets torch.hub download what is missing.

    Returns:
        What the entry returns, with its parameters on the meta device; and the revision of the
        code: the pinned commit, or `modified-` and a digest if the files differ from it.

    Raises:
        BackboneError: the code is missing and cannot be downloaded, or it does not run; the
            sentence says what to do.
    """
    import torch

    folder = find(repository, hub_dir)
    if folder is None and hub_dir is not None:
        raise BackboneError(
            f"{hub_dir} is neither a clone of github.com/{repository.github}, nor a folder with "
            f"one, nor a TORCH_HOME that holds hub/{repository.folder_name}"
        )
    try:
        with _code_of(repository, folder), _parameters_on_meta(), warnings.catch_warnings():
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
    except Exception as error:  # of the network, or in foreign code
        if folder is None and find(repository, None) is None:
            raise BackboneError(
                f"the code of {repository.github} is missing and cannot be downloaded ({error}): "
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

    Its packages may have no `__init__.py`, and then a package of the user with one would win
    wherever it is on the path. So they are put into `sys.modules` here, and removed afterwards.
    xformers is switched off, because its kernels change the numbers of DINOv2.
    """
    import torch

    root = folder or Path(torch.hub.get_dir()) / repository.folder_name

    def is_inside(name: str) -> bool:
        return name.partition(".")[0] in repository.packages

    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if is_inside(name)}
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
        for name in [name for name in sys.modules if is_inside(name)]:
            del sys.modules[name]
        sys.modules.update(hidden)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Build modules with their parameters on the meta device: no memory, no random numbers.

    Plain `torch.device("meta")` would also move small tensors whose values constructors read.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class AllocateOnMeta(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = dict(kwargs or {})
            if func in (torch.empty, torch.zeros, torch.ones):
                kwargs["device"] = "meta"
            return func(*args, **kwargs)

    with AllocateOnMeta():
        yield
