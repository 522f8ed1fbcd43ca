"""The tree of modules with one line each, as `docs/architecture.md` has it.

    python -m tests.helpers.module_tree     # writes the tree into the page again

The line of a module is the first sentence of its docstring, so the page cannot differ from it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- tree: make docs -->", "<!-- end of the tree -->"
PACKAGES = ("heliograph", "data", "backbones", "pipeline")


def tree(folder: Path, depth: int = 0) -> Iterator[str]:
    """Yield the lines of a package: itself, its modules, then the packages in it."""
    name, link = f"{folder.name}/", folder.relative_to(ROOT)
    yield f"{'  ' * depth}- [**{name}**](../{link}/) {_first_sentence(folder / '__init__.py')}"
    modules = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    for path in modules:
        link = path.relative_to(ROOT)
        yield f"{'  ' * (depth + 1)}- [{path.name}](../{link}) {_first_sentence(path)}"
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").is_file():
            yield from tree(inner, depth + 1)


def _first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


def renewed(page: str) -> str:
    """Return the page with the tree as the source has it now."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    lines = [line for package in PACKAGES for line in tree(ROOT / package)]
    return "\n".join([before + BEGIN, *lines, END + after])


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text("utf-8")), "utf-8")
