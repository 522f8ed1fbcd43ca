"""Networks in folders and on the Hugging Face Hub, by huggingface_hub's own mixin.

`save_pretrained` and `push_to_hub` write `config.json`, with which the network is built again, and
`model.safetensors`; `from_pretrained` opens these, and those of a run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import safetensors.torch
import torch
from huggingface_hub import HfApi, ModelCard, PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from torch import Tensor, nn

from backbones import downloads, weights
from data.errors import BROKEN, HeliographError, InvalidValueError, reason_of
from data.files import atomic_write, open_regular, write_error
from data.screening import record

CONFIG, WEIGHTS, README = "config.json", "model.safetensors", "README.md"
MANIFEST = "manifest.json"
OF_A_RUN = (MANIFEST, "messages.jsonl")  # older runs have no manifest
LARGEST_CONFIG = 64 << 20  # bytes
LARGEST_WEIGHT = 1e30  # sums of larger ones overflow
CARD = """\
---
{{ card_data }}
---

The sender of a [Heliograph](https://arxiv.org/abs/2604.03266) game: features of a clip, (clips,
steps, dimension), to a few discrete symbols.

```python
from pipeline.agents import {{ network }}

sender = {{ network }}.from_pretrained("{{ repository }}")
```
"""
_Module = TypeVar("_Module", bound=nn.Module)


class Pretrained(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="heliograph",
    pipeline_tag="video-classification",
    tags=["emergent-communication"],
    model_card_template=CARD,
):
    """A network that is saved, pushed to the Hub, and opened again; its weights are no pickle."""

    @classmethod
    def recipe(cls, stored: Mapping[str, Any], tensors: int) -> tuple[Callable[[], Self], str]:
        """Return what builds a network, and what the names of its weights begin with.

        Args:
            stored: The content of its `config.json`.
            tensors: How many there are in `model.safetensors`.

        Raises:
            Whatever of `BROKEN`: It describes no network of this class.
        """
        raise NotImplementedError

    @classmethod
    def wrote(cls, stored: Mapping[str, Any]) -> bool:
        """Return whether a `config.json` is of `save_pretrained`, of this class or a like one."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        map_location: str | torch.device = "cpu",
        strict: bool = True,
    ) -> Self:
        """Return the network of a folder or of a repository on the Hub, in evaluation mode.

        `save_pretrained` or `push_to_hub` wrote it, or `heliograph train` and `hub push` a run.

        Args:
            pretrained_model_name_or_path: The folder, or `user/name`.
            force_download: Replace what is in the cache of the Hub.
            token: Of the Hub; by default the one of `hf auth login`, or HF_TOKEN.
            cache_dir: In place of the cache of the Hub.
            local_files_only: Ask nobody, as HF_HUB_OFFLINE does.
            revision: A branch, a tag or a commit of a repository; None: the main branch.
            map_location: The device that it is on.
            strict: As huggingface_hub has it; a network whose weights do not fit is never returned.

        Raises:
            HeliographError: It cannot be had, is damaged, or is another network.
        """
        name, folder = str(pretrained_model_name_or_path), Path(pretrained_model_name_or_path)
        try:
            if folder.is_dir():
                if revision is not None:
                    raise ValueError("it is a folder, which has no revisions: leave out revision")
                config, file = folder / CONFIG, folder / WEIGHTS
                for part in (config, file):
                    if not part.is_file():
                        raise ValueError(_missing(part.name))
            else:
                forbidden = _why_not_online(local_files_only=local_files_only)
                options: dict[str, Any] = {
                    "force_download": force_download and not forbidden,
                    "token": token,
                    "cache_dir": cache_dir,
                    "local_files_only": bool(forbidden),
                    "revision": revision,
                }
                config = _fetched(name, CONFIG, options, forbidden)
                options["revision"] = config.parent.name  # the commit, whatever is pushed meanwhile
                file = _fetched(name, WEIGHTS, options, forbidden)
            stored, state = read_config(config), weights.read(file)
            build, prefix = cls.recipe(stored, len(state))
            return with_weights(build, state, prefix).to(map_location)
        except (HeliographError, RuntimeError, AssertionError, OSError, *BROKEN) as error:
            raise HeliographError(f"{name} gives no {cls.__name__}: {reason_of(error)}") from error

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the network into a folder; options as huggingface_hub has them.

        Raises:
            InvalidValueError: `config` is given: the network has its own.
            HeliographError: The folder holds a run or another model, or cannot be written.
        """
        self._refuse_config(options)
        folder = Path(save_directory)
        if any((folder / name).exists() for name in OF_A_RUN):
            raise HeliographError(f"{folder} holds a run: choose another folder")
        taken = [name for name in (CONFIG, WEIGHTS) if (folder / name).exists()]
        if taken and not self._is_of_a_sender(folder / CONFIG):
            raise HeliographError(f"{folder} {_holds_another(taken[0])}: choose another folder")
        try:
            return super().save_pretrained(folder, **options)
        except OSError as error:
            raise write_error(folder, error) from error

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Send the network to the Hub, and return the address of the commit.

        Options are huggingface_hub's.

        Raises:
            InvalidValueError: `config` is given: the network has its own.
            HeliographError: The repository holds a run or another model, or cannot be written.
        """
        self._refuse_config(options)
        if downloads.is_offline():
            raise HeliographError(f"{repo_id} is not pushed: HF_HUB_OFFLINE is set; unset it")
        card = {"repository": repo_id} | (options.pop("model_card_kwargs", None) or {})
        branch = options.get("branch")
        with downloads.hub_sentences(repo_id, branch):
            downloads.require_connection(downloads.endpoint())
            self._refuse_another(repo_id, branch, options.get("token"))
            return super().push_to_hub(repo_id, model_card_kwargs=card, **options)

    def generate_model_card(self, *args: Any, **fields: Any) -> ModelCard:
        """Return the card that goes with the network."""
        known = {"network": type(self).__name__, "repository": "user/name"}
        return super().generate_model_card(*args, **known | fields)

    def _refuse_config(self, options: Mapping[str, Any]) -> None:
        if options.get("config") not in (None, self._hub_mixin_config):
            raise InvalidValueError(
                f"config is not taken: {CONFIG} holds what the network is built of"
            )

    @classmethod
    def _refuse_another(cls, repository: str, branch: str | None, token: str | None) -> None:
        """Raise HeliographError where a repository holds a run or another model."""
        server = downloads.endpoint()
        try:
            there = HfApi(server, token=token).list_repo_files(repository, revision=branch)
        except RepositoryNotFoundError:
            return
        if MANIFEST in there:
            raise HeliographError(f"{repository} holds a run: choose another name")
        taken = [name for name in (CONFIG, WEIGHTS, README) if name in there]
        if CONFIG in taken:
            where: dict[str, Any] = {"revision": branch, "token": token, "endpoint": server}
            if cls._is_of_a_sender(Path(hf_hub_download(repository, CONFIG, **where))):
                return
        if taken:
            raise HeliographError(f"{repository} {_holds_another(taken[0])}: choose another name")

    @classmethod
    def _is_of_a_sender(cls, config: Path) -> bool:
        try:
            return cls.wrote(read_config(config))
        except (HeliographError, OSError, *BROKEN):
            return False

    def _save_pretrained(self, save_directory: Path) -> None:
        state = {name: value.contiguous() for name, value in self.state_dict().items()}
        content = safetensors.torch.save(state)
        record(f"sha256:{hashlib.sha256(content).hexdigest()}")  # ours: nothing to screen
        atomic_write(save_directory / WEIGHTS, content)


