"""A hook of MkDocs: pages from outside docs/, the help of every command, and links that hold.

Every page keeps the links that work where its file is. On the site a link to a page leads to that
page, and one to a file of the source, which is not on the site, is plain text.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File, Files

from pipeline import cli

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# Pages that are elsewhere in the repository, by their name on the site
OUTSIDE = {
    "index.md": ROOT / "README.md",
    "results.md": ROOT / "benchmarks" / "RESULTS.md",
    "changelog.md": ROOT / "CHANGELOG.md",
    "contributing.md": ROOT / "CONTRIBUTING.md",
    "security.md": ROOT / "SECURITY.md",
    "messages.md": ROOT / "examples" / "messages.ipynb",
    "scores.md": ROOT / "examples" / "scores.ipynb",
}
PAGES_ADDED = {*OUTSIDE, "commands.md"}
TEXT = r"(?P<text>(?:`[^`]*`|[^`\[\]])*)"
LINK = re.compile(
    rf"```.*?```|(?P<before>!?\[{TEXT}\]\()(?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)|`[^`\n]+`",
    re.DOTALL,
)


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that are outside docs/, and that of the commands."""
    for name, source in OUTSIDE.items():
        files.append(File.generated(config, name, content=text_of(source)))
    files.append(File.generated(config, "commands.md", content=commands_page()))
    return files


def text_of(source: Path) -> str:
    """Return a page, or the cells of a notebook as one."""
    text = source.read_text("utf-8")
    if source.suffix != ".ipynb":
        return text
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    return "\n\n".join(t if kind == "markdown" else f"```python\n{t}\n```" for kind, t in cells)


def commands_page() -> str:
    """Return what `--help` prints for every command, in the order of `heliograph --help`."""
    settings = cli.main.context_settings | {"terminal_width": 78}  # what click takes of 80
    top = click.Context(cli.main, info_name="heliograph", **settings)
    return "# Commands\n\n" + "\n\n".join(_help(cli.main, top))


def _help(command: click.Command, context: click.Context) -> Iterator[str]:
    title = context.command_path.removeprefix("heliograph ")
    yield f"## {title}\n\n```text\n{click.unstyle(command.get_help(context))}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            _, below, _ = command.resolve_command(context, [name])
            assert below is not None  # it is in the list
            yield from _help(below, click.Context(below, context, info_name=name))


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Return a page with the links of the site."""
    name = page.file.src_uri
    return linked(markdown, OUTSIDE.get(name, DOCS / name))


def linked(markdown: str, source: Path) -> str:
    """Return the text of the file `source` with the links that it has on the site."""
    pages = {path: page for page, path in OUTSIDE.items()}

    def of_the_site(match: re.Match[str]) -> str:
        if match["path"] is None:  # code
            return match[0]
        target = (source.parent / match["path"]).resolve()
        if target in pages:
            page = pages[target]
        elif target.is_relative_to(DOCS):
            page = target.relative_to(DOCS).as_posix()
        else:
            return match["text"]
        return f"{match['before']}{page}{match['anchor'] or ''})"

    return LINK.sub(of_the_site, markdown)
