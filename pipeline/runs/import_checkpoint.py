"""Imports the paper's checkpoints as run folders, for `message`, `evaluate` and `report`.

A checkpoint holds `sender_<heads>x<vocab>` and `receiver_<heads>x<vocab>`, each a state dict; the
published ones hold those of 2x8 and of the holistic 1x64. Sizes are read off the weights.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.copies import address_of
from data.errors import HeliographError
from data.interchange import read_pt
from pipeline.agents import PUBLISHED_PROPERTIES, AgentFactory, checkpoint_key
from pipeline.config import CONTROLLED, TrainConfig, build_config
from pipeline.dataset import (
    Examples,
    RunInputs,
    Split,
    build_examples,
    clip_blocks,
    is_grid,
    read_inputs,
)
from pipeline.game import ClipTable, build_game
from pipeline.runs.leaks import leaks_of, settle_objects
from pipeline.runs.manifest import CONTROL, UNFINISHED, check_listed
from pipeline.runs.replacement import held, is_unsettled, new_run, refuse_existing
from pipeline.runs.results import SeedResult
from pipeline.runs.run import Run
from pipeline.runs.writer import add_control, write_run

_WRAPPERS = ("module.", "_orig_mod.")
HOLISTIC_CLAMP = 15.0  # of the published holistic sender; it cannot be read off its weights
UNKNOWN = (
    "imported from {}: which clips it was trained on is not in the file, so its accuracies are on "
    "the test clips of {}, which it may have seen"
)


@dataclass(frozen=True)
class CheckpointAgents:
    """One sender and its receiver in a checkpoint, with the sizes of their weights."""

    heads: int
    vocab: int
    count: int  # of agents
    dim: int
    hidden_dim: int
    kernel: int
    properties: tuple[str, ...]  # () for a receiver of one property without a name
    sender: Mapping[str, Tensor]
    receiver: Mapping[str, Tensor]


def import_checkpoint(
    path: Path | str,
    out: Path | str,
    *,
    cache_path: Path | str,
    property: str | None = None,
    overwrite: bool = False,
    allow_leaks: bool = False,
    log: Callable[[str], None] | None = None,
) -> Run:
    """Make a run folder of a checkpoint, with its messages for the clips of a cache.

    The agents with most heads are at its top, the holistic ones are its control.

    Args:
        path: Of the checkpoint.
        out: The run folder.
        cache_path: Features of the clips.
        property: What a receiver of a single property compares; None: the cache's only label.
        overwrite: Replace a run that is in the folder.
        allow_leaks: Accept clips of equal content with different objects; the run then says so.
        log: Called with what is worth a line.

    Raises:
        HeliographError: for a file that is no such checkpoint, or does not fit the cache, and for
            clips of equal content with different objects.
    """
    path, out = Path(path), Path(out)
    if is_unsettled(out):
        with held(out):
            pass
    if not overwrite:
        refuse_existing(out)
        if (out / UNFINISHED).exists():
            raise HeliographError(
                f"{out} holds an unfinished training: choose another folder, or --overwrite"
            )
    check_listed(path)
    inputs = read_inputs({Path(cache_path).stem: Path(cache_path)})
    inputs, united, same_content = settle_objects(inputs, allow_leaks=allow_leaks)
    if united and log:
        log(united)
    with held(out), new_run(out) as new:
        runs = [
            _import_agents(
                path, new / CONTROL if number else new, agents, inputs, property, same_content
            )
            for number, agents in enumerate(read_checkpoint(path)[:2])
        ]
        if len(runs) > 1:
            add_control(*runs)
        for run in runs:
            run.seal()
    return Run.open(out)


def read_checkpoint(path: Path) -> list[CheckpointAgents]:
    """Return the senders and receivers of a checkpoint, those with most heads first.

    Raises:
        HeliographError: for a file that is no checkpoint of agents.
    """
    content = read_pt(path)
    keys = [re.fullmatch(r"sender_(\d+)x(\d+)", str(key)) for key in content]
    sizes = sorted(((int(k[1]), int(k[2])) for k in keys if k), reverse=True)
    if not sizes:
        raise HeliographError(
            f"{path} is no checkpoint of agents: it has no sender_2x8 or its like, only "
            f"{', '.join(map(str, content)) or 'nothing'}"
        )
    return [_read_agents(path, content, heads, vocab) for heads, vocab in sizes]


def _read_agents(
    path: Path, content: Mapping[str, object], heads: int, vocab: int
) -> CheckpointAgents:
    parts = []
    for part in ("sender", "receiver"):
        key = checkpoint_key(part, heads, vocab)
        state = content.get(key)
        if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
            raise HeliographError(f"{path} has no weights {key}, which a checkpoint of agents has")
        for name, weights in state.items():
            if not weights.float().isfinite().all():
                raise HeliographError(
                    f"{path}: {key}.{name} holds numbers that are NaN or infinite; such weights "
                    "say nothing, so take a checkpoint from before they did"
                )
        parts.append(_unwrapped(state))
    sender, receiver = parts
    several = [int(match[1]) for name in sender if (match := re.match(r"senders\.(\d+)\.", name))]
    prefix = "senders.0." if several else ""
    try:
        _, dim, kernel = sender[f"{prefix}encoder.temporal.0.weight"].shape
        hidden_dim = len(sender[f"{prefix}encoder.fc.0.weight"])
    except (KeyError, TypeError, ValueError):
        raise HeliographError(
            f"{path}: {checkpoint_key('sender', heads, vocab)} has no encoder as the paper's "
            "agents have; agents with another one (--encoder ridge) are used from the folder of "
            "their run"
        ) from None
    named = [name.removesuffix(".weight") for name in receiver if name.endswith(".weight")]
    properties = tuple(n.removeprefix("heads.") for n in named if n.startswith("heads."))
    if "elast_head" in named:
        properties = PUBLISHED_PROPERTIES
    count = max(several) + 1 if several else 1
    if count * heads * vocab > sum(value.numel() for value in sender.values()):
        raise HeliographError(
            f"{path}: {checkpoint_key('sender', heads, vocab)} has too few weights for {count:,} "
            f"agents of {heads:,} heads with {vocab:,} symbols"
        )
    return CheckpointAgents(
        heads, vocab, count, dim, hidden_dim, kernel, properties, sender, receiver
    )


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights without the names that torch puts before those of a wrapped module.

    `DataParallel` and `DistributedDataParallel` put `module.`, `torch.compile` puts `_orig_mod.`.
    """
    names = list(state)
    while names and (
        wrapper := next((w for w in _WRAPPERS if all(name.startswith(w) for name in names)), "")
    ):
        names = [name.removeprefix(wrapper) for name in names]
    return dict(zip(names, state.values(), strict=True))


