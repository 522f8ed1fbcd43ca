"""`metrics.json` as the short tables that the terminal shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data.wording import counted
from pipeline.console import echo, echo_folded, echo_json, print_table
from pipeline.metrics import METRICS
from pipeline.report.summary import baseline_name, missing_baselines, transfer_notes
from pipeline.runs import (
    AccuracyEstimate,
    DifferenceEstimate,
    Estimate,
    NullAccuracy,
    Outcome,
    RunMetrics,
    Spread,
    percent,
)

Table = tuple[list[str], list[list[str]]]
Metrics = dict[str, Any]

FIRST = ("majority", "pixels", "differences", "quantised_ridge")
SECOND = ("ridge", "quantised_labels")
"""Baselines of the headline: those before the accuracies of the agents, and those after."""

SCORE_NAMES = {
    "accuracy_test": "chosen on validation",
    "accuracy_last_epoch": "last epoch, nothing chosen",
    "accuracy_published_protocol": "published protocol (chosen on test)",
}


def score_rows(metrics: RunMetrics) -> Table:
    """Return accuracies on test clips: all properties at once, and of each.

    First the headline, from chance to what the code could carry; then all else.
    """
    properties = list(metrics.properties)
    several = len(properties) != 1
    columns = ["accuracy on test clips", *(["all at once"] if several else []), *properties]
    baselines = metrics.baselines or {}
    rows = []
    if metrics.game is None:
        chance = ["chance", *([f"{100 / 2 ** len(properties):.1f} %"] if several else [])]
        rows.append([*chance, *["50.0 %"] * len(properties)])
    for name in FIRST:
        rows += _baseline_rows(name, baselines, properties, several)
    for score, name in SCORE_NAMES.items():
        if getattr(metrics, score) is None and metrics.game is not None:
            continue  # a game that the paper does not have
        cells = [percent(getattr(metrics, score))] if several else []
        each = (percent(getattr(own, score)) for own in metrics.properties.values())
        rows.append([name, *cells, *each])
    for name in SECOND:
        rows += _baseline_rows(name, baselines, properties, several)
    if metrics.game is not None and metrics.game.chance is not None:
        rows.append(["chance", f"{100 * metrics.game.chance:.1f} %"])
        if metrics.game.null_mean is not None:
            row = f"messages permuted across clips (p = {metrics.game.p_value:.3f})"
            rows.append([row, f"{100 * metrics.game.null_mean:.1f} %"])
    entries: dict[str, AccuracyEstimate | NullAccuracy | None] = {
        f"{kind}: {baseline_name(name)}": entry
        for kind, group in (("baseline", metrics.baselines), ("control", metrics.controls))
        for name, entry in (group or {}).items()
        if name not in (*FIRST, *SECOND)
    }
    if metrics.shuffled_labels is not None and metrics.shuffled_labels.properties:
        entries["control: shuffled labels"] = metrics.shuffled_labels
    if metrics.without_near_duplicates is not None:
        name = "receiver kept, without test clips that look like training clips"
        entries[name] = metrics.without_near_duplicates.kept_receiver
        entries = {name: entries.pop(name), **entries}
    if metrics.generalisation is not None:
        entries["receiver kept, on training clips"] = metrics.generalisation.training
    if metrics.fresh_receivers is not None:
        entries["new receivers on frozen messages"] = metrics.fresh_receivers.accuracy
    for path, other in (metrics.transfer or {}).items():
        entries[f"agents on {path}"] = other.accuracy
        for name in ("pixels", "differences", "ridge"):
            entries[f"{name} on {path}"] = getattr(other, name)
    for name, entry in entries.items():
        if entry is not None:
            rows.append(_score_row(name, entry, properties, several))
    return columns, rows


def _baseline_rows(
    name: str,
    baselines: Mapping[str, AccuracyEstimate | None],
    properties: list[str],
    several: bool,
) -> list[list[str]]:
    entry = baselines.get(name)
    return (
        []
        if entry is None
        else [_score_row(f"baseline: {baseline_name(name)}", entry, properties, several)]
    )


def _score_row(
    name: str, entry: AccuracyEstimate | NullAccuracy, properties: list[str], several: bool
) -> list[str]:
    cells = [percent(entry)] if several else []
    return [name, *cells, *(percent(entry.properties[own]) for own in properties)]


def gain_rows(metrics: RunMetrics) -> Table:
    """Return what time adds, with its interval, in points."""
    properties = list(metrics.properties)
    columns = ["gain, in points [95 %]", *properties]
    names = {
        "dynamics": "all time steps over the middle one",
        "order": "all time steps over the same shuffled",
    }
    rows = []
    for key, name in names.items():
        gain = getattr(metrics.gains, key)
        if gain is not None:
            rows.append([name, *(points(gain.properties[own]) for own in properties)])
    return columns, rows


def structure_rows(metrics: RunMetrics) -> Table:
    """Return each metric of the messages next to its chance level.

    Chance is that of null seeds where the run has some, else of permuted labels.
    """
    columns = ["structure of the messages", "held out", "training", "by chance", "p", "verdict"]
    rows = []
    for name, entry in (metrics.compositionality or {}).items():
        if entry is None:
            rows.append([name, "-", "-", "-", "-", "needs two properties"])
            continue
        nulls = entry.null_seeds
        rows.append(
            [
                name,
                _spread_text(entry if entry.clips == "held out" else None),
                _spread_text(entry if entry.clips == "training" else entry.on_training_clips),
                _decimals(nulls.mean if nulls else entry.null_mean),
                _decimals(nulls.p_value if nulls else entry.p_value),
                entry.verdict or _direction(name),
            ]
        )
    return columns, rows


def _direction(name: str) -> str:
    smaller = name in METRICS and METRICS[name].better == "smaller"
    return "smaller is better" if smaller else ""


def _spread_text(spread: Spread | None) -> str:
    if spread is None or spread.mean is None:
        return "-"
    return f"{spread.mean:.3f} ± {spread.std:.3f}"


def _decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def cause_rows(metrics: RunMetrics) -> Table:
    """Return the accuracy drop when a position is permuted across clips, in points."""
    assert metrics.interventions is not None
    resample = metrics.interventions.resample
    assert resample.p_value is not None
    columns = ["drop when permuted, in points", *metrics.properties]
    rows = [
        [
            f"agent {agent}, position {position}",
            *(f"{_points(drop, ends)}, {p_text(p)}" for drop, ends, p in zip(*cells, strict=True)),
        ]
        for (agent, position), *cells in zip(
            metrics.interventions.positions,
            resample.drop,
            resample.interval,
            resample.p_value,
            strict=True,
        )
    ]
    return columns, rows


def targeted_line(metrics: RunMetrics) -> str:
    """Return in a sentence whether a position matters to the property it carries alone."""
    assert metrics.interventions is not None
    selectivity = metrics.interventions.resample.selectivity
    if selectivity is None:
        return "one property: no others to compare with"
    inside, outside = points(selectivity.carried_property), points(selectivity.other_properties)
    test = p_text(selectivity.difference.p_value)
    return (
        f"drop of the property that a position carries: {inside}; of the others: {outside}; {test}"
    )


def probe_rows(metrics: RunMetrics) -> Table:
    """Return what a linear probe reads off messages and off raw features."""
    columns = ["read off by a linear probe", "messages", "features", "retained", "Spearman"]
    rows = []
    for name, probes in (metrics.probes or {}).items():
        linear = probes.ridge
        kept = linear.retained
        rows.append(
            [
                name if probes.trained_on else f"{name} (not trained on)",
                percent(linear.messages),
                percent(linear.features),
                "chance not beaten" if kept is None else _whole_percent(kept.value),
                f"{linear.messages.spearman.mean:.2f}",
            ]
        )
    return columns, rows


def _whole_percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.0f} %"


def compression_line(metrics: RunMetrics) -> str:
    """Return in a sentence how short a message is."""
    bits = metrics.compression
    assert bits is not None
    return (
        f"{bits.bits_capacity:.1f} bits a message, {bits.bits_used.mean:.1f} of them "
        f"used, stand for {bits.bits_features:,} bits of features"
    )


def p_text(p: float | None) -> str:
    """Return a p-value as text.

    >>> p_text(0.0005), p_text(0.04)
    ('p < 0.001', 'p = 0.040')
    """
    if p is None:
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def points(entry: Estimate | DifferenceEstimate) -> str:
    """Return a fraction, or a difference of fractions, in points with its interval."""
    return _points(entry.mean, entry.interval)


def _points(mean: float | None, interval: Sequence[float | None] | None) -> str:
    """Return a difference in points, with its interval where there is one.

    >>> _points(0.112, [0.05, 0.2])
    '11.2 [5.0, 20.0]'
    >>> _points(-1e-17, [-0.0001, 0.2])
    '0.0 [0.0, 20.0]'
    """
    if mean is None:
        return "-"
    ends = [100 * end for end in interval or () if end is not None]
    if len(ends) < 2:
        return f"{100 * mean:z.1f}"
    return f"{100 * mean:z.1f} [{ends[0]:z.1f}, {ends[1]:z.1f}]"


def show_metrics(metrics: RunMetrics, as_json: bool) -> None:
    """Print a run's `metrics.json`, whole as JSON or in brief as tables."""
    if as_json:
        echo_json(metrics.to_json())
        return
    if metrics.leaks is not None:
        echo(metrics.leaks.mark)
        echo()
    print_table(*score_rows(metrics))
    for sentence in (*missing_baselines(metrics), *transfer_notes(metrics)):
        echo_folded(sentence)
    if metrics.gains is not None and metrics.gains.model_fields_set:
        echo()
        print_table(*gain_rows(metrics))
    if metrics.compositionality:
        echo()
        print_table(*structure_rows(metrics))
    if metrics.interventions is not None:
        echo()
        print_table(*cause_rows(metrics))
        echo_folded(targeted_line(metrics))
    if metrics.compression is not None:
        echo()
        print_table(*probe_rows(metrics))
        echo(compression_line(metrics))
    if metrics.outcome is not None:
        echo()
        echo_folded(outcome_line(metrics.outcome))


