"""Scores a run beyond its accuracies: baselines on the same splits, metrics beside chance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import metrics
from pipeline.baselines import BASELINES
from pipeline.config import TrainConfig
from pipeline.records import Examples
from pipeline.run import Run, spread
from pipeline.sources import examples_of, load_cache
from pipeline.uncertainty import STRUCTURAL, assess

BINS = 5  # equal shares of the clips, the paper's rule for continuous properties


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
