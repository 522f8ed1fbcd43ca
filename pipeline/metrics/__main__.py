"""The page `docs/metrics.md` and its pictures, generated from the records of the metrics.

python -m pipeline.metrics docs    writes docs/metrics.md and docs/metrics/*.svg
python -m pipeline.metrics         prints the page
"""

from __future__ import annotations

import math
import sys
import textwrap
from pathlib import Path

import numpy as np

from pipeline.metrics import COVERAGE, METRICS, VERDICTS, Metric
from pipeline.metrics.example_codes import EXAMPLE_CODES, MEANINGS, picture

HEAD = """# Metrics of messages

Generated from the records in `pipeline/metrics/` by `python -m pipeline.metrics docs`: do not edit.

A metric compares the messages of all clips with their properties. `heliograph evaluate` reports
each metric that is one number, for every seed and over seeds, under `compositionality` in
`metrics.json` (the keys are in [metrics_json.md](metrics_json.md)); Python code finds all of them
in `pipeline.metrics.METRICS`. A new module in `pipeline/metrics/` with a record adds a metric to
all of these, and to this page.

Continuous properties are cut into 5 bins with the same number of clips; a property of up to 5
values keeps its values. `bins` in `metrics.json` has the same metrics for 3, 5 and 8 bins.
Information is in nats. A *position* is one symbol of a message: the heads of all agents next to
each other.

The pictures show small codes for 25 clips, one for each pair of the levels 0 to 4 of two
properties: one that the metric is made for, and one that it should not like, and does.

No value means much without what chance gives:

- **Permutation null**: the properties are given to other objects, whole objects at a time, since
  clips of one object are alike whatever the messages mean. `p_value` is (1 + k) / (1 + n), with k
  of n permutations at least as good: as large, or as small where smaller is better.
- **Codebook null**, for structural metrics: the distinct messages are exchanged, so that the
  content stays and the code becomes arbitrary.
@INTERVAL@
- **Null seeds** (`train --null 39`): seeds trained in the same way on labels permuted by object, so
  that clips which can be recognised still can. The run's mean is compared with each of them; in a
  null seed the largest of all metrics counts, so that several metrics are not several chances.

Agents remember their training clips, of noise too. A metric is therefore computed for each seed on
clips that nothing was trained or chosen on: those that the split sets aside for structure (of a
grid, a quarter of each trained cell), else its test clips. Messages of seeds are never pooled. The
value on training clips stands beside it. A grid without clips set aside (the paper's split; cells
of fewer than four clips) has PosDis and BosDis over training clips, marked, and TopSim over its
test cells: with one test cell in each row and column each property tells the other there, and a
perfect code has a PosDis of 0. Of more than 2,000 such clips of a seed as many are drawn, always
the same ones; the intervals, which are over objects, allow for it.

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

The **generalisation gap** (`generalisation` in `metrics.json`) is the accuracy of the kept
receivers on pairs of training clips minus that on pairs of test clips, with an interval for other
objects and seeds. It is between -1 and 1, and small where nothing is remembered that does not
hold elsewhere. It lies where agents learned nothing: then it is 0, too. Read it beside the
accuracy.

Wherever predictions are compared, values that differ by no more than
1e-9 of the largest one are a tie, and a tie counts half.
"""


def page() -> str:
    """Return `docs/metrics.md`."""
    metrics = list(METRICS.values())
    reported = [metric for metric in metrics if not metric.per_position]
    tables = [metric for metric in metrics if metric.per_position]
    words = [f"- {word}: {meaning}." for word, meaning in VERDICTS.items()]
    interval = textwrap.fill(
        "- **Interval**: the pivotal 95 % bootstrap interval over objects (Davison and Hinkley "
        f"1997, section 5.2). {COVERAGE.replace('*_wmcp', '`*_wmcp`')}",
        100,
        subsequent_indent="  ",
    )
    lines = [
        HEAD.replace("@VERDICTS@", "\n".join(words)).replace("@INTERVAL@", interval),
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
        f"| `{metric.name}` | {_range(metric)} | {metric.better} | {metric.properties} | "
        f"{metric.chance} |"
        for metric in metrics
    ]
    head = "| metric | range | better | properties it needs | by chance |"
    return [head, "|---|---|---|---|---|", *rows, ""]


def _section(metric: Metric) -> list[str]:
    return [
        f"### {metric.title}: `{metric.name}`",
        "",
        f"- Definition: {metric.definition}",
        f"- Range: {_range(metric)}, the {metric.better} the better",
        f"- By chance: {metric.chance}",
        f"- Null: {metric.undefined}",
        *([f"- When it lies: {metric.lies}"] if metric.lies else []),
        f"- Source: {metric.source}",
        "",
        *_shown(metric),
    ]


def _shown(metric: Metric) -> list[str]:
    """Return the picture of a metric and its caption; nothing without example codes."""
    examples = _examples(metric)
    if not examples:
        return []
    places = ("Left, a code that it likes", "Right, one that it should not like")
    captions = [
        f"{place}: {EXAMPLE_CODES[name].description}, {_value(metric, name)}."
        for place, name in zip(places, examples, strict=False)
    ]
    shown = f"![{metric.title}: two codes](metrics/{metric.name}.svg)"
    return [shown, "", " ".join(captions), ""]


def _examples(metric: Metric) -> list[str]:
    return [name for name in (metric.liked, metric.fooled) if name]


def _value(metric: Metric, code: str) -> str:
    """Return the value of a metric for an example code; of a table the largest."""
    value = float(np.max(metric(EXAMPLE_CODES[code].tokens, MEANINGS)))
    return f"up to {value:.2f}" if metric.per_position else f"{value:.2f}"


def pictures() -> dict[str, str]:
    """Return the pictures of `docs/metrics/`, SVG by name of the file."""
    shown = {}
    for metric in METRICS.values():
        if examples := _examples(metric):
            captions = [f"likes: {_value(metric, examples[0])}"]
            captions += [f"should not: {_value(metric, name)}" for name in examples[1:]]
            codes = [EXAMPLE_CODES[name] for name in examples]
            shown[f"{metric.name}.svg"] = picture(zip(codes, captions, strict=True))
    return shown


def write(folder: Path) -> None:
    """Write the page and its pictures into `docs/`."""
    (folder / "metrics.md").write_text(page(), encoding="utf-8")
    (folder / "metrics").mkdir(exist_ok=True)
    for name, drawn in pictures().items():
        (folder / "metrics" / name).write_text(drawn, encoding="utf-8")


def _range(metric: Metric) -> str:
    low, high = metric.range
    return f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"


if __name__ == "__main__":
    if sys.argv[1:]:
        write(Path(sys.argv[1]))
    else:
        print(page(), end="")
