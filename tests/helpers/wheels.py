"""Tiny wheels that stand in for large ones, a project that needs them, and indexes of them."""

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.helpers.servers import Answer

BACKEND = '''\
"""A build backend that needs nothing: the editable wheel of a project without code."""
import shutil

def build_editable(folder, config_settings=None, metadata_directory=None):
    return shutil.copy("project-1-py3-none-any.whl", folder).rpartition("/")[2]
'''


def write_wheel(
    folder: Path,
    name: str,
    version: str = "1",
    *,
    tag: str = "py3-none-any",
    code: str = "",
    requires: Iterable[str] = (),
) -> Path:
    """Write a wheel of one module, and return its path.

    Args:
        folder: where.
        name: of the package and of its module.
        version: of the package; the module has it, too.
        tag: for which Python and machine.
        code: of the module, after its version.
        requires: what it needs; a line `extra: requirement` belongs to an extra.
    """
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    for line in requires:
        extra, _, requirement = line.rpartition(": ")
        if extra:
            metadata.append(f"Provides-Extra: {extra}")
            requirement = f"{requirement}; extra == '{extra}'"
        metadata.append(f"Requires-Dist: {requirement}")
    info = f"{name}-{version}.dist-info"
    contents = {
        f"{name}.py": f"__version__ = {version!r}\n{code}",
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"])
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inner, text in {**contents, f"{info}/RECORD": record}.items():
            wheel.writestr(inner, text)
    return path


def write_project(root: Path, *, constraints: str, requires: Iterable[str]) -> None:
    """Write a project that `tools/install.py` installs, without code and with its own backend."""
    root.mkdir()
    (root / "constraints.txt").write_text(constraints)
    (root / "setup.cfg").write_text("")
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (root / "backend.py").write_text(BACKEND)
    write_wheel(root, "project", requires=requires)


def index_of(wheels: Iterable[Path]) -> Callable[[str, str, dict[str, str]], Answer]:
    """Return what a simple index answers that has some wheels (see `servers.serve`)."""
    files = {wheel.name.replace("+", "%2B"): wheel for wheel in wheels}

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        name = path.strip("/").rpartition("/")[2]
        if name in files:
            return Answer(200, {}, files[name].read_bytes())
        own = [file for file in files if file.startswith(f"{name}-")]
        if not own:
            return Answer(404, {}, b"")
        links = "".join(f'<a href="/files/{file}">{file}</a>\n' for file in own)
        return Answer(200, {"Content-Type": "text/html"}, links.encode())

    return answer
