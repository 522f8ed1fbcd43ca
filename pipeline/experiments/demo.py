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
from pipeline.experiments.recipe import AgentView
from pipeline.experiments.views import ViewFeatures
from pipeline.message import Speaker
from pipeline.report import score_rows, structure_rows, write_report
from pipeline.runs import Run
from pipeline.training import train

PROPERTIES = ("elasticity", "friction")
GRID = 5
VIEW = AgentView(name="motion", frames=16, pool="motion3")
PRESET = "ridge"  # a few hundred clips are too few for encoders of 15 x 1008 numbers each
AGENTS, VOCAB = 4, 8  # chosen on the clips of another seed
FEATURES = "motion.h5"
PERMUTATIONS = 200
NULL_SEEDS = 2  # with the three others they fill the five that are trained side by side
FIRST = (
    "chosen on validation",
    "chance",
    "baseline: majority",
    "baseline: pixels",
    "baseline: differences",
    "baseline: quantised_ridge",
    "baseline: ridge",
    "baseline: quantised_labels",
    "control: shuffled labels",
)
"""Rows of the scores that come first."""


def run_demo(out: Path, *, per_cell: int, seeds: int, epochs: int) -> None:
    """Make clips, extract, train, evaluate on held-out cells, and print messages.

    A second run in the same folder keeps the clips and features that are there, and trains anew.

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
    log(f"3/4 {AGENTS} agents learn to tell {' and '.join(PROPERTIES)}: {out / 'run'}")
    log(f"    {seeds} times, and {NULL_SEEDS} times on shuffled labels, as a control")
    run = _train(features, out / "run", seeds, epochs)
    log("4/4 scores, on grid cells that were in neither training nor validation")
    metrics = evaluate(run.folder, permutations=PERMUTATIONS)
    columns, rows = score_rows(metrics)
    first = sorted((row for row in rows if row[0] in FIRST), key=lambda row: FIRST.index(row[0]))
    print_table(columns, first)
    echo()
    print_table(columns, [row for row in rows if row[0] not in FIRST])
    echo()
    print_table(*structure_rows(metrics))
    echo()
    _print_messages(run, clips)
    write_report(run.folder)
    _print_next_steps(out, clips, time.monotonic() - began)


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


def _print_messages(run: Run, clips: list[Clip]) -> None:
    """Print messages of held-out cells, from their videos: what they tell, and what is true."""
    held_out = [f"e{row}_f{column}" for row, column in PAPER_CELLS]
    shown = [next(clip for clip in clips if clip.object == cell) for cell in held_out]
    speaker = Speaker(run)
    rows = []
    for clip in shown:
        message = speaker(clip)
        told = {own.name: f"{own.value:.2f}" for own in message.readings or ()}
        pairs = ((told.get(name, "-"), f"{clip.labels[name]:.2f}") for name in PROPERTIES)
        rows.append([clip.id, str(message), *itertools.chain.from_iterable(pairs)])
    heads = itertools.chain.from_iterable((f"{name} told", "true") for name in PROPERTIES)
    print_table(["video of a cell never seen", "message", *heads], rows)


def _print_next_steps(out: Path, clips: list[Clip], seconds: float) -> None:
    view, features = ViewFeatures.of(VIEW, None), cache.info(out / FEATURES)
    text = f"""
Done in {seconds:.0f} s. Everything lies in {out}:
  clips/     {len(clips)} H.264 videos and manifest.jsonl with their physics
  clips.png  what they look like
  {FEATURES:<9}  features, {features["clips"]} x {features["steps"]} x {features["dimensions"]}
  run/       model.pt, metrics.json, messages.jsonl and more; every seed in seeds/
  run/report.html  all of it on one page: open it in a browser

What next:
  heliograph message {out / "run"} {clips[0].path}
  heliograph extract YOUR_CLIPS -o yours.h5 --backbone {view.entry.name} \\
      --pool {view.output} --frames {view.frames}
  heliograph train {out / FEATURES} -o runs/two --property friction --agents 2
  heliograph --help"""
    for line in text.splitlines():
        echo(line)
