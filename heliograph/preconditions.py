"""What must hold before anything of Heliograph is imported: the platform, and names of packages.

Its packages are called `backbones`, `data` and `pipeline`. A `data.py` in a folder that Python
searches first is found in place of ours; this module imports neither.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("backbones", "data", "pipeline")
ROOT = Path(__file__).resolve().parents[1]


def obstacle() -> str:
    """Return a sentence with what stands in the way and the way out; empty where nothing does."""
    if sys.platform == "win32":
        return (
            "Heliograph runs on Linux and macOS, not on Windows: there, install it in WSL "
            "(`wsl --install`), which is Linux"
        )
    for name in PACKAGES:
        found = _location(name)
        if found != ROOT / name:
            return (
                f"{found or 'a module without a file'} has the name of Heliograph's package "
                f"`{name}`, and Python finds it first: rename it, or take its folder off Python's "
                f"path (sys.path)"
            )
    return ""


def _location(name: str) -> Path | None:
    """Return the file or the folder that `import name` gives; None for a module without one."""
    try:
        spec = find_spec(name)
    except ValueError:  # loaded already, and not by an import
        return None
    if spec is None:
        return ROOT / name  # nothing hides it
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin else None
