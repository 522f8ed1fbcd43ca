"""Words that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from enum import Enum, StrEnum, auto
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.files import Address, path_of
from data.windows import LEAST_SECONDS, Windows
from pipeline.cli.numbers import FiniteNumber, RealNumber, WholeNumber
from pipeline.console import Loudness, echo, log, loudness, set_loudness

if TYPE_CHECKING:
    from pipeline.runs import RunMetrics

SOME_CLIPS_FAILED = 3  # exit code
CACHE_SUFFIXES = (".h5", ".hdf5")


class Addresses(Enum):
    """What becomes of an address in place of a path."""

    REFUSED = auto()
    KEPT = auto()
    COPIED = auto()  # to this machine: the path is that of the copy
    COPIED_CACHES = auto()  # others are kept


class UserPath(click.Path):
    """A path as a shell reads it: `~` is the user's home, where no such file is there."""

    def __init__(self, addresses: Addresses = Addresses.REFUSED) -> None:
        super().__init__()
        self._addresses = addresses

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; a usage error for an address that is refused.

        Raises:
            HeliographError: What an address names cannot be had.
        """
        word = os.fsdecode(super().convert(value, param, ctx))
        path = path_of(word)
        if self._addresses is Addresses.REFUSED and "://" in word:
            is_output = param is not None and "--out" in param.opts
            self.fail(
                f"{word.partition('://')[0]}:// outputs are not supported: write to a folder, and "
                "copy what is there"
                if is_output
                else f"{word} is an address, and this has to be on this machine",
                param,
                ctx,
            )
        completes = ctx is not None and ctx.resilient_parsing
        copies = self._addresses is Addresses.COPIED or (
            self._addresses is Addresses.COPIED_CACHES and path.suffix.lower() in CACHE_SUFFIXES
        )
        return home(path_of(local(word)) if copies and not completes else path)


def local(word: str) -> str:
    """Return a word with the path of a copy of what an address in it names.

    `hf://user/name@v1/clips.h5`, `s3://bucket/clips.h5` and `NAME=gs://bucket/clips.h5` hold an
    address: a file or a folder. Any other word stays as it is.

    Raises:
        HeliographError: It cannot be had.
    """
    before, equals, text = word.rpartition("=")
    if "://" in before:  # it is in the query of an address
        before, equals, text = "", "", word
    address = path_of(text)
    if not isinstance(address, Address):
        return word
    if text.startswith("hf://"):
        from pipeline.hub import fetch

        fetched = fetch(text)
        path = fetched.path
        log(f"{text}: {fetched.address}")
    else:
        from data.cache import copy_of

        path = copy_of(address)
    return f"{before}{equals}{path}"


def home(path: Path) -> Path:
    """Return a path with the user's home in place of a leading `~`.

    A shell does that for a word, but not in `--out=~/x` or in quotes. What exists as written wins;
    a user whom the system does not know leaves the path as it is.
    """
    if not path.parts or not path.parts[0].startswith("~") or os.path.lexists(path.parts[0]):
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        return path


PATH = UserPath()
INPUT = UserPath(Addresses.COPIED)
"""A run, a cache or another file of features or weights, on this machine or at an address."""
CLIPS = UserPath(Addresses.KEPT)
"""A video, a folder of them or a table, on this machine or at an address."""
CACHE = UserPath(Addresses.KEPT)
"""A cache that is written, on this machine or at an address."""
CLIPS_OR_CACHE = UserPath(Addresses.COPIED_CACHES)

DEVICES = "auto (a GPU where there is one), cpu, cuda, cuda:1, ..., mps"
device = click.option("--device", default="auto", help=DEVICES)

devices = click.option(
    "--device",
    default="auto",
    help=f"{DEVICES}; cuda:all, or several parted by commas: each has a process, and they share "
    "the clips and the --workers.",
)

JSON = "Print JSON, for other programs."
as_json = click.option("--json", "as_json", is_flag=True, help=JSON)

hub_dir = click.option(
    "--hub-dir",
    type=PATH,
    help="A clone of the backbone's code, or a folder laid out as TORCH_HOME.",
    show_default="torch's own",
)


PRECISION = "auto (bf16 on a GPU that has it; for motion, and elsewhere, fp32), fp32, bf16 or fp16."
batch = click.option(
    "--batch",
    type=WholeNumber(1),
    help="Clips that a GPU takes at once, fewer where memory runs out; a CPU takes as many as it "
    "has cores.",
    show_default="256 frames of them, if memory lasts",
)

workers = click.option(
    "--workers",
    type=WholeNumber(1),
    help="Processes that decode.",
    show_default="one per core, 16 at most",
)


pool = click.option(
    "--pool",
    metavar="OUTPUT",
    help="What of the backbone to keep: an output; gridN, where things are: N x N cells of "
    "its maps; motionN, what moved: the same of their differences; or a sum, as grid4+motion4. See "
    "`heliograph backbones`.",
    show_default="its usual output",
)


def model_options(
    command: Callable[..., Any], device: Callable[..., Any] = device
) -> Callable[..., Any]:
    """Add the options of every command that runs a backbone, on a `device`."""
    for option in (
        hub_dir,
        click.option(
            "--weights",
            type=PATH,
            metavar="PATH|random",
            help="File with the backbone's weights; random: untrained ones, to compare with.",
            show_default="the published ones",
        ),
        device,
    ):
        command = option(command)
    return command


def reading_limits(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that decodes videos, which set the limits on reading one."""

    @wraps(command)
    def limited(
        *arguments: Any,
        max_duration: float | None,
        max_pixels: int | None,
        max_memory: float | None,
        timeout: float | None,
        **options: Any,
    ) -> Any:
        chosen = {
            "duration": max_duration, "pixels": max_pixels,
            "memory": max_memory, "timeout": timeout,
        }  # fmt: skip
        if all(value is None for value in chosen.values()):
            return command(*arguments, **options)
        from data.video import Limits

        try:
            limits = Limits.set_to(**chosen)  # type: ignore[arg-type]
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        with limits.use():
            return command(*arguments, **options)

    positive = RealNumber(0, min_open=True)
    for option in (
        click.option(
            "--timeout",
            type=positive,
            metavar="SECONDS",
            help="Longest time for reading one clip.",
            show_default="600",
        ),
        click.option(
            "--max-memory",
            type=RealNumber(0.5),
            metavar="GIB",
            help="Most memory of a process that decodes; frames may take half of it.",
            show_default="16",
        ),
        click.option(
            "--max-pixels",
            type=WholeNumber(1),
            metavar="NUMBER",
            help="Most pixels of a frame.",
            show_default="8192 x 8192",
        ),
        click.option(
            "--max-duration",
            type=positive,
            metavar="SECONDS",
            help="Longest video that is read.",
            show_default="86400, a day",
        ),
    ):
        limited = option(limited)
    return limited


