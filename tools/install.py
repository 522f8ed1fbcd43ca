"""Heliograph and what it needs, in a virtual environment: what `make setup` and `make demo` run.

    python tools/install.py .venv --extras embedded,test

The versions are those of `constraints.txt`, with which the tests passed. On Linux without an NVIDIA
driver, torch and torchvision come from the index of CPU wheels, if it has both for this Python and
machine; else both come from where pip and uv look. uv installs where it is there. What is installed
already is left as it is. This file needs nothing but Python.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    sys.exit("Heliograph runs on Linux and macOS, not on Windows: there, install it in WSL.")
if sys.version_info < (3, 11):  # noqa: UP036 (whoever has an older Python reads this sentence)
    found = ".".join(map(str, sys.version_info[:2]))
    sys.exit(f"Heliograph needs Python 3.11 or newer, this is {found}: make PYTHON=python3.12")

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
SOURCES = (CONSTRAINTS, ROOT / "setup.cfg", ROOT / "pyproject.toml")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PAIR = ("torch", "torchvision")
TIMEOUT_SECONDS = 5
DRIVER = Path("/proc/driver/nvidia/version")


class Record(NamedTuple):
    """What is in a virtual environment: the hash of what it was made by, and the extras."""

    sources: str
    extras: list[str]


def main(words: list[str] | None = None) -> None:
    """Install what is not there yet, and say what it takes before and what it took after."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the virtual environment")
    parser.add_argument("--extras", default="", help="extras of setup.cfg, with commas between")
    parser.add_argument("--cpu-index", default=CPU_INDEX, help="of CPU wheels; '' for none")
    options = parser.parse_args(words)
    record = options.folder / "installed.json"
    before = read_record(record)
    asked = [extra for extra in options.extras.split(",") if extra]
    wanted = Record(digest(SOURCES), sorted({*before.extras, *asked}))
    if before == wanted:
        return
    began = time.monotonic()
    pair = cpu_pair(options.cpu_index)
    print(announcement(options.folder, wanted.extras, pair), flush=True)
    install(options.folder, wanted.extras, pair, options.cpu_index)
    record.write_text(json.dumps(wanted._asdict()))
    print(f"Installed in {time.monotonic() - began:.0f} s: {size_of(options.folder)}.", flush=True)


def read_record(path: Path) -> Record:
    """Return what was installed the last time, as `main` wrote it; nothing if it is not there."""
    try:
        record = json.loads(path.read_text())
        return Record(str(record["sources"]), [*map(str, record["extras"])])
    except (OSError, ValueError, TypeError, KeyError):
        return Record("", [])


def digest(paths: Iterable[Path]) -> str:
    """Return the hash of what the files hold."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


def cpu_pair(index: str) -> list[str]:
    """Return the CPU wheels of torch and torchvision that fit each other and this machine.

    Args:
        index: the address of a simple index, or "" for none.

    Returns:
        Both, as `name==version+cpu`; or nothing where there is a driver, where the default wheels
        are for CPUs anyway (macOS), and where the index is out of reach or lacks one of the two.
    """
    if not index or platform.system() != "Linux" or has_driver():
        return []
    versions = {name: pinned(name) for name in PAIR}
    try:
        pages = {name: read_page(f"{index.rstrip('/')}/{name}/") for name in PAIR}
    except (OSError, ValueError, HTTPException):
        return []
    if all(is_listed(pages[name], name, versions[name]) for name in PAIR):
        return [f"{name}=={version}+cpu" for name, version in versions.items()]
    return []


def has_driver() -> bool:
    """Return whether there is an NVIDIA driver."""
    return DRIVER.exists() or shutil.which("nvidia-smi") is not None


def pinned(name: str) -> str:
    """Return the version of a package in `constraints.txt`."""
    found = re.search(rf"^{re.escape(name)}==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{CONSTRAINTS} has no line {name}==VERSION")
    return found[1]


def read_page(address: str) -> str:
    """Return the page of a package in an index.

    Raises:
        OSError, HTTPException: it is out of reach.
    """
    with urlopen(address, timeout=TIMEOUT_SECONDS) as answer:
        return unquote(answer.read().decode("utf-8", "replace"))


def is_listed(page: str, name: str, version: str) -> bool:
    """Return whether a page has the CPU wheel of a version for this Python and machine."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    start = re.escape(f"{name}-{version}+cpu-{python}-{python}-")
    end = re.escape(f"_{platform.machine()}.whl")
    return re.search(rf"{start}[\w.]*linux[\w.]*{end}", page) is not None


def announcement(folder: Path, extras: list[str], pair: list[str]) -> str:
    """Return what will be installed, how large it is about, and how long that takes."""
    further = {"embedded": 0.0, "test": 0.5, "lint": 0.15}
    gigabytes = (1.4 if pair else 5.9) + sum(further.get(extra, 0.1) for extra in extras)
    kind = "torch for CPUs" if pair else "torch with its GPU libraries"
    if platform.system() != "Linux":
        gigabytes, kind = gigabytes - 4.5, "torch"
    what = f"Heliograph [{', '.join(extras)}]" if extras else "Heliograph"
    took = "a minute or two" if gigabytes < 3 else "a few minutes"
    return f"Installing {what} into {folder}, {kind}: about {gigabytes:.1f} GB, {took}."


def install(folder: Path, extras: list[str], pair: list[str], index: str) -> None:
    """Make the virtual environment and install into it.

    Raises:
        SystemExit: a step failed; what to do is said.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", str(folder)], "No virtual environment could be made.")
    # Python compiles a module when it is first used; an installer would compile 200 MB of others.
    # Tests start processes with little time, in which nothing should be left to compile.
    if uv := shutil.which("uv"):
        installer = [uv, "pip", "install", "--quiet", "--python", str(python)]
        pins = ["--constraint", str(CONSTRAINTS), "--build-constraint", str(CONSTRAINTS)]
        if "test" in extras:
            installer.append("--compile-bytecode")
    else:
        installer = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if "test" not in extras:
            installer.append("--no-compile")
        pins = ["--constraint", str(CONSTRAINTS)]
    if pair:
        # From this index alone and nothing else from it: none of its old packages get mixed in.
        run(
            [*installer, "--no-deps", "--index-url", index, *pair],
            "The CPU wheels could not be installed. `make CPU_INDEX=` takes the default ones.",
        )
    package = f".[{','.join(extras)}]" if extras else "."
    run(
        [*installer, *pins, "--editable", package],
        "The install failed for the reason above. "
        f"`{python} -m pip install {package}` takes the newest versions, not the tested ones.",
    )
    run(
        [str(python), "-c", "import torch, torchvision"],
        f"torch and torchvision in {folder} do not fit each other. "
        f"`rm -r {folder}`, then `make CPU_INDEX=` installs the default ones.",
    )


def run(command: list[str], failure: str) -> None:
    """Run a command in the folder of the sources; exit with a sentence if it fails."""
    if subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL).returncode:
        sys.exit(failure)


def size_of(folder: Path) -> str:
    """Return how much there is in a folder, in gigabytes."""
    paths = (Path(where, name) for where, _, names in os.walk(folder) for name in names)
    return f"{sum(path.lstat().st_size for path in paths) / 1e9:.2f} GB in {folder}"


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"Nothing was installed: {error}")
