"""The page `docs/metrics.md`, generated from the records of the metrics.

python -m pipeline.metrics > docs/metrics.md
"""

from __future__ import annotations

import math

from pipeline.metrics import METRICS, VERDICTS, Metric

HEAD = """# Metrics of messages

Generated from the records in `pipeline/metrics/` by `python -m pipeline.metrics`: do not edit.

A metric compares the messages of all clips with their properties. `heliograph evaluate` reports
each metric that is one number, for every seed and over seeds, under `compositionality` in
`metrics.json` (the keys are in [metrics_json.md](metrics_json.md)); Python code finds all of them
in `pipeline.metrics.METRICS`. A new module in `pipeline/metrics/` with a record adds a metric to
all of these, and to this page.

Continuous properties are cut into 5 bins with the same number of clips; a property of up to 5
values keeps its values. `bins` in `metrics.json` has the same metrics for 3, 5 and 8 bins.
Information is in nats. A *position* is one symbol of a message: the heads of all agents next to
each other.

No value means much without what chance gives:

- **Permutation null**: the properties are given to other objects, whole objects at a time, since
  clips of one object are alike whatever the messages mean. `p_value` is (1 + k) / (1 + n), with k
  of n permutations at least as large.
- **Codebook null**, for structural metrics: the distinct messages are exchanged, so that the
  content stays and the code becomes arbitrary.
- **Interval**: the pivotal 95 % bootstrap interval over objects (Davison and Hinkley 1997, section
  5.2).
- **Null seeds** (`train --null 39`): seeds trained in the same way on labels permuted by object, so
  that clips which can be recognised still can. The run's mean is compared with each of them; in a
  null seed the largest of all metrics counts, so that several metrics are not several chances.

Agents remember their training clips, of noise too. A metric is therefore computed for each seed on
clips that nothing was trained or chosen on: those that the split sets aside for structure (of a
grid, a quarter of each trained cell), else its test clips. Messages of seeds are never pooled. The
value on training clips stands beside it. A grid without clips set aside (the paper's split; cells
of fewer than four clips) has PosDis and BosDis over training clips, marked, and TopSim over its
test cells: with one test cell in each row and column each property tells the other there, and a
perfect code has a PosDis of 0.

A **verdict**, of a structural metric, is one of these words:

@VERDICTS@

A property has a position of its own where the information of a position about it, less that about
the property that comes closest, is larger than in null seeds (`own_positions`; the largest of the
properties counts in a null seed). A PosDis or TopSim alone is satisfied by a code that tells one
property and nothing of the other. The verdict is that of the run's seeds together; where one left
out would turn it, or one more null seed, it is "undecided".

Accuracies, areas under the ROC curve and rank correlations of predictions are not listed here; they
are described with their keys. Read them beside the baselines, in this order: `majority` is chance;
`pixels`, `differences` and `first_frame` (with `--videos` also `optical_flow` and `shortcuts`) need
no network, and what agents have above them the network added; `ridge` is what the features hold
without the limits of a message. Where `first_frame` or `shortcuts` are good, accuracies say little
about motion.

Wherever predictions are compared, values that differ by no more than
1e-9 of the largest one are a tie, and a tie counts half.
"""


def page() -> str:
    """Return `docs/metrics.md`."""
    metrics = list(METRICS.values())
    reported = [metric for metric in metrics if not metric.per_position]
    tables = [metric for metric in metrics if metric.per_position]
    words = [f"- {word}: {meaning}." for word, meaning in VERDICTS.items()]
    lines = [
        HEAD.replace("@VERDICTS@", "\n".join(words)),
        "## One number for a run of messages",
        "",
        *_overview(reported),
    ]
    for metric in reported:
        lines += _section(metric)
    lines += [
        "## Tables of positions and properties",
        "",
        "One value for each position and property; other measures are made of them.",
        "",
    ]
    for metric in tables:
        lines += _section(metric)
    return "\n".join(lines).rstrip() + "\n"


def _overview(metrics: list[Metric]) -> list[str]:
    rows = [
        f"| `{metric.name}` | {_range(metric)} | {metric.properties} | {metric.chance} |"
        for metric in metrics
    ]
    return ["| metric | range | properties it needs | by chance |", "|---|---|---|---|", *rows, ""]


def _section(metric: Metric) -> list[str]:
    return [
        f"### {metric.title}: `{metric.name}`",
        "",
        f"- Definition: {metric.definition}",
        f"- Range: {_range(metric)}",
        f"- By chance: {metric.chance}",
        f"- Null: {metric.undefined}",
        f"- Source: {metric.source}",
        "",
    ]


def _range(metric: Metric) -> str:
    low, high = metric.range
    return f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"


if __name__ == "__main__":
    print(page(), end="")
