"""The structure of messages: every metric on clips that nothing was trained or chosen on.

Structure is measured on the clips that a split sets aside for it, else on the test clips of a split
by object. The test cells of a grid cannot show it: with one cell in each row and column each
property tells the other there. A grid without clips set aside has its structure measured on
training clips, and no verdict; TopSim, which compares no properties with each other, is measured on
the test cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from pipeline.dataset import Split, drawn, holds_out_cells
from pipeline.evaluation.context import MessageContext, recorded_split
from pipeline.metrics import (
    COMPOSITIONAL,
    LEAST_NULLS,
    METRICS,
    NOT_TESTED,
    UNDECIDED,
    UNDEFINED,
    Assessment,
    Evidence,
    Metric,
    assess,
    bin_property,
    own_leads,
    p_value,
    permuted_values,
)
from pipeline.runs import Run, Spread

BINS = 5
"""Properties are cut into fifths of the clips, the paper's rule for continuous properties."""
OTHER_BINS = (3, 5, 8)
MAX_PERMUTATIONS_OF_BINS = 200
MOST_CLIPS = 2000
"""Of more clips of a seed, this many are drawn with a fixed seed: each has 1,000 permutations."""
HELD_OUT, TRAINING = "held out", "training"

Progress = Callable[[str], None]
Tokens = NDArray[np.int64]
Labels = NDArray[np.float64]


@dataclass(frozen=True)
class NullSeed:
    """What a null seed says about every clip, and the labels that it learned from.

    Attributes:
        tokens: int64 (N, positions).
        labels: float64 (N, properties): those of the clips, permuted by object.
        split: Its clips.
    """

    tokens: Tokens
    labels: Labels
    split: Split

    @classmethod
    def all_of(cls, run: Run) -> list[NullSeed]:
        """Return the null seeds of a run; none for a run without."""
        found = []
        for own in run.null if run.has_symbols else ():
            lines = own.messages()
            labels = [[line["labels"][name] for name in run.config.properties] for line in lines]
            split = recorded_split(lines)
            assert split is not None
            tokens = own.tokens().reshape(len(lines), -1)
            found.append(cls(tokens, np.array(labels, np.float64), split))
        return found


@dataclass(frozen=True)
class Clips:
    """The clips of each seed and null seed on which a metric is computed, and what they are.

    `used` are those that count at all: all clips, or those of the seeds where some were drawn.
    """

    kind: str
    seeds: list[NDArray[np.int64]]
    nulls: list[NDArray[np.int64]]
    used: NDArray[np.int64]

    @property
    def positions(self) -> list[NDArray[np.int64]]:
        """Where the clips of each seed are in `used`."""
        return [np.searchsorted(self.used, own) for own in self.seeds]


