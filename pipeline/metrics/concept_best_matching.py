"""Concept best matching: a dictionary of words and concepts, and how often messages keep to it.

A word is a symbol at a position, since each position has a vocabulary of its own; a concept is a
bin of a property. Shapes as in `pipeline.metrics.information`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from pipeline.metrics.information import check, joint_counts, scalar, words_by_concepts
from pipeline.metrics.metric import Metric


@dataclass(frozen=True, kw_only=True)
class Match:
    """A word and the concept that the best matching gives it.

    Attributes:
        position: Of the word, from 0.
        symbol: Of the word.
        attribute: The number of the concept's property, from 0.
        bin: Of that property.
        together: Clips that have both.
        word_clips: Clips that have the word.
        concept_clips: Clips that have the concept.
    """

    position: int
    symbol: int
    attribute: int
    bin: int
    together: int
    word_clips: int
    concept_clips: int


def best_matches(tokens: ArrayLike, attributes: ArrayLike) -> tuple[Match, ...]:
    """Return the dictionary of one seed: each word matched to at most one concept and back.

    Of all such dictionaries it has the largest number of clips in which a word and its concept are
    together; pairs that never are together are left out.

    Args:
        tokens: int (N, P).
        attributes: int (N, A) or (N,).

    >>> [(one.symbol, one.bin) for one in best_matches([[1], [1], [0]], [0, 0, 1])]
    [(0, 1), (1, 0)]
    """
    messages, bins = check(tokens, attributes)
    table = words_by_concepts(joint_counts(messages, bins))  # (P V, A B)
    symbols, levels = int(messages.max()) + 1, int(bins.max()) + 1
    words, concepts = linear_sum_assignment(table, maximize=True)
    word_clips = table.sum(1) // bins.shape[-1]  # a clip has one concept of each property
    concept_clips = table.sum(0) // messages.shape[-1]
    return tuple(
        Match(
            position=word // symbols,
            symbol=word % symbols,
            attribute=concept // levels,
            bin=concept % levels,
            together=int(table[word, concept]),
            word_clips=int(word_clips[word]),
            concept_clips=int(concept_clips[concept]),
        )
        for word, concept in zip(words.tolist(), concepts.tolist(), strict=True)
        if table[word, concept]
    )


def concept_best_matching(
    tokens: ArrayLike, attributes: ArrayLike, *, weights: ArrayLike | None = None
) -> Any:
    """Return the score of the best matching, in 0 .. 1; see `CONCEPT_BEST_MATCHING`.

    >>> concept_best_matching([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    counts = joint_counts(*check(tokens, attributes), weights)  # (..., P, A, V, B)
    positions, properties = counts.shape[-4:-2]
    clips = counts[..., 0, 0, :, :].sum((-1, -2))
    tables = words_by_concepts(counts)
    kept = np.empty(clips.shape, dtype=np.int64)
    for index in np.ndindex(clips.shape):
        table = tables[index]
        kept[index] = table[linear_sum_assignment(table, maximize=True)].sum()
    return scalar(kept / (clips * max(positions, properties)))


CONCEPT_BEST_MATCHING = Metric(
    name="concept_best_matching",
    title="Concept best matching",
    function=concept_best_matching,
    definition="M / (N max(P, A)) for N clips with messages of P symbols and A properties. Words "
    "(symbols at a position) are matched one to one to concepts (bins of a property), such that "
    "M, the number of clips in which a word is together with its concept, summed over the matched"
    " pairs, is as large as possible. The matching is a dictionary.",
    chance="far above 0, since the best of many dictionaries is taken: about 0.3 for 2 positions "
    "of 5 symbols, 2 properties and 5 bins; more for few clips and for uneven bins",
    source="Carmeli, Belinkov and Meir 2024 (Findings of ACL; arXiv 2403.14705), and their code, "
    "github.com/bcarmeli/cbm",
    lies="A code that is silent about a property still gets the other one's share. More positions"
    " than properties lower the value, however well they speak: four positions about two "
    "properties reach 0.5. Where most clips have the same bin, one constant word fits most of "
    "them.",
    liked="positional",
    fooled="one property",
    vectorised=True,
)
