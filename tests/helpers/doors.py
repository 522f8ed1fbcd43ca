"""What imports what, read from the source; and the lint contract that holds the doors.

A package that has an `__all__` is closed: modules outside it import the names of that list from the
package, and nothing from its modules. The package's own modules and subpackages may import each
other. A package without an `__all__` (`data`, `pipeline`) is a folder of such packages.

import-linter runs the contract as part of `make lint`. It works on source text because there an
imported function and the module of the same name can be told apart.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from importlinter import Contract, ContractCheck, output


@dataclass(frozen=True)
class Import:
    """One name that a file imports: `name` of `module`, or the whole `module` if it is empty."""

    module: str
    name: str
    line: int


def imports(path: Path) -> Iterator[Import]:
    """Yield what a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, "", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (Import(node.module, alias.name, node.lineno) for alias in node.names)


def modules(root: Path, *packages: str) -> dict[str, Path]:
    """Return the file of each module of the packages below a folder, by its dotted name."""
    paths = [path for package in packages for path in sorted((root / package).rglob("*.py"))]
    return {dotted_name(path.relative_to(root)): path for path in paths}


def dotted_name(path: Path) -> str:
    """Return the module that a relative path is.

    >>> dotted_name(Path("data/video/__init__.py"))
    'data.video'
    """
    return ".".join((path.parent if path.name == "__init__.py" else path.with_suffix("")).parts)


def doors(files: dict[str, Path]) -> dict[str, set[str]]:
    """Return the names in `__all__` of each package that has one."""
    found = {}
    for name, path in files.items():
        if path.name != "__init__.py":
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                found[name] = set(ast.literal_eval(node.value))
    return found


def broken_doors(importers: dict[str, Path], files: dict[str, Path]) -> list[str]:
    """Return a sentence for each import that goes past a door.

    Args:
        importers: the files to check, by their dotted names, which say what packages they are in.
        files: every module of the packages, as `modules` gives them.
    """
    closed = doors(files)
    broken = []
    for importer, path in importers.items():
        for imported in imports(path):
            whole = f"{imported.module}.{imported.name}".rstrip(".")
            package = outermost(whole, importer, closed)
            name = whole.removeprefix(f"{package}.")
            through = imported.module == package and name in closed.get(package, ())
            if package and package != whole and not through:
                broken.append(f"{path}:{imported.line}: {name} is not in the door of {package}")
    return broken


def outermost(module: str, importer: str, closed: dict[str, set[str]]) -> str:
    """Return the outermost closed package that holds a module but not its importer, or ""."""
    parts = module.split(".")
    packages = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    outside = [p for p in packages if p in closed and not f"{importer}.".startswith(f"{p}.")]
    return outside[0] if outside else ""


class DoorContract(Contract):
    """A package is imported from outside through its `__init__` only."""

    def check(self, graph, verbose):
        roots = self.session_options["root_packages"]
        files = modules(Path.cwd(), *roots)
        broken = broken_doors(files, files)
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check):
        for line in check.metadata["broken"]:
            output.print_error(line)
