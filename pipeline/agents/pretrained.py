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
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor, nn

from backbones import downloads, weights
from data.errors import BROKEN, HeliographError, reason_of
from data.files import atomic_write, open_regular
from data.screening import record

CONFIG, WEIGHTS = "config.json", "model.safetensors"
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
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
    ) -> Self:
        """Return the network of a folder or of a repository on the Hub, in evaluation mode.

        `save_pretrained` or `push_to_hub` wrote it, or `heliograph train` and `hub push` a run.

        Args:
            pretrained_model_name_or_path: The folder, or `user/name`.
            force_download: Replace what is in the cache of the Hub.
            token: Of the Hub; by default the one of `hf auth login`, or HF_TOKEN.
            cache_dir: In place of the cache of the Hub.
            local_files_only: Ask nobody, as HF_HUB_OFFLINE does.
            revision: A branch, a tag or a commit; None: the main branch.

        Raises:
            HeliographError: It cannot be had, is damaged, or is another network.
        """
        name, folder = str(pretrained_model_name_or_path), Path(pretrained_model_name_or_path)
        try:
            if folder.is_dir():
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
            stored, state = _read_config(config), weights.read(file)
            build, prefix = cls.recipe(stored, len(state))
            return with_weights(build, state, prefix)
        except (HeliographError, RuntimeError, OSError, *BROKEN) as error:
            raise HeliographError(f"{name} gives no {cls.__name__}: {reason_of(error)}") from error

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the network into a folder; options as huggingface_hub has them.

        Raises:
            HeliographError: The folder holds a run, or cannot be written.
        """
        if any(Path(save_directory, name).exists() for name in OF_A_RUN):
            raise HeliographError(f"{save_directory} holds a run: choose another folder")
        return super().save_pretrained(save_directory, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Send the network to the Hub, and return the address of the commit.

        Options, and what is raised, are huggingface_hub's.

        Raises:
            HeliographError: The repository holds a run.
        """
        branch, token = options.get("branch"), options.get("token")
        if HfApi(token=token).file_exists(repo_id, MANIFEST, revision=branch):
            raise HeliographError(f"{repo_id} holds a run: choose another name")
        card = {"repository": repo_id} | (options.pop("model_card_kwargs", None) or {})
        return super().push_to_hub(repo_id, model_card_kwargs=card, **options)

    def generate_model_card(self, *args: Any, **fields: Any) -> ModelCard:
        """Return the card that goes with the network."""
        known = {"network": type(self).__name__, "repository": "user/name"}
        return super().generate_model_card(*args, **known | fields)

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


def _read_config(path: Path) -> dict[str, Any]:
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


def _missing(name: str) -> str:
    return (
        f"it has no {name}; of a checkpoint of the paper `heliograph import-checkpoint` makes a "
        "run, whose folder opens"
    )
