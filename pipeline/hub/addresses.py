"""Addresses of the Hugging Face Hub, `hf://user/name[@revision][/file]`, and what they name.

What an address names is downloaded by huggingface_hub into its cache, with its token, mirror,
proxies and offline mode, and stays there: a path in that cache has repository and commit.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from backbones import downloads
from data.copies import name_copy
from data.errors import HeliographError, InvalidValueError
from data.files import hub_address
from pipeline.runs import PATTERNS

SCHEME = "hf://"
SOME = 5  # files that a sentence names

_ADDRESS = re.compile(
    r"hf://(?:(?P<kind>models|datasets)/)?"
    r"(?P<repository>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>refs/(?:convert|pr)/[^/@]+|[^/@]+))?"
    r"(?:/(?P<file>.*))?"
)


class Fetched(NamedTuple):
    """What an address names: where it is on this machine, and its address with the commit."""

    path: Path
    address: str


@dataclass(frozen=True)
class HubAddress:
    """What an address names.

    Attributes:
        repository: `user/name`.
        revision: A branch, a tag or a commit; None: the main branch.
        file: A file or a folder of the repository; "": the run that it is.
        kind: `model` or `dataset`, as the Hub calls repositories.
    """

    repository: str
    revision: str | None = None
    file: str = ""
    kind: str = "model"

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """Return what `hf://[datasets/]user/name[@revision][/file]` names.

        Raises:
            InvalidValueError: It is no such address.

        >>> HubAddress.parse("hf://user/name@v1/clips.h5")
        HubAddress(repository='user/name', revision='v1', file='clips.h5', kind='model')
        """
        found = _ADDRESS.fullmatch(text)
        file = (found["file"] or "").strip("/") if found else ""
        if found is None or not _is_repository(found["repository"]) or ".." in file.split("/"):
            raise InvalidValueError(
                f"{text} is no address of the Hugging Face Hub: write "
                "hf://user/name, hf://user/name@revision or hf://user/name/file"
            )
        kind = "dataset" if found["kind"] == "datasets" else "model"
        return cls(found["repository"], found["revision"], file, kind)

    def __str__(self) -> str:
        kind = "datasets/" if self.kind == "dataset" else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{kind}{self.repository}{revision}{'/' if self.file else ''}{self.file}"

    @property
    def patterns(self) -> list[str]:
        """Which files of a repository belong to it, where it names no single file."""
        return [f"{glob.escape(self.file)}/*"] if self.file else list(PATTERNS)


def require_repository(name: str) -> None:
    """Raise InvalidValueError for what is no name of a repository, `user/name`."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or not _is_repository(name):
        raise InvalidValueError(
            f"{name} is no name of a repository on the Hugging Face Hub: write user/name"
        )


def _is_repository(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def fetch(text: str) -> Fetched:
    """Return where on this machine is what an address names, downloaded if it is not.

    Raises:
        InvalidValueError: It is no address.
        HeliographError: It cannot be had; the sentence says why.
    """
    address = HubAddress.parse(text)
    path = _cached(address) if downloads.is_offline() else _downloaded(address)
    name_copy(path, hub_address(path))
    return Fetched(path, hub_address(path))


def _downloaded(address: HubAddress) -> Path:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    with sentences(address):
        server = downloads.endpoint()
        downloads.require_connection(server)
        where: dict[str, Any] = {
            "repo_id": address.repository,
            "repo_type": address.kind,
            "revision": address.revision,
        }
        names = HfApi(endpoint=server).list_repo_files(**where)
        if address.file in names:
            return Path(hf_hub_download(filename=address.file, endpoint=server, **where))
        _require_some(address, names)
        folder = snapshot_download(allow_patterns=address.patterns, endpoint=server, **where)
        return Path(folder, address.file)


def _require_some(address: HubAddress, names: list[str]) -> None:
    """Raise HeliographError where a repository has not what an address names."""
    some = ", ".join(names[:SOME]) + (", ..." if len(names) > SOME else "")
    if not address.file and "config.json" not in names:
        raise HeliographError(
            f"{address} is no run: it has no config.json; name one of its files as "
            f"{address}/FILE: {some or 'it has none'}"
        )
    if address.file and not any(name.startswith(f"{address.file}/") for name in names):
        has = f"it has {some}" if some else "it is empty"
        raise HeliographError(f"{address}: the repository has no {address.file}; {has}")


def _cached(address: HubAddress) -> Path:
    """Return what the Hub's cache has of an address, without a request."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    where: dict[str, Any] = {
        "repo_id": address.repository,
        "repo_type": address.kind,
        "revision": address.revision,
        "local_files_only": True,
    }
    try:
        if address.file:
            return Path(hf_hub_download(filename=address.file, **where))
    except LocalEntryNotFoundError:
        pass  # perhaps it is a folder
    try:
        path = Path(snapshot_download(allow_patterns=address.patterns, **where), address.file)
    except LocalEntryNotFoundError:
        path = None
    if path is None or not any(_entries(path)):
        raise HeliographError(
            f"{address} is not on this machine, and HF_HUB_OFFLINE forbids to download it: unset "
            "it, or fetch it where there is a network"
        )
    return path


def _entries(path: Path) -> Iterable[Path]:
    return path.iterdir() if path.is_dir() else ()


def sentences(address: HubAddress) -> AbstractContextManager[None]:
    """Turn what huggingface_hub raises about an address into a HeliographError."""
    repository = address.repository
    is_model_file = address.file and address.kind == "model"
    other = f"; a dataset's address is {SCHEME}datasets/{repository}" if is_model_file else ""
    return downloads.hub_sentences(repository, address.revision, str(address), hint=other)