def assess_messages(
    context: MessageContext,
    nulls: Sequence[NullSeed] = (),
    *,
    permutations: int,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Assess every metric of all seeds' messages, each seed on clips of its own.

    Args:
        context: Of the run.
        nulls: Its null seeds.
        permutations: Of each permutation null.
        progress: Called with what is being done.

    Returns:
        `compositionality`: an `Assessment` of each metric, with its verdict and its value on
        training clips, None where it needs more properties; `bins`: what each would be with the
        properties in other numbers of bins; `own_positions`: how far each property has a position
        of its own.
    """
    labels = context.labels
    bins = binned(labels)
    objects = np.asarray(context.objects)
    null_bins = [binned(null.labels) for null in nulls]
    assessments: dict[str, Assessment] = {}
    entries: dict[str, Any] = {}
    by_bins: dict[str, Any] = {}
    null_values = []
    for name, metric in METRICS.items():
        if metric.per_position:
            continue
        progress(f"metric {name}")
        if labels.shape[1] < metric.properties:
            entries[name] = by_bins[name] = None
            continue
        clips = _clips_of(context, nulls, metric)
        assessments[name] = assess(
            metric,
            context.tokens[:, clips.used],
            bins[clips.used],
            groups=objects[clips.used],
            clips=clips.positions,
            n=permutations,
        )
        null_values.append(
            [
                float(metric(null.tokens[own], about[own]))
                for null, about, own in zip(nulls, null_bins, clips.nulls, strict=True)
            ]
        )
        entries[name] = assessments[name].to_json() | {
            "clips": clips.kind,
            "on_training_clips": Spread.numbers(
                [
                    float(metric(tokens[split.train], bins[split.train]))
                    for tokens, split in zip(context.tokens, context.splits, strict=True)
                ]
            ),
        }
        by_bins[name] = {
            str(number): _with_bins(
                metric, context.tokens, binned(labels, number), objects, clips, permutations
            )
            for number in OTHER_BINS
        }
    clips = _clips_of(context, nulls, None)
    leads = [
        own_leads(t[own], bins[own]) for t, own in zip(context.tokens, clips.seeds, strict=True)
    ]
    null_leads = [
        own_leads(null.tokens[own], about[own])
        for null, about, own in zip(nulls, null_bins, clips.nulls, strict=True)
    ]
    evidence = _evidence(assessments, null_values, leads, null_leads)
    _add_verdicts(entries, assessments, evidence, context, clips.kind)
    return {
        "compositionality": entries,
        "bins": by_bins,
        "own_positions": _own_positions(context, evidence),
    }


def _clips_of(context: MessageContext, nulls: Sequence[NullSeed], metric: Metric | None) -> Clips:
    """The clips for a metric; None stands for one that compares properties with each other."""
    splits = [*context.splits, *(null.split for null in nulls)]
    kind, chosen = HELD_OUT, [split.structure for split in splits]
    if not all(map(len, chosen)):
        chosen = [split.test for split in splits]
        if _holds_out_cells(context) and (metric is None or metric.properties > 1):
            kind, chosen = TRAINING, [split.train for split in splits]
    some = [drawn(own, MOST_CLIPS) for own in chosen]
    seeds, of_nulls = some[: len(context.splits)], some[len(context.splits) :]
    is_cut = any(len(own) > MOST_CLIPS for own in chosen[: len(context.splits)])
    used = np.unique(np.concatenate(seeds)) if is_cut else np.arange(len(context.labels))
    return Clips(kind, seeds, of_nulls, used)


def _holds_out_cells(context: MessageContext) -> bool:
    known = ~np.isnan(context.labels).any(axis=1)
    return holds_out_cells(context.config.split, context.labels[known])


def _evidence(
    assessments: dict[str, Assessment],
    null_values: list[list[float]],
    leads: list[NDArray[np.float64]],
    null_leads: list[NDArray[np.float64]],
) -> Evidence:
    """What verdicts are made of: metrics in the order of their assessments, larger is better."""
    signs = np.array([METRICS[name].sign for name in assessments])
    found = list(assessments.values())
    draws = next((one.codebook for one in found if one.codebook is not None), np.zeros((0, 1)))
    codebooks = [np.full(draws.shape, np.nan) if a.codebook is None else a.codebook for a in found]
    return Evidence(
        values=signs * np.stack([one.per_seed for one in found], axis=1),
        nulls=signs * np.array(null_values).T.reshape(-1, len(found)),
        codebooks=signs * np.stack(codebooks, axis=2),
        leads=np.stack(leads),
        null_leads=np.array(null_leads).reshape(-1, leads[0].shape[0]),
    )


def _add_verdicts(
    entries: dict[str, Any],
    assessments: dict[str, Assessment],
    evidence: Evidence,
    context: MessageContext,
    kind: str,
) -> None:
    """Add to each metric what null seeds have, and its verdict if it is structural."""
    several = context.labels.shape[1] > 1
    nulls = len(evidence.nulls)
    alone = evidence.of_each_seed() if nulls >= LEAST_NULLS else []
    p_null = evidence.p_null()
    words = evidence.verdicts() if nulls else [NOT_TESTED] * len(assessments)
    if kind == TRAINING:
        words = [NOT_TESTED if context.config.split == "cells" else UNDECIDED] * len(assessments)
    for number, name in enumerate(assessments):
        metric = METRICS[name]
        if nulls:
            own = metric.sign * evidence.nulls[:, number]
            entries[name]["null_seeds"] = Spread.numbers(own.tolist()) | {
                "p_value": float(p_null[number])
            }
        if metric.structural:
            entries[name]["verdict"] = words[number] if several else UNDEFINED
        if metric.structural and several and nulls >= LEAST_NULLS and kind != TRAINING:
            entries[name]["compositional_seeds"] = _share([one[number] for one in alone])


def _share(words: Sequence[str]) -> dict[str, Any]:
    """Return the share of seeds that are compositional, and its interval over seeds.

    That of Clopper and Pearson 1934.
    """
    count, found = len(words), words.count(COMPOSITIONAL)
    low = betaincinv(found, count - found + 1, 0.025) if found else 0.0
    high = betaincinv(found + 1, count - found, 0.975) if found < count else 1.0
    return {"value": found / count, "interval": [float(low), float(high)], "of": count}


def _own_positions(context: MessageContext, evidence: Evidence) -> dict[str, Any] | None:
    if context.labels.shape[1] < 2:
        return None
    p_own = evidence.p_own().tolist() if len(evidence.nulls) else [None] * len(context.properties)
    return {
        name: Spread.numbers(evidence.leads[:, number].tolist()) | {"p_value": p_own[number]}
        for number, name in enumerate(context.properties)
    }


def binned(labels: Labels, bins: int = BINS) -> NDArray[np.int64]:
    """Return the bin of each property of each clip, (N, A); 0 for a clip without every label."""
    found = np.zeros(labels.shape, np.int64)
    known = ~np.isnan(labels).any(axis=1)
    found[known] = np.stack([bin_property(column, bins=bins) for column in labels[known].T], axis=1)
    return found


def _with_bins(
    metric: Metric,
    tokens: Tokens,
    bins: NDArray[np.int64],
    objects: NDArray[np.str_],
    clips: Clips,
    permutations: int,
) -> dict[str, float]:
    n = min(permutations, MAX_PERMUTATIONS_OF_BINS)
    values, null = permuted_values(
        metric,
        tokens[:, clips.used],
        bins[clips.used],
        groups=objects[clips.used],
        clips=clips.positions,
        n=n,
    )
    mean, chance = float(values.mean()), null.mean(1)
    p = p_value(metric.sign * mean, metric.sign * chance)
    return {"mean": mean, "null_mean": float(chance.mean()), "p_value": p}
