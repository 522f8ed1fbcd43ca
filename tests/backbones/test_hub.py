"""Code from a hub folder: kept apart from the user's modules, its revision from its bytes."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError
from zipfile import BadZipFile

import pytest
import torch

from backbones import BackboneError, dinov2, hub, vjepa2
from tests.helpers.authors_code import authors_code

MODEL = """
import os
import torch
from src.parts import layer

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        rates = [x.item() for x in torch.linspace(0, 1, 3)]
        self.layers = torch.nn.ModuleList(layer(4) for _ in rates)
        self.xformers = os.environ.get("XFORMERS_DISABLED") is None
"""
HUBCONF = """
from src.model import Model

def tiny(pretrained=True):
    assert not pretrained
    return Model()
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository whose package is called `src` and has no `__init__.py`, as vjepa2's."""
    folder = tmp_path / "clone"
    (folder / "src").mkdir(parents=True)
    (folder / "hubconf.py").write_text(HUBCONF)
    (folder / "src" / "model.py").write_text(MODEL)
    (folder / "src" / "parts.py").write_text(
        "import torch\ndef layer(n): return torch.nn.Linear(n, n)\n"
    )
    return folder


@pytest.fixture
def repository(clone: Path) -> hub.Repository:
    return hub.Repository(
        github="somebody/tiny",
        commit="0123abcd",
        packages=("src",),
        sources_sha256=hub.sources_sha256(clone, ("src",)),
    )


def test_a_model_is_built_without_weights_and_without_memory(clone, repository) -> None:
    model, revision = hub.load(repository, "tiny", hub_dir=clone)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert revision == "0123abcd"
    assert not model.xformers
    assert torch.zeros(1).device.type == "cpu"


def test_the_users_own_src_is_neither_used_nor_touched(
    clone, repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine" / "src"
    mine.mkdir(parents=True)
    (mine / "__init__.py").write_text("")
    (mine / "parts.py").write_text("value = 'mine'\n")
    monkeypatch.syspath_prepend(str(mine.parent))
    import src.parts as before

    path = list(sys.path)
    monkeypatch.setenv("XFORMERS_DISABLED", "kept")
    hub.load(repository, "tiny", hub_dir=clone)
    import src.parts as after

    assert after is before
    assert before.value == "mine"
    assert "src.model" not in sys.modules
    assert sys.path == path
    assert os.environ["XFORMERS_DISABLED"] == "kept"
    for name in ("src", "src.parts"):
        del sys.modules[name]


def test_changed_code_is_another_revision(clone, repository) -> None:
    (clone / "src" / "parts.py").write_text(
        "import torch\ndef layer(n): return torch.nn.Linear(n, n, bias=False)\n"
    )
    _, revision = hub.load(repository, "tiny", hub_dir=clone)
    assert revision.startswith("modified-")


@pytest.mark.parametrize("subfolder", ["tiny", "somebody_tiny_0123abcd", "hub/somebody_tiny_main"])
def test_a_folder_of_clones_or_a_torch_home_is_searched(
    clone, repository, tmp_path: Path, subfolder: str
) -> None:
    home = tmp_path / "home"
    (home / subfolder).parent.mkdir(parents=True)
    clone.rename(home / subfolder)
    assert hub.find(repository, home) == home / subfolder


def test_a_folder_without_the_code_is_refused(repository, tmp_path: Path) -> None:
    with pytest.raises(BackboneError) as caught:
        hub.load(repository, "tiny", hub_dir=tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} is neither a clone of github.com/somebody/tiny, nor a folder with one, nor a "
        "TORCH_HOME that holds hub/somebody_tiny_0123abcd"
    )


@pytest.mark.parametrize("error", [URLError("Name or service not known"), BadZipFile("no zip")])
def test_offline_says_what_to_clone_and_where_to_put_it(
    repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load", fail)
    with pytest.raises(BackboneError) as caught:
        hub.load(repository, "tiny", hub_dir=None)
    assert "clone https://github.com/somebody/tiny at 0123abcd" in str(caught.value)
    assert "--hub-dir" in str(caught.value)
    assert str(tmp_path / "somebody_tiny_0123abcd") in str(caught.value)


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("src/parts.py", "import a_missing_package", "ModuleNotFoundError: No module named 'a_mis"),
        ("src/parts.py", "def layer(:", "SyntaxError: "),
        ("hubconf.py", "x = 1", "RuntimeError: Cannot find callable tiny in hubconf"),
        ("hubconf.py", "dependencies = ['nothing']", "RuntimeError: Missing dependencies: nothing"),
        ("hubconf.py", "def tiny(pretrained): open('/no/file')", "FileNotFoundError: "),
    ],
)
def test_code_that_does_not_run_is_named_with_its_error(
    clone, repository, file: str, text: str, reason: str
) -> None:
    (clone / file).write_text(text + "\n")
    with pytest.raises(BackboneError, match=f"somebody/tiny in .* does not run here: {reason}"):
        hub.load(repository, "tiny", hub_dir=clone)
    assert not any(name.partition(".")[0] == "src" for name in sys.modules)


def test_vjepa2_asks_for_einops_first(monkeypatch: pytest.MonkeyPatch) -> None:
    import backbones

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackboneError, match="vjepa2_vitl needs the package einops: pip install"):
        backbones.load("vjepa2_vitl", device="cpu")


@pytest.mark.parametrize("repository", [dinov2.REPOSITORY, vjepa2.REPOSITORY])
def test_the_authors_code_is_the_pinned_commit(repository) -> None:
    folder = authors_code(repository)
    assert hub.sources_sha256(folder, repository.packages) == repository.sources_sha256
    assert replace(repository, commit="x").folder_name.endswith("_x")
