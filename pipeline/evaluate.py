"""Scores a run beyond its accuracies: baselines on the same splits, metrics beside chance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data import cache
from data.errors import HeliographError
from data.features import Features
from data.files import sha256_file
from pipeline import metrics
from pipeline.baselines import BASELINES
from pipeline.config import TrainConfig
from pipeline.records import Examples
from pipeline.run import Run, spread
from pipeline.uncertainty import STRUCTURAL, assess

BINS = 5  # equal shares of the clips, the paper's rule for continuous properties


def examples_of(features: Features, properties: tuple[str, ...]) -> Examples:
    """What training and evaluation read of a cache.

    A clip without an object counts as an object of its own. Raises HeliographError for a property
    that the cache has no label for, naming the ones it has.
    """
    unknown = [name for name in properties if name not in features.labels]
    if unknown:
        known = ", ".join(features.labels) or "none"
        raise HeliographError(f"the cache has no label {unknown[0]!r}: its labels are {known}")
    labels = np.stack([features.labels[name] for name in properties], axis=1)
    objects = tuple(
        own or clip for own, clip in zip(features.object, features.clip_id, strict=True)
    )
    return Examples(features.features, labels, objects)


def load_cache(run: Run) -> Features:
    """The cache of a run; raises HeliographError where it is gone or no longer the same."""
    path = run.source.path
    if not path.is_file():
        raise HeliographError(f"the cache that {run.folder} was trained on is gone: {path}")
    if sha256_file(path) != run.source.sha256:
        raise HeliographError(f"{path} has changed since {run.folder} was trained on it")
    return cache.load(path)


def evaluate(
    folder: Path | str,
    *,
    permutations: int = 1000,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Evaluates a run folder and adds what it finds to its `metrics.json`; returns all of it.

    `baselines`: for each of `BASELINES` an entry like `accuracy_test`. `compositionality`: for each
    structural metric, over all labelled clips and all seeds, an `Assessment` as JSON, or null where
    the run has one property and the metric needs two.
    """
    run = Run.open(folder)
    say = progress or (lambda _: None)
    say("reading the cache")
    examples = examples_of(load_cache(run), run.config.properties)
    found = {
        "baselines": score_baselines(examples, run.config, run.seeds, progress=say),
        "compositionality": assess_messages(run, examples, permutations=permutations, progress=say),
    }
    run.add_metrics(found)
    return run.metrics()


def score_baselines(
    examples: Examples,
    config: TrainConfig,
    seeds: tuple[int, ...],
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Every baseline on the splits of these seeds, entries like `accuracy_test`."""
    found = {}
    for name, baseline in BASELINES.items():
        progress(f"baseline {name}")
        scores = [baseline(examples, examples.split(config.split, seed), config) for seed in seeds]
        found[name] = spread([score.together for score in scores]) | {
            "properties": {
                own: spread([score.each[number] for score in scores])
                for number, own in enumerate(config.properties)
            }
        }
    return found


def assess_messages(
    run: Run,
    examples: Examples,
    *,
    permutations: int,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Every structural metric of all seeds' messages, with its null and its interval."""
    labelled = np.flatnonzero(~np.isnan(examples.labels).any(axis=1))
    tokens = np.stack([run.tokens(seed)[labelled] for seed in run.seeds])  # (S, N, A, heads)
    bins = np.stack(
        [metrics.bin_property(column, bins=BINS) for column in examples.labels[labelled].T], axis=1
    )
    objects = np.asarray(examples.objects)[labelled]
    found: dict[str, Any] = {}
    for name in STRUCTURAL:
        progress(f"metric {name}")
        needs_two = name != "topsim"
        if needs_two and bins.shape[1] < 2:
            found[name] = None
            continue
        positions = tokens.reshape(*tokens.shape[:2], -1)
        found[name] = assess(name, positions, bins, groups=objects, n=permutations).to_json()
    return found
