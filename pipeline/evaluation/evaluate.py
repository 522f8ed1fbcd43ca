"""Evaluation of a run: every part of it, in order, and what it adds to `metrics.json`.

`PARTS` is the list. The keys are described in `docs/metrics_json.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache import Features
from data.copies import address_of
from data.errors import HeliographError
from pipeline.dataset import (
    Examples,
    Lookalikes,
    RunInputs,
    build_examples,
    load_finite_cache,
    match,
    ridge,
)
from pipeline.evaluation.agreement import agent_agreement, seed_agreement
from pipeline.evaluation.baselines import pixels
from pipeline.evaluation.baselines.predictors import BaselineInputs, score_baselines
from pipeline.evaluation.context import EvaluationContext, MessageContext, one_thread
from pipeline.evaluation.controls import train_controls
from pipeline.evaluation.estimates import score_estimates
from pipeline.evaluation.fresh_receivers import score_fresh_receivers
from pipeline.evaluation.game_scores import score_game
from pipeline.evaluation.generalisation import score_generalisation
from pipeline.evaluation.interventions import (
    add_noise,
    intervene,
    score_kept_receivers,
    silence_agents,
)
from pipeline.evaluation.near_duplicates import score_without_near_duplicates
from pipeline.evaluation.outcome_prediction import predict_outcome
from pipeline.evaluation.probes import compression, probe, require_labels
from pipeline.evaluation.structure import NullSeed, assess_messages
from pipeline.evaluation.transfer import frames_of, read_other_cache, transfer
from pipeline.runs import Run, RunMetrics, finish_move, load_inputs

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class EvaluationInputs:
    """What the parts of an evaluation read.

    Attributes:
        run: The run.
        sources: Its caches.
        examples: Their features and the run's properties.
        permutations: The number of permutations of a null.
        against: Features of the same clips from other caches, by name.
        on: Clips of other caches, by path or address, as training sees them and whole.
        outcome: A label to predict and the label that is the action, or None.
        controls: Whether to train the controls.
        videos: Where the videos are; none: where they were; None: they are not read.
        progress: Called with what is being done.
    """

    run: Run
    sources: RunInputs
    examples: Examples
    permutations: int
    against: Mapping[str, NDArray[np.generic]]
    on: Mapping[str, tuple[Examples, Features]]
    outcome: tuple[str, str] | None
    controls: bool
    videos: Sequence[Path] | None
    progress: Progress = field(repr=False)

    @property
    def clips(self) -> Features:
        """The clips of its caches, with every label."""
        return self.sources.clips

    @cached_property
    def context(self) -> EvaluationContext:
        """The clips and splits of the run."""
        return EvaluationContext.of(self.run, self.examples)

    @cached_property
    def messages(self) -> MessageContext:
        """The messages and receivers of the run."""
        return MessageContext.of(self.run, self.examples)

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """The messages by agent: (S, N, agents, heads)."""
        config, tokens = self.run.config, self.messages.tokens
        return tokens.reshape(*tokens.shape[:2], config.agents, config.heads)

    @cached_property
    def lookalikes(self) -> Lookalikes:
        """The clips of different objects that look the same."""
        return Lookalikes.of(self.examples, self.clips)

    @cached_property
    def feature_kernels(self) -> list[ridge.Likeness]:
        """How alike the raw features of clips are, in each seed."""
        splits = self.messages.splits
        if len(self.examples) <= ridge.MOST_CLIPS:  # and those of messages
            ridge.require_kernel_memory(len(self.examples), 2 * len(splits))
        return [ridge.likeness(self.examples.caches, split.train) for split in splits]


@dataclass(frozen=True)
class EvaluationPart:
    """One part of an evaluation.

    Attributes:
        title: Shown while it runs; "" for a part that reports its own progress.
        compute: Returns keys of `metrics.json` and their values.
        symbols: Whether it needs messages of symbols: a run with real numbers for messages has
            none.
        pairs: Whether it needs a game of pairs (True) or one of another kind (False); None: it
            suits every game.
        share: Of the time that an evaluation without options takes, roughly, in hundredths.
        steps: How many steps it reports, roughly.
        given: Whether the options ask for it.
    """

    title: str
    compute: Callable[[EvaluationInputs], dict[str, Any]]
    symbols: bool = True
    pairs: bool | None = None
    share: int = 1
    steps: int = 1
    given: Callable[[EvaluationInputs], bool] = lambda _: True

    def is_due(self, inputs: EvaluationInputs) -> bool:
        """Return whether it is part of the evaluation of a run."""
        suits = self.pairs is None or self.pairs is inputs.run.game.pairs
        return suits and (inputs.run.has_symbols or not self.symbols) and self.given(inputs)


def evaluate(
    run: Run | Path | str,
    *,
    permutations: int = 1000,
    against: Mapping[str, Path] | None = None,
    on: Sequence[Path] = (),
    outcome: tuple[str, str] | None = None,
    controls: bool = False,
    videos: Sequence[Path] | None = None,
    moved: Mapping[str, Path] | None = None,
    progress: Progress | None = None,
    show: Callable[[int, int, str], None] | None = None,
) -> RunMetrics:
    """Evaluate a run and add the results to its `metrics.json`.

    Args:
        run: The run, or its folder.
        permutations: The number of permutations of each null of a metric.
        against: Caches of the same clips by other backbones (one with random weights, say), by
            name: a ridge baseline on each.
        on: Caches of other clips, made as the run's own was, on which its agents are scored.
        outcome: A label to predict from messages and a label that is the action before it.
        controls: Also train networks without a bottleneck and with a continuous one (minutes).
        videos: Also read the videos, for baselines on optical flow and on how clips are filed:
            manifests, folders or videos; none: the videos are looked for where they were.
        moved: Where the caches of the run are now, by name, as for `pipeline.runs.load_inputs`.
        progress: Called with what is being done.
        show: Called with how many hundredths are done, with 100, and what is being done.

    Returns:
        The whole of `metrics.json`.

    Raises:
        HeliographError: The run or a cache is damaged, or does not fit.
    """
    finish_move(run.folder if isinstance(run, Run) else Path(run))
    run = Run.open(run)
    run.files.require_own("metrics.json")
    parts: list[EvaluationPart] = []
    finished, reported = 0, 0  # parts, and steps of the one that is at work

    def report(step: str) -> None:
        nonlocal reported
        if progress is not None:
            progress(step)
        if show is not None and parts:
            part, whole = parts[finished], sum(part.share for part in parts)
            before = sum(part.share for part in parts[:finished])
            done = before + part.share * min(reported / part.steps, 1)
            show(int(100 * done / whole), 100, step)
        reported += 1

    report("reading the cache")
    sources = load_inputs(run, moved)
    inputs = EvaluationInputs(
        run=run,
        sources=sources,
        examples=build_examples(sources.caches, run.config.properties),
        permutations=permutations,
        against={
            name: _features_of_clips(path, sources.clips) for name, path in (against or {}).items()
        },
        on={address_of(path) or str(path): read_other_cache(run, path) for path in on},
        outcome=outcome,
        controls=controls,
        videos=videos,
        progress=report,
    )
    require_labels(sources.clips.labels, outcome or ())
    entries: dict[str, Any] = {"unchecked": True} if run.unchecked else {}
    parts = [part for part in PARTS if part.is_due(inputs)]
    for part in parts:
        reported = 0
        if part.title:
            report(part.title)
        entries |= part.compute(inputs)
        finished += 1
    metrics = run.add_metrics(entries)
    if show is not None:
        show(100, 100, "")
    return metrics


def _features_of_clips(path: Path, clips: Features) -> NDArray[np.generic]:
    """Read the features of the same clips from another cache, in the same order."""
    other = load_finite_cache(path)
    rows = match(clips, other, "the run's cache", str(path))
    missing = [clips.clip_id[row] for row in np.flatnonzero(rows < 0).tolist()]
    if missing:
        raise HeliographError(
            f"{path} lacks {len(missing)} of the run's {len(clips)} clips: {missing[0]} is one"
        )
    return other.features[rows]


# The parts


def _baselines(inputs: EvaluationInputs) -> dict[str, Any]:
    baseline_inputs = BaselineInputs.of(
        inputs.sources,
        inputs.examples,
        inputs.context,
        inputs.against,
        inputs.videos,
        inputs.progress,
    )
    scores = score_baselines(baseline_inputs, inputs.context, inputs.progress)
    # Baselines of options that are not given this time stay, as all that was added before.
    before = inputs.run.metrics().to_json()
    reasons = before.get("missing_baselines") or {}
    kept = {name: why for name, why in reasons.items() if name not in scores["baselines"]}
    return scores | {
        "baselines": (before.get("baselines") or {}) | scores["baselines"],
        "missing_baselines": kept | scores["missing_baselines"],
    }


def _metrics(inputs: EvaluationInputs) -> dict[str, Any]:
    return assess_messages(
        inputs.messages,
        NullSeed.all_of(inputs.run),
        permutations=inputs.permutations,
        progress=inputs.progress,
    )


def _interventions(inputs: EvaluationInputs) -> dict[str, Any]:
    with one_thread():
        return {
            "kept_receiver": score_kept_receivers(inputs.messages),
            "generalisation": score_generalisation(inputs.messages),
            "interventions": intervene(inputs.messages),
            "silenced_agents": silence_agents(inputs.messages),
            "noise": add_noise(inputs.messages),
        }


def _near_duplicates(inputs: EvaluationInputs) -> dict[str, Any]:
    with one_thread():
        scores = score_without_near_duplicates(inputs.messages, inputs.lookalikes)
    return {"without_near_duplicates": scores}


def _game(inputs: EvaluationInputs) -> dict[str, Any]:
    labelled = np.flatnonzero(~np.isnan(inputs.examples.labels).any(axis=1))
    thumbnails, reason = pixels.thumbnails_of(inputs.sources, labelled)
    frames = pixels.pixel_features(thumbnails)
    with one_thread():
        scores = score_game(inputs.messages, permutations=inputs.permutations, frames=frames)
    return scores | {"missing_baselines": pixels.missing(thumbnails, reason)}


def _fresh_receivers(inputs: EvaluationInputs) -> dict[str, Any]:
    return {"fresh_receivers": score_fresh_receivers(inputs.messages)}


def _agreement(inputs: EvaluationInputs) -> dict[str, Any]:
    return {
        "agreement": {
            "agents": agent_agreement(inputs.tokens),
            "seeds": seed_agreement(inputs.tokens),
        }
    }


def _probes(inputs: EvaluationInputs) -> dict[str, Any]:
    bits = sum(8 * features[0].nbytes for features in inputs.examples.caches)
    return {
        "compression": compression(inputs.messages, feature_bits=bits),
        "probes": probe(inputs.messages, inputs.feature_kernels, inputs.clips.labels),
    }


def _estimates(inputs: EvaluationInputs) -> dict[str, Any]:
    scores = score_estimates(inputs.run, inputs.examples.caches)
    return {"estimates": scores} if scores else {}


def _outcome(inputs: EvaluationInputs) -> dict[str, Any]:
    if inputs.outcome is None:
        return {}
    outcome, action = inputs.outcome
    return {
        "outcome": predict_outcome(
            inputs.messages,
            inputs.feature_kernels,
            inputs.clips.labels,
            outcome=outcome,
            action=action,
        )
    }


def _transfer(inputs: EvaluationInputs) -> dict[str, Any]:
    if not inputs.on:
        return {}
    inputs.progress("transfer")
    return {
        "transfer": {
            path: transfer(
                inputs.run,
                inputs.messages,
                inputs.examples,
                others,
                *frames_of(inputs.sources, inputs.examples, others, clips),
                match(inputs.clips, clips, "the run's cache", path),
            )
            for path, (others, clips) in inputs.on.items()
        }
    }


def _controls(inputs: EvaluationInputs) -> dict[str, Any]:
    if not inputs.controls:
        return {}
    return {"controls": train_controls(inputs.context, inputs.progress)}


PARTS = (
    EvaluationPart("", _baselines, symbols=False, pairs=True, share=42, steps=15),
    EvaluationPart("", _metrics, share=6, steps=9),
    EvaluationPart("interventions", _interventions, pairs=True, share=24),
    EvaluationPart("game", _game, pairs=False, share=58),
    EvaluationPart("near-duplicates", _near_duplicates),
    EvaluationPart("fresh receivers", _fresh_receivers, share=20),
    EvaluationPart("agreement", _agreement),
    EvaluationPart("probes", _probes, share=10),
    EvaluationPart("estimates", _estimates, share=2),
    EvaluationPart("", _outcome, given=lambda inputs: inputs.outcome is not None),
    EvaluationPart("", _transfer, pairs=True, share=5, given=lambda inputs: bool(inputs.on)),
    EvaluationPart("", _controls, symbols=False, share=100, given=lambda inputs: inputs.controls),
)
"""The parts of every evaluation, in their order; those of an option that is not given add nothing.

A part whose key is new needs a field of `RunMetrics`.
"""