def _import_agents(
    path: Path,
    out: Path,
    agents: CheckpointAgents,
    inputs: RunInputs,
    property: str | None,
    same_content: Sequence[str],
) -> Run:
    clips, (source,) = inputs.clips, inputs.sources
    if source.dim != agents.dim:
        raise HeliographError(
            f"{path} was trained on features of {agents.dim} dimensions, {source.path} has "
            f"{source.dim}"
        )
    width = max(1, source.steps // agents.count)
    if agents.kernel != min(3, width):
        raise HeliographError(
            f"{path} has encoders with a kernel of {agents.kernel} time steps, which does not "
            f"suit the {width} that an agent sees in {source.path}"
        )
    properties = agents.properties or _only(property, tuple(clips.labels), path)
    unknown = {name: np.full(len(clips), np.nan) for name in properties}
    clips = dataclasses.replace(clips, labels=unknown | dict(clips.labels))
    inputs = dataclasses.replace(inputs, caches=(clips,))
    examples = build_examples(clips, properties)
    known = examples.labels[~np.isnan(examples.labels).any(axis=1)]
    config = build_config(
        "published",
        properties,
        split="cells" if is_grid(known) else "published",
        agents=agents.count,
        heads=agents.heads,
        vocab=agents.vocab,
        hidden_dim=agents.hidden_dim,
        logit_clamp=HOLISTIC_CLAMP if agents.heads == 1 else 0.0,
        **CONTROLLED,
    )
    result = _result(path, config, examples, agents, source.steps)
    note = UNKNOWN.format(path.name, f"the split {config.split} of {source.path.name}")
    # Which clips it was trained on is not known: near-duplicates of them cannot be looked for.
    leaks = leaks_of(same_content, [])
    run = write_run(out, config, inputs, [result], notes=[note], leaks=leaks)
    run.add_metrics({"imported_from": address_of(path) or str(path)})
    return run


def _only(property: str | None, labels: Sequence[str], path: Path) -> tuple[str]:
    name = property or (labels[0] if len(labels) == 1 else None)
    if name is None:
        raise HeliographError(
            f"{path} compares one property and does not name it: name it with --property"
        )
    return (name,)


def _result(
    path: Path, config: TrainConfig, examples: Examples, agents: CheckpointAgents, steps: int
) -> SeedResult:
    """The checkpoint's agents, their messages and accuracies, as the result of a seed 0."""
    factory, game = AgentFactory(config, (steps,), (agents.dim,)), build_game(config)
    channel = factory.channel
    sender = factory.sender().eval()
    receiver = game.build_receiver(channel.message_size, factory).eval()
    for module, state in ((sender, agents.sender), (receiver, agents.receiver)):
        try:
            module.load_state_dict({name: value.float() for name, value in state.items()})
        except RuntimeError as error:
            raise HeliographError(
                f"{path} does not fit the agents that its keys name: "
                f"{' '.join(str(error).split())[:300]}"
            ) from error
    with torch.inference_mode():
        spoken = torch.cat(
            [
                sender(torch.from_numpy(block.astype(np.float32)))
                for _, block in clip_blocks(examples.features)
            ]
        )
    tokens = spoken.view(len(examples), config.agents, config.heads).numpy()
    split = _split_if_labelled(examples, config)
    stack = game.stack_receivers([[receiver]], torch.device("cpu"))
    read = channel.read(torch.from_numpy(tokens[split.test]))
    table = ClipTable.of(examples.labels, examples.objects)
    answers = game.answer(stack, read, split.test, None)
    return SeedResult(
        seed=0,
        split=split,
        sender=sender,
        receiver=receiver,
        tokens=tokens,
        epoch=config.epochs,
        accuracy_validation=None,
        accuracy_test=None,
        accuracy_last_epoch=game.accuracy(answers, table, split.test),
        accuracy_published_protocol=game.published_accuracy(answers, table, split.test),
        skipped_batches=0,
    )


def _split_if_labelled(examples: Examples, config: TrainConfig) -> Split:
    """The split of seed 0, or an empty one for a cache without values of the properties."""
    if np.isnan(examples.labels).any(axis=1).all():
        no_clips = np.array([], dtype=np.int64)
        return Split(no_clips, no_clips, no_clips, np.random.RandomState(0))
    return examples.split(config.split, 0)
