"""Gaussian noise on the channel: how accuracy falls when receivers read symbols that are off.

Every number of every one-hot symbol gets noise of its own. Receivers read the sum as it is, as in
the paper's test, or each symbol is rounded first to the likeliest one: what a receiver loses that
need not lose it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.evaluation.claims.retest import Retest, RetestInputs, Table, cell, share_text
from pipeline.evaluation.context import MessageContext, one_hot_tokens, one_thread
from pipeline.evaluation.interventions import MAX_CLIPS
from pipeline.evaluation.pair_scores import PairScorer, Scores
from pipeline.game import compare_vectors

SIGMAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.5, 3.0)
"""Standard deviations of the noise: the paper's, and two that leave little of a message."""
ASKED = 0.5
"""The noise that the claim is about."""


def add_gaussian_noise(
    context: MessageContext,
    sigmas: tuple[float, ...] = SIGMAS,
    *,
    draws: int = 5,
    seed: int = 0,
) -> dict[str, Any]:
    """Score every seed's receiver on messages with noise.

    Args:
        context: Messages and receivers of a run.
        sigmas: Standard deviations of the noise; the first one is what the others are compared
            with.
        draws: Of the noise of each clip.
        seed: Of the random numbers.

    Returns:
        For each sigma the `accuracy` of receivers that read the noise, the `drop` of it, the
        accuracy where each symbol is `rounded` first, and the share of `symbols_wrong` after that.
    """
    generators, properties = context.generators(seed), context.config.properties
    clips = context.some_test_clips(MAX_CLIPS)
    scorer = PairScorer(context.objects, clips)
    curve, first = [], None
    for sigma in sigmas:
        read, rounded, wrong = _score(context, clips, scorer, sigma, draws, generators)
        first = first or read
        curve.append(
            {
                "sigma": sigma,
                "accuracy": read.by_property(properties),
                "drop": (first - read).by_property(properties),
                "rounded": rounded.by_property(properties),
                "symbols_wrong": wrong,
            }
        )
    return {"curve": curve, "draws": draws}


def _score(
    context: MessageContext,
    clips: list[NDArray[np.int64]],
    scorer: PairScorer,
    sigma: float,
    draws: int,
    generators: Sequence[np.random.Generator],
) -> tuple[Scores, Scores, float]:
    """Return the scores of reading the noise and of rounding it, and how many symbols it turns."""
    vocab = context.config.vocab
    answers: tuple[list[NDArray[Any]], list[NDArray[Any]]] = ([], [])
    wrong = []
    for number, own in enumerate(clips):
        receiver, sent = context.receiver(number), context.tokens[number, own]
        exact = one_hot_tokens(sent, vocab)  # (n, positions * vocab)
        heard: tuple[list[NDArray[Any]], list[NDArray[Any]]] = ([], [])
        for _ in range(draws if sigma else 1):
            noise = generators[number].normal(scale=sigma, size=exact.shape).astype(np.float32)
            noisy = exact + torch.from_numpy(noise)
            symbols = noisy.unflatten(1, (-1, vocab)).argmax(-1).numpy()
            wrong.append(np.mean(symbols != sent))
            for kind, vectors in enumerate((noisy, one_hot_tokens(symbols, vocab))):
                heard[kind].extend(compare_vectors(receiver, [vectors.numpy()]))
        for kind in range(2):
            answers[kind].append(np.concatenate(heard[kind]))
    read, rounded = (
        scorer.score_pairs(of_kind, context.labels, clips, context.config.tie_margins)
        for of_kind in answers
    )
    return read, rounded, float(np.mean(wrong))


def _compute(inputs: RetestInputs) -> dict[str, Any]:
    with one_thread():
        return add_gaussian_noise(inputs.messages)


def _sentence(entry: dict[str, Any]) -> str:
    quiet = entry["curve"][0]
    asked = next(row for row in entry["curve"] if row["sigma"] == ASKED)
    return (
        f"{share_text(quiet['accuracy'])} without noise and {share_text(asked['accuracy'])} with "
        f"sigma {ASKED:g}, {100 * asked['drop']['mean']:.1f} points less; where each symbol is "
        f"rounded first {share_text(asked['rounded'])}, with "
        f"{100 * asked['symbols_wrong']:.0f} % of the symbols wrong"
    )


def _table(entry: dict[str, Any]) -> Table:
    columns = ["sigma", "accuracy, %", "points less", "rounded first, %", "symbols wrong, %"]
    return columns, [
        [
            f"{row['sigma']:g}",
            cell(row["accuracy"]),
            cell(row["drop"]),
            cell(row["rounded"]),
            f"{100 * row['symbols_wrong']:.0f}",
        ]
        for row in entry["curve"]
    ]


NOISE = Retest(name="noise", compute=_compute, sentence=_sentence, table=_table)