def with_weights(
    build: Callable[[], _Module], state: Mapping[str, Tensor], prefix: str = ""
) -> _Module:
    """Return the network that `build` makes, with its weights, in evaluation mode.

    Args:
        build: Makes it, of any size: it takes no memory.
        state: The weights, and perhaps others.
        prefix: What the names of its own begin with.

    Raises:
        ValueError: A weight is missing, has another shape, or holds what no training gives.
        RuntimeError: There are too many.
    """
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    refuse_unusable(own)
    with torch.device("meta"):
        module = build()
    for name, value in module.state_dict().items():
        if name not in own or own[name].shape != value.shape:
            found = list(own[name].shape) if name in own else "missing"
            raise ValueError(f"{prefix}{name} is {found}, not {list(value.shape)}")
    module.load_state_dict(own, assign=True)
    return module.eval()


def refuse_unusable(state: Mapping[str, Tensor]) -> None:
    """Raise ValueError for numbers that no training gives."""
    for name, value in state.items():
        if value.is_floating_point() and not (value.float().abs() < LARGEST_WEIGHT).all():
            raise ValueError(f"{name} has numbers that no training gives: not finite, or too large")


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of a `config.json`; raises ValueError or OSError for anything else."""
    with open_regular(path, follow_links=True) as file:
        stored = json.loads(file.read(LARGEST_CONFIG))
    if not isinstance(stored, dict):
        raise ValueError(f"its {CONFIG} is no object")
    return stored


def _why_not_online(*, local_files_only: bool) -> str:
    """Return why the Hub is not asked, but its cache; empty where it is."""
    if local_files_only or downloads.is_offline():
        return "HF_HUB_OFFLINE or local_files_only forbids to download it"
    try:
        downloads.require_connection(downloads.endpoint())
    except downloads.DownloadError as error:
        return f"{downloads.endpoint()} cannot be reached: {error}"
    return ""


def _fetched(repository: str, name: str, options: Mapping[str, Any], forbidden: str) -> Path:
    """Return the path of a file of a repository in the cache of the Hub."""
    with downloads.hub_sentences(repository, options["revision"]):
        try:
            server = downloads.endpoint()
            return Path(hf_hub_download(repository, name, endpoint=server, **options))
        except HFValidationError:
            raise HeliographError(
                "there is no such folder, and no repository is called so: write user/name"
            ) from None
        except LocalEntryNotFoundError:
            if not forbidden:
                raise
            raise HeliographError(
                f"it is no folder, the cache of the Hub has no {name} of it, and {forbidden}"
            ) from None
        except EntryNotFoundError:
            raise HeliographError(_missing(name)) from None


def _holds_another(name: str) -> str:
    return f"holds something else than a sender, whose {name} would be replaced"


def _missing(name: str) -> str:
    return (
        f"it has no {name}; of a checkpoint of the paper `heliograph import-checkpoint` makes a "
        "run, whose folder opens"
    )