def outcome_line(outcome: Outcome) -> str:
    """Return in a sentence how an outcome is predicted after an action that training left out."""
    sides = {
        "messages": outcome.messages, "features": outcome.features, "action": outcome.action,
    }  # fmt: skip
    parts = ", ".join(f"{percent(side)} from {name}" for name, side in sides.items())
    line = f"{outcome.outcome_label} after an unseen {outcome.action_label}: {parts}"
    asked = outcome.counterfactual
    if asked is None:
        return line
    other = asked.other_clip
    told = f"; above the median, by another clip's message: {percent(other)}" if other else ""
    return (
        f"{line}; it is predicted to follow the action in {percent(asked.messages.monotone)} of "
        f"clips, from the action alone in {percent(asked.action.monotone)}{told}"
    )


OVER_SEEDS = (
    "intervals (none for one seed) and p are over seeds, for the clips that the runs "
    "have: how far other objects would change an accuracy, its own interval says (evaluate)"
)


def show_power(power: Metrics) -> None:
    """Print what a training can show, before it."""
    echo_folded(
        f"{counted(power['seeds'], 'seed')}, each tested on {power['objects_per_seed']:.3g} of "
        f"{counted(power['objects'], 'object')} ({power['clips_per_seed']:.3g} clips). At 5 %, in "
        "four of five trainings is shown:"
    )
    parts = dict(power["properties"])
    if power["together"] is not None:
        parts["all at once"] = power["together"]
    levels = list(next(iter(parts.values()))["differences"])
    columns = ["", "above chance", *(f"differences at {float(level):.0%}" for level in levels)]
    rows = [
        [
            name,
            f"{100 * own['chance']:.3g} %: {_from(own['above_chance'], '%')}",
            *(_from(own["differences"][level], "points") for level in levels),
        ]
        for name, own in parts.items()
    ]
    print_table(columns, rows)
    echo_folded(
        "Assumed: agents whose accuracies scatter as on Physics 101. Differences are of two runs "
        "with equal splits, by seed (of fewer than six: never); `heliograph compare RUN RUN "
        "--planned-seeds N` has them from trainings that there are."
    )


