"""The training stage: caches in, a run folder out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from backbones import resolve_device
from data.errors import HeliographError, InvalidValueError
from data.lock import Lock
from pipeline.config import TrainConfig, build_config, holistic, matched_bandwidth, with_control
from pipeline.dataset import RunInputs, build_examples, read_inputs
from pipeline.message import write_lexicon
from pipeline.runs import (
    CONTROL,
    Run,
    SeedResult,
    add_control,
    description,
    remove_control,
    write_run,
)
from pipeline.training.callbacks import Progress, ProgressCallback, TensorBoardCallback
from pipeline.training.checkpoints import TrainingCheckpointer, difference
from pipeline.training.diagnostics import diagnose
from pipeline.training.fit import fit
from pipeline.training.settings import group_game_settings


def train(
    caches: Path | str | Sequence[Path | str],
    out: Path | str,
    *,
    properties: Sequence[str] = (),
    preset: str = "default",
    seeds: int | Sequence[int] = 10,
    agents: int | Sequence[str] | None = None,
    matched: bool = False,
    control: bool = False,
    tensorboard: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    log: Callable[[str], None] | None = None,
    **settings: Any,
) -> Run:
    """Train every seed on one or several caches, and write the run folder.

    Args:
        caches: as `extract` or `cache import` writes them.
        out: must not hold a run yet, unless `overwrite`, nor an unfinished training, unless
            `resume` goes on with it; a finished run that `resume` finds is left as it is.
        properties: labels to talk about; none: every label of the caches.
        preset: a key of `config.PRESETS`.
        seeds: their numbers, or how many from 0 on.
        agents: how many, all on the one cache; or the cache of each agent, by its name: the stem
            of a file, or `NAME=PATH`.
        matched: one agent in place of them all, over the whole clip, with the heads of all.
        control: also train the holistic control, a whole run in `out/control`.
        tensorboard: write event files into `out/tensorboard` too.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        overwrite: replace a run that is in the folder.
        resume: go on with an unfinished training of the same settings.
        settings: fields of `TrainConfig` that replace the preset's, those of the game, and
            `tie_margin`; None leaves one as it is.
        progress: called with epochs done over all seeds, epochs in all, and a note.
        log: called with what is worth a line.

    Raises:
        HeliographError: a wrong name, too few objects, a folder that exists, or one that another
            process is training into.
    """
    out, say = Path(out), log or (lambda _: None)
    metrics = out / "metrics.json"
    if metrics.exists() and not (overwrite or resume):
        raise HeliographError(f"{out} holds a run already: choose another folder, or --overwrite")
    place = resolve_device(device)
    paths, sees = name_caches([caches] if isinstance(caches, Path | str) else caches, agents)
    inputs = read_inputs(paths)
    for name, count in inputs.left_out.items():
        say(f"{name}: {count} clips that the other caches do not have are left out")
    names = tuple(properties) or tuple(inputs.clips.labels)
    if not names:
        raise HeliographError(
            f"{' and '.join(map(str, paths.values()))} has no labels: nothing to talk about"
        )
    config = build_config(
        preset,
        names,
        agents=agents if isinstance(agents, int | None) else len(agents),
        sees=sees or None,
        **group_game_settings(with_control(settings) if control else settings),
    )
    if matched:
        config = matched_bandwidth(config)
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    if not seeds:
        raise InvalidValueError("a run needs at least one seed")
    examples = build_examples(inputs.caches, config.properties)
    notes = diagnose(examples, config, seeds)
    parts = [(out, config)]
    if control:  # first, so that a whole `out` has a whole control
        parts.insert(0, (out / CONTROL, holistic(config)))
    runs = []
    with ExitStack() as stack:
        stack.callback(Lock(out / "lock", out).release)
        overview = ProgressCallback(len(seeds) * len(parts), progress or (lambda *_: None))
        board = (
            stack.enter_context(TensorBoardCallback(out / "tensorboard")) if tensorboard else None
        )

        def tell(now: Progress) -> None:
            overview(now)
            if board is not None:
                board(now)

        for folder, own in parts:
            name = f"{own.heads}x{own.vocab}" if control else ""
            overview.begin(name)
            if board is not None:
                board.begin(name)
            identity = _identity(own, seeds, inputs, place)
            checkpointer = TrainingCheckpointer(folder, identity)
            checkpointer.begin(resume=resume, overwrite=overwrite)
            if (folder / "metrics.json").exists() and not overwrite and not checkpointer.unfinished:
                runs.append(_finished(folder, identity, say))
                continue
            results = list(
                fit(examples, own, seeds, device=place, progress=tell, checkpointer=checkpointer)
            )
            said = [*notes, *(_diverged(r) for r in results if r.skipped_batches)]
            runs.append(write_run(folder, own, inputs, results, notes=said))
            write_lexicon(runs[-1])
            checkpointer.sweep()
            if not control:
                remove_control(folder)
        if control and runs[1].metrics().control is None:
            add_control(runs[1], runs[0])
    return runs[-1]


def _diverged(result: SeedResult) -> str:
    return (
        f"seed {result.seed} diverged: the loss of {result.skipped_batches} of its batches was not "
        "finite, and they were skipped"
    )


def _identity(
    config: TrainConfig, seeds: Sequence[int], inputs: RunInputs, device: torch.device
) -> dict[str, Any]:
    """All that the bits of a result depend on; where a cache lies is not among it."""
    described = description(config, seeds, inputs.sources)
    hashes = {source.name: source.sha256 for source in inputs.sources}
    return described | {"caches": hashes, "device": device.type}


def _finished(out: Path, identity: Mapping[str, Any], say: Callable[[str], None]) -> Run:
    """The run that stands in `out` already; raises HeliographError where it is another."""
    run = Run.open(out)
    before = {
        "config": run.config.to_json(),
        "seeds": list(run.seeds),
        "caches": {source.name: source.sha256 for source in run.sources},
    }
    now = json.loads(json.dumps({name: identity[name] for name in before}))
    if before != now:
        raise HeliographError(
            f"{out} holds a finished run of something else: {difference(before, now)}; "
            "choose another folder, or --overwrite"
        )
    say(f"{out} is finished already")
    return run


def name_caches(
    caches: Sequence[Path | str], agents: int | Sequence[str] | None
) -> tuple[dict[str, Path], tuple[int, ...]]:
    """The caches by name, and the number of the cache that each agent sees.

    Names are the stems of the files, or given as `NAME=PATH`; `agents` may give a cache as
    `NAME=PATH` too. With a single cache and a number of agents the second part is empty. Raises
    HeliographError for a name that stands for two files, or for none.
    """
    named: dict[str, Path] = {}
    for text in map(str, caches):
        _add(named, *_name_and_path(text))
    if agents is None or isinstance(agents, int):
        if len(named) > 1:
            raise InvalidValueError(
                f"several caches given: assign one per agent, e.g. --agents {','.join(named)}"
            )
        return named, ()
    seen = []
    for text in agents:
        name, path = _name_and_path(text)
        if path is not None and "=" in text:
            _add(named, name, path)
        else:
            name = text
        if name not in named:
            raise InvalidValueError(
                f"no cache is called {name!r}: the caches are {', '.join(named)}; "
                "another is given as NAME=PATH"
            )
        seen.append(name)
    unseen = [name for name in named if name not in seen]
    if unseen:
        raise InvalidValueError(f"no agent sees {', '.join(unseen)}")
    order = list(named)
    return named, tuple(order.index(name) for name in seen) if len(order) > 1 else ()


def _name_and_path(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if separator and name and "/" not in name and not Path(text).exists():
        return name, Path(path)
    return Path(text).stem, Path(text)


def _add(named: dict[str, Path], name: str, path: Path) -> None:
    if named.setdefault(name, path) != path:
        raise InvalidValueError(
            f"two caches are called {name!r}, {named[name]} and {path}: give one as NAME=PATH"
        )
