"""What `make` installs: the pinned versions, and wheels of torch and torchvision that fit."""

import configparser
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers.servers import Answer, serve
from tests.helpers.wheels import index_of, write_project, write_wheel
from tools import install

ROOT = Path(__file__).resolve().parents[2]
PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"
TAG = f"{PYTHON}-{PYTHON}-manylinux_2_28_{platform.machine()}"


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def requirements() -> dict[str, Requirement]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    extras = dict(parser["options.extras_require"])
    extras.pop("torchcodec")  # which no release of fits the pinned torch
    lines = "\n".join([parser["options"]["install_requires"], *extras.values()]).split("\n")
    return {canonicalize_name(r.name): r for r in map(Requirement, filter(None, lines))}


def test_constraints_pin_every_requirement_above_its_floor():
    wrong = [
        str(requirement)
        for name, requirement in requirements().items()
        if name not in pins() or pins()[name] not in requirement.specifier
    ]
    assert wrong == []


def test_constraints_have_no_address():
    """A path or a host of the machine that wrote it means nothing on another one."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line)] == []


def test_constraints_pin_what_the_requirements_need():
    """Everything below our requirements is pinned, too; here, where it is installed."""
    versions = {
        canonicalize_name(distribution.name): distribution.version
        for distribution in importlib.metadata.distributions()
    }
    if any(versions.get(name) != version.partition("+")[0] for name, version in pins().items()
           if name in requirements()):  # fmt: skip
        pytest.skip("other versions than those of constraints.txt are installed here")
    waiting, seen = list(requirements()), set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in versions:
            continue
        seen.add(name)
        for line in importlib.metadata.requires(name) or []:
            below = Requirement(line)
            if below.marker is None or below.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(below.name))
    assert len(seen) > 50
    assert seen - set(pins()) == set()


@pytest.mark.parametrize(
    ("page", "listed"),
    [
        (f"torch-2.14.1+cpu-{TAG}.whl", True),
        (f"torch-2.14.1+cpu-{PYTHON}-{PYTHON}-linux_{platform.machine()}.whl", True),
        (f"torch-2.14.1-{TAG}.whl", False),
        (f"torch-2.14.10+cpu-{TAG}.whl", False),
        (f"torch-2.14.1+cpu-{PYTHON}-{PYTHON}t-manylinux_2_28_{platform.machine()}.whl", False),
        (f"torch-2.14.1+cpu-cp399-cp399-manylinux_2_28_{platform.machine()}.whl", False),
        (f"torch-2.14.1+cpu-{PYTHON}-{PYTHON}-manylinux_2_28_pdp11.whl", False),
        (f"torch-2.14.1+cpu-{PYTHON}-{PYTHON}-win_amd64.whl", False),
        ("", False),
    ],
)
def test_a_wheel_is_listed_if_it_is_for_this_python_and_machine(page, listed):
    assert install.is_listed(page, "torch", "2.14.1") is listed


class Place:
    """A copy of the installer with a tiny project, and indexes of wheels that stand in."""

    def __init__(self, root: Path) -> None:
        self.root, self.wheels = root / "project", root / "wheels"
        self.environment = root / "environment"
        self.wheels.mkdir()
        write_project(
            self.root,
            constraints="# pins\ntorch==2.1.0\ntorchvision==0.9.0\nmore==1\n",
            requires=["torch>=2", "torchvision", "test: more"],
        )
        (self.root / "tools").mkdir()
        shutil.copy(ROOT / "tools" / "install.py", self.root / "tools")
        self.default = [
            self.wheel("torch", "2.1.0", tag="py3-none-any", code="kind = 'gpu'", requires=["gpu"]),
            self.wheel("torchvision", "0.9.0", tag="py3-none-any", code=fits("gpu")),
            self.wheel("torchvision", "0.9.1", tag="py3-none-any", code=fits("gpu")),
            self.wheel("gpu"),
            self.wheel("more"),
            self.wheel("more", "2"),
        ]
        self.cpu = [
            self.wheel("torch", "2.1.0+cpu", tag=TAG, code="kind = 'cpu'"),
            self.wheel("torch", "2.2.0+cpu", tag=TAG, code="kind = 'cpu'"),
            self.wheel("torchvision", "0.9.0+cpu", tag=TAG, code=fits("cpu")),
        ]

    def wheel(self, *words: str, **options: object) -> Path:
        return write_wheel(self.wheels, *words, **options)

    def install(self, index: str, extras: str = "", path: str = "") -> subprocess.CompletedProcess:
        """Run the installer against the default index of stand-ins and an index of CPU wheels."""
        with serve(index_of(self.default)) as server:
            environment = {
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("PIP_", "UV_"))
            }
            environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": server.url}
            environment |= {"PATH": path + os.environ["PATH"], "PIP_NO_CACHE_DIR": "1"}
            script = self.root / "tools" / "install.py"
            words = [self.environment, "--extras", extras, "--cpu-index", index]
            return subprocess.run(
                [sys.executable, script, *words], env=environment, capture_output=True, text=True
            )

    def installed(self) -> dict[str, str]:
        """Return the version of each package in the virtual environment, without pip's own."""
        folder = next(self.environment.glob("lib/python*/site-packages"))
        found = importlib.metadata.distributions(path=[str(folder)])
        versions = {distribution.name: distribution.version for distribution in found}
        return {name: versions[name] for name in versions if name not in ("pip", "setuptools")}


