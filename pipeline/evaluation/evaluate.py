"""Scores a run beyond its accuracies: baselines, chance, causes, and what messages are worth.

What it adds to `metrics.json` is described key by key in `pipeline.schema`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache import Features
from data.errors import HeliographError
from pipeline.dataset import Examples, build_examples, load_finite_cache
from pipeline.evaluation import probes as worth
from pipeline.evaluation import ridge
from pipeline.evaluation.baselines import Evidence, score_baselines
from pipeline.evaluation.compare_runs import agent_agreement, seed_agreement
from pipeline.evaluation.context import EvaluationContext, MessageContext, one_thread
from pipeline.evaluation.controls import train_controls
from pipeline.evaluation.fresh_receivers import score_fresh_receivers
from pipeline.evaluation.interventions import add_noise, intervene, listen, silence_agents
from pipeline.evaluation.outcome_prediction import predict_outcome
from pipeline.evaluation.transfer import read_other, transfer
from pipeline.metrics import METRICS, Metric, assess, bin_property, p_value, permutation_null
from pipeline.runs import Run, load_inputs

BINS = 5  # equal shares of the clips, the paper's rule for continuous properties
OTHER_BINS = (3, 5, 8)

Say = Callable[[str], None]


def evaluate(
    folder: Path | str,
    *,
    permutations: int = 1000,
    against: Mapping[str, Path] | None = None,
    on: Sequence[Path] = (),
    outcome: tuple[str, str] | None = None,
    controls: bool = False,
    progress: Say | None = None,
) -> dict[str, Any]:
    """Evaluates a run folder and adds what it finds to its `metrics.json`; returns all of it.

    Args:
        permutations: of each null of a structural metric.
        against: caches of the same clips by other backbones (one with random weights, say), by
            name: a ridge baseline on each.
        on: caches of other clips, made as the run's own was, on which its agents are tried.
        outcome: a label to predict from messages and a label that is the action before it.
        controls: also train comparers without a bottleneck and with a continuous one (minutes).
    """
    run = Run.open(folder)
    say = progress or (lambda _: None)
    say("reading the cache")
    inputs = load_inputs(run)
    examples = build_examples(inputs.caches, run.config.properties)
    others = {name: _same_clips(path, inputs.clips) for name, path in (against or {}).items()}
    elsewhere = {str(path): read_other(run, path) for path in on}
    worth.known_labels(inputs.clips.labels, outcome or ())
    context = EvaluationContext.of(run, examples)
    found: dict[str, Any] = score_baselines(
        evidence_of(inputs.clips, examples, context, others), context, say
    )
    if not run.config.continuous:  # real numbers have no symbols to look into
        context = MessageContext.of(run, examples)
        found |= look_into_messages(context, permutations=permutations, progress=say)
        say("probes")
        grams = [ridge.gram(examples.flat_features(), split.train) for split in context.splits]
        found["worth"] = assess_worth(context, grams, inputs.clips, examples)
        if outcome is not None:
            found["outcome"] = predict_outcome(
                context, grams, inputs.clips.labels, outcome=outcome[0], action=outcome[1]
            )
        if elsewhere:
            say("transfer")
            found["transfer"] = {
                path: transfer(run, context, examples, theirs) for path, theirs in elsewhere.items()
            }
    if controls:
        found["controls"] = train_controls(context, examples, run.agent_factory, say)
    run.add_metrics(found)
    return run.metrics()


def look_into_messages(
    context: MessageContext, *, permutations: int, progress: Say
) -> dict[str, Any]:
    """Everything about the messages themselves and about who understands them."""
    found = assess_messages(context, permutations=permutations, progress=progress)
    progress("interventions")
    with one_thread():
        found["agents"] = listen(context)
        found["interventions"] = intervene(context)
        found["silenced"] = silence_agents(context)
        found["noise"] = add_noise(context)
    progress("fresh listeners")
    found["listeners"] = score_fresh_receivers(context)
    progress("agreement")
    shape = (*context.tokens.shape[:2], context.config.agents, context.config.heads)
    tokens = context.tokens.reshape(shape)
    found["agreement"] = {"agents": agent_agreement(tokens), "seeds": seed_agreement(tokens)}
    return found


def evidence_of(
    clips: Features,
    examples: Examples,
    context: EvaluationContext,
    others: Mapping[str, NDArray[np.generic]],
) -> Evidence:
    """What the baselines may look at."""
    named = zip(clips.clip_id, clips.object, strict=True)
    return Evidence(
        examples.caches,
        examples.labels,
        context.resampler.objects,
        clips.scenario,
        [condition_of(clip, own) for clip, own in named],
        clips.labels.get("volume"),
        others,
    )


def condition_of(clip: str, own: str) -> str:
    """The folders of a clip's id between its object and its trial; "" where there are none.

    >>> condition_of("scenarios/fall/cardboard_01/foam/02/Camera_1.mp4", "cardboard_01")
    'foam'
    >>> condition_of("e0_f1/04.mp4", "e0_f1")
    ''
    """
    parts = clip.split("/")
    if own not in parts:
        return ""
    return "/".join(parts[parts.index(own) + 1 : -2])


def _same_clips(path: Path, features: Features) -> NDArray[np.generic]:
    """The features of another cache for the same clips, in the same order."""
    other = load_finite_cache(path)
    rows = {clip: row for row, clip in enumerate(other.clip_id)}
    missing = [clip for clip in features.clip_id if clip not in rows]
    if missing:
        raise HeliographError(
            f"{path} lacks {len(missing)} of the run's {len(features)} clips: {missing[0]} is one"
        )
    return other.features[[rows[clip] for clip in features.clip_id]]


def assess_messages(
    context: MessageContext, *, permutations: int, progress: Say = lambda _: None
) -> dict[str, Any]:
    """`compositionality`: every structural metric of all seeds' messages, over all labelled clips,
    as an `Assessment`, None where it needs two properties; and `bins`: what each would be with the
    properties in other numbers of bins.
    """
    labelled = np.flatnonzero(~np.isnan(context.labels).any(axis=1))
    tokens, labels = context.tokens[:, labelled], context.labels[labelled]
    objects = np.asarray(context.objects)[labelled]
    found: dict[str, Any] = {}
    sensitivity: dict[str, Any] = {}
    for name, metric in METRICS.items():
        if metric.per_position:
            continue
        progress(f"metric {name}")
        if labels.shape[1] < metric.properties:
            found[name] = sensitivity[name] = None
            continue
        found[name] = assess(
            metric, tokens, _binned(labels, BINS), groups=objects, n=permutations
        ).to_json()
        sensitivity[name] = {
            str(bins): _with_bins(metric, tokens, _binned(labels, bins), objects, permutations)
            for bins in OTHER_BINS
        }
    return {"compositionality": found, "bins": sensitivity}


def _binned(labels: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    return np.stack([bin_property(column, bins=bins) for column in labels.T], axis=1)


def _with_bins(
    metric: Metric,
    tokens: NDArray[np.int64],
    bins: NDArray[np.int64],
    objects: NDArray[np.str_],
    permutations: int,
) -> dict[str, float]:
    null = permutation_null(metric, tokens, bins, n=min(permutations, 200), groups=objects)
    null = null.mean(1)
    mean = float(np.mean(metric(tokens, bins)))
    return {"mean": mean, "null_mean": float(null.mean()), "p_value": p_value(mean, null)}


def assess_worth(
    context: MessageContext,
    grams: Sequence[NDArray[np.float64]],
    clips: Features,
    examples: Examples,
) -> dict[str, Any]:
    """Compression, and probes of every label; `grams` are of the raw features, of each seed."""
    bits = sum(8 * own[0].nbytes for own in examples.caches)
    return {
        "compression": worth.compression(context, feature_bits=bits),
        "probes": worth.probe(context, grams, clips.labels),
    }
