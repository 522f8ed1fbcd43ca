"""Run folders: what two have in common, and some that somebody has changed."""

import json
from pathlib import Path

from data.screening import record
from pipeline.runs.manifest import MANIFEST, FileHash, RunFiles, is_id


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, without locks, and manifests without the id of their run."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_file() or path.name == "lock" or path.suffix == ".lock":
            continue
        content = path.read_bytes()
        if path.name == MANIFEST:
            stored = json.loads(content)
            assert is_id(stored.pop("id"))
            content = json.dumps(stored).encode()
        found[path.relative_to(folder).as_posix()] = content
    return found


def reseal(folder: Path) -> None:
    """Make the manifest of a run agree with its files, as somebody who means harm would.

    The run then counts as one of this account, and is read here and not in another process.
    """
    manifest = folder / MANIFEST
    stored = json.loads(manifest.read_text())
    for name in stored["files"]:
        if (folder / name).exists():
            stored["files"][name] = FileHash.of((folder / name).read_bytes()).to_json()
    manifest.write_text(json.dumps(stored))
    record(RunFiles.open(folder).identity)


def unseal(folder: Path) -> None:
    """Remove the manifest: a run as an older version wrote it, which this account knows."""
    (folder / MANIFEST).unlink()
    record(RunFiles.open(folder).identity)