part_size = click.option(
    "--part-size",
    type=FiniteNumber(0, min_open=True),
    metavar="GB",
    help="Features of a file at most: a larger cache is a folder of such parts, and so is one of "
    "more than 100,000 clips. Parts that do not change are not written again.",
    show_default="as the parts that are there, or 64",
)


def bytes_of_part(part_size: float | None) -> int | None:
    """Return the option `--part-size` in bytes; None where it is not given."""
    return None if part_size is None else max(1, round(part_size * 1e9))


def windows(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that cut long videos into windows; `windows_of` takes them."""
    for option in (
        click.option(
            "--span",
            type=FiniteNumber(LEAST_SECONDS),
            metavar="SECONDS",
            help="Length of a window, with --every.",
            show_default="as --every",
        ),
        click.option(
            "--every",
            type=FiniteNumber(LEAST_SECONDS),
            metavar="SECONDS",
            help="Cut each clip into windows that begin at such intervals.",
            show_default="whole clips",
        ),
    ):
        command = option(command)
    return command


def windows_of(every: float | None, span: float | None) -> Windows | None:
    """Return how the options `--every` and `--span` cut clips; None without `--every`."""
    if every is None:
        if span is not None:
            raise click.UsageError("--span is the length of the windows of --every: give that, too")
        return None
    return Windows(every=every, span=every if span is None else span)


def ray_options(
    what: str, worker: str, option: Callable[..., Any] = click.option, **kind: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the options of a command, with a `device`, whose work Ray can share among machines.

    The command gets `cluster`, a `Cluster` or None.

    Args:
        what: is shared.
        worker: has a GPU.
        option: makes an option.
        kind: what it is given besides.
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def shared(
            *arguments: Any,
            ray: bool,
            ray_address: str | None,
            ray_gpus: float | None,
            **options: Any,
        ) -> Any:
            cluster = None
            if ray or ray_address is not None or ray_gpus is not None:
                from pipeline.cluster import Cluster

                device = options["device"]
                if device not in ("auto", "cpu"):
                    raise click.UsageError(
                        f"Ray chooses the GPU of each {worker}: leave --device {device} out"
                    )
                if device == "cpu" and ray_gpus:
                    raise click.UsageError(
                        f"--device cpu has no GPU for --ray-gpus {ray_gpus:g}: leave one of them "
                        "out"
                    )
                gpus = 0 if device == "cpu" else ray_gpus
                options["device"] = "cpu" if gpus == 0 else "auto"
                cluster = Cluster(ray_address, gpus)
            return command(*arguments, cluster=cluster, **options)

        for made in (
            option(
                "--ray-gpus",
                type=FiniteNumber(0),
                metavar="NUMBER",
                help=f"GPUs of each {worker}, as 0.5 or 2; implies --ray.",
                show_default="1 where a node has one, or 0 for `--device cpu`",
                **kind,
            ),
            option(
                "--ray-address",
                metavar="ADDRESS",
                help="The Ray cluster, as HOST:PORT, or `local` to start one; implies --ray.",
                show_default="the one that runs here",
                **kind,
            ),
            option(
                "--ray",
                is_flag=True,
                help=f"Share {what} among the nodes of the Ray cluster that runs here, or the GPUs "
                "and cores of this machine (needs the package ray).",
                **kind,
            ),
        ):
            shared = made(shared)
        return shared

    return add


class HelpGroup(StrEnum):
    """Headings of the commands in `heliograph --help`."""

    START = "Begin here"
    FEATURES = "Videos and their features"
    AGENTS = "Agents and their messages"
    PAPER = "The paper's results"


def completed_by(module: str, name: str) -> Callable[..., list[str]]:
    """Return how the shell completes a word that is a key of a table, imported when it asks."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        return [key for key in getattr(import_module(module), name) if key.startswith(incomplete)]

    return complete


def examples(*commands: str) -> str:
    """Return the end of a command's help: commands that can be typed, one a line."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])


class CommandGroup(click.Group):
    """A group whose commands all take --quiet and --verbose."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant, with these two options."""
        try:
            name, command, rest = super().resolve_command(ctx, args)
        except click.UsageError as error:
            if args[0].startswith("-"):  # an option that there is not
                raise
            near = get_close_matches(args[0], self.list_commands(ctx))
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"there is no command {args[0]!r}.{hint}", ctx) from error
        if command is not None and not isinstance(command, click.Group):
            known = {parameter.name for parameter in command.params}
            command.params += [option for option in _loudness() if option.name not in known]
        return name, command, rest


