"""Model code from GitHub through torch.hub, at a pinned commit, or from a local copy.

This adds four things to plain `torch.hub.load`. Code is downloaded by one process at a time, and is
in torch.hub's folder whole or not at all; only the pinned commit's is run. A repository's packages
(`src`, `evals`) do not clash with modules of the same name in the user's process. Random
initialisation is skipped, because published weights overwrite it. And the revision in a fingerprint
is computed from the bytes of the code, however they arrived.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any
from zipfile import BadZipFile, ZipFile

from backbones.downloads import DownloadError, fetch, log, one_at_a_time
from backbones.errors import BackboneError
from data.files import (
    UnsafeFileError,
    make_folder,
    sha256_file,
    sweep_temporaries,
    sync_folder,
    temporary_path,
    write_error,
)

GITHUB = "https://github.com"
MOST_FILES = 20_000  # of an archive of code
MOST_BYTES = 1 << 30


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

    @property
    def archive_url(self) -> str:
        """The address of its files at this commit."""
        return f"{GITHUB}/{self.github}/archive/{self.commit}.zip"


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

    Raises:
        UnsafeFileError: one of them is no file.
        OSError: one of them cannot be read.
    """
    files = [folder / "hubconf.py"]
    files += [path for package in packages for path in (folder / package).rglob("*.py")]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        digest.update(bytes.fromhex(sha256_file(path)))
    return digest.hexdigest()


def load(repository: Repository, entry: str, *, hub_dir: Path | None) -> tuple[Any, str]:
    """Build a model without weights from the repository's code.

    Args:
        repository: whose code to run, at its pinned commit.
        entry: the name of the model in its `hubconf.py`.
        hub_dir: a local clone or TORCH_HOME; None downloads what is missing or damaged into
            torch.hub's folder.

    Returns:
        What the entry returns, with its parameters on the meta device; and the revision of the
        code: the pinned commit, or `modified-` and a digest if the files differ from it.

    Raises:
        BackboneError: the code is missing and cannot be downloaded, or it does not run; the
            sentence says what to do.
    """
    import torch

    folder = obtain(repository) if hub_dir is None else find(repository, hub_dir)
    if folder is None:
        raise BackboneError(
            f"{hub_dir} is neither a clone of github.com/{repository.github}, nor a folder with "
            f"one, nor a TORCH_HOME that holds hub/{repository.folder_name}"
        )
    digest = sources_sha256(folder, repository.packages)  # first: a FIFO would be read for ever
    try:
        with _code_of(repository, folder), _parameters_on_meta(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "xFormers is disabled" and deprecations, at import
            model = torch.hub.load(str(folder), entry, source="local", pretrained=False)
    except Exception as error:  # in foreign code
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BackboneError(
            f"the code of {repository.github} in {folder} does not run here: {reason}"
        ) from error
    matches = digest == repository.sources_sha256
    return model, repository.commit if matches else f"modified-{digest[:12]}"


def obtain(repository: Repository) -> Path:
    """Return the folder of a repository's code in torch.hub's folder, downloaded if need be.

    A copy that is not the pinned commit is put aside for a new one, unless it is a clone, whose
    changes are somebody's own, or there is no network and it has all that a copy must have.

    Raises:
        BackboneError: the code is missing and cannot be downloaded.
    """
    import torch

    folder = Path(torch.hub.get_dir()) / repository.folder_name
    if is_whole(repository, folder) or (folder / ".git").exists():
        return folder
    differs = f"{folder} is not commit {repository.commit[:12]} of {repository.github}"
    try:
        with one_at_a_time(folder):
            if not is_whole(repository, folder):  # otherwise another process has made it
                _download(repository, folder)
        return folder
    except DownloadError as error:
        if find(repository, None) is not None:
            log(f"{differs}, and a new copy cannot be downloaded ({error}): it is used as it is")
            return folder
        damaged = f"{differs}, and " if folder.exists() else ""
        raise BackboneError(
            f"{damaged}the code of {repository.github} is missing and cannot be downloaded "
            f"({error}): clone https://github.com/{repository.github} at {repository.commit} and "
            f"name the clone with --hub-dir, or put it at {folder}"
        ) from error


def is_whole(repository: Repository, folder: Path) -> bool:
    """Return whether a folder has a repository's code, to the byte."""
    try:
        return sources_sha256(folder, repository.packages) == repository.sources_sha256
    except (OSError, UnsafeFileError):
        return False


def _download(repository: Repository, folder: Path) -> None:
    """Put a repository's code at a folder; what is there is put aside, under a name of its own.

    Raises:
        DownloadError: it cannot be had, or is not the pinned commit's.
        WriteError: it cannot be written.
    """
    make_folder(folder.parent)
    sweep_temporaries(folder.parent, of=folder.name)
    private = temporary_path(folder)
    try:
        private.mkdir()
        fetch(repository.archive_url, private / "code.zip")
        code = private / "code"
        unpack(private / "code.zip", code)
        if not is_whole(repository, code):
            raise DownloadError(
                f"what {repository.archive_url} holds is not commit {repository.commit}"
            )
        if os.path.lexists(folder) and not is_whole(repository, folder):
            aside = folder.with_name(f"{folder.name}.old-{secrets.token_hex(4)}")
            os.rename(folder, aside)
            log(f"{folder} is not commit {repository.commit[:12]}: it is kept as {aside.name}")
        try:
            os.rename(code, folder)
        except OSError:  # another process was quicker, where file systems have no locks
            if not is_whole(repository, folder):
                raise
        sync_folder(folder.parent)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(private, ignore_errors=True)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the files of GitHub's archive, which are in one folder there; links are left out.

    Args:
        archive: a zip file.
        folder: where they go; it must not exist.

    Raises:
        DownloadError: it is no zip file, is too large, or names a file outside of itself.
        OSError: it cannot be written.
    """
    try:
        with ZipFile(archive) as zipped:
            entries = zipped.infolist()
            total = sum(entry.file_size for entry in entries)
            if len(entries) > MOST_FILES or total > MOST_BYTES:
                raise DownloadError(
                    f"the archive has {len(entries):,} files and {total:,} bytes, which no code has"
                )
            for entry in entries:
                parts = PurePosixPath(entry.filename).parts
                if ".." in parts or parts[:1] == ("/",) or "\\" in entry.filename:
                    raise DownloadError(f"the archive names {entry.filename!a}, outside of itself")
                if entry.is_dir() or len(parts) < 2 or stat.S_ISLNK(entry.external_attr >> 16):
                    continue
                target = folder.joinpath(*parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(entry) as packed, open(target, "xb") as file:
                    shutil.copyfileobj(packed, file)
    except (
        BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise DownloadError(f"what came is not a sound zip file: {error}") from error
    except FileExistsError as error:
        raise DownloadError(f"the archive has a file twice: {error.filename}") from error


@contextmanager
def _code_of(repository: Repository, folder: Path) -> Iterator[None]:
    """Let a repository import its own packages, whatever the process has under those names.

    Its packages may have no `__init__.py`, and then a package of the user with one would win
    wherever it is on the path. So they are put into `sys.modules` here, and removed afterwards.
    xformers is switched off, because its kernels change the numbers of DINOv2.
    """

    def is_inside(name: str) -> bool:
        return name.partition(".")[0] in repository.packages

    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if is_inside(name)}
    for package in repository.packages:
        if not (folder / package / "__init__.py").is_file():
            module = ModuleType(package)
            module.__path__ = [str(folder / package)]
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
