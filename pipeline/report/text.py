"""`metrics.json` as the short tables that the terminal shows."""

from __future__ import annotations

import json
from typing import Any

import click

from pipeline.console import percent, print_table

Table = tuple[list[str], list[list[str]]]
Metrics = dict[str, Any]

SCORE_NAMES = {
    "accuracy_test": "chosen on validation",
    "accuracy_last_epoch": "last epoch, nothing chosen",
    "accuracy_published_protocol": "published protocol (chosen on test)",
}


def score_rows(metrics: Metrics) -> Table:
    """Accuracies on test clips, then the baselines: all properties at once, and each."""
    properties = list(metrics["properties"])
    several = len(properties) > 1
    columns = ["accuracy on test clips", *(["all at once"] if several else []), *properties]
    rows = []
    for score, name in SCORE_NAMES.items():
        cells = [percent(metrics[score])] if several else []
        rows.append(
            [name, *cells, *(percent(metrics["properties"][own][score]) for own in properties)]
        )
    entries = {
        f"{kind}: {name}": found
        for kind, group in (("baseline", "baselines"), ("control", "controls"))
        for name, found in metrics.get(group, {}).items()
    }
    if "listeners" in metrics:
        entries["receivers that never met the sender"] = metrics["listeners"]["accuracy"]
    for path, found in metrics.get("transfer", {}).items():
        entries[f"agents on {path}"] = found["all"]
        entries[f"ridge on {path}"] = found["ridge"]
    for name, found in entries.items():
        if found is not None:
            rows.append(_score_row(name, found, properties, several))
    return columns, rows


def _score_row(name: str, found: Metrics, properties: list[str], several: bool) -> list[str]:
    cells = [percent(found)] if several else []
    return [name, *cells, *(percent(found["properties"][own]) for own in properties)]


def gain_rows(metrics: Metrics) -> Table:
    """What time adds, with its interval: points."""
    properties = list(metrics["properties"])
    columns = ["gain, in points [95 %]", *properties]
    names = {
        "dynamics": "all time steps over the middle one",
        "order": "all time steps over the same shuffled",
    }
    rows = [
        [names[name], *(points(found["properties"][own]) for own in properties)]
        for name, found in metrics["gains"].items()
    ]
    return columns, rows


def structure_rows(metrics: Metrics) -> Table:
    """How the messages say it: each metric beside what chance gives."""
    columns = ["structure of the messages", "mean over seeds", "by chance", "p", "verdict"]
    rows = []
    for name, found in metrics["compositionality"].items():
        if found is None:
            rows.append([name, "-", "-", "-", "needs two properties"])
            continue
        rows.append(
            [
                name,
                f"{found['mean']:.3f} ± {found['std']:.3f}",
                f"{found['null_mean']:.3f}",
                f"{found['p_value']:.3f}",
                found["verdict"] or "",
            ]
        )
    return columns, rows


def cause_rows(metrics: Metrics) -> Table:
    """The causal matrix: by how many points accuracy drops when a position is dealt anew."""
    properties = list(metrics["properties"])
    found = metrics["interventions"]
    columns = ["drop when a position is dealt anew, in points", *properties]
    rows = [
        [
            f"agent {agent}, head {head}",
            *(
                f"{points({'mean': drop, 'interval': ends})}, {p_text(p)}"
                for drop, ends, p in zip(*cells, strict=True)
            ),
        ]
        for (agent, head), *cells in zip(
            found["positions"],
            found["resample"]["drop"],
            found["resample"]["interval"],
            found["resample"]["p_value"],
            strict=True,
        )
    ]
    return columns, rows


def targeted_line(metrics: Metrics) -> str:
    """Whether a position matters to the property it carries and to no other, in a sentence."""
    found = metrics["interventions"]["resample"]["targeted"]
    if found is None:
        return "one property: no others to compare with"
    inside, outside = (points(found[name]) for name in ("targeted", "elsewhere"))
    test = p_text(found["difference"]["p_value"])
    return (
        f"drop of the property that a position carries: {inside}; of the others: {outside}; {test}"
    )


def worth_rows(metrics: Metrics) -> Table:
    """What a linear probe reads off messages and off raw features."""
    columns = ["read off by a linear probe", "messages", "features", "retained", "Spearman"]
    rows = []
    for name, found in metrics["worth"]["probes"].items():
        linear = found["ridge"]
        kept = linear["retained"]
        rows.append(
            [
                name if found["trained_on"] else f"{name} (never spoken about)",
                percent(linear["messages"]),
                percent(linear["features"]),
                "chance not beaten" if kept is None else f"{100 * kept['value']:.0f} %",
                f"{linear['messages']['spearman']['mean']:.2f}",
            ]
        )
    return columns, rows


