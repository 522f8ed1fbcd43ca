"""The commands that write, each with what it starts from and what it leaves.

`COMMANDS` has one `WritingCommand` for each. They are small: a case of one takes a moment.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.robustness.disk import KILL, Fault
from tests.robustness.place import Place

EXTRACT = ("--backbone", "tiny", "--frames", "4", "--device", "cpu", "--workers", "1")
SMALL = (
    "--property", "mass", "--seeds", "1", "--epochs", "2", "--device", "cpu", "--hidden-dim", "8",
    "--no-refit",
)  # fmt: skip
RECIPE = """
title = "Small"
question = "Does it run?"
[clips]
scene = "collision"
grid = 3
per_cell = 1
seconds = 0.2
[views.moving]
steps = 2
[train]
properties = ["mass_ratio", "restitution"]
seeds = 1
epochs = 1
oracle_epochs = 1
vocab = 3
hidden_dim = 8
[evaluate]
permutations = 10
[[runs]]
name = "one"
title = "one agent"
agents = 1
"""


@dataclass(frozen=True)
class WritingCommand:
    """A command that changes the disk.

    Attributes:
        name: Of this case.
        words: Of the command.
        prepare: Makes what it starts from.
        again: Its words for the start after a kill, where they differ.
        reads: The run folder whose parts must be of one training.
        parts: Into how many tests its kills are divided.
        error_parts: Into how many tests its failing calls are divided.
        kills: `each` call, each `place` in the code that makes calls, or at `random` moments only:
            other processes make the calls.
        codes: Its exit codes where a call fails.
        errnos: How many of the six errnos are tried at each place: all, or two where the places are
            those of other commands, at which all six are tried.
    """

    name: str
    words: tuple[str, ...]
    prepare: Callable[[Place], None]
    again: tuple[str, ...] = ()
    reads: str = ""
    parts: int = 1
    error_parts: int = 1
    kills: str = "each"
    codes: tuple[int, ...] = (1,)
    errnos: int = 6

    @property
    def second(self) -> tuple[str, ...]:
        """The words for the start after a kill."""
        return self.again or self.words


def films(place: Place) -> None:
    """Three films in `films`, two of them in `early`, too."""
    from tests.helpers.films import make_film

    for name, count in (("films", 3), ("early", 2)):
        (place.folder / name).mkdir()
        for number in range(count):
            make_film(place.folder / name / f"{number}.mp4", number, frames=6)


def some_extracted(place: Place) -> None:
    """A cache of two of the three films."""
    films(place)
    place.run("extract", "early", "-o", "c.h5", *EXTRACT)
    for path in (place.folder / "early").iterdir():
        path.unlink()
    (place.folder / "early").rmdir()


def damaged(place: Place) -> None:
    """A cache of three films, the features of one of which are damaged."""
    films(place)
    place.run("extract", "films", "-o", "c.h5", *EXTRACT)
    place.call("tests.robustness.commands:damage", "c.h5")


def damage(name: str) -> None:
    """Flip a bit in the features of the second clip of a cache."""
    from data import cache

    path = Path(name)
    content = bytearray(path.read_bytes())
    content[content.index(cache.load(path).features[1].tobytes()) + 3] ^= 1
    path.write_bytes(content)


def caches(place: Place) -> None:
    """Two caches of clips that differ."""
    place.call("tests.robustness.commands:make_caches")


def make_caches() -> None:
    """`a.h5` and `b.h5`, whose clips differ; `learn.h5`, from which something can be learnt."""
    from data import cache
    from tests.helpers.caches import features
    from tests.helpers.features import make_features

    cache.save(features(prefix="a"), Path("a.h5"))
    cache.save(features(prefix="b", seed=1), Path("b.h5"))
    cache.save(make_features(objects=9, each=2, dim=6), Path("learn.h5"))


def joined_by_the_dead(place: Place) -> None:
    """What a process that joined `c.h5` has extracted: seven clips."""
    place.call("tests.robustness.commands:join_and_die")


def join_and_die() -> None:
    """Extract clips for `c.h5` as a process that others join, and leave it to them to finish."""
    from data.cache import JoinedStore
    from tests.helpers.caches import MADE_WITH, clips, extract

    store = JoinedStore("c.h5", **MADE_WITH)
    store.check_shape((2, 8), "float16")
    some = list(store.offer(clips(7), lambda *_: None))
    for part in (some[:3], some[3:]):
        extract(store, part)
        store.flush()


def paper_file(place: Place) -> None:
    """A feature file as the paper has it."""
    from tests.helpers.paper_files import make_paper_features

    make_paper_features(place.folder / "paper.pt")


def trained(place: Place) -> None:
    """A run."""
    caches(place)
    place.run("train", "learn.h5", "-o", "run", *SMALL)


def half_trained(place: Place) -> None:
    """A training that was killed while it wrote its run folder."""
    caches(place)
    whole = place.command(TRAIN)
    model = next(n for n, call in enumerate(whole.calls) if call.path.endswith(".safetensors"))
    shutil.rmtree(place.folder / "run")
    place.command(TRAIN, fault=Fault(model, KILL))


def checkpoint(place: Place) -> None:
    """A checkpoint as the paper publishes it."""
    place.call("tests.robustness.commands:make_grid")
    make_checkpoint(place.folder / "checkpoint.pt")


def make_checkpoint(path: Path) -> None:
    """Write small agents as the paper publishes its own."""
    import torch

    from pipeline.agents import CompositionalReceiver, CompositionalSender

    torch.manual_seed(0)
    parts = {}
    for heads, vocab in ((2, 3), (1, 9)):
        size = f"{heads}x{vocab}"
        sender = CompositionalSender(hidden_dim=8, input_dim=12, vocab_size=vocab, n_heads=heads)
        parts[f"sender_{size}"] = sender.state_dict()
        receiver = CompositionalReceiver(heads * vocab, hidden_dim=8)
        parts[f"receiver_{size}"] = receiver.state_dict()
    torch.save(parts, path)


def make_grid() -> None:
    """`grid.h5`, whose clips are the cells of a grid of elasticity and friction."""
    import numpy as np

    from data import cache
    from tests.helpers.features import make_features

    made = make_features()
    bins = np.arange(len(made)) % 25
    labels = {"elasticity": bins // 5 * 0.2, "friction": bins % 5 * 0.1}
    grid = replace(made, labels=labels, object=[f"cell_{i}" for i in bins])
    cache.save(grid, Path("grid.h5"))


def tree(place: Place) -> None:
    """A tree of Physics 101."""
    from tests.helpers.trees import make_physics101_tree

    (place.folder / "tree").mkdir()
    make_physics101_tree(place.folder / "tree")


def recipe(place: Place) -> None:
    """The recipe of a small experiment."""
    (place.folder / "small.toml").write_text(RECIPE)


def recipe_with_features(place: Place) -> None:
    """The recipe, its clips and their features."""
    recipe(place)
    place.run(*EXPERIMENT)
    shutil.rmtree(place.folder / "out" / "small")


def nothing(place: Place) -> None:
    """Nothing is needed."""


SIMULATE = (
    "simulate", "fall", "-o", "clips", "--grid", "2", "--per-cell", "1", "--size", "32",
    "--fps", "8", "--seconds", "0.5",
)  # fmt: skip
EXPERIMENT = (
    "experiment", "small.toml", "--out", "out", "--backbone", "tiny", "--device", "cpu",
)  # fmt: skip
TRAIN = ("train", "learn.h5", "-o", "run", *SMALL)

COMMANDS: tuple[WritingCommand, ...] = (
    WritingCommand(
        "extract", ("extract", "films", "-o", "c.h5", *EXTRACT), films, parts=4, error_parts=5
    ),
    WritingCommand(
        "extract more", ("extract", "films", "-o", "c.h5", *EXTRACT), some_extracted, parts=3,
        error_parts=2, errnos=2,
    ),
    WritingCommand(
        "extract joined", ("extract", "films", "-o", "c.h5", "--join", *EXTRACT), films, parts=4,
        error_parts=5,
    ),
    WritingCommand(
        "extract part", ("extract", "films", "-o", "c.h5", "--part", "2/3", *EXTRACT), films,
        parts=2, error_parts=2, kills="place", errnos=2,
    ),
    WritingCommand("consolidate", ("cache", "consolidate", "c.h5"), joined_by_the_dead),
    WritingCommand(
        "repair", ("cache", "verify", "c.h5", "--repair", "--workers", "1", "--device", "cpu"),
        damaged, parts=3, error_parts=4,
    ),
    WritingCommand("merge", ("cache", "merge", "a.h5", "b.h5", "-o", "m.h5"), caches),
    WritingCommand("import", ("cache", "import", "paper.pt", "-o", "i.h5"), paper_file),
    WritingCommand("export pt", ("cache", "export", "a.h5", "-o", "out/e.pt"), caches),
    WritingCommand("export npz", ("cache", "export", "a.h5", "-o", "e.npz"), caches),
    WritingCommand(
        "export safetensors", ("cache", "export", "a.h5", "-o", "e.safetensors"), caches
    ),
    WritingCommand(
        "train", TRAIN, caches, again=(*TRAIN, "--resume"), reads="run", parts=8, error_parts=16
    ),
    WritingCommand(
        "train with control", (*TRAIN, "--control"), caches,
        again=(*TRAIN, "--control", "--resume"), reads="run", parts=6, error_parts=5, errnos=2,
        kills="place",
    ),
    WritingCommand(
        "overwrite", (*TRAIN, "--vocab", "3", "--overwrite"), trained, reads="run", parts=8,
        error_parts=4, errnos=2,
    ),
    WritingCommand(
        "resume", (*TRAIN, "--resume"), half_trained, reads="run", parts=5, error_parts=3, errnos=2
    ),
    WritingCommand(
        "sweep", (*TRAIN, "--sweep", "heads=1,2"), caches,
        again=(*TRAIN, "--sweep", "heads=1,2", "--resume"), reads="run", parts=6, error_parts=4,
        errnos=2, kills="place", codes=(1, 3),  # 3: the other cell was trained
    ),
    WritingCommand("evaluate", ("evaluate", "run", "--permutations", "10"), trained, reads="run"),
    WritingCommand("report", ("report", "run"), trained, reads="run"),
    WritingCommand("report elsewhere", ("report", "run", "-o", "pages/page.html"), trained),
    WritingCommand(
        "import-checkpoint",
        ("import-checkpoint", "checkpoint.pt", "-o", "run", "--cache", "grid.h5"),
        checkpoint, reads="run", parts=16, error_parts=20,
    ),
    WritingCommand(
        "index", ("index", "physics101", "tree", "--scenario", "fall", "-o", "lists/f.jsonl"), tree
    ),
    WritingCommand(
        "simulate", (*SIMULATE, "--workers", "1"), nothing, parts=2, error_parts=4
    ),
    WritingCommand("simulate in processes", (*SIMULATE, "--workers", "2"), nothing, kills="random"),
    WritingCommand(
        "experiment", EXPERIMENT, recipe_with_features, reads="out/small/runs/one", parts=20,
        error_parts=20, errnos=2, kills="place",
    ),
    WritingCommand("experiment from nothing", EXPERIMENT, recipe, kills="random"),
)  # fmt: skip
"""Every command that writes, but those that fetch weights; `message` does not."""