def fits(kind: str) -> str:
    return f"import torch\nassert torch.kind == {kind!r}, 'operator does not exist'"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def made_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with pip alone, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("made") / "environment"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def ready(place: Place, made_environment: Path) -> Place:
    shutil.copytree(made_environment, place.environment, symlinks=True)
    return place


@pytest.fixture(autouse=True)
def _without_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "has_driver", lambda: False)
    monkeypatch.setattr(platform, "system", lambda: "Linux")


@pytest.fixture
def pinned(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(install, "CONSTRAINTS", place.root / "constraints.txt")
    return place


def test_an_index_with_both_wheels_gives_the_pair(pinned):
    with serve(index_of(pinned.cpu)) as server:
        assert install.cpu_pair(server.url) == ["torch==2.1.0+cpu", "torchvision==0.9.0+cpu"]


def test_an_index_with_one_of_the_two_gives_none(pinned):
    for missing in (0, 2):
        wheels = [wheel for at, wheel in enumerate(pinned.cpu) if at != missing]
        with serve(index_of(wheels)) as server:
            assert install.cpu_pair(server.url) == []


def test_an_index_that_lies_or_is_out_of_reach_gives_none(pinned):
    with serve(lambda *_: Answer(200, {"Content-Length": "9999"}, b"torch")) as server:
        assert install.cpu_pair(server.url) == []
    assert install.cpu_pair(server.url) == []  # nobody answers there any more
    assert install.cpu_pair("no address") == []
    assert install.cpu_pair("") == []


def test_a_driver_or_another_system_gives_none(pinned, monkeypatch):
    with serve(index_of(pinned.cpu)) as server:
        monkeypatch.setattr(install, "has_driver", lambda: True)
        assert install.cpu_pair(server.url) == []
        monkeypatch.setattr(install, "has_driver", lambda: False)
        monkeypatch.setattr(platform, "system", lambda: "Darwin")
        assert install.cpu_pair(server.url) == []
        assert server.requests == []


def test_a_driver_is_seen_by_its_file_or_its_command(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(install, "DRIVER", tmp_path / "version")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not install.has_driver()
    (tmp_path / "version").touch()
    assert install.has_driver()
    (tmp_path / "version").rename(tmp_path / "nvidia-smi")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert install.has_driver()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sources": 1, "extras": 2}', "\0"])
def test_a_record_that_says_nothing_is_as_good_as_none(tmp_path, text):
    (tmp_path / "installed.json").write_text(text)
    assert install.read_record(tmp_path / "installed.json") == install.Record("", [])


def needs_no_driver() -> None:
    if install.DRIVER.exists() or shutil.which("nvidia-smi"):
        pytest.skip("there is an NVIDIA driver, so the default wheels are right here")
    if platform.system() != "Linux":
        pytest.skip("the default wheels are for CPUs here")


@pytest.mark.slow
def test_cpu_wheels_are_installed_and_stay(place):
    needs_no_driver()
    with serve(index_of(place.cpu)) as server:
        done = place.install(server.url)
        assert done.returncode == 0, done.stderr
        first, last = done.stdout.splitlines()
        assert first.startswith("Installing Heliograph into ")
        assert "torch for CPUs: about 1.4 GB" in first
        assert re.fullmatch(r"Installed in \d+ s: 0\.\d\d GB in .*environment\.", last)
        pair = {"torch": "2.1.0+cpu", "torchvision": "0.9.0+cpu"}
        assert place.installed() == {"project": "1", **pair}
        asked = len(server.requests)
        assert place.install(server.url).stdout == ""
        assert len(server.requests) == asked
        assert place.install(server.url, "test").returncode == 0
        assert place.installed() == {"project": "1", "more": "1", **pair}
        assert place.install(server.url).stdout == ""  # the extra stays


@pytest.mark.slow
def test_the_default_pair_is_installed_where_the_index_lacks_one(ready):
    with serve(index_of(ready.cpu[:2])) as server:
        done = ready.install(server.url)
    assert done.returncode == 0, done.stderr
    assert "torch with its GPU libraries: about 5.9 GB" in done.stdout
    versions = {"torch": "2.1.0", "torchvision": "0.9.0", "gpu": "1"}
    assert ready.installed() == {"project": "1", **versions}


@pytest.mark.slow
def test_a_pair_that_does_not_fit_is_said(ready):
    ready.default[1] = ready.wheel("torchvision", "0.9.0", tag="py2.py3-none-any", code=fits("no"))
    done = ready.install("")
    assert done.returncode == 1
    assert "torch and torchvision in " in done.stderr
    assert "do not fit each other" in done.stderr
    assert "`make CPU_INDEX=` installs the default ones" in done.stderr
    assert not (ready.environment / "installed.json").exists()


@pytest.mark.slow
def test_an_install_that_fails_says_what_to_do(ready):
    del ready.default[-2:]
    done = ready.install("", "test")
    assert done.returncode == 1
    assert "-m pip install .[test]` takes the newest versions, not" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_uv_installs_where_it_is_there(ready, tmp_path):
    """What stands in for uv writes its words down, and gives those that pip knows to pip."""
    needs_no_driver()
    tools = tmp_path / "bin"
    tools.mkdir()
    uv = tools / "uv"
    uv.write_text(
        f"""#!{sys.executable}
import subprocess, sys
open({str(tmp_path / "words")!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
words = sys.argv[1:]
assert words[:4:3] == ["pip", "--python"] and words[1:3] == ["install", "--quiet"]
if "--build-constraint" in words:
    at = words.index("--build-constraint")
    words = words[:at] + words[at + 2:]
sys.exit(subprocess.call([words[4], "-m", *words[:3], *words[5:]]))
"""
    )
    uv.chmod(0o755)
    with serve(index_of(ready.cpu)) as server:
        done = ready.install(server.url, path=f"{tools}{os.pathsep}")
    assert done.returncode == 0, done.stderr
    first, second = (tmp_path / "words").read_text().splitlines()
    assert first.endswith(
        f"--no-deps --index-url {server.url} torch==2.1.0+cpu torchvision==0.9.0+cpu"
    )
    pins = f"{ready.root / 'constraints.txt'}"
    assert f"--constraint {pins} --build-constraint {pins} --editable ." in second
    assert ready.installed()["torchvision"] == "0.9.0+cpu"
