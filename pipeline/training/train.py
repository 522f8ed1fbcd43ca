"""The training stage: caches in, a run folder out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from backbones import resolve_device
from data.cache import Features, load, save
from data.errors import HeliographError
from data.files import sha256_file
from pipeline.agents import GENERATOR
from pipeline.config import TrainConfig, holistic
from pipeline.dataset import RunInputs
from pipeline.message import write_lexicon, write_readout
from pipeline.runs import (
    CONTROL,
    Run,
    SeedResult,
    add_control,
    description,
    find_leaks,
    held,
    is_unsettled,
    new_run,
    refuse_existing,
    write_run,
)
from pipeline.training.callbacks import (
    Callback,
    Progress,
    ProgressCallback,
    TensorBoardCallback,
)
from pipeline.training.checkpoints import TrainingCheckpointer, difference
from pipeline.training.diagnostics import diagnose
from pipeline.training.fit import fit
from pipeline.training.plan import plan_run


def train(
    caches: Path | str | Features | Sequence[Path | str],
    out: Path | str,
    *,
    properties: Sequence[str] = (),
    preset: str = "default",
    seeds: int | Sequence[int] = 10,
    agents: int | Sequence[str] | None = None,
    matched: bool = False,
    control: bool = False,
    tensorboard: bool = False,
    callbacks: Sequence[Callback] = (),
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    allow_leaks: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    log: Callable[[str], None] | None = None,
    **settings: Any,
) -> Run:
    """Train every seed on one or several caches, and write the run folder.

    Args:
        caches: as `extract` or `cache import` writes them; or features in memory, which are saved
            beside the run, as `<out>.h5`.
        out: must not hold a run yet, unless `overwrite`, nor an unfinished training, unless
            `resume` goes on with it; a finished run that `resume` finds is left as it is.
        properties: labels to send messages about; none: every label of the caches.
        preset: a key of `config.PRESETS`.
        seeds: their numbers, or how many from 0 on.
        agents: how many, all on the one cache; or the cache of each agent, by its name: the stem
            of a file, or `NAME=PATH`.
        matched: one agent in place of them all, over the whole clip, with the heads of all.
        control: also train the holistic control, a whole run in `out/control`.
        tensorboard: write event files into `out/tensorboard` too.
        callbacks: called before each part of the training and after every epoch.
        device: `auto` (a CUDA GPU if there is one, else the CPU), `cpu`, `cuda`, `cuda:1`, `mps`.
        overwrite: replace a run that is in the folder.
        resume: go on with an unfinished training of the same settings.
        allow_leaks: go on where clips of different objects are one clip, or look like one, and are
            in different parts of a split; the run then says so wherever its accuracy is.
        settings: fields of `TrainConfig` that replace the preset's, those of the game, and
            `tie_margin`; None leaves one as it is.
        progress: called with epochs done over all seeds, epochs in all, and a note.
        log: called with what is worth a line.

    Raises:
        HeliographError: a wrong name, too few objects, a leak, a folder that exists, or one that
            another process is training into.
    """
    out, report = Path(out), log or (lambda _: None)
    if is_unsettled(out):
        with held(out):
            pass
    if not (overwrite or resume):
        refuse_existing(out)
    torch_device = resolve_device(device, auto=["cuda"])
    if isinstance(caches, Features):
        caches = _saved(caches, out)
    plan = plan_run(
        caches,
        properties=properties,
        preset=preset,
        seeds=seeds,
        agents=agents,
        matched=matched,
        control=control,
        allow_leaks=allow_leaks,
        log=report,
        **settings,
    )
    config, seeds, inputs, examples = plan.config, plan.seeds, plan.inputs, plan.examples
    null = range(max(seeds) + 1, max(seeds) + 1 + config.null)
    said = plan.about_labels if len(config.properties) > 1 else []
    notes = [*said, *diagnose(examples, config, seeds)]
    leaks = find_leaks(
        inputs.clips, examples, plan.splits, plan.same_content, allow_leaks=allow_leaks
    )
    parts = {"": config}
    if control:  # first, so that a whole run has a whole control
        parts = {CONTROL: holistic(config.replace(null=0)), "": config}
    identities = {
        name: _identity(part, seeds, inputs, torch_device) for name, part in parts.items()
    }
    with ExitStack() as stack:
        stack.enter_context(held(out))
        checkpointers = {
            name: TrainingCheckpointer(out, identity, part=name)
            for name, identity in identities.items()
        }
        for checkpointer in checkpointers.values():
            checkpointer.begin(resume=resume, overwrite=overwrite)
        is_whole = (out / "metrics.json").exists() and not overwrite
        if is_whole and not any(own.unfinished for own in checkpointers.values()):
            run = _finished(out, identities, inputs, report)
            for checkpointer in checkpointers.values():
                checkpointer.sweep()  # states without an identity, which a killed process left
            return run
        called: list[Callback] = [
            ProgressCallback(len(seeds) * len(parts) + len(null), progress or (lambda *_: None)),
            *callbacks,
        ]
        if tensorboard:
            called.append(stack.enter_context(TensorBoardCallback(out / "tensorboard")))

        def report_progress(now: Progress) -> None:
            for callback in called:
                callback(now)

        results: dict[str, list[SeedResult]] = {}
        for name, part in parts.items():
            for callback in called:
                callback.begin(f"{part.heads}x{part.vocab}" if control else "")
            results[name] = list(
                fit(
                    examples,
                    part,
                    seeds,
                    device=torch_device,
                    progress=report_progress,
                    checkpointer=checkpointers[name],
                    null=() if name else null,
                )
            )
        with new_run(out) as new:
            runs: dict[str, Run] = {}
            for name, part in parts.items():
                own, shuffled = results[name][: len(seeds)], results[name][len(seeds) :]
                caveats = [*notes, *(_diverged(r) for r in own if r.skipped_batches)]
                runs[name] = write_run(
                    new / name, part, inputs, own, null=shuffled, notes=caveats, leaks=leaks
                )
                write_lexicon(runs[name])
                write_readout(runs[name])
            if control:
                add_control(runs[""], runs[CONTROL])
            for run in runs.values():
                run.seal()
    return Run.open(out)


def _saved(features: Features, out: Path) -> Path:
    """Save features beside the run that reads them; a cache of the same ones stays as it is.

    Raises:
        HeliographError: The cache that is there holds something else.
    """
    path = out.with_name(f"{out.name}.h5")
    if not os.path.lexists(path):
        save(features, path)
    elif load(path, mapped=True).content_sha256 != features.content_sha256:
        raise HeliographError(
            f"{path}, where the features of {out} go, holds others: choose another folder, or save "
            "them with `data.cache.save` and give the path"
        )
    return path


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
    hashes = {source.name: source.identity for source in inputs.sources}
    return described | {"caches": hashes, "device": device.type, "noise": GENERATOR}


def _finished(
    out: Path,
    identities: Mapping[str, Mapping[str, Any]],
    inputs: RunInputs,
    report: Callable[[str], None],
) -> Run:
    """Return the run that is in `out` already; raise HeliographError where it is another."""
    for name, identity in identities.items():
        if name and not (out / name / "config.json").exists():
            raise HeliographError(
                f"{out} holds a finished run without its {name}: choose another folder, or "
                "--overwrite"
            )
        run = Run.open(out / name)
        older = {source.name for source in run.sources if not source.content_sha256}
        now = json.loads(json.dumps({key: identity[key] for key in ("config", "seeds", "caches")}))
        now["caches"] |= {
            source.name: sha256_file(source.path)
            for source in inputs.sources
            if source.name in older
        }
        before = {
            "config": run.config.to_json(),
            "seeds": list(run.seeds),
            "caches": {source.name: source.identity for source in run.sources},
        }
        if before != now:
            raise HeliographError(
                f"{out} holds a finished run of something else: {difference(before, now)}; "
                "choose another folder, or --overwrite"
            )
    report(f"{out} is finished already")
    return Run.open(out)
