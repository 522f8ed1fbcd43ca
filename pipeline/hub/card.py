"""The model card of a run: what it is, how it was made, how accurate it is, and what it cannot do.

Its metadata holds the accuracies as the Hub's `model-index`, next to what they are to be read with:
the accuracy of agents that learned from permuted labels, and of every baseline.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

from backbones import BackboneError, find_entry
from pipeline.agents import sender_class
from pipeline.hub.lexicon_picture import in_order
from pipeline.message import Lexicon
from pipeline.report import (
    baseline_meaning,
    baseline_name,
    by_chance,
    command_to_repeat,
    headline,
    interval_of,
    missing_baselines,
    provenance,
)
from pipeline.runs import Run, RunMetrics, Spread

LIBRARY = "heliograph"
TASK = "video-classification"
PICTURE = "lexicon.png"
BOUND = "quantised_labels"  # a baseline that predicts nothing
KEPT = "the kept receiver"
TITLE = "Emergent Compositional Communication for Latent World Properties"


def model_card(
    run: Run,
    repository: str,
    lexicon: Lexicon | None,
    *,
    has_picture: bool,
    names_clips: bool,
    shows_clips: bool = False,
) -> str:
    """Return the text of `README.md`, metadata first.

    Args:
        run: The copy that is pushed: what is said of it can hold nothing else.
        repository: Where it goes, `user/name`.
        lexicon: Of the run, if it has one.
        has_picture: Whether `lexicon.png` is next to the card.
        names_clips: Whether clips and objects have their names.
        shows_clips: Whether the picture shows a clip with each symbol.

    Raises:
        HeliographError: A file of the run is missing or damaged.
    """
    from huggingface_hub import ModelCard, ModelCardData

    metrics = run.metrics()
    data = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=TASK,
        tags=["video", "physics", "emergent-communication", "discrete-messages"],
        model_name=repository.partition("/")[2],
        eval_results=list(_results(run, metrics)),
    )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = plain
    text = environment.get_template("card.md").render(
        data=data.to_yaml(),
        repository=repository,
        run=run,
        metrics=metrics,
        sender=sender_class(run.config.agents, len(run.sources)).__name__,
        headline=headline(metrics),
        chance=by_chance(metrics),
        majority=(metrics.baselines or {}).get("majority"),
        rows=[
            (name, spread.mean, _interval_text(spread, kept), kind)
            for name, spread, kept, kind in _accuracies(metrics)
            if spread.mean is not None
        ],
        positions=[
            (position, [(one.symbol, position.gloss(one.symbol)) for one in in_order(position)])
            for position in (lexicon.positions if lexicon else ())
        ],
        picture=PICTURE if has_picture else "",
        made=provenance(run, None),
        command=_command(run),
        backbones=list(dict(_licences(run)).items()),
        missing=missing_baselines(metrics),
        names_clips=names_clips,
        shows_clips=shows_clips,
        title=TITLE,
    )
    card = ModelCard(text)  # its own checks of the metadata
    return str(card.content)


def plain(text: object) -> str:
    r"""Return text that Markdown and HTML show as it is, in one line.

    >>> plain("a|b <c>\n_d_")
    'a\\|b &lt;c> \\_d\\_'
    """
    escaped = re.sub(r"([\\`*_\[\]|#])", r"\\\1", " ".join(str(text).split()))
    return escaped.replace("<", "&lt;")


def _results(run: Run, metrics: RunMetrics) -> Iterator[Any]:
    """Yield the accuracies as the Hub's results of an evaluation."""
    from huggingface_hub import EvalResult

    for name, spread, kept, kind in _accuracies(metrics):
        if spread.mean is None:
            continue
        low, high, over = interval_of(kept or spread)
        args: dict[str, Any] = {"kind": kind, "seeds": len(spread.per_seed)}
        if over:
            args |= {"interval_95": [low, high], "interval_over": over}
            if kept is not None:
                args["interval_of"] = KEPT
        yield EvalResult(
            task_type=TASK,
            task_name=f"{run.config.game} game: {', '.join(run.config.properties)}",
            dataset_type="custom",
            dataset_name=", ".join(source.name for source in run.sources),
            dataset_split=f"held out by the split {run.config.split}",
            metric_type="accuracy",
            metric_name=name,
            metric_value=spread.mean,
            metric_args=args,
        )


def _accuracies(metrics: RunMetrics) -> Iterator[tuple[str, Spread, Spread | None, str]]:
    """Yield name, accuracy, the kept receiver if the interval is its, and kind.

    The kind is agents, null, baseline, or bound of what messages carry.
    """
    kept = metrics.kept_receiver if metrics.accuracy_test is not None else None
    if kept is not None and kept.mean is None:
        kept = None
    yield "agents", metrics.accuracy_test or metrics.accuracy_last_epoch, kept, "agents"
    if len(metrics.properties) > 1:
        for label, entry in metrics.properties.items():
            own = entry.accuracy_test or entry.accuracy_last_epoch
            yield f"agents, {label}", own, kept and kept.properties.get(label), "agents"
    if metrics.shuffled_labels is not None:
        yield (
            "null: agents that learned from permuted labels",
            metrics.shuffled_labels,
            None,
            "null",
        )
    for key, baseline in (metrics.baselines or {}).items():
        if baseline is not None:
            meaning = baseline_meaning(key)
            name = f"{baseline_name(key)} ({meaning})" if meaning else baseline_name(key)
            kind = "bound" if key == BOUND else "baseline"
            yield f"{kind}: {name}", baseline, None, kind


def _interval_text(spread: Spread, kept: Spread | None = None) -> str:
    """Return the 95 % interval of a mean that is known, in per cent, or the kept receiver's.

    >>> _interval_text(Spread(mean=0.5, std=0.0, per_seed=[0.5]))
    'not known of one seed'
    """
    low, high, over = interval_of(kept or spread)
    if not over:
        return "not known of one seed"
    ends = f"{100 * low:.1f}–{100 * high:.1f} % over {over}"
    return ends if kept is None else f"{ends}, of {KEPT}"


def _command(run: Run) -> str:
    """Return the command that makes the run again, for a folder RUN."""
    return command_to_repeat(run).replace(str(run.folder), "RUN")


def _licences(run: Run) -> Iterator[tuple[str, str]]:
    """Yield the backbones of a run's features and the licence of each."""
    for source in run.sources:
        name = source.fingerprint.get("name") or source.fingerprint.get("backbone")
        if not isinstance(name, str):
            yield f"of the cache {source.name}", "unknown: its features came from another program"
            continue
        try:
            yield name, find_entry(name).licence
        except BackboneError:
            yield name, "unknown: it is no backbone of this Heliograph"
