"""Context independence: has each concept a word that is always there with it, and only with it?

Words and concepts as in `pipeline.metrics.concept_best_matching`; shapes as in
`pipeline.metrics.information`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.metrics.information import check, joint_counts, ratio, scalar, words_by_concepts
from pipeline.metrics.metric import Metric


def context_independence(
    tokens: ArrayLike, attributes: ArrayLike, *, weights: ArrayLike | None = None
) -> Any:
    """Return the context independence, in 0 .. 1; see `CONTEXT_INDEPENDENCE`.

    >>> context_independence([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    counts = joint_counts(*check(tokens, attributes), weights)  # (..., P, A, V, B)
    together = words_by_concepts(counts)  # (..., words, concepts)
    positions, properties = counts.shape[-4:-2]
    words = together.sum(-1, keepdims=True) // properties  # clips with each word
    concepts = together.sum(-2, keepdims=True) // positions  # clips with each concept
    concept_given_word = ratio(together, words, words > 0)
    both = concept_given_word * ratio(together, concepts, concepts > 0)
    most_telling = concept_given_word == concept_given_word.max(-2, keepdims=True)
    of_concept = np.where(most_telling, both, 0.0).max(-2)  # (..., concepts)
    return scalar(of_concept.sum(-1) / (concepts[..., 0, :] > 0).sum(-1))


CONTEXT_INDEPENDENCE = Metric(
    name="context_independence",
    title="Context independence",
    function=context_independence,
    definition="p(w | c) p(c | w), averaged over the concepts c (bins of a property) that occur, "
    "with w the word (symbol at a position) that has the largest p(c | w); of several such words "
    "the one with the largest product. The probabilities are shares of clips.",
    chance="about 1 / (V B) for V symbols and B bins of many clips; more for few clips",
    source="Bogin, Geva and Berant 2018 (arXiv 1809.00549). They align words and concepts by IBM "
    "model 1; here they are counted, each position as a vocabulary of its own. The code of Korbak "
    "et al. 2020, github.com/tomekkorbak/measuring-non-trivial-compositionality, counts too, takes "
    "the word that is most often there with c, and has a value of 1 / (P A) of this one for P "
    "positions and A properties where that is the same word",
    lies="A code that is silent about a property still gets the other one's share. Two words for "
    "one concept, or a rare word that happens to be there only with it, lower the value, although "
    "none of them misleads.",
    liked="positional",
    fooled="one property",
    vectorised=True,
)