def _from(value: float | None, unit: str) -> str:
    return "never" if value is None else f"from {100 * value:.1f} {unit}"


def comparison_rows(comparison: Metrics) -> Table:
    """Return the accuracies of two runs, paired by seed."""
    columns = ["accuracy", "first", "second", "difference [95 %]", "d", "p", "shown from"]
    rows = []
    for score, name in SCORE_NAMES.items():
        entries = comparison["scores"][score]["properties"]
        if len(entries) != 1:  # the accuracy of a game that asks about no property has no name
            whole = "all at once" if entries else ""
            entries = {whole: comparison["scores"][score]["together"]} | entries
        for what, own in entries.items():
            if own is not None:
                rows.append(_comparison_row(f"{what}, {name}" if what else name, own))
    for name, own in comparison["baselines"].items():
        rows.append(_comparison_row(f"baseline: {baseline_name(name)}", own))
    return columns, rows


def _comparison_row(name: str, own: Metrics) -> list[str]:
    """Return the row of a paired difference."""
    return [
        name,
        f"{100 * own['first']:.1f} %",
        f"{100 * own['second']:.1f} %",
        _points(own["difference"], own["interval"]),
        "-" if own["cohen_d"] is None else f"{own['cohen_d']:.2f}",
        f"{own['p_value']:.3f}" + (f" ({own['p_holm']:.3f})" if "p_holm" in own else ""),
        "-" if own.get("detectable") is None else f"{100 * own['detectable']:.1f}",
    ]


