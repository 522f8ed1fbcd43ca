"""Addresses of the hub: what they name, and what they cannot."""

import pytest
from huggingface_hub import constants

from data.errors import HeliographError, InvalidValueError
from pipeline.hub import fetch
from pipeline.hub.addresses import HubAddress
from tests.helpers.command import run
from tests.helpers.hub import Hub

PARTS = {"parts/index.json": b"{}", "parts/0.h5": b"part"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("hf://user/name", HubAddress("user/name")),
        ("hf://user/name@v1.0", HubAddress("user/name", "v1.0")),
        ("hf://user/name/a/b c.h5", HubAddress("user/name", None, "a/b c.h5")),
        ("hf://user/name@refs/pr/3/a.h5", HubAddress("user/name", "refs/pr/3", "a.h5")),
        ("hf://datasets/user/name/a.h5", HubAddress("user/name", None, "a.h5", "dataset")),
    ],
)
def test_an_address_is_read_and_written_as_it_was(text: str, named: HubAddress):
    assert HubAddress.parse(text) == named
    assert str(named) == text


@pytest.mark.parametrize(
    "text", ["hf://", "hf://name", "hf://user/name@", "hf://u/n/../../x", "https://hf.co/u/n"]
)
def test_what_is_no_address_is_a_wrong_value(text: str):
    with pytest.raises(InvalidValueError, match="is no address of the Hugging Face Hub: write hf"):
        HubAddress.parse(text)


@pytest.mark.parametrize("name", ["user/clips", "datasets/user/clips"])
def test_a_file_is_fetched_once_and_its_commit_is_known(hub: Hub, name: str):
    commit = hub.add(name, {"clips.h5": b"features", "big.bin": b"not asked for"})
    path, address = fetch(f"hf://{name}/clips.h5")
    assert path.read_bytes() == b"features"
    assert address == f"hf://{name}@{commit}/clips.h5"
    hub.add(name, {"clips.h5": b"newer"})
    assert fetch(f"hf://{name}/clips.h5").path.read_bytes() == b"newer"
    assert fetch(address) == (path, address)
    hub.tags["v1"] = commit
    assert fetch(f"hf://{name}@v1/clips.h5").address == address


def test_what_is_shown_of_a_file_names_its_address(hub: Hub):
    commit = hub.add("user/clips", {"clips.h5": b"features"})
    shown = run("cache", "info", "hf://user/clips/clips.h5")
    assert shown.exit_code == 1
    name = f"hf://user/clips@{commit}/clips.h5"
    assert shown.stderr.splitlines()[-1] == f"Error: {name} is not an HDF5 file"


def test_a_folder_is_fetched_whole_and_nothing_else(hub: Hub):
    hub.add("user/clips", {**PARTS, "parts of others/1.h5": b"", "README.md": b""})
    path, _ = fetch("hf://user/clips/parts")
    assert sorted(one.name for one in path.iterdir()) == ["0.h5", "index.json"]
    assert not (path.parent / "README.md").exists()


def test_a_file_that_is_not_there_is_said_with_those_that_are(hub: Hub):
    hub.add("user/clips", {f"{number}.h5": b"" for number in range(7)})
    with pytest.raises(
        HeliographError, match=r"has no clip\.h5; it has 0\.h5, 1\.h5, 2\.h5, 3\.h5, 4\.h5, \.\.\."
    ):
        fetch("hf://user/clips/clip.h5")


def test_offline_only_what_was_fetched_is_there(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    name = "datasets/user/clips"
    hub.add(name, {**PARTS, "clips.h5": b"features"})
    fetched = fetch(f"hf://{name}/clips.h5")
    folder = fetch(f"hf://{name}/parts")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(f"hf://{name}/clips.h5") == fetched
    assert fetch(f"hf://{name}/parts") == folder
    for missing in (f"{name}/other.h5", f"{name}/parts of others", "user/clips/clips.h5"):
        with pytest.raises(HeliographError, match="is not on this machine, and HF_HUB_OFFLINE"):
            fetch(f"hf://{missing}")


@pytest.mark.usefixtures("hub")
def test_a_mirror_that_is_no_address_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "mirror.example")
    with pytest.raises(
        HeliographError, match=r"hf://user/a/b\.h5 cannot be had: .*mirror\.example"
    ):
        fetch("hf://user/a/b.h5")