def _loudness() -> list[click.Option]:
    def choose(ctx: click.Context, param: click.Parameter, chosen: bool) -> None:
        if not chosen:
            return
        if loudness() is not Loudness.NORMAL:
            raise click.UsageError("--quiet and --verbose exclude each other")
        set_loudness(Loudness(param.name))

    texts = {
        "quiet": "No progress and no notes: only what went wrong.",
        "verbose": "Also the time that has passed, and where errors come from.",
    }
    return [
        click.Option(
            [f"-{name[0]}", f"--{name}"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=choose,
            help=text,
        )
        for name, text in texts.items()
    ]


class InOrder(CommandGroup):
    """Lists its commands in the order in which they were added, not by name."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return them as they were added: the order in which people need them."""
        return list(self.commands)


def share_the_cores() -> None:
    """Let torch's threads sleep while they wait for one another; call it before torch is loaded.

    By default they spin, and next to decoders that want the same cores a forward pass then takes
    up to four times as long. A choice that the user has made stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def show_run(metrics: RunMetrics, as_json: bool) -> None:
    """Show the tables of a run, and of its holistic control where there is one."""
    from pipeline.report import show_metrics

    show_metrics(metrics, as_json)
    if metrics.control is not None and not as_json:
        control = metrics.control
        echo()
        echo(f"holistic control {control.heads}x{control.vocab}")
        show_metrics(control, as_json)
    if not as_json:
        for note in metrics.notes:
            log(f"note: {note}")


def moved_clips(purpose: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option `--clips` of a command that needs videos, for a purpose if need be."""
    return click.option(
        "--clips",
        multiple=True,
        type=CLIPS,
        help=f"Where the videos are now{purpose}: a manifest, folder or file; repeatable.",
        show_default="where they were",
    )


moved_caches = click.option(
    "--cache",
    "moved",
    multiple=True,
    metavar="[NAME=]CACHE",
    help="Where a cache of the run is now; repeatable.",
    show_default="where it was, next to the run, or in it",
)


def named_caches(words: Sequence[str], option: str) -> dict[str, Path]:
    """Return caches by name: `NAME=CACHE`; one without a name is called by its file's stem."""
    caches: dict[str, Path] = {}
    for word in map(local, words):
        name, sign, path = word.partition("=")
        name, cache = (name, Path(path)) if sign else (Path(word).stem, Path(word))
        if not name or name in caches:
            raise click.UsageError(f"{option} {word} needs a unique name: NAME=CACHE")
        caches[name] = home(cache)
    return caches