def agreement_rows(agreement: Metrics) -> Table:
    """Return how alike the protocols are, up to a renaming of symbols."""
    columns = ["agreement of protocols", "AMI of messages", "best relabelling", "by chance"]
    entries = {"the two runs": agreement["runs"]}
    for which, seeds in zip(("first", "second"), agreement["seeds"], strict=True):
        entries[f"seeds of the {which}"] = seeds
    for which, agents in zip(("first", "second"), agreement["agents"], strict=True):
        for own in agents:
            one, other = own["agents"]
            entries[f"agents {one} and {other} of the {which}"] = own
    rows = [
        [
            name,
            f"{round(own['adjusted_mutual_information'], 3) + 0.0:.3f}",
            f"{100 * own['matched']:.1f} %",
            f"{100 * own['matched_by_chance']:.1f} %",
        ]
        for name, own in entries.items()
        if own is not None
    ]
    return columns, rows


def show_comparison(comparison: Metrics) -> None:
    """Print the result of `compare` in brief."""
    _show_runs([comparison])
    _show_pair(comparison)
    if comparison_rows(comparison)[1]:
        echo()
        echo_folded(OVER_SEEDS)


def _show_runs(pairs: Sequence[Metrics]) -> None:
    """Print what is to be known of each run, once: its features, and what to beware of."""
    facts: dict[str, list[str]] = {}
    for pair in pairs:
        for run, origins in zip(pair["runs"], pair["features"], strict=True):
            own = facts.setdefault(run, ["; ".join(origins)])
            if run in pair["leaks"]:
                own.append(pair["leaks"][run])
            if run in pair["unchecked"]:
                own.append("not checked: it has no manifest.json with the hashes of its files")
    for run, words in facts.items():
        for word in dict.fromkeys(words):
            echo(f"{run}: {word}")
    echo()


def _show_pair(comparison: Metrics) -> None:
    columns, rows = comparison_rows(comparison)
    if rows:
        print_table(columns, rows)
    else:
        echo("the runs have no accuracy in common: other properties, or another game")
    echo_folded(paired_clips(comparison))
    if comparison["agreement"] is not None:
        echo()
        print_table(*agreement_rows(comparison["agreement"]))


def paired_clips(comparison: Metrics) -> str:
    """Return how many seeds two runs have in common, and whether these tested the same clips."""
    seeds = f"{counted(len(comparison['seeds']), 'seed')} in common"
    if comparison["paired_splits"] is None:
        return (
            f"{seeds}; cannot tell whether the test clips are the same: names of clips were left "
            "out, so there is no agreement of protocols"
        )
    same = "the same test clips" if comparison["paired_splits"] else "NOT the same test clips"
    return f"{seeds}, {same} in each"


def show_comparisons(comparisons: Metrics) -> None:
    """Print the result of `compare_all` in brief, corrected p-values in brackets."""
    _show_runs(comparisons["pairs"])
    for comparison in comparisons["pairs"]:
        first, second = comparison["runs"]
        echo(f"first: {first}")
        echo(f"second: {second}")
        _show_pair(comparison)
        echo()
    if any(comparison_rows(comparison)[1] for comparison in comparisons["pairs"]):
        echo_folded(OVER_SEEDS)
    echo(f"p in brackets: corrected for {counted(len(comparisons['pairs']), 'pair')} (Holm)")
