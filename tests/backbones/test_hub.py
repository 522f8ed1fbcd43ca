"""Code from a hub folder: kept apart from the user's modules, its revision from its bytes."""

import errno
import io
import multiprocessing
import os
import shutil
import stat
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backbones import BackboneError, dinov2, downloads, hub, vjepa2
from backbones.downloads import DownloadError
from data.errors import HeliographError
from tests.helpers.authors_code import authors_code
from tests.helpers.servers import LOGIN_PAGE, part_of, serve

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


@pytest.fixture
def hub_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as torch.hub's."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(downloads, "POLL_SECONDS", 0.001)
    return tmp_path / "hub"


def archive(folder: Path, **others: str) -> bytes:
    """A zip file as GitHub's: everything in one folder; `others` are more entries."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        for path in sorted(folder.rglob("*.py")):
            zipped.write(path, f"tiny-0123abcd/{path.relative_to(folder)}")
        for name, text in others.items():
            zipped.writestr(name, text)
    return packed.getvalue()


@contextmanager
def github(monkeypatch: pytest.MonkeyPatch, body: bytes, *, at_most: int | None = None):
    """A server in place of GitHub, which has one archive."""
    answer = part_of(body, {}, at_most=at_most)
    with serve(lambda *_: answer) as server:
        monkeypatch.setattr(hub, "GITHUB", server.url)
        yield server


def test_code_is_downloaded_once_and_whole(clone, repository, hub_dir, monkeypatch) -> None:
    with github(monkeypatch, archive(clone)) as server:
        for _ in range(2):
            model, revision = hub.load(repository, "tiny", hub_dir=None)
    assert (len(model.layers), revision) == (3, "0123abcd")
    assert [path for _, path, _ in server.requests] == ["/somebody/tiny/archive/0123abcd.zip"]
    assert os.listdir(hub_dir) == ["somebody_tiny_0123abcd"]


def load_in_child(repository: hub.Repository, results: "multiprocessing.SimpleQueue") -> None:
    try:
        results.put(hub.load(repository, "tiny", hub_dir=None)[1])
    except BackboneError as error:
        results.put(str(error))


def test_processes_that_start_together_do_not_break_each_other(
    clone, repository, hub_dir, monkeypatch
) -> None:
    fork = multiprocessing.get_context("fork")
    with github(monkeypatch, archive(clone)) as server:
        results = fork.SimpleQueue()
        children = [
            fork.Process(target=load_in_child, args=(repository, results)) for _ in range(4)
        ]
        for child in children:
            child.start()
        assert [results.get() for _ in children] == ["0123abcd"] * 4
        for child in children:
            child.join()
    assert len(server.requests) == 1
    assert os.listdir(hub_dir) == ["somebody_tiny_0123abcd"]


def test_processes_do_not_break_each_other_where_there_are_no_locks(
    clone, repository, hub_dir, monkeypatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with github(monkeypatch, archive(clone)), ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: hub.obtain(repository), range(4)))
    assert folders == [hub_dir / repository.folder_name] * 4
    assert hub.is_whole(repository, folders[0])
    assert os.listdir(hub_dir) == ["somebody_tiny_0123abcd"]


@pytest.mark.parametrize("lost", ["src/parts.py", "hubconf.py", "src"])
def test_half_a_repository_is_repaired(clone, repository, hub_dir, monkeypatch, lost) -> None:
    whole = archive(clone)
    half = hub_dir / repository.folder_name
    shutil.copytree(clone, half)
    shutil.rmtree(half / lost) if lost == "src" else (half / lost).unlink()
    with github(monkeypatch, whole):
        assert hub.load(repository, "tiny", hub_dir=None)[1] == "0123abcd"
    kept = [name for name in os.listdir(hub_dir) if name != half.name]
    assert len(kept) == 1
    assert kept[0].startswith(f"{half.name}.old-")


def test_a_changed_copy_is_used_without_a_network_and_kept_with_one(
    clone, repository, hub_dir, monkeypatch, caplog
) -> None:
    whole = archive(clone)
    copy = hub_dir / repository.folder_name
    shutil.copytree(clone, copy)
    (copy / "src" / "parts.py").write_text(
        "import torch\ndef layer(n): return torch.nn.Linear(n, n, bias=False)\n"
    )
    with github(monkeypatch, whole):
        pass
    assert hub.load(repository, "tiny", hub_dir=None)[1].startswith("modified-")
    assert "is not commit 0123abcd of somebody/tiny, and a new copy cannot be" in caplog.text
    (copy / ".git").mkdir()  # a clone: its changes are its owner's
    with github(monkeypatch, whole) as server:
        assert hub.load(repository, "tiny", hub_dir=None)[1].startswith("modified-")
        assert server.requests == []


def test_a_killed_download_leaves_nothing_that_stays(
    clone, repository, hub_dir, monkeypatch
) -> None:
    def killed(*_: object) -> None:
        os._exit(9)

    with github(monkeypatch, archive(clone)):
        child = os.fork()
        if child == 0:
            hub.unpack = killed
            hub.obtain(repository)
        os.waitpid(child, 0)
        assert os.listdir(hub_dir) != ["somebody_tiny_0123abcd"]
        hub.obtain(repository)
    assert os.listdir(hub_dir) == ["somebody_tiny_0123abcd"]


@pytest.mark.parametrize(
    ("body", "at_most", "reason"),
    [
        (b"no zip file", None, "what came is not a sound zip file: File is not a zip file"),
        (LOGIN_PAGE, None, "a web page (HTML) came in its place, perhaps the login page of a"),
        (archive(Path("no folder"), **{"a/hubconf.py": "x = 1"}), None, "holds is not commit 0123"),
        (archive(Path("no folder"), **{"a/../../evil.py": ""}), None, "'a/../../evil.py', outside"),
        (archive(Path("no folder"), **{"/etc/evil.py": ""}), None, "names '/etc/evil.py', outside"),
        (archive(Path("no folder"), **{"a/b.py/c": "", "a/b.py": ""}), None, "a file twice"),
        (archive(Path("no folder"), **{"a/b.py": "x" * 999}), 100, "the connection was cut"),
    ],
)
def test_an_archive_that_is_not_the_commits_is_never_run(
    repository, hub_dir, monkeypatch, body: bytes, at_most: int | None, reason: str
) -> None:
    with github(monkeypatch, body, at_most=at_most), pytest.raises(BackboneError) as caught:
        hub.load(repository, "tiny", hub_dir=None)
    sentence = str(caught.value)
    assert reason in sentence
    assert "clone https://github.com/somebody/tiny at 0123abcd" in sentence
    assert f"--hub-dir, or put it at {hub_dir / 'somebody_tiny_0123abcd'}" in sentence
    assert not hub_dir.exists() or os.listdir(hub_dir) == []


def test_an_archive_of_many_bytes_is_not_unpacked(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hub, "MOST_BYTES", 10)
    path = tmp_path / "code.zip"
    path.write_bytes(archive(tmp_path / "nothing", **{"a/b.py": "x" * 11}))
    with pytest.raises(DownloadError, match="1 files and 11 bytes, which no code has"):
        hub.unpack(path, tmp_path / "code")


def test_links_of_an_archive_are_left_out(tmp_path) -> None:
    link = zipfile.ZipInfo("a/link.py")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as zipped:
        zipped.writestr(link, "/etc/passwd")
        zipped.writestr("a/src/b.py", "x = 1")
    hub.unpack(tmp_path / "code.zip", tmp_path / "code")
    assert [
        str(path.relative_to(tmp_path / "code")) for path in (tmp_path / "code").rglob("*")
    ] == [
        "src",
        "src/b.py",
    ]


def test_offline_says_what_to_clone_and_where_to_put_it(repository, hub_dir, monkeypatch) -> None:
    with github(monkeypatch, b""):
        pass
    with pytest.raises(BackboneError) as caught:
        hub.load(repository, "tiny", hub_dir=None)
    assert str(caught.value) == (
        "the code of somebody/tiny is missing and cannot be downloaded (Connection refused): clone "
        "https://github.com/somebody/tiny at 0123abcd and name the clone with --hub-dir, or put it "
        f"at {hub_dir / 'somebody_tiny_0123abcd'}"
    )


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


@pytest.mark.parametrize("name", ["src/more.py", "src/deep/more.py"])
def test_code_that_is_no_file_is_refused_before_any_of_it_is_run(clone, repository, name) -> None:
    (clone / name).parent.mkdir(exist_ok=True)
    os.mkfifo(clone / name)
    ran = clone / "ran"
    text = (clone / "hubconf.py").read_text()
    (clone / "hubconf.py").write_text(f"open({str(ran)!r}, 'w')\n{text}")
    with pytest.raises(HeliographError, match=r"more\.py is not read: it is a FIFO"):
        hub.load(repository, "tiny", hub_dir=clone)
    assert not ran.exists()
    assert not hub.is_whole(repository, clone)
