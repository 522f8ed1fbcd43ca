"""Verdicts: what the metrics of a run's messages allow to be claimed about its code.

A structural metric is asked four questions, all on clips that nothing was trained or chosen on:

- Is it larger than in null seeds? These are trained like the run, on labels permuted by object, so
  that whatever training can make of noise is in them.
- Is it larger than in a code with the same content and no structure (`codebook_null`)?
- Does each property have a position of its own (`own_leads`), by more than in null seeds? A metric
  that is an average is satisfied by a code that tells one property and nothing of the other.
- Do all of these have the same answer without any one of the run's seeds, and whatever one more
  null seed might do?

The mean over the run's seeds is compared with each null seed. Metrics, and properties, are several
chances to be lucky: each is standardised, and what counts in a null is the largest of them
(Westfall and Young 1993).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipeline.metrics.information import Floats, Integers, mutual_information

ALPHA = 0.05
LEAST_NULLS = 39
"""With fewer null seeds no verdict is settled for a code: one more could turn it (2 / 41 < 5 %)."""

COMPOSITIONAL = "compositional"
INFORMATIVE = "informative, not compositional"
CHANCE = "no better than chance"
UNDECIDED = "undecided"
NOT_TESTED = "not tested"
UNDEFINED = "undefined"

VERDICTS: Mapping[str, str] = {
    COMPOSITIONAL: "larger than in null seeds and in an arbitrary code of the same content, and "
    "every property has a position of its own",
    INFORMATIVE: "larger than in null seeds, but not than in an arbitrary code, or a property has "
    "no position of its own",
    CHANCE: "no larger than in null seeds",
    UNDECIDED: "one more seed or null seed could turn it: fewer than 39 null seeds, a close call, "
    "or cells of a grid with too few clips to set some aside",
    NOT_TESTED: "no null seeds (`train --null 39`), or no clips to measure structure on but those "
    "of training",
    UNDEFINED: "one property, of which nothing can be composed, or no value",
}
"""The words of a verdict, all of them, and what each means."""


def own_leads(tokens: ArrayLike, attributes: ArrayLike) -> Floats:
    """Return by how much the best position of each property is about it and no other, in nats.

    Of each position the information about the property, less that about the property which comes
    closest; of the positions the largest. NaN for one attribute.

    Args:
        tokens: int (..., N, P).
        attributes: int (..., N, A).

    Returns:
        float64 (..., A).

    >>> square = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> own_leads(square, square).round(4).tolist()
    [0.6931, 0.6931]
    """
    information = np.asarray(mutual_information(tokens, attributes))  # (..., P, A)
    if information.shape[-1] < 2:
        return np.full(information.shape[:-2] + information.shape[-1:], np.nan)
    second, first = np.moveaxis(np.sort(information, axis=-1)[..., -2:], -1, 0)
    rival = np.where(information == first[..., None], second[..., None], first[..., None])
    leads: Floats = (information - rival).max(-2)
    return leads


def times_reached(observed: ArrayLike, null: ArrayLike) -> Integers:
    """Return in how many nulls the largest of M quantities is at least each observed one: (M,).

    Each quantity is standardised over the observed value and the nulls together, which treats all
    of them alike, so that (1 + times) / (1 + n) is an exact p-value where they are. An unknown
    value (NaN) is never large.

    Args:
        observed: (M,).
        null: (n, M).
    """
    values = np.vstack([np.asarray(observed, np.float64), np.asarray(null, np.float64)])
    known = ~np.isnan(values)
    number = np.maximum(known.sum(0), 1)
    filled = np.where(known, values, 0.0)
    mean = filled.sum(0) / number
    deviation = np.sqrt(np.where(known, (filled - mean) ** 2, 0.0).sum(0) / number)
    scores = np.where(
        known, (filled - mean) / np.where(deviation > 1e-12, deviation, np.inf), -np.inf
    )
    reached: Integers = (scores[1:].max(1, initial=-np.inf)[:, None] >= scores[0] - 1e-9).sum(0)
    return reached


def is_beaten(reached: int, nulls: int) -> bool | None:
    """Whether a value that `reached` of the nulls reach beats them at 5 %; None: not settled.

    Settled for the value where it would stay so if one more null reached it; against it where too
    many reach it already, also if none of those up to 39, or of the next one, did.

    >>> is_beaten(0, 39), is_beaten(1, 39), is_beaten(2, 39), is_beaten(0, 2), is_beaten(2, 2)
    (True, None, False, None, False)
    """
    if nulls >= LEAST_NULLS and (2 + reached) / (2 + nulls) <= ALPHA:
        return True
    return False if (1 + reached) / (2 + max(nulls, LEAST_NULLS)) > ALPHA else None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What verdicts are made of, of S seeds, K null seeds and M metrics; larger is better.

    Attributes:
        values: Of each metric, (S, M).
        nulls: Of null seeds, (K, M).
        codebooks: Of the codebook null of each seed, (n, S, M); NaN where a metric is not
            structural.
        leads: `own_leads` of each seed, (S, A).
        null_leads: Of null seeds, (K, A).
    """

    values: Floats
    nulls: Floats
    codebooks: Floats
    leads: Floats
    null_leads: Floats

    def p_null(self) -> Floats:
        """Return the p-value of each metric against null seeds, corrected over metrics: (M,)."""
        return (1 + times_reached(self.values.mean(0), self.nulls)) / (1 + len(self.nulls))

    def p_own(self) -> Floats:
        """Return the p-value of each property's own position, corrected over properties: (A,)."""
        return (1 + times_reached(self.leads.mean(0), self.null_leads)) / (1 + len(self.nulls))

    def verdicts(self) -> list[str]:
        """Return the verdict of each metric."""
        seeds = np.arange(len(self.values))
        words = self._verdicts(seeds)
        for left_out in seeds if len(seeds) > 1 else ():
            without = self._verdicts(np.delete(seeds, left_out))
            words = [a if a == b else UNDECIDED for a, b in zip(words, without, strict=True)]
        return words

    def of_each_seed(self) -> list[list[str]]:
        """Return the verdict of each metric for each seed by itself: of S seeds, M words.

        A seed's values are compared with those of single null seeds, so each word is a test at 5 %.
        """
        return [self._verdicts(np.array([seed])) for seed in range(len(self.values))]

    def _verdicts(self, seeds: Integers) -> list[str]:
        values, leads = self.values[seeds].mean(0), self.leads[seeds].mean(0)
        if np.isnan(leads).any():
            return [UNDEFINED] * len(values)
        codebook = self.codebooks[:, seeds].mean(1)
        nulls, draws = len(self.nulls), len(codebook)
        own = [is_beaten(k, nulls) for k in times_reached(leads, self.null_leads).tolist()]
        informs = [is_beaten(k, nulls) for k in times_reached(values, self.nulls).tolist()]
        structure = [is_beaten(k, draws) for k in times_reached(values, codebook).tolist()]
        words = []
        for value, better, ordered in zip(values, informs, structure, strict=True):
            if np.isnan(value):
                words.append(UNDEFINED)
            elif better is not True:
                words.append(CHANCE if better is False else UNDECIDED)
            elif False in (ordered, *own):
                words.append(INFORMATIVE)
            else:
                words.append(UNDECIDED if None in (ordered, *own) else COMPOSITIONAL)
        return words