def compression_line(metrics: Metrics) -> str:
    """How short a message is, in a sentence."""
    found = metrics["worth"]["compression"]
    return (
        f"{found['bits_capacity']:.1f} bits a message, {found['bits_used']['mean']:.1f} of them "
        f"used, stand for {found['bits_features']:,} bits of features"
    )


def p_text(p: float) -> str:
    """A p-value as text.

    >>> p_text(0.0005), p_text(0.04)
    ('p < 0.001', 'p = 0.040')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def points(entry: Metrics) -> str:
    """A difference of fractions in points, with its interval.

    >>> points({"mean": 0.112, "interval": [0.05, 0.2]})
    '11.2 [5.0, 20.0]'
    """
    if entry["mean"] is None:
        return "-"
    if entry["interval"] is None:
        return f"{100 * entry['mean']:.1f}"
    low, high = (f"{100 * end:.1f}" for end in entry["interval"])
    return f"{100 * entry['mean']:.1f} [{low}, {high}]"


def show_metrics(metrics: Metrics, as_json: bool) -> None:
    """A run's `metrics.json`, whole as JSON or in brief as tables."""
    if as_json:
        click.echo(json.dumps(metrics))
        return
    print_table(*score_rows(metrics))
    for key, rows, line in (
        ("gains", gain_rows, None),
        ("compositionality", structure_rows, None),
        ("interventions", cause_rows, targeted_line),
        ("worth", worth_rows, compression_line),
    ):
        if metrics.get(key):
            click.echo()
            print_table(*rows(metrics))
            if line is not None:
                click.echo(line(metrics))
    if metrics.get("outcome"):
        click.echo()
        click.echo(outcome_line(metrics["outcome"]))


def outcome_line(found: Metrics) -> str:
    """The prediction of an outcome after an action that training left out, in a sentence."""
    sides = (f"{percent(found[side])} from {side}" for side in ("messages", "features", "action"))
    return f"{found['outcome_label']} after an unseen {found['action_label']}: {', '.join(sides)}"


def comparison_rows(found: Metrics) -> Table:
    """Accuracies of two runs, paired by seed."""
    columns = ["accuracy", "first", "second", "difference [95 %]", "d", "p"]
    rows = []
    for score, name in SCORE_NAMES.items():
        entries = found["scores"][score]["properties"]
        if len(entries) > 1:
            entries = {"all at once": found["scores"][score]["together"]} | entries
        for what, own in entries.items():
            if own is None:
                continue
            rows.append(
                [
                    f"{what}, {name}",
                    f"{100 * own['first']:.1f} %",
                    f"{100 * own['second']:.1f} %",
                    points({"mean": own["difference"], "interval": own["interval"]}),
                    "-" if own["cohen_d"] is None else f"{own['cohen_d']:.2f}",
                    f"{own['p_value']:.3f}",
                ]
            )
    return columns, rows


def agreement_rows(found: Metrics) -> Table:
    """How alike the protocols are, up to names of symbols."""
    columns = ["agreement of protocols", "AMI of messages", "best relabelling", "by chance"]
    entries = {"the two runs": found["runs"]}
    for which, seeds in zip(("first", "second"), found["seeds"], strict=True):
        entries[f"seeds of the {which}"] = seeds
    for which, agents in zip(("first", "second"), found["agents"], strict=True):
        for own in agents:
            one, other = own["agents"]
            entries[f"agents {one} and {other} of the {which}"] = own
    rows = [
        [
            name,
            f"{own['adjusted_mutual_information']:.3f}",
            f"{100 * own['matched']:.1f} %",
            f"{100 * own['matched_by_chance']:.1f} %",
        ]
        for name, own in entries.items()
        if own is not None
    ]
    return columns, rows


def show_comparison(found: Metrics) -> None:
    """What `compare` found, in brief."""
    print_table(*comparison_rows(found))
    paired = "the same test clips" if found["paired_splits"] else "NOT the same test clips"
    click.echo(f"{len(found['seeds'])} seeds in common, {paired} in each")
    if found["agreement"] is not None:
        click.echo()
        print_table(*agreement_rows(found["agreement"]))
