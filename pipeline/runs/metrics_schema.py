"""What stands in a run's `metrics.json`: every key, and what it means.

`train` writes the first part, `evaluate` the second. Accuracies, differences and rates are
fractions of 1; information is in bits where the key says so. `*` stands for a name that depends on
the run (a property, a baseline, a label, a cache), null for what could not be computed.

A *score* is `{"mean", "std", "per_seed", "interval"}`: the mean over seeds, the standard deviation
over seeds (with S - 1), each seed's value, and the 95 % bootstrap interval [low, high] of the mean,
objects and seeds drawn again. A *scored accuracy* is a score of all properties at once, with
`properties`: a score of each. A *spread* is a score without `interval`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SCORE = ("mean", "std", "per_seed", "interval")

TRAINED = {
    "seeds": "the seeds, in the order of every per_seed",
    "accuracy_test": "spread: the checkpoint chosen on validation, on test clips; null without "
    "validation clips",
    "accuracy_last_epoch": "spread: the last epoch, nothing chosen",
    "accuracy_published_protocol": "spread: the paper's protocol, chosen on the test clips",
    "accuracy_published_protocol.selected_on_test": "always true: a reminder",
    "accuracy_validation": "spread: the chosen checkpoint on the clips that chose it; with refit, "
    "that of the training before they taught too",
    "properties.*.*": "spread: one of these accuracies of one property",
    "chosen_seed": "the seed whose model stands at the top of the run folder",
    "chosen_epoch": "of each seed, the epoch of the checkpoint that is kept",
    "skipped_batches": "of each seed, batches whose loss was not finite",
    "folds": "how many folds the seeds are dealt over in a k-fold split; null for another split",
    "notes": "sentences that belong beside the accuracies",
    "imported_from": "the checkpoint that import-checkpoint read; absent for what was trained here",
    "control.folder": "of the one-head control trained beside (train --control), whose other keys "
    "are those of a metrics.json of its own",
    "control.heads": "symbols that its agent says",
    "control.vocab": "symbols to choose from",
    "shuffled_labels": "spread: accuracy_test of the same training with shuffled labels (demo)",
}

EVALUATED = {
    "baselines.*": "scored accuracy on the same test clips without agents; see "
    "pipeline.evaluation.baselines; null where it has nothing to go by",
    "baselines.*.properties.*.auc": "score: is a clip above the training clips' median told from "
    "one below it?",
    "baselines.*.properties.*.spearman": "spread: rank correlation of predictions and property",
    "gains.dynamics": "scored difference: ridge on all time steps minus ridge on the middle one",
    "gains.order": "scored difference: ridge on all time steps minus the same steps shuffled",
    "controls.*": "scored accuracy of nets trained without a bottleneck (oracle) or with a "
    "continuous one (evaluate --controls); last state, nothing chosen",
    "agents": "scored accuracy of the receiver that each seed kept, with auc and spearman as in "
    "baselines (a clip's score: the share of the other clips that it is said to exceed)",
    "agents.properties.*.auc": "score, as in baselines",
    "agents.properties.*.spearman": "spread, as in baselines",
    "compositionality.*": "a structural metric with its chance; null where it needs two properties",
    "compositionality.*.metric": "its name in pipeline.metrics",
    "compositionality.*.per_seed": "its value for each seed",
    "compositionality.*.mean": "over seeds",
    "compositionality.*.std": "over seeds",
    "compositionality.*.interval": "95 % bootstrap interval of the mean over objects",
    "compositionality.*.null_mean": "when properties are dealt to other objects",
    "compositionality.*.low": "the lower end of interval",
    "compositionality.*.high": "the upper end of interval",
    "compositionality.*.null_low": "2.5 % of the null is below this",
    "compositionality.*.null_high": "2.5 % of the null is above this",
    "compositionality.*.p_value": "of the mean, against that null; one-sided",
    "compositionality.*.p_per_seed": "of each seed, against that null",
    "compositionality.*.codebook_mean": "when messages trade places: same content, arbitrary code",
    "compositionality.*.p_codebook": "of the mean, against that null",
    "compositionality.*.verdict": "compositional; informative, not compositional; no better than "
    "chance; or undefined",
    "bins.*.*": "the structural metric with the properties in this many bins: mean, null_mean, "
    "p_value (5 bins elsewhere); null where it needs two properties",
    "interventions.positions": "agent and head, from 0, of each position",
    "interventions.accuracy_intact": "scored accuracy before any change, on at most 80 test clips",
    "interventions.carries": "of each seed and position, the property with which it shares most "
    "information on training clips",
    "interventions.*.drop": "positions x properties: accuracy intact minus changed, mean over "
    "seeds; the changes are zero, resample, scramble and swap (pipeline.interventions)",
    "interventions.*.interval": "positions x properties x [low, high]",
    "interventions.*.per_seed": "seeds x positions x properties",
    "interventions.*.drop_together": "of each position, for all properties at once",
    "interventions.*.interval_together": "positions x [low, high]",
    "interventions.*.targeted": "null for one property",
    "interventions.*.targeted.targeted": "score: drop of the property that a position carries",
    "interventions.*.targeted.elsewhere": "score: drop of the other properties",
    "interventions.*.targeted.difference": "score: the first minus the second",
    "interventions.*.targeted.difference.p_value": "against random assignments of properties to "
    "positions; one-sided",
    "interventions.resample.p_value": "positions x properties: the accuracy intact against that "
    "with the position's symbols dealt to other clips; one-sided",
    "interventions.edits.flip_rate": "positions x properties: how often an answer turns when one "
    "clip says another symbol there",
    "interventions.edits.per_seed": "seeds x positions x properties",
    "silenced": "of each agent, the scored drop of accuracy when it says nothing",
    "noise.probability": "that a symbol is replaced by a uniformly random one",
    "noise.accuracy": "a scored accuracy for each probability",
    "listeners.accuracy": "scored accuracy of receivers that never met the sender",
    "listeners.dealt": "scored accuracy, learnt from messages dealt to other training clips",
    "listeners.above_dealt": "scored difference of the two",
    "listeners.loss_of_newcomers": "scored difference: the receivers that each seed kept minus "
    "newcomers",
    "agreement.agents": "of each two agents, mean over seeds: the same keys as agreement.seeds",
    "agreement.seeds": "of each two seeds, mean over at most 45 pairs; null for one seed",
    "agreement.seeds.adjusted_mutual_information": "of whole messages; 0 by chance",
    "agreement.seeds.matched": "the share of clips on which matched positions agree after the best "
    "renaming of symbols",
    "agreement.seeds.matched_by_chance": "the same with clips dealt at random",
    "worth.compression.bits_capacity": "positions x log2(vocabulary)",
    "worth.compression.bits_used": "spread: entropy of whole messages over the clips",
    "worth.compression.bits_symbols": "spread: the positions' entropies, summed",
    "worth.compression.bits_features": "of the features of one clip, as they are stored",
    "worth.compression.ratio": "bits_features over bits_capacity",
    "worth.probes.*": "a label of the cache read off messages and off raw features; absent where "
    "too few clips know it",
    "worth.probes.*.trained_on": "whether the agents were trained to speak of it",
    "worth.probes.*.*.messages": "score of a probe (ridge or mlp): accuracy on pairs of test clips",
    "worth.probes.*.*.messages.spearman": "spread: rank correlation of predictions and label",
    "worth.probes.*.*.features": "the same from the raw features",
    "worth.probes.*.*.features.spearman": "spread",
    "worth.probes.*.*.retained": "what messages keep of the features' accuracy above one half; "
    "null where the features' interval reaches down to one half",
    "worth.probes.*.*.retained.value": "the ratio of the means",
    "worth.probes.*.*.retained.interval": "its percentile interval",
    "outcome.outcome_label": "the label predicted (evaluate --outcome)",
    "outcome.action_label": "the label that is the action (evaluate --action)",
    "outcome.left_out": "how many values or fifths of the action were left out in turn",
    "outcome.messages": "score on pairs of test clips of an action that training left out, from "
    "message and action",
    "outcome.messages.r2": "spread: of all those predictions, about the mean of what is predicted",
    "outcome.features": "the same from raw features and action",
    "outcome.features.r2": "spread",
    "outcome.action": "the same from the action alone",
    "outcome.action.r2": "spread",
    "outcome.retained": "as in worth.probes",
    "outcome.retained.value": "the ratio of the means",
    "outcome.retained.interval": "its percentile interval",
    "outcome.above_median.*": "score: is the outcome above the median of the training clips? from "
    "messages, or raw features, alone",
    "outcome.above_median.retained.value": "as in worth.probes",
    "outcome.above_median.retained.interval": "its percentile interval",
    "outcome.above_median.ratio": "accuracy from messages over accuracy from features, the paper's "
    "share retained",
    "outcome.above_median_left_out.*": "score: the same from messages and action, features and "
    "action, or the action alone, on actions that training left out",
    "outcome.above_median_left_out.retained.value": "as in worth.probes",
    "outcome.above_median_left_out.retained.interval": "its percentile interval",
    "outcome.above_median_left_out.ratio": "as in outcome.above_median",
    "transfer.*.clips": "labelled clips of the other cache that are compared",
    "transfer.*.objects": "how many objects they show",
    "transfer.*.known_messages": "the share of them whose message some training clip has too",
    "transfer.*.all": "scored accuracy of the agents on all of them, nothing retrained",
    "transfer.*.new_objects": "scored accuracy on objects a seed never trained on; null without",
    "transfer.*.ridge": "scored accuracy of the ridge baseline, learnt on the run's training clips",
}

SCHEMA = TRAINED | EVALUATED
"""Path of a key, dots between its parts -> what it means."""


def undocumented(metrics: Mapping[str, Any]) -> list[str]:
    """The paths in a `metrics.json` that `SCHEMA` does not describe.

    >>> undocumented({"seeds": [0], "baselines": {"ridge": {"mean": 0.5, "luck": 1}}})
    ['baselines.ridge.luck']
    """
    return [
        path
        for path in _paths(metrics, "")
        if not any(
            _fits(own, key) for own in (path, path.removeprefix("control.")) for key in SCHEMA
        )
    ]


def documented(path: str) -> bool:
    """Whether `metrics.json` may have this path: a leaf, or a score with its parts.

    >>> documented("compositionality.topsim"), documented("compositionality.luck.mean.of")
    (True, False)
    """
    return any(_fits(path, key) for key in SCHEMA)


def _paths(value: Any, path: str) -> Iterator[str]:
    """Paths of the leaves; keys that hold dots (a file name) count as one part."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            part = str(key).replace(".", "_")
            yield from _paths(inner, f"{path}.{part}" if path else part)
    else:
        yield path


def _fits(path: str, key: str) -> bool:
    """Whether a leaf is what `key` describes, or a part of the score that it describes."""
    parts, wanted = path.split("."), key.split(".")
    rest = parts[len(wanted) :]
    if len(parts) < len(wanted) or any(
        want not in ("*", part) for part, want in zip(parts, wanted, strict=False)
    ):
        return False
    if rest[:1] == ["properties"] and "scored" in SCHEMA[key]:
        rest = rest[2:]
    return not rest or (len(rest) == 1 and rest[0] in _PARTS.get(key, SCORE))


_PARTS = {"bins.*.*": ("mean", "null_mean", "p_value")}
