"""The whole pipeline on clips that it makes itself: raw video to messages, in minutes."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from data import cache
from data.clips import Clip
from data.errors import HeliographError
from data.simulate import contact_sheet
from pipeline.console import ProgressBar, echo, log, print_table
from pipeline.dataset import PAPER_CELLS
from pipeline.evaluation import evaluate
from pipeline.experiments.artifacts import extract_features, make_clips
from pipeline.experiments.next_steps import open_page, pasteable
from pipeline.experiments.recipe import AgentView
from pipeline.experiments.views import ViewFeatures
from pipeline.message import Speaker
from pipeline.metrics import LEAST_NULLS
from pipeline.report import score_rows, write_report
from pipeline.runs import Run, RunMetrics
from pipeline.training import train

PROPERTIES = ("elasticity", "friction")
GRID = 5
VIEW = AgentView(name="motion", frames=16, pool="motion3")
PRESET = "ridge"  # a few hundred clips are too few for encoders of 15 x 1008 numbers each
AGENTS, VOCAB = 4, 8  # chosen on the clips of another seed
FEATURES = "motion.h5"
PICTURE = "messages.png"
PERMUTATIONS = 200
NULL_SEEDS = 2  # with the three others they fill the five that are trained side by side
ROWS = {
    "agents": ("chosen on validation", "from their messages alone"),
    "differences": ("baseline: differences", "what moves, without any network"),
    "pixels": ("baseline: pixels", "the frames, without any network"),
    "majority": ("baseline: majority", "always the most frequent answer"),
    "quantised ridge": ("baseline: quantised ridge", "regression in as many symbols"),
    "ridge": ("baseline: ridge", "regression on the same features"),
}
"""Of the table at the end: the row of `score_rows`, and what it is in five words."""


def run_demo(out: Path, *, per_cell: int, seeds: int, epochs: int, show_page: bool) -> None:
    """Make clips, extract, train, evaluate on held-out cells, and print messages.

    A second run in the same folder keeps the clips and features that are there, and trains anew.
    With `show_page` the page opens at the end, where somebody sits at a desktop.

    Raises:
        HeliographError: the folder holds a run that is not the demo's; or a stage fails.
    """
    began = time.monotonic()
    _refuse_other_run(out)
    log(f"1/4 a puck slides down a ramp and bounces: {GRID**2 * per_cell} clips in {out / 'clips'}")
    clips = make_clips(out / "clips", "ramp", grid=GRID, per_cell=per_cell)
    contact_sheet(out / "clips" / "manifest.jsonl", out / "clips.png")
    view, features = ViewFeatures.of(VIEW, None), out / FEATURES
    log(f"2/4 features, {view}: {features}")
    if not view.has_all(features, clips):
        extract_features(
            clips, features, backbone=view.load(device="auto", hub_dir=None), sampling=view.sampling
        )
    about = " and ".join(PROPERTIES)
    log(f"3/4 {AGENTS} agents learn to send messages about {about}: {out / 'run'}")
    log(f"    {seeds} times, and {NULL_SEEDS} times on shuffled labels, as a control")
    run = _train(features, out / "run", seeds, epochs)
    log("4/4 scores, on grid cells that were in neither training nor validation")
    with ProgressBar("evaluation", in_percent=True) as bar:
        metrics = evaluate(run.folder, permutations=PERMUTATIONS, show=bar.update)
    page = write_report(run.folder).path
    _print_scores(metrics)
    _print_messages(run, clips, out)
    _print_next_steps(out, clips, page, time.monotonic() - began)
    if show_page and open_page(page):
        log(f"{page} opens in the browser (--no-open: it does not)")


def _refuse_other_run(out: Path) -> None:
    """Raise HeliographError where the run that would be replaced is not one of the demo."""
    folder = out / "run"
    if not (folder / "config.json").exists():
        return
    source = Run.open(folder).sources[0].path
    if source.name != FEATURES or source.parent.name != out.resolve().name:
        raise HeliographError(
            f"{folder} is a run that the demo did not make, and would be replaced: choose another "
            "--out"
        )


def _train(features: Path, out: Path, seeds: int, epochs: int) -> Run:
    with ProgressBar("training") as bar:
        return train(
            features,
            out,
            properties=PROPERTIES,
            preset=PRESET,
            seeds=range(seeds),
            agents=AGENTS,
            vocab=VOCAB,
            epochs=epochs,
            null=NULL_SEEDS,
            overwrite=True,
            progress=bar.update,
        )


def _print_scores(metrics: RunMetrics) -> None:
    """Print how the agents fare beside predictors of other kinds, and what their code may claim."""
    scores = {name: cells for name, *cells in score_rows(metrics)[1]}
    rows = [[name, *scores[row], meaning] for name, (row, meaning) in ROWS.items()]
    echo()
    heads = ["right, on cells never seen", "both", *PROPERTIES, "what it is"]
    print_table(heads, rows, right=False)
    by_verdict: dict[str, list[str]] = {}
    for name, structure in (metrics.compositionality or {}).items():
        if structure is not None and structure.verdict:
            by_verdict.setdefault(structure.verdict, []).append(name)
    echo()
    echo("Is its code compositional?")
    for verdict, names in by_verdict.items():
        echo(f"  {verdict}: {', '.join(names)}")
    echo(f"  (beside {NULL_SEEDS} trainings on shuffled labels; it takes {LEAST_NULLS} to be sure)")


def _print_messages(run: Run, clips: list[Clip], out: Path) -> None:
    """Print messages of held-out cells, from their videos: what they say, and what is true.

    The clips are shown in a picture.
    """
    held_out = [f"e{row}_f{column}" for row, column in PAPER_CELLS]
    shown = [next(clip for clip in clips if clip.object == cell) for cell in held_out]
    picture = out / PICTURE
    manifest = out / "clips" / "manifest.jsonl"
    contact_sheet(manifest, picture, only=[clip.id for clip in shown])
    speaker = Speaker(run)
    rows = []
    for clip in shown:
        message = speaker(clip)
        sent = {own.name: f"{own.value:.2f}" for own in message.readings or ()}
        pairs = ((sent.get(name, "-"), f"{clip.labels[name]:.2f}") for name in PROPERTIES)
        rows.append([clip.id, str(message), *itertools.chain.from_iterable(pairs)])
    heads = itertools.chain.from_iterable((f"{name} sent", "true") for name in PROPERTIES)
    echo()
    print_table(["video of a cell never seen", "message", *heads], rows)
    echo()
    echo(f"The last of them, {clip.id} (all are in {picture}):")
    echo(f"  message   {message}")
    for number, reading in enumerate(message.readings or ()):
        echo(f"  {'' if number else 'in words':<8}  {reading}")
    true = ", ".join(f"{name} {clip.labels[name]:.2f}" for name in PROPERTIES)
    echo(f"  true      {true}")


def _print_next_steps(out: Path, clips: list[Clip], page: Path, seconds: float) -> None:
    view, features = ViewFeatures.of(VIEW, None), cache.info(out / FEATURES)
    how = ["--backbone", view.entry.name, "--pool", view.output, "--frames", view.frames]
    clip, manifest = clips[0].path, out / "clips" / "manifest.jsonl"
    text = f"""
Done in {seconds:.0f} s. Everything lies in {out}:
  clips/     {len(clips)} H.264 videos and manifest.jsonl with their physics
  clips.png  what they look like; {PICTURE}: those above
  {FEATURES:<9}  features, {features["clips"]} x {features["steps"]} x {features["dimensions"]}
  run/       model.pt, metrics.json, messages.jsonl and more; every seed in seeds/
All of it on one page, which a browser opens: {page}

What next:
  {pasteable("message", out / "run", clip)}
  {pasteable("train", out / FEATURES, "-o", out / "two", "--property", "friction", "--agents", 2)}
  {pasteable("extract", manifest, "-o", out / "again.h5", *how)}
    (clips of your own in place of {manifest})
  {pasteable("--help")}"""
    for line in text.splitlines():
        echo(line)
